package fusefs

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

func (a *actor) list(c call) string {
	dir := pick(c.X, ".", nameOf(c.N))
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%.12q/%v", e.Name(), e.Type()))
	}
	slices.Sort(names)
	return result(err, names)
}

// shownStat leaves out a link's time of access: to follow a link is to read it.
func shownStat(st *unix.Stat_t) string {
	s := describe(st) + " mtime=" + shownTime(st.Mtim)
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		s += " atime=" + shownTime(st.Atim)
	}
	return s
}

func (a *actor) stat(c call) string {
	var st unix.Stat_t
	err := pick(c.X, unix.Stat, unix.Lstat)(nameOf(c.N), &st)
	return result(err, shownStat(&st))
}

func (a *actor) fstat(c call) string {
	var st unix.Stat_t
	err := unix.Fstat(a.fd(c.F), &st)
	return result(err, shownStat(&st))
}

func (c call) mode() uint32 { return pick(c.X, 0o644, 0o755, 0o700, 0o777, c.Y&0o7777) }

func (a *actor) chmod(c call) string  { return result(unix.Chmod(nameOf(c.N), c.mode())) }
func (a *actor) fchmod(c call) string { return result(unix.Fchmod(a.fd(c.F), c.mode())) }

// owner never leaves both as they are: of that the kernel does not say whether
// the caller may.
func (c call) owner() (uid, gid int) {
	uid = pick(c.X, -1, 0, someone, someone+1)
	if uid == -1 {
		return uid, pick(c.Y, 0, somegroup)
	}
	return uid, pick(c.Y, -1, 0, somegroup, somegroup+1)
}

func (a *actor) chown(c call) string {
	uid, gid := c.owner()
	return result(pick(c.Y>>8, unix.Chown, unix.Lchown)(nameOf(c.N), uid, gid))
}

func (a *actor) fchown(c call) string {
	uid, gid := c.owner()
	return result(unix.Fchown(a.fd(c.F), uid, gid))
}

func (c call) times() []unix.Timespec {
	one := func(x uint32) unix.Timespec {
		return pick(x, unix.Timespec{Sec: int64(c.Y), Nsec: int64(c.X) * 997}, unix.Timespec{Nsec: unix.UTIME_OMIT},
			unix.Timespec{Nsec: unix.UTIME_NOW}, unix.Timespec{Sec: -int64(c.Y), Nsec: 5})
	}
	return []unix.Timespec{one(c.X), one(c.Y)}
}

func (a *actor) utimens(c call) string {
	return result(unix.UtimesNanoAt(unix.AT_FDCWD, nameOf(c.N), c.times(), pick(c.X>>4, 0, unix.AT_SYMLINK_NOFOLLOW)))
}

func (a *actor) futimens(c call) string {
	return result(unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", a.fd(c.F)), c.times(), 0))
}

func (a *actor) access(c call) string {
	return result(unix.Faccessat2(unix.AT_FDCWD, nameOf(c.N), c.X%8, pick(c.Y, 0, unix.AT_EACCESS)))
}

// attr is the name of an extended attribute.
func (c call) attr() string {
	return pick(c.X, "user.a", "user.b", "trusted.t", "security.s", "bogus.x", "user."+vocabulary[4])
}

// setxattr leaves special files and links alone: see docs/POSIX.md.
func (a *actor) setxattr(c call) string {
	var st unix.Stat_t
	stat := pick(c.Y>>8, unix.Stat, unix.Lstat)
	if err := stat(nameOf(c.N), &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "left"
	}
	flags := pick(c.X>>4, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE)
	return result(pick(c.Y>>8, unix.Setxattr, unix.Lsetxattr)(nameOf(c.N), c.attr(), content(int(c.Len%200), c.Y), flags))
}

func (a *actor) getxattr(c call) string {
	b := make([]byte, pick(c.Y, 300, 300, 7, 0))
	n, err := pick(c.Y>>8, unix.Getxattr, unix.Lgetxattr)(nameOf(c.N), c.attr(), b)
	return result(err, n, shown(b[:min(max(n, 0), len(b))]))
}

func (a *actor) listxattr(c call) string {
	names, err := attrNames(nameOf(c.N))
	return result(err, fmt.Sprintf("%q", names))
}

func (a *actor) removexattr(c call) string {
	return result(unix.Removexattr(nameOf(c.N), c.attr()))
}

func (a *actor) umask(c call) string {
	return result(nil, unix.Umask(int(pick(c.X, 0o022, 0o022, 0, 0o077, c.Y&0o777))))
}
