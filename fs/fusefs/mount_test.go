package fusefs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// here mounts in this process. What is done to such a mount must not map it.
func here(t *testing.T, backing, mountpoint string, opts Options) (*Server, error) {
	t.Helper()
	st, err := store.OpenDisk(backing)
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	s, err := MountFS(passthrough{st}, mountpoint, opts)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Error(err, unix.Unmount(mountpoint, unix.MNT_DETACH))
		}
	})
	return s, nil
}

func mustMount(t *testing.T, backing, mountpoint string, opts Options) *Server {
	t.Helper()
	s, err := here(t, backing, mountpoint, opts)
	must(t, err)
	return s
}

func entryOf(t *testing.T, mountpoint string) *mountinfo.Info {
	t.Helper()
	found, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(mountpoint))
	must(t, err)
	if len(found) == 0 {
		return nil
	}
	return found[len(found)-1]
}

func TestMountTable(t *testing.T) {
	for name, c := range map[string]struct {
		opts                  Options
		source, flags, absent string
	}{
		"default":   {Options{}, TypeName, "nosuid,nodev", "noexec"},
		"name":      {Options{FSName: "some,name"}, "some,name", "nosuid,nodev", ""},
		"read-only": {Options{ReadOnly: true}, TypeName, "ro,nosuid,nodev", ""},
		"extra":     {Options{Extra: []string{"suid", "dev", "noexec"}}, TypeName, "noexec", "nosuid"},
	} {
		t.Run(name, func(t *testing.T) {
			at := t.TempDir()
			s := mustMount(t, t.TempDir(), at, c.opts)
			if s.Mountpoint() != at {
				t.Errorf("Mountpoint is %q", s.Mountpoint())
			}
			e := entryOf(t, at)
			if e == nil || e.FSType != "fuse."+TypeName || e.Source != c.source {
				t.Fatalf("mount table: %+v", e)
			}
			if !strings.Contains(e.Options, c.flags) || (c.absent != "" && strings.Contains(e.Options, c.absent)) {
				t.Errorf("options %s", e.Options)
			}
			if !strings.Contains(e.VFSOptions, "default_permissions") || !strings.Contains(e.VFSOptions, "allow_other") {
				t.Errorf("options of the file system %s", e.VFSOptions)
			}
			must(t, s.Unmount())
			if e := entryOf(t, at); e != nil {
				t.Errorf("still mounted: %+v", e)
			}
			must(t, s.Unmount()) // once more does no harm
			s.Wait()
		})
	}
}

func TestMountErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for name, c := range map[string]struct {
		at   string
		want error
	}{
		"missing":  {filepath.Join(t.TempDir(), "no"), syscall.ENOENT},
		"a file":   {file, syscall.ENOTDIR},
		"too deep": {"/" + strings.Repeat("x", 300), syscall.ENAMETOOLONG},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := here(t, t.TempDir(), c.at, Options{})
			var m *MountError
			if !errors.As(err, &m) || m.Mountpoint != c.at || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.at) {
				t.Errorf("got %v, want a MountError for %v", err, c.want)
			}
		})
	}
	t.Run("option", func(t *testing.T) {
		at := t.TempDir()
		_, err := here(t, t.TempDir(), at, Options{Extra: []string{"noexec", "gibberish"}})
		var o *OptionError
		if !errors.As(err, &o) || o.Option != "gibberish" || entryOf(t, at) != nil {
			t.Errorf("got %v", err)
		}
	})
	t.Run("backing is gone", func(t *testing.T) {
		backing, at := t.TempDir(), t.TempDir()
		st, err := store.OpenDisk(backing)
		must(t, err)
		must(t, st.Close())
		_, err = MountFS(passthrough{st}, at, Options{})
		var m *MountError
		if !errors.As(err, &m) || entryOf(t, at) != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestMountOverWhatIsThere(t *testing.T) {
	t.Run("a directory that is not empty", func(t *testing.T) {
		backing, at := t.TempDir(), t.TempDir()
		must(t, os.WriteFile(filepath.Join(at, "below"), nil, 0o600))
		s := mustMount(t, backing, at, Options{})
		must(t, os.WriteFile(filepath.Join(at, "above"), []byte("x"), 0o600))
		if _, err := os.Stat(filepath.Join(at, "below")); !errors.Is(err, fs.ErrNotExist) {
			t.Error("what is below shows:", err)
		}
		must(t, s.Unmount())
		if _, err := os.Stat(filepath.Join(at, "below")); err != nil {
			t.Error(err)
		}
	})
	t.Run("the backing directory", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "before"), []byte("x"), 0o600))
		s := mustMount(t, dir, dir, Options{})
		must(t, os.Rename(filepath.Join(dir, "before"), filepath.Join(dir, "after")))
		must(t, s.Unmount())
		if b, err := os.ReadFile(filepath.Join(dir, "after")); err != nil || string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}
	})
}

