package fusefs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// together runs the workers until each has done its rounds, and the movers
// for as long as there are workers. A worker's failure is the test's.
func together(t *testing.T, rounds int, workers, movers []func(round int) error) {
	t.Helper()
	var working, moving sync.WaitGroup
	var stop atomic.Bool
	run := func(wg *sync.WaitGroup, f func(int) error, more func(int) bool) {
		wg.Go(func() {
			for i := 0; more(i); i++ {
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, w := range workers {
		run(&working, w, func(i int) bool { return i < rounds })
	}
	for _, m := range movers {
		run(&moving, m, func(int) bool { return !stop.Load() })
	}
	working.Wait()
	stop.Store(true)
	moving.Wait()
}

// TestRenameOfAncestors: an operation in a directory must neither fail nor
// meet another object because a directory above it is being renamed.
func TestRenameOfAncestors(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		// Two trees of one shape, that change places all the time. What is in
		// them says which it is.
		var workers []func(int) error
		var tops []int
		for _, top := range []string{"left", "right"} {
			must(t, os.MkdirAll(m.path(top+"/a/b"), 0o755))
			must(t, os.WriteFile(m.path(top+"/a/b/f"), []byte(top), 0o644))
			fd, err := unix.Open(m.path(top+"/a/b"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(t, err)
			defer unix.Close(fd)
			topFD, err := unix.Open(m.path(top), unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(t, err)
			defer unix.Close(topFD)
			tops = append(tops, topFD)
			for w := range 2 {
				workers = append(workers, func(i int) error { return workIn(fd, top, fmt.Sprintf("%d-%d", w, i)) })
			}
		}
		movers := []func(int) error{
			func(int) error {
				return unix.Renameat2(unix.AT_FDCWD, m.path("left"), unix.AT_FDCWD, m.path("right"), unix.RENAME_EXCHANGE)
			},
			func(i int) error {
				from, to := "a", "a2"
				if i%2 == 1 {
					from, to = to, from
				}
				return unix.Renameat(tops[0], from, tops[0], to)
			},
		}
		together(t, 50, workers, movers)
	})
}

// workIn does a bit of everything in an open directory.
func workIn(dir int, top, tag string) error {
	if got, err := readAt(dir, "f"); err != nil || got != top {
		return fmt.Errorf("f in %s is %q, %v", top, got, err)
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"mkdir", func() error { return unix.Mkdirat(dir, tag, 0o755) }},
		{"create", func() error { return writeAt(dir, tag+"/x", top) }},
		{"chmod", func() error { return unix.Fchmodat(dir, tag+"/x", 0o600, 0) }},
		{"link", func() error { return unix.Linkat(dir, tag+"/x", dir, tag+"/y", 0) }},
		{"rename", func() error { return unix.Renameat(dir, tag+"/y", dir, tag+"-y") }},
		{"truncate", func() error { return truncateAt(dir, tag+"-y", 3) }},
		{"stat", func() error { return sizeAt(dir, tag+"/x", 3) }},
		{"sync", func() error { return unix.Fsync(dir) }},
		{"unlink", func() error { return unix.Unlinkat(dir, tag+"/x", 0) }},
		{"unlink", func() error { return unix.Unlinkat(dir, tag+"-y", 0) }},
		{"rmdir", func() error { return unix.Unlinkat(dir, tag, unix.AT_REMOVEDIR) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s in %s: %w", step.what, top, err)
		}
	}
	return nil
}

func openAt(dir int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, name, flags, 0o644)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readAt(dir int, name string) (string, error) {
	f, err := openAt(dir, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

func writeAt(dir int, name, data string) error {
	f, err := openAt(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(data)
	return err
}

func truncateAt(dir int, name string, size int64) error {
	f, err := openAt(dir, name, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

func sizeAt(dir int, name string, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Size != size {
		return fmt.Errorf("size %d, want %d", st.Size, size)
	}
	return nil
}

// TestReplacedFileIsAlwaysThere: a file that is replaced by rename over and
// over can be opened at every instant, and is one of its versions, whole.
func TestReplacedFileIsAlwaysThere(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		version := func(i int) []byte { return []byte(strings.Repeat(string(rune('a'+i%26)), 5000)) }
		must(t, os.WriteFile(m.path("turtle"), version(0), 0o644))
		reader := func(int) error {
			b, err := os.ReadFile(m.path("turtle"))
			if err != nil {
				return err
			}
			if len(b) != 5000 || strings.Trim(string(b), string(b[:1])) != "" {
				return fmt.Errorf("%d bytes, from %q to %q", len(b), b[:min(len(b), 1)], b[max(len(b)-1, 0):])
			}
			_, err = os.Stat(m.path("turtle"))
			return err
		}
		writer := func(i int) error {
			if err := os.WriteFile(m.path("turtle.set"), version(i), 0o644); err != nil {
				return err
			}
			return os.Rename(m.path("turtle.set"), m.path("turtle"))
		}
		together(t, 300, []func(int) error{reader, reader, reader}, []func(int) error{writer})
	})
}

// TestCreateWhileRemoved: opening with O_CREAT works at every instant, also
// when the file that was found is removed before it can be opened.
func TestCreateWhileRemoved(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		path := m.path("f")
		opener := func(int) error {
			fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR, 0o600)
			if err != nil {
				return fmt.Errorf("open: %w", err)
			}
			if _, err := unix.Pwrite(fd, []byte("x"), 0); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			return unix.Close(fd)
		}
		remover := func(int) error {
			if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
				return fmt.Errorf("unlink: %w", err)
			}
			return nil
		}
		together(t, 400, []func(int) error{opener, opener, opener}, []func(int) error{remover, remover})
	})
}

// TestNamesOfOneFile: while one name of a file comes and goes, operations on
// the file through another name go on.
//
// The file has a third name, for the sake of the kernel's count of them. The
// kernel counts down when its unlink(2) is answered, even if an answer to a
// stat(2) that came in between told the new count already (fuse_entry_unlinked
// in its fs/fuse/dir.c): with two names it would for a moment believe in none,
// and refuse to link without asking. No FUSE file system can prevent that.
func TestNamesOfOneFile(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		must(t, os.WriteFile(m.path("steady"), []byte("data"), 0o644))
		must(t, os.Link(m.path("steady"), m.path("anchor")))
		must(t, os.Mkdir(m.path("d"), 0o755))
		user := func(i int) error {
			if b, err := os.ReadFile(m.path("steady")); err != nil || string(b) != "data" {
				return fmt.Errorf("read: %q, %w", b, err)
			}
			if err := os.Chmod(m.path("steady"), os.FileMode(0o600+i%8)); err != nil {
				return err
			}
			if _, err := unix.Getxattr(m.path("steady"), "user.none", nil); err != unix.ENODATA {
				return fmt.Errorf("getxattr: %w", err)
			}
			var st unix.Statx_t
			return unix.Statx(unix.AT_FDCWD, m.path("steady"), unix.AT_STATX_FORCE_SYNC, unix.STATX_NLINK, &st)
		}
		mover := func(int) error {
			if err := os.Link(m.path("steady"), m.path("d/other")); err != nil {
				return err
			}
			if err := os.Rename(m.path("d/other"), m.path("third")); err != nil {
				return err
			}
			return os.Remove(m.path("third"))
		}
		together(t, 300, []func(int) error{user, user}, []func(int) error{mover})
	})
}

// TestListingDuringChanges: what is there throughout shows exactly once, in
// listings large enough to take several requests.
func TestListingDuringChanges(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		const steady = 700
		for i := range steady {
			must(t, os.WriteFile(m.path(fmt.Sprintf("steady-%04d", i)), nil, 0o644))
		}
		lister := func(int) error {
			f, err := os.Open(m.dir)
			if err != nil {
				return err
			}
			defer f.Close()
			seen := map[string]int{}
			for {
				names, err := f.Readdirnames(50)
				for _, n := range names {
					seen[n]++
				}
				if err == io.EOF {
					break
				}
				if err != nil {
					return err
				}
			}
			for i := range steady {
				if n := seen[fmt.Sprintf("steady-%04d", i)]; n != 1 {
					return fmt.Errorf("steady-%04d shows %d times", i, n)
				}
			}
			return nil
		}
		mover := func(i int) error {
			name := m.path(fmt.Sprintf("passing-%d", i%50))
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				return err
			}
			if err := os.Rename(name, name+"'"); err != nil {
				return err
			}
			return os.Remove(name + "'")
		}
		together(t, 20, []func(int) error{lister, lister}, []func(int) error{mover})
	})
}

