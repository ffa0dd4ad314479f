package fusefs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// trace is what a case did and saw in one directory. Two traces of one case,
// on a mount and on the file system below, must be the same.
type trace struct {
	t     *testing.T
	dir   string
	lines []string
}

func (r *trace) p(name string) string { return filepath.Join(r.dir, name) }

// note records a call, its error's name, and results.
func (r *trace) note(call string, err error, results ...any) {
	line := call + ": " + errnoOf(err)
	if err == nil {
		for _, v := range results {
			line += fmt.Sprintf(" %v", v)
		}
	}
	r.lines = append(r.lines, strings.ReplaceAll(line, r.dir, "DIR"))
}

// open opens a file, records that, and closes it when the test ends. The
// descriptor is -1 after an error.
func (r *trace) open(name string, flags int, mode uint32) int {
	fd, err := unix.Open(r.p(name), flags|unix.O_CLOEXEC, mode)
	r.note(fmt.Sprintf("open %s %#x %#o", name, flags, mode), err)
	if err != nil {
		return -1
	}
	r.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// file makes a file with contents.
func (r *trace) file(name, data string, mode os.FileMode) {
	r.note("write file "+name, os.WriteFile(r.p(name), []byte(data), mode))
}

func (r *trace) mkdir(name string, mode uint32) {
	r.note(fmt.Sprintf("mkdir %s %#o", name, mode), unix.Mkdir(r.p(name), mode))
}

func (r *trace) read(name string) {
	b, err := os.ReadFile(r.p(name))
	r.note("read file "+name, err, fmt.Sprintf("%q", b))
}

func (r *trace) pread(fd, n int, off int64) {
	b := make([]byte, n)
	k, err := unix.Pread(fd, b, off)
	r.note(fmt.Sprintf("pread %d at %d", n, off), err, k, fmt.Sprintf("%q", b[:max(k, 0)]))
}

func (r *trace) pwrite(fd int, data string, off int64) {
	k, err := unix.Pwrite(fd, []byte(data), off)
	r.note(fmt.Sprintf("pwrite %d at %d", len(data), off), err, k)
}

// stat records what must be the same everywhere: not inode numbers, nor times
// and sizes that depend on when and where.
func (r *trace) stat(name string) {
	var st unix.Stat_t
	err := unix.Lstat(r.p(name), &st)
	r.note("lstat "+name, err, describe(&st))
}

func (r *trace) fstat(fd int) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	r.note("fstat", err, describe(&st))
}

func describe(st *unix.Stat_t) string {
	s := fmt.Sprintf("mode=%o nlink=%d uid=%d gid=%d rdev=%#x", st.Mode, st.Nlink, st.Uid, st.Gid, st.Rdev)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s += fmt.Sprintf(" size=%d", st.Size)
	}
	return s
}

// as runs f with another user's rights to files, and without root's
// capabilities over them.
func as(t *testing.T, uid, gid int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setgroups(nil); err != nil {
			t.Error(err)
			return
		}
		unix.Setfsgid(gid)
		unix.Setfsuid(uid)
		f()
	}()
	<-done
}

// posixCase is one row of the table.
type posixCase struct {
	name string
	run  func(r *trace)
}

// TestPosix runs each case on a mount and on the file system below it, and
// compares every result.
func TestPosix(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		for _, group := range [][]posixCase{contentCases, nameCases, linkCases, permissionCases, attributeCases, openCases, linuxCases} {
			for _, c := range group {
				t.Run(c.name, func(t *testing.T) { compare(t, m, c) })
			}
		}
	})
}

func compare(t *testing.T, m *mounted, c posixCase) {
	plain := &trace{t: t, dir: t.TempDir()}
	ours := &trace{t: t, dir: m.path(filepath.Base(t.Name()))}
	must(t, os.Mkdir(ours.dir, 0o755))
	must(t, os.Chmod(plain.dir, 0o755))
	must(t, os.Chmod(filepath.Dir(plain.dir), 0o755))
	c.run(plain)
	c.run(ours)
	if len(plain.lines) == 0 {
		t.Fatal("the case records nothing")
	}
	for i := range max(len(plain.lines), len(ours.lines)) {
		want, got := lineAt(plain.lines, i), lineAt(ours.lines, i)
		if want != got {
			t.Errorf("step %d\n below: %s\n mount: %s", i, want, got)
		}
	}
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}
