package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// difference is something that ext4 does and a mount does not, or does not
// alike. Each is a row of docs/POSIX.md, where it says why.
type difference struct {
	row         string // its first column there
	below, ours string // what comes of it
	do          func(r *trace) error
}

func ioctl(fd int, request uintptr, arg []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&arg[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

const (
	fiemap = 0xC020660B // FS_IOC_FIEMAP
	freeze = 0xC0045877 // FIFREEZE
)

var differences = []difference{
	{"fallocate: collapse range", "ok", "EOPNOTSUPP", func(r *trace) error {
		r.file("f", strings.Repeat("x", 16384), 0o600)
		return unix.Fallocate(r.open("f", unix.O_RDWR, 0), unix.FALLOC_FL_COLLAPSE_RANGE, 4096, 4096)
	}},
	{"fallocate: insert range", "ok", "EOPNOTSUPP", func(r *trace) error {
		r.file("f", strings.Repeat("x", 16384), 0o600)
		return unix.Fallocate(r.open("f", unix.O_RDWR, 0), unix.FALLOC_FL_INSERT_RANGE, 4096, 4096)
	}},
	{"truncate to the size that a file has", "set", "kept", func(r *trace) error {
		old := time.Unix(1000, 0)
		r.file("f", "", 0o600)
		must(r.t, os.Chtimes(r.p("f"), old, old))
		must(r.t, os.Truncate(r.p("f"), 0))
		fi, err := os.Stat(r.p("f"))
		must(r.t, err)
		if fi.ModTime().Equal(old) {
			return errors.New("kept")
		}
		return errors.New("set")
	}},
	{"chattr, lsattr", "ok", "ENOTTY", func(r *trace) error {
		_, err := unix.IoctlGetInt(r.open(".", unix.O_RDONLY, 0), unix.FS_IOC_GETFLAGS)
		return err
	}},
	{"FIEMAP", "ok", "EOPNOTSUPP", func(r *trace) error {
		r.file("f", "x", 0o600)
		arg := make([]byte, 88)
		arg[8], arg[9] = 0xff, 0xff // as far as this
		return ioctl(r.open("f", unix.O_RDONLY, 0), fiemap, arg)
	}},
	{"NFS export", "ok", "EOPNOTSUPP", func(r *trace) error {
		r.file("f", "x", 0o600)
		_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, r.p("f"), 0)
		return err
	}},
	{"rename: RENAME_WHITEOUT", "ok", "EINVAL", func(r *trace) error {
		r.file("f", "x", 0o600)
		return unix.Renameat2(unix.AT_FDCWD, r.p("f"), unix.AT_FDCWD, r.p("g"), unix.RENAME_WHITEOUT)
	}},
	{"O_DIRECT, not aligned", "EINVAL", "ok", func(r *trace) error {
		r.file("f", strings.Repeat("x", 16384), 0o600)
		_, err := unix.Pread(r.open("f", unix.O_RDONLY|unix.O_DIRECT, 0), make([]byte, 1000), 100)
		return err
	}},
	{"xattrs of links and special files", "ok", "EPERM", func(r *trace) error {
		must(r.t, os.Symlink("x", r.p("l")))
		return unix.Lsetxattr(r.p("l"), "trusted.t", []byte("x"), 0)
	}},
	{"xattrs of a file without a name", "ok", "ESTALE", func(r *trace) error {
		return unix.Fsetxattr(r.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o600), "user.a", []byte("x"), 0)
	}},
	{"xattrs: long names", "ok", "ERANGE", func(r *trace) error {
		r.file("f", "x", 0o600)
		return unix.Setxattr(r.p("f"), "user."+strings.Repeat("n", 250), []byte("x"), 0)
	}},
	{"xattrs: large values", "ok", "ENOSPC", func(r *trace) error {
		r.file("f", "x", 0o600)
		return unix.Setxattr(r.p("f"), "user.a", make([]byte, 3990), 0)
	}},
	{"files beyond 15.8 TiB", "ok", "EFBIG", func(r *trace) error {
		r.file("f", "x", 0o600)
		return unix.Truncate(r.p("f"), 1<<44-1<<20)
	}},
	{"trees deeper than PATH_MAX", "ok", "ENAMETOOLONG", func(r *trace) error {
		return deep(r.p("."), 200, strings.Repeat("d", 100))
	}},
	{"idmapped mount", "ok", "EINVAL", func(r *trace) error { return idmap(r.dir) }},
	{"overlayfs: upper layer", "ok", "EINVAL", func(r *trace) error {
		for _, d := range []string{"low", "up", "work", "at"} {
			r.mkdir(d, 0o755)
		}
		return overlay(r.p("low"), r.p("up"), r.p("work"), r.p("at"))
	}},
}

// deep makes directories in each other.
func deep(dir string, levels int, name string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for range levels {
		if err == nil {
			err = unix.Mkdirat(fd, name, 0o755)
		}
		if err != nil {
			break
		}
		next, e := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		fd, err = next, e
	}
	unix.Close(fd)
	return err
}

// idmap makes an idmapped mount of a directory, which nobody sees.
func idmap(dir string) error {
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 10}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 10}},
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid), unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)})
}

