package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outside is a directory next to a store's root, with a file in it, which no
// call of the store may read or change.
type outside struct {
	dir, root string
	before    string
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	base := t.TempDir()
	o := &outside{dir: filepath.Join(base, "outside"), root: filepath.Join(base, "root")}
	must0(t, os.Mkdir(o.dir, 0o755))
	must0(t, os.Mkdir(o.root, 0o755))
	must0(t, os.WriteFile(filepath.Join(o.dir, "f"), []byte("secret"), 0o644))
	o.before = o.look(t)
	return o
}

func (o *outside) look(t *testing.T) string {
	t.Helper()
	var s string
	for _, e := range must(os.ReadDir(o.dir))(t) {
		name := filepath.Join(o.dir, e.Name())
		info := must(os.Lstat(name))(t)
		n, _ := unix.Llistxattr(name, nil)
		sys := info.Sys().(*syscall.Stat_t)
		s += fmt.Sprintf("%s %v %v %d:%d %d attrs, %d links: %s\n",
			e.Name(), info.Mode(), info.ModTime(), sys.Uid, sys.Gid, n, sys.Nlink, must(os.ReadFile(name))(t))
	}
	return s
}

func (o *outside) check(t *testing.T) {
	t.Helper()
	if now := o.look(t); now != o.before {
		t.Fatalf("outside was\n%sand is\n%s", o.before, now)
	}
}

func (o *outside) in(name string) string { return filepath.Join(o.root, name) }

// everything calls all that FS has on dir/f and dir/new, and tells what was read.
func everything(st FS, dir string) (read string) {
	f, other := dir+"/f", dir+"/new"
	old := time.Unix(1, 1)
	if file, err := st.OpenFile(f, os.O_RDWR, 0); err == nil {
		b := make([]byte, 6)
		n, _ := file.ReadAt(b, 0)
		read = string(b[:n])
		file.WriteAt([]byte("breach"), 0)
		file.Close()
	}
	if file, err := st.OpenFile(other, rwc, 0o600); err == nil {
		file.WriteAt([]byte("new"), 0)
		file.LinkTo(dir + "/linked")
		file.Close()
	}
	if file, err := st.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600); err == nil {
		file.LinkTo(dir + "/temp")
		file.Close()
	}
	st.Chmod(f, 0o777)
	st.Chown(f, 7, 7)
	st.Chtimes(f, &old, &old)
	st.Setxattr(f, "user.breach", []byte("x"), 0)
	if v, err := st.Getxattr(f, "user.secret"); err == nil {
		read += string(v)
	}
	st.Mkdir(dir+"/sub", 0o700)
	st.Mknod(dir+"/fifo", unix.S_IFIFO|0o600, 0)
	st.Symlink("x", dir+"/sym")
	st.Link(f, dir+"/hard")
	st.Link(f, "stolen")
	st.Rename(other, dir+"/moved", 0)
	st.Rename("mine", dir+"/mine", 0)
	st.Rename(dir+"/mine", "mine", 0)
	for _, name := range []string{"moved", "new", "hard", "linked", "temp", "sym", "fifo"} {
		st.Unlink(dir + "/" + name)
	}
	st.Rmdir(dir + "/sub")
	st.Unlink("stolen")
	return read
}

// TestPlantedLinks: links of every kind lie in the tree before the store is used.
func TestPlantedLinks(t *testing.T) {
	for name, target := range map[string]string{"relative": "../outside", "absolute": "", "magic": "/proc/self/root", "up": ".."} {
		t.Run(name, func(t *testing.T) {
			o := newOutside(t)
			if target == "" {
				target = o.dir
			}
			must0(t, os.Symlink(target, o.in("d")))
			must0(t, os.Symlink(filepath.Join(o.dir, "f"), o.in("f")))
			must0(t, os.WriteFile(o.in("mine"), nil, 0o600))
			d := openDisk(t, o.root)
			defer d.Close()
			same(t, "read", everything(d, "d"), "")
			same(t, "read", everything(d, "d/outside"), "")
			for _, flag := range []int{os.O_RDONLY, os.O_RDWR, rwc, os.O_RDWR | os.O_TRUNC} {
				fails(t, errOf(d.OpenFile("f", flag, 0)), syscall.ELOOP)
			}
			fails(t, errOf(d.TryLock("f")), syscall.ELOOP)
			o.check(t)
		})
	}
}

// flip replaces root/a by root/b and back, until it is stopped.
func flip(t *testing.T, o *outside, a, b string) (stop func()) {
	t.Helper()
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			if err := unix.Renameat2(unix.AT_FDCWD, o.in(a), unix.AT_FDCWD, o.in(b), unix.RENAME_EXCHANGE); err != nil && !errors.Is(err, unix.ENOENT) {
				t.Error(err)
				return
			}
		}
	})
	return func() {
		done.Store(true)
		wg.Wait()
	}
}

// TestDirectoryReplacedByLink: a directory becomes a link out of the root, and
// a directory again, all the time.
func TestDirectoryReplacedByLink(t *testing.T) {
	o := newOutside(t)
	must0(t, os.MkdirAll(o.in("p/d"), 0o755))
	must0(t, os.WriteFile(o.in("p/d/f"), []byte("inside"), 0o644))
	must0(t, os.Symlink(o.dir, o.in("p/link")))
	must0(t, os.WriteFile(o.in("mine"), nil, 0o600))
	d := openDisk(t, o.root)
	defer d.Close()
	stop := flip(t, o, "p/d", "p/link")
	seen := map[string]int{}
	for range 1500 {
		read := everything(d, "p/d")
		if seen[read]++; read == "secret" {
			t.Error("read what is outside")
			break
		}
	}
	stop()
	o.check(t)
	if seen[""] == 0 || len(seen) < 2 {
		t.Fatalf("the directory was not met in both forms: %v", seen)
	}
}

// TestFileReplacedByLink: the same with the last component.
func TestFileReplacedByLink(t *testing.T) {
	o := newOutside(t)
	must0(t, os.WriteFile(o.in("f"), []byte("inside"), 0o644))
	must0(t, os.Symlink(filepath.Join(o.dir, "f"), o.in("link")))
	d := openDisk(t, o.root)
	defer d.Close()
	stop := flip(t, o, "f", "link")
	old := time.Unix(1, 1)
	links := 0
	for range 3000 {
		f, err := d.OpenFile("f", rwc, 0o600)
		if errors.Is(err, syscall.ELOOP) {
			links++
		} else if err != nil {
			t.Error(err)
		} else {
			if got := fileContent(t, f); got != "inside" {
				t.Errorf("read %q", got)
			}
			f.Close()
		}
		d.Chmod("f", 0o640)
		chmodByDescriptor(d.root.fd, "f", 0o640)
		d.Chown("f", os.Geteuid(), os.Getegid())
		d.Chtimes("f", &old, &old)
		d.Setxattr("f", "user.breach", nil, 0)
	}
	stop()
	o.check(t)
	if links == 0 {
		t.Fatal("the link was never met")
	}
}