func TestUnmountInUse(t *testing.T) {
	at := t.TempDir()
	s := mustMount(t, t.TempDir(), at, Options{})
	f, err := os.Create(filepath.Join(at, "held"))
	must(t, err)
	err = s.Unmount()
	var u *UnmountError
	if !errors.As(err, &u) || u.Mountpoint != at || !errors.Is(err, syscall.EBUSY) {
		t.Errorf("got %v, want an UnmountError for EBUSY", err)
	}
	if _, err := f.WriteString("goes on"); err != nil {
		t.Error("the mount does not go on:", err)
	}
	must(t, f.Close())
	must(t, s.Unmount())
}

func TestUnmountBySomebodyElse(t *testing.T) {
	at := t.TempDir()
	s := mustMount(t, t.TempDir(), at, Options{})
	must(t, os.WriteFile(filepath.Join(at, "f"), []byte("x"), 0o600))
	must(t, unix.Unmount(at, 0))
	s.Wait()
	must(t, s.Unmount())
}

// TestLeftOpen: files that the kernel never releases, as their mount was
// detached and its connection cut, are given back to the volume all the same.
func TestLeftOpen(t *testing.T) {
	at := t.TempDir()
	s := mustMount(t, t.TempDir(), at, Options{})
	f, err := os.Create(filepath.Join(at, "held"))
	must(t, err)
	defer f.Close()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	control := t.TempDir()
	must(t, unix.Mount("fusectl", control, "fusectl", 0, ""))
	defer unix.Unmount(control, 0)
	must(t, os.WriteFile(fmt.Sprintf("%s/%d/abort", control, unix.Minor(st.Dev)), []byte("1"), 0))
	must(t, unix.Unmount(at, unix.MNT_DETACH))
	s.Wait()
	if n := len(s.root.t.open); n != 0 {
		t.Errorf("%d files are still open in the volume", n)
	}
	if err := f.Sync(); err == nil {
		t.Error("a cut connection answers")
	}
}

// TestNoDescriptorLeaks: a child process that outlives the daemon must not
// keep its mount alive.
func TestNoDescriptorLeaks(t *testing.T) {
	mustMount(t, t.TempDir(), t.TempDir(), Options{})
	out, err := exec.Command("/bin/sh", "-c", "ls -l /proc/self/fd").Output()
	must(t, err)
	if strings.Contains(string(out), "/dev/fuse") {
		t.Errorf("a child has the connection:\n%s", out)
	}
}

func TestReadOnlyMount(t *testing.T) {
	for name := range backends {
		t.Run(name, func(t *testing.T) {
			m := mount(t, serveArgs{Backend: name})
			must(t, os.WriteFile(m.path("f"), []byte("data"), 0o666))
			must(t, os.Mkdir(m.path("d"), 0o777))
			m.stop()
			m.args.ReadOnly = true
			m.start()
			if b, err := os.ReadFile(m.path("f")); err != nil || string(b) != "data" {
				t.Errorf("%q, %v", b, err)
			}
			for what, err := range map[string]error{
				"write":    os.WriteFile(m.path("f"), nil, 0),
				"create":   os.WriteFile(m.path("new"), nil, 0o600),
				"mkdir":    os.Mkdir(m.path("e"), 0o755),
				"rmdir":    unix.Rmdir(m.path("d")),
				"unlink":   unix.Unlink(m.path("f")),
				"rename":   os.Rename(m.path("f"), m.path("g")),
				"link":     os.Link(m.path("f"), m.path("g")),
				"symlink":  os.Symlink("f", m.path("l")),
				"chmod":    os.Chmod(m.path("f"), 0o600),
				"chown":    os.Chown(m.path("f"), 1, 1),
				"truncate": os.Truncate(m.path("f"), 0),
				"xattr":    unix.Setxattr(m.path("f"), "user.a", []byte("x"), 0),
			} {
				if !errors.Is(err, syscall.EROFS) {
					t.Errorf("%s: %v, want EROFS", what, err)
				}
			}
		})
	}
}

// TestDropCaches: nothing that was written is lost, and what is read afterwards
// comes from the volume.
func TestDropCaches(t *testing.T) {
	m := mount(t, serveArgs{Backend: "passthrough"})
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("not yet written back")
	must(t, err)
	must(t, os.MkdirAll(m.path("d/e"), 0o755))
	m.do("drop")
	below := filepath.Join(m.backing, "f")
	if b, err := os.ReadFile(below); err != nil || string(b) != "not yet written back" {
		t.Errorf("below: %q, %v", b, err)
	}
	// Nobody may do this; it shows what is cached.
	must(t, os.WriteFile(below, []byte("NOT"), 0o600))
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "NOT" {
		t.Errorf("read %q, %v: the pages were not dropped", b, err)
	}
	must(t, os.Rename(filepath.Join(m.backing, "d"), filepath.Join(m.backing, "moved")))
	m.do("drop")
	if _, err := os.Stat(m.path("d/e")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name was not dropped: %v", err)
	}
}