func overlay(low, up, work, at string) error {
	if err := unix.Mount("overlay", at, "overlay", 0, "lowerdir="+low+",upperdir="+up+",workdir="+work); err != nil {
		return err
	}
	return unix.Unmount(at, 0)
}

// TestDifferences: what cannot be had answers what docs/POSIX.md says, and
// what it says of ext4 is so.
func TestDifferences(t *testing.T) {
	table, err := os.ReadFile("../../docs/POSIX.md")
	must(t, err)
	m := mount(t, serveArgs{Backend: "engine"})
	below := t.TempDir()
	var fs unix.Statfs_t
	must(t, unix.Statfs(below, &fs))
	ext4 := fs.Type == unix.EXT4_SUPER_MAGIC
	for i, d := range differences {
		t.Run(d.row, func(t *testing.T) {
			name := fmt.Sprint("d", i)
			for dir, want := range map[string]string{below: d.below, m.dir: d.ours} {
				r := &trace{t: t, dir: filepath.Join(dir, name)}
				must(t, os.Mkdir(r.dir, 0o755))
				got := strings.Replace(errnoOf(d.do(r)), "ENOTSUP", "EOPNOTSUPP", 1) // one number, two names
				if got != want && (dir != below || ext4) {
					t.Errorf("in %s: %s, want %s", dir, got, want)
				}
			}
			row := rowOf(string(table), d.row)
			if !strings.Contains(row, "| "+d.ours) {
				t.Errorf("the table says: %q", row)
			}
		})
	}
	t.Run("FIFREEZE", func(t *testing.T) { // not below, which is the host's
		fd, err := unix.Open(m.dir, unix.O_RDONLY, 0)
		must(t, err)
		defer unix.Close(fd)
		if err := ioctl(fd, freeze, make([]byte, 4)); err != unix.EOPNOTSUPP {
			t.Error(err)
		}
	})
}

func rowOf(table, first string) string {
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| "+first+" |") {
			return line
		}
	}
	return ""
}

// TestOverlayLower: a mount is the lower layer of an overlay, whose writes do
// not reach it.
func TestOverlayLower(t *testing.T) {
	eachEngine(t, func(t *testing.T, m *mounted) {
		must(t, os.MkdirAll(m.path("low/d"), 0o755))
		must(t, os.WriteFile(m.path("low/d/f"), []byte("low"), 0o644))
		other := t.TempDir()
		for _, d := range []string{"up", "work", "at"} {
			must(t, os.Mkdir(filepath.Join(other, d), 0o755))
		}
		at := filepath.Join(other, "at")
		must(t, unix.Mount("overlay", at, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/up,workdir=%s/work", m.path("low"), other, other)))
		defer func() { must(t, unix.Unmount(at, 0)) }()
		b, err := os.ReadFile(filepath.Join(at, "d/f"))
		if err != nil || string(b) != "low" {
			t.Errorf("%q, %v", b, err)
		}
		must(t, os.WriteFile(filepath.Join(at, "d/f"), []byte("up"), 0o644))
		must(t, os.Rename(filepath.Join(at, "d/f"), filepath.Join(at, "d/g")))
		b, err = os.ReadFile(filepath.Join(at, "d/g"))
		if err != nil || string(b) != "up" {
			t.Errorf("%q, %v", b, err)
		}
		if b, err = os.ReadFile(m.path("low/d/f")); err != nil || string(b) != "low" {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// deadlockArgs are those of the deadlock role: a process that locks byte 1 of
// a file, and then waits for byte 0.
type deadlockArgs struct{ Path string }

func deadlockRole() int {
	var a deadlockArgs
	roleArgs(&a)
	fd, err := unix.Open(a.Path, unix.O_RDWR, 0)
	if err == nil {
		err = lockByte(fd, unix.F_SETLK, 1)
	}
	fmt.Println(errnoOf(err))
	fmt.Println(errnoOf(lockByte(fd, unix.F_SETLKW, 0)))
	return 0
}

func lockByte(fd, how int, at int64) error {
	return unix.FcntlFlock(uintptr(fd), how, &unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1})
}

// TestDeadlock: of two processes that wait for each other's lock one is told.
func TestDeadlock(t *testing.T) {
	m := mount(t, serveArgs{Backend: "engine"})
	path := m.path("f")
	must(t, os.WriteFile(path, make([]byte, 10), 0o600))
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	must(t, err)
	must(t, lockByte(fd, unix.F_SETLK, 0))
	cmd, _, out := child(t, "deadlock", deadlockArgs{path})
	must(t, cmd.Start())
	line, err := out.ReadString('\n')
	if err != nil || line != "ok\n" {
		t.Fatalf("%q, %v", line, err)
	}
	mine := errnoOf(lockByte(fd, unix.F_SETLKW, 1))
	must(t, unix.Close(fd))
	line, err = out.ReadString('\n')
	must(t, err)
	must(t, cmd.Wait())
	if theirs := strings.TrimSpace(line); (mine == "EDEADLK") == (theirs == "EDEADLK") {
		t.Errorf("one got %s, the other %s", mine, theirs)
	}
}
