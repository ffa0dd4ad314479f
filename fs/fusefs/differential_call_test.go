package fusefs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// call is one system call, before it is known what its arguments meet. X and Y
// choose among what the call knows.
type call struct {
	Do       string
	N, M     int // names
	F, G     int // slots of descriptors
	Off, Len int64
	X, Y     uint32
}

func (c call) String() string {
	return fmt.Sprintf("%s names=%.20q,%.20q slots=%d,%d off=%d len=%d x=%d y=%d", c.Do, nameOf(c.N), nameOf(c.M), c.F, c.G, c.Off, c.Len, c.X, c.Y)
}

// vocabulary is what paths are made of: few, so that calls meet. One is so long
// that its encryption is no name, and one is no text.
var vocabulary = []string{"a", "b", "c", "d", "\xff\x01é\n", strings.Repeat("n", 255)}

// nameOf is a path of up to three vocabulary.
func nameOf(n int) string {
	var parts []string
	for parts = append(parts, vocabulary[n%len(vocabulary)]); len(parts) < 3; {
		n /= len(vocabulary)
		if n == 0 {
			break
		}
		parts = append(parts, vocabulary[n%len(vocabulary)])
	}
	return strings.Join(parts, "/")
}

// kinds are the calls, with how often each is made.
var kinds = []struct {
	name   string
	weight int
	run    func(a *actor, c call) string
}{
	{"open", 12, (*actor).open},
	{"close", 3, (*actor).close},
	{"dup", 1, (*actor).dup},
	{"tmpfile", 2, (*actor).tmpfile},
	{"linkat", 2, (*actor).linkat},
	{"pwrite", 8, (*actor).pwrite},
	{"write", 4, (*actor).write},
	{"pread", 6, (*actor).pread},
	{"read", 3, (*actor).read},
	{"lseek", 3, (*actor).lseek},
	{"direct", 3, (*actor).direct},
	{"vector", 2, (*actor).vector},
	{"truncate", 3, (*actor).truncate},
	{"ftruncate", 3, (*actor).ftruncate},
	{"fallocate", 5, (*actor).fallocate},
	{"copy range", 3, (*actor).copyRange},
	{"sendfile", 2, (*actor).sendfile},
	{"clone", 1, (*actor).clone},
	{"sync", 2, (*actor).sync},
	{"map", 2, (*actor).mapFile},
	{"map write", 3, (*actor).mapWrite},
	{"map read", 2, (*actor).mapRead},
	{"unmap", 1, (*actor).unmap},
	{"mkdir", 6, (*actor).mkdir},
	{"rmdir", 2, (*actor).rmdir},
	{"mknod", 2, (*actor).mknod},
	{"symlink", 2, (*actor).symlink},
	{"readlink", 2, (*actor).readlink},
	{"link", 4, (*actor).link},
	{"unlink", 3, (*actor).unlink},
	{"rename", 6, (*actor).rename},
	{"list", 3, (*actor).list},
	{"stat", 6, (*actor).stat},
	{"fstat", 4, (*actor).fstat},
	{"chmod", 4, (*actor).chmod},
	{"fchmod", 2, (*actor).fchmod},
	{"chown", 3, (*actor).chown},
	{"fchown", 1, (*actor).fchown},
	{"utimens", 3, (*actor).utimens},
	{"futimens", 1, (*actor).futimens},
	{"access", 2, (*actor).access},
	{"setxattr", 4, (*actor).setxattr},
	{"getxattr", 3, (*actor).getxattr},
	{"listxattr", 2, (*actor).listxattr},
	{"removexattr", 2, (*actor).removexattr},
	{"set acl", 4, (*actor).setACL},
	{"get acl", 2, (*actor).getACL},
	{"remove acl", 1, (*actor).removeACL},
	{"umask", 1, (*actor).umask},
	{"flock", 2, (*actor).flock},
	{"lock", 3, (*actor).lock},
	{"ask lock", 2, (*actor).askLock},
}

var allWeights = func() (n int) {
	for _, k := range kinds {
		n += k.weight
	}
	return n
}()

// draw makes a call at random.
func draw(r *rand.Rand) call {
	c := call{
		N: name(r), M: name(r), F: r.IntN(slots), G: r.IntN(slots),
		Off: offset(r), Len: int64(length(r)), X: r.Uint32N(1 << 16), Y: r.Uint32N(1 << 16),
	}
	n := r.IntN(allWeights)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			c.Do = k.name
			break
		}
	}
	return c
}

func name(r *rand.Rand) int {
	n := len(vocabulary)
	switch r.IntN(10) {
	case 0:
		return r.IntN(n * n * n)
	case 1, 2, 3:
		return r.IntN(n * n)
	}
	return r.IntN(n)
}