// TestInodesUsedAgain: a new file never shows the pages of an old one, though
// it may well have the same inode number.
func TestInodesUsedAgain(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		var workers []func(int) error
		for w := range 4 {
			workers = append(workers, func(i int) error {
				name := m.path(fmt.Sprintf("w%d", w))
				want := strings.Repeat(fmt.Sprintf("%d/%d ", w, i), 1+i%900)
				if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
					return err
				}
				if b, err := os.ReadFile(name); err != nil || string(b) != want {
					return fmt.Errorf("round %d: other contents, %w", i, err)
				}
				return os.Remove(name)
			})
		}
		together(t, 150, workers, nil)
	})
}

// TestManyWritersOfOneFile: appends of several processes' worth of descriptors
// neither overlap nor get lost, with syncs, truncation below and stats going on.
func TestManyWritersOfOneFile(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		const rounds, size = 200, 100
		path := m.path("log")
		must(t, os.WriteFile(path, nil, 0o600))
		var workers []func(int) error
		for w := range 4 {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			defer f.Close()
			workers = append(workers, func(i int) error {
				line := fmt.Sprintf("%0*d\n", size-1, w*rounds+i)
				if _, err := f.WriteString(line); err != nil {
					return err
				}
				if i%10 == 0 {
					return unix.Fdatasync(int(f.Fd()))
				}
				return nil
			})
		}
		together(t, rounds, workers, nil)
		m.do("drop")
		b, err := os.ReadFile(path)
		must(t, err)
		lines := map[string]bool{}
		for _, l := range strings.Fields(string(b)) {
			lines[l] = true
		}
		if len(b) != 4*rounds*size || len(lines) != 4*rounds {
			t.Errorf("%d bytes and %d different lines, want %d and %d", len(b), len(lines), 4*rounds*size, 4*rounds)
		}
	})
}

// TestWalkAfterRemount: a tree is the same after a remount, when nothing is
// cached.
func TestWalkAfterRemount(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		for i := range 30 {
			d := m.path(fmt.Sprintf("d%d/e%d", i%5, i))
			must(t, os.MkdirAll(d, 0o750))
			must(t, os.WriteFile(d+"/f", []byte(strings.Repeat("x", i*i*i)), 0o640))
			must(t, os.Symlink("f", d+"/l"))
			must(t, os.Link(d+"/f", m.path(fmt.Sprintf("link%d", i))))
		}
		before := walk(t, m.dir)
		m.remount()
		if after := walk(t, m.dir); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func walk(t *testing.T, dir string) string {
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %d %s %v\n", strings.TrimPrefix(p, dir), st.Ino, describe(&st), st.Mtim)
		return nil
	}))
	return b.String()
}
