package fusefs

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// touch reads a byte of a mapping; the error is SIGBUS's.
func touch(mem []byte, at int) (b byte, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%v", fault)
		}
	}()
	return mem[at], nil
}

// mapRole maps a file, and at each line of its standard input tells what is in
// the mapping's first byte.
func mapRole() int {
	var path string
	roleArgs(&path)
	f, err := os.Open(path)
	if err == nil {
		var mem []byte
		mem, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		for in := bufio.NewScanner(os.Stdin); err == nil && in.Scan(); {
			if b, fault := touch(mem, 0); fault != nil {
				fmt.Println("SIGBUS")
			} else {
				fmt.Printf("%c\n", b)
			}
		}
	}
	fmt.Println(errnoOf(err))
	return 0
}

// mapper is a process with a mapping.
type mapper struct {
	t   *testing.T
	cmd *exec.Cmd
	say func() string
}

func newMapper(t *testing.T, path string) *mapper {
	cmd, in, out := child(t, "map", path)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &mapper{t, cmd, func() string {
		_, err := fmt.Fprintln(in)
		must(t, err)
		line, err := out.ReadString('\n')
		must(t, err)
		return strings.TrimSpace(line)
	}}
}

func (p *mapper) signal(s syscall.Signal) { must(p.t, p.cmd.Process.Signal(s)) }

// TestVolumeLock: what the kernel had to write is written before the lock;
// after it there is nothing left of plaintext in the kernel, be it mapped, in
// the page cache, an attribute or a name; and after the unlock what was open
// goes on.
func TestVolumeLock(t *testing.T) {
	for _, backend := range []string{"engine", "engine plain"} {
		t.Run(backend, func(t *testing.T) { testVolumeLock(t, mount(t, serveArgs{Backend: backend})) })
	}
}