func offset(r *rand.Rand) int64 {
	switch r.IntN(40) {
	case 0:
		return far + r.Int64N(8192) - 4096 // about the largest there is
	case 1:
		return -1 - r.Int64N(5000)
	case 2, 3, 4, 5, 6, 7, 8, 9, 10, 11:
		return r.Int64N(64) << 12
	case 12, 13, 14, 15, 16, 17, 18:
		return r.Int64N(100)
	}
	return r.Int64N(1 << 17)
}

func length(r *rand.Rand) int {
	switch r.IntN(8) {
	case 0:
		return r.IntN(1 << 17)
	case 1, 2:
		return (r.IntN(5)) << 12
	case 3, 4:
		return r.IntN(20000)
	}
	return r.IntN(200)
}

// do makes a call and tells what came of it.
func (a *actor) do(c call) string {
	for _, k := range kinds {
		if k.name == c.Do {
			return k.run(a, c)
		}
	}
	panic("no call " + c.Do)
}

// pick chooses.
func pick[T any](x uint32, from ...T) T { return from[int(x)%len(from)] }

func (a *actor) open(c call) string {
	flags := pick(c.X, unix.O_RDWR, unix.O_RDWR, unix.O_RDONLY, unix.O_WRONLY) |
		pick(c.Y, unix.O_CREAT, unix.O_CREAT, unix.O_CREAT, 0, unix.O_CREAT|unix.O_EXCL, unix.O_TRUNC, unix.O_APPEND,
			unix.O_CREAT|unix.O_TRUNC, unix.O_CREAT|unix.O_APPEND, unix.O_DIRECTORY, unix.O_NOFOLLOW, unix.O_PATH, unix.O_DSYNC, unix.O_SYNC)
	fd, err := unix.Open(nameOf(c.N), flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, c.X&0o7777)
	if err == nil {
		a.put(c.F, fd)
	}
	return result(err)
}

func (a *actor) close(c call) string {
	err := unix.Close(a.fd(c.F))
	a.fds[c.F] = -1
	return result(err)
}

func (a *actor) dup(c call) string {
	fd, err := unix.FcntlInt(uintptr(a.fd(c.F)), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		a.put(c.G, fd)
	}
	return result(err)
}

func (a *actor) tmpfile(c call) string {
	dir := pick(c.X, ".", nameOf(c.N))
	fd, err := unix.Open(dir, unix.O_TMPFILE|pick(c.Y, unix.O_RDWR, unix.O_RDWR|unix.O_EXCL, unix.O_WRONLY)|unix.O_CLOEXEC, c.X&0o7777)
	if err == nil {
		a.put(c.F, fd)
	}
	return result(err)
}

// linkat gives what is open one more name. Of another user's file that has none
// the kernel does not know the ACL: see docs/POSIX.md.
func (a *actor) linkat(c call) string {
	var st unix.Stat_t
	if err := unix.Fstat(a.fd(c.F), &st); err == nil && st.Nlink == 0 && os.Geteuid() != 0 && st.Uid != uint32(os.Geteuid()) {
		return "left"
	}
	return result(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", a.fd(c.F)), unix.AT_FDCWD, nameOf(c.N), unix.AT_SYMLINK_FOLLOW))
}

func (a *actor) mkdir(c call) string {
	return result(unix.Mkdir(nameOf(c.N), pick(c.X, 0o755, 0o777, 0o2775, c.Y&0o7777)))
}

func (a *actor) rmdir(c call) string { return result(unix.Rmdir(nameOf(c.N))) }

func (a *actor) mknod(c call) string {
	kind := pick(c.X, uint32(unix.S_IFIFO), unix.S_IFREG, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFDIR)
	dev := 0
	if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		dev = int(unix.Mkdev(1, 3))
	}
	return result(unix.Mknod(nameOf(c.N), kind|c.Y&0o7777, dev))
}

func (a *actor) symlink(c call) string {
	return result(unix.Symlink(pick(c.X, nameOf(c.M), nameOf(c.M), ".", "", strings.Repeat("t/", int(c.Y%300))), nameOf(c.N)))
}

func (a *actor) readlink(c call) string {
	b := make([]byte, pick(c.X, 4096, 4096, 3))
	n, err := unix.Readlink(nameOf(c.N), b)
	return result(err, fmt.Sprintf("%q", b[:max(n, 0)]))
}

func (a *actor) link(c call) string {
	flags := pick(c.X, 0, 0, unix.AT_SYMLINK_FOLLOW)
	return result(unix.Linkat(unix.AT_FDCWD, nameOf(c.N), unix.AT_FDCWD, nameOf(c.M), flags))
}

func (a *actor) unlink(c call) string { return result(unix.Unlink(nameOf(c.N))) }

func (a *actor) rename(c call) string {
	flags := pick(c.X, 0, 0, 0, uint(unix.RENAME_NOREPLACE), unix.RENAME_EXCHANGE, unix.RENAME_EXCHANGE, unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE, 1<<7)
	return result(unix.Renameat2(unix.AT_FDCWD, nameOf(c.N), unix.AT_FDCWD, nameOf(c.M), flags))
}