// TestDirectIOFiles: files that the mount's options keep out of the cache are
// the same to readers, writers and mappings.
func TestDirectIOFiles(t *testing.T) {
	for name := range backends {
		t.Run(name, func(t *testing.T) {
			m := mount(t, serveArgs{Backend: name, Direct: ".log"})
			f, err := os.OpenFile(m.path("a.log"), os.O_CREATE|os.O_RDWR, 0o600)
			must(t, err)
			defer f.Close()
			want := ""
			for i := range 50 {
				line := fmt.Sprintf("line %d of some length\n", i)
				_, err := f.WriteString(line)
				must(t, err)
				must(t, unix.Fdatasync(int(f.Fd())))
				want += line
				if b, err := os.ReadFile(m.path("a.log")); err != nil || string(b) != want {
					t.Fatalf("after line %d: %q, %v", i, b, err)
				}
			}
			mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			copy(mem, "LINE")
			must(t, unix.Msync(mem, unix.MS_SYNC))
			must(t, unix.Munmap(mem))
			must(t, os.Rename(m.path("a.log"), m.path("a.txt"))) // cached from the next open on
			if b, err := os.ReadFile(m.path("a.txt")); err != nil || string(b) != "LINE"+want[4:] {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// TestBlocksOfAnOpenFile: how much room a file takes shows while it is open,
// not at once, as the kernel does not know, but soon.
func TestBlocksOfAnOpenFile(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		f, err := os.Create(m.path("f"))
		must(t, err)
		defer f.Close()
		for i := range 3 {
			_, err = f.WriteAt(make([]byte, 1<<20), int64(i)<<20)
			must(t, err)
			must(t, f.Sync())
			var st unix.Stat_t
			for range 600 { // far longer than it takes
				must(t, unix.Fstat(int(f.Fd()), &st))
				if st.Blocks*512 >= int64(i+1)<<20 {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			if st.Blocks*512 < int64(i+1)<<20 {
				t.Errorf("%d MiB take %d blocks", i+1, st.Blocks)
			}
		}
	})
}

func TestErrno(t *testing.T) {
	tr := newTree(passthrough{}, nil)
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{syscall.ENOSPC, syscall.ENOSPC},
		{&fs.PathError{Op: "x", Path: "y", Err: syscall.EDQUOT}, syscall.EDQUOT},
		{errors.New("anything"), syscall.EIO},
	} {
		if got := tr.errno(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// TestTimeOfLateWriteBack: what the kernel writes back late does not make a
// file younger, neither before nor after it has forgotten the file.
func TestTimeOfLateWriteBack(t *testing.T) {
	const tick = 50 * time.Millisecond // more than the kernel's clock takes for one
	eachBackend(t, func(t *testing.T, m *mounted) {
		name := m.path("f")
		must(t, os.WriteFile(name, make([]byte, 10_000), 0o644))
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		time.Sleep(tick) // for a write in the first one, see TestTimeWithinATick
		_, err = f.WriteAt([]byte("changed"), 5000)
		must(t, err)
		written := mtime(t, name)
		time.Sleep(tick)
		must(t, f.Sync())
		must(t, f.Close())
		if got := mtime(t, name); !got.Equal(written) {
			t.Errorf("synced %v after it was written", got.Sub(written))
		}
		m.remount()
		if got := mtime(t, name); !got.Equal(written) {
			t.Errorf("mounted again it is %v younger", got.Sub(written))
		}
	})
}

func mtime(t *testing.T, name string) time.Time {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info.ModTime()
}

// TestTimeWithinATick: a file that is written in the very tick of the kernel's
// clock in which it was made keeps that time, of which the kernel says nothing.
func TestTimeWithinATick(t *testing.T) {
	eachEngine(t, func(t *testing.T, m *mounted) {
		var want []time.Time
		name := func(i int) string { return m.path(fmt.Sprint("f", i)) }
		for i := range 20 {
			must(t, os.WriteFile(name(i), []byte("content"), 0o644))
			want = append(want, mtime(t, name(i)))
		}
		m.remount()
		for i := range want {
			if got := mtime(t, name(i)); !got.Equal(want[i]) {
				t.Errorf("file %d: mounted again it is %v younger", i, got.Sub(want[i]))
			}
		}
	})
}