func testVolumeLock(t *testing.T, m *mounted) {
	page := bytes.Repeat([]byte("p"), 4096)
	must(t, os.Mkdir(m.path("d"), 0o755))
	must(t, os.WriteFile(m.path("d/known"), page, 0o600))
	must(t, os.Symlink("d/known", m.path("link")))
	must(t, unix.Setxattr(m.path("d"), "user.a", []byte("v"), 0))
	other := newMapper(t, m.path("d/known"))
	if got := other.say(); got != "p" {
		t.Fatalf("mapped: %q", got)
	}
	dirty, err := os.Create(m.path("dirty"))
	must(t, err)
	defer dirty.Close()
	_, err = dirty.Write(page)
	must(t, err)
	mem, err := unix.Mmap(int(dirty.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(mem)
	mem[1] = 'M'
	gone, err := os.Create(m.path("gone"))
	must(t, err)
	defer gone.Close()
	_, err = gone.Write(page)
	must(t, err)
	must(t, os.Remove(m.path("gone")))
	list, err := os.Open(m.path("."))
	must(t, err)
	defer list.Close()
	_, err = list.Readdirnames(1)
	must(t, err)
	_, err = os.Stat(m.path("absent"))
	if !os.IsNotExist(err) {
		t.Fatal(err)
	}

	other.signal(syscall.SIGSTOP) // it must hold up nothing
	m.do("lock")
	other.signal(syscall.SIGCONT)
	if got := other.say(); got != "SIGBUS" {
		t.Errorf("another process's mapping has %q", got)
	}
	if b, err := touch(mem, 1); err == nil {
		t.Errorf("the mapping has %q", b)
	}
	wantLocked(t, m, dirty, gone, list)
	m.do("unlock")

	if got := other.say(); got != "p" {
		t.Errorf("unlocked, another process's mapping has %q", got)
	}
	want := bytes.Clone(page)
	want[1] = 'M'
	if b, err := touch(mem, 1); err != nil || b != 'M' {
		t.Errorf("unlocked, the mapping has %q, %v", b, err)
	}
	if got, err := os.ReadFile(m.path("dirty")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was not synced: %.10q, %v", got, err)
	}
	got := make([]byte, 4096)
	if _, err := gone.ReadAt(got, 0); err != nil || !bytes.Equal(got, page) {
		t.Errorf("the unlinked file: %.10q, %v", got, err)
	}
	if target, err := os.Readlink(m.path("link")); err != nil || target != "d/known" {
		t.Errorf("%q, %v", target, err)
	}
	if _, err := os.Stat(m.path("absent")); !os.IsNotExist(err) {
		t.Error(err)
	}
	_, err = dirty.WriteAt([]byte("again"), 0)
	must(t, err)
	if err := dirty.Sync(); err != nil {
		t.Errorf("fsync: %v", err)
	}
}

// wantLocked asks for everything that the kernel could know.
func wantLocked(t *testing.T, m *mounted, dirty, gone, list *os.File) {
	t.Helper()
	buf := make([]byte, 4096)
	var st unix.Statfs_t
	for range 2 { // the second time finds what the first has left
		for what, call := range map[string]func() error{
			"read":               func() error { _, err := dirty.ReadAt(buf, 0); return err },
			"read of an unnamed": func() error { _, err := gone.ReadAt(buf, 0); return err },
			"fstat":              func() error { _, err := dirty.Stat(); return err },
			"stat":               func() error { _, err := os.Stat(m.path("d/known")); return err },
			"stat of the root":   func() error { _, err := os.Stat(m.dir); return err },
			"stat of no name":    func() error { _, err := os.Stat(m.path("absent")); return err },
			"open":               func() error { _, err := os.Open(m.path("d/known")); return err },
			"open of an open": func() error {
				_, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", dirty.Fd()))
				return err
			},
			"create":     func() error { return os.WriteFile(m.path("new"), nil, 0o600) },
			"readdir":    func() error { _, err := os.ReadDir(m.path("d")); return err },
			"readdir on": func() error { _, err := list.Seek(0, 0); _, err2 := list.Readdirnames(-1); return first(err, err2) },
			"readlink":   func() error { _, err := os.Readlink(m.path("link")); return err },
			"getxattr":   func() error { _, err := unix.Getxattr(m.path("d"), "user.a", buf); return err },
			"statfs":     func() error { return unix.Statfs(m.dir, &st) },
			"fsync":      dirty.Sync,
		} {
			if got := errnoOf(call()); got != "ENOKEY" {
				t.Errorf("%s answers %s", what, got)
			}
		}
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestVolumeLockUnderLoad locks and unlocks while processes' worth of
// goroutines write, read, list and make names. Each lock must leave nothing to
// read, and what an fsync acknowledged must be there in the end.
func TestVolumeLockUnderLoad(t *testing.T) {
	m := mount(t, serveArgs{Backend: "engine"})
	var stop atomic.Bool
	var running sync.WaitGroup
	acked := make([]int, 3)
	for w := range acked {
		f, err := os.Create(m.path(fmt.Sprint("w", w)))
		must(t, err)
		defer f.Close()
		running.Go(func() { acked[w] = writeLedger(t, f, byte('a'+w), &stop) })
	}
	running.Go(func() {
		for i := 0; !stop.Load(); i++ { // names come, are looked at and go
			p := m.path(fmt.Sprint("n", i%50))
			_ = os.WriteFile(p, []byte("x"), 0o600)
			_, _ = os.ReadDir(m.dir)
			_, _ = os.Stat(p)
			_ = os.Remove(p)
		}
	})
	for range 10 {
		m.do("lock")
		for _, name := range []string{"w0", "w1", "n1", "n2"} {
			if _, err := os.Stat(m.path(name)); errnoOf(err) != "ENOKEY" {
				t.Errorf("locked, a stat of %s answers %v", name, err)
			}
		}
		m.do("unlock")
		time.Sleep(20 * time.Millisecond)
	}
	stop.Store(true)
	running.Wait()
	m.do("drop")
	for w, n := range acked {
		got, err := os.ReadFile(m.path(fmt.Sprint("w", w)))
		must(t, err)
		if n == 0 || len(got) < n || !bytes.Equal(got[:n], bytes.Repeat([]byte{byte('a' + w)}, n)) {
			t.Errorf("writer %d: %d bytes were acknowledged, %d are there", w, n, len(got))
		}
	}
}

// writeLedger appends until it is told to stop, and tells how much was
// acknowledged. What a lock refuses is written again.
func writeLedger(t *testing.T, f *os.File, fill byte, stop *atomic.Bool) (acked int) {
	chunk := bytes.Repeat([]byte{fill}, 7000)
	for !stop.Load() {
		_, err := f.WriteAt(chunk, int64(acked))
		if err == nil {
			err = f.Sync()
		}
		switch errnoOf(err) {
		case "ok":
			acked += len(chunk)
		case "ENOKEY":
		default:
			t.Errorf("writer %c: %v", fill, err)
			return acked
		}
	}
	return acked
}

// TestLockIsBounded: a kernel that does not answer keeps nobody from locking.
func TestLockIsBounded(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	err := within(time.Millisecond, "waiting", func() error { <-release; return nil })
	if slow, ok := err.(*SlowError); !ok || slow.What != "waiting" {
		t.Error(err)
	}
	if err := within(time.Minute, "waiting", func() error { return syscall.EIO }); err != syscall.EIO {
		t.Error(err)
	}
}
