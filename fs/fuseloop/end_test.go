package fuseloop

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var mounts = flag.Int("loop.mounts", 24, "how many mounts TestMountsUnderLoad makes")

// TestUnmount: while somebody uses the mount it is busy and goes on; then it
// ends, once, whoever unmounts.
func TestUnmount(t *testing.T) {
	for name, by := range map[string]func(*mounted) error{
		"itself": (*mounted).Unmount,
		"others": func(m *mounted) error { return unix.Unmount(m.dir, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t)
			m.set(func(a *answers) { a.read = fill('u') })
			f := m.open()
			if err := m.Unmount(); err != syscall.EBUSY {
				t.Fatalf("unmounting in use: %v", err)
			}
			if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
				t.Fatal(err)
			}
			m.must(f.Close())
			m.eventually("unmounted", func() bool { return by(m) == nil })
			<-m.ended
			m.mustBeClosed()
		})
	}
}

func (m *mounted) mustBeClosed() {
	m.Helper()
	if m.mounts() || !m.closed {
		m.Error("it is still there")
	}
	if code := m.InodeNotify(1, 0, 0); code != fuse.Status(syscall.EBADF) {
		m.Errorf("a notification after the end: %v", code)
	}
}

// TestAbort: who waits for an answer gets an error at once, and Serve waits for
// handlers and for postponed answers before it closes anything.
func TestAbort(t *testing.T) {
	m := mount(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan func(fuse.Status), 1)
	m.set(func(a *answers) {
		a.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
			entered <- struct{}{}
			<-leave
			return fill('b')(0, buf)
		}
		a.fsync = func(cancel <-chan struct{}) fuse.Status { done <- m.Postpone(cancel); return fuse.OK }
	})
	told := make(chan error, 2)
	f, g := m.open(), m.openNth(3)
	go func() { _, err := f.ReadAt(make([]byte, 10), 0); told <- err }()
	<-entered
	go func() { told <- g.Sync() }()
	answer := <-done
	m.abort()
	for range 2 {
		if err := <-told; !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("an aborted request: %v", err)
		}
	}
	m.eventually("idle readers end", func() bool { return m.idle.Load() == 0 })
	if m.hasEnded() {
		t.Error("it has ended before a handler has")
	}
	close(leave)
	m.eventually("all readers end", func() bool {
		none := true
		m.serving.Range(func(any, any) bool { none = false; return false })
		return none
	})
	if m.hasEnded() {
		t.Error("it has ended before all was answered")
	}
	answer(fuse.OK)
	<-m.ended
}

func (m *mounted) hasEnded() bool {
	select {
	case <-m.fs.ended:
		return true
	default:
		return false
	}
}

// TestNamespaceHolds: a mount that another mount namespace has, too, is
// unmounted here, served there until that one lets go, and then ends.
func TestNamespaceHolds(t *testing.T) {
	m := mount(t)
	m.set(func(a *answers) { a.read = fill('x') })
	// It must not hold the mounts of tests that run beside this one.
	holder := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`findmnt -rn -t fuse.akvfs -o TARGET | grep -vxF "$1" | xargs -r umount -i -c -l
		echo ready; read line; head -c 3 "$1/file"; echo; read line`, "sh", m.dir)
	in, err := holder.StdinPipe()
	m.must(err)
	out, err := holder.StdoutPipe()
	m.must(err)
	m.must(holder.Start())
	lines := bufio.NewScanner(out)
	say := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the namespace says %q, %v", lines.Text(), lines.Err())
		}
	}
	say("ready")
	unmounted := make(chan error, 1)
	go func() { unmounted <- m.Unmount() }()
	m.eventually("gone from here", func() bool { return !m.mounts() })
	for range 2 {
		if m.hasEnded() {
			t.Fatal("it has ended")
		}
		fmt.Fprintln(in)
		if lines.Text() == "ready" {
			say("xxx")
		}
	}
	m.must(holder.Wait())
	m.must(<-unmounted)
	m.mustBeClosed()
}

// TestMountsUnderLoad: mounts that are used until their end, or until just
// before it, come to it, however it comes.
func TestMountsUnderLoad(t *testing.T) {
	ends := []struct {
		used, meanwhile bool
		end             func(*mounted)
	}{
		{false, false, func(m *mounted) { m.must(m.Unmount()) }},
		{false, true, func(m *mounted) { m.eventually("unmounted", func() bool { return m.Unmount() == nil }) }},
		{false, true, func(m *mounted) { m.eventually("unmounted", func() bool { return unix.Unmount(m.dir, 0) == nil }) }},
		{true, false, func(m *mounted) { m.must(unix.Unmount(m.dir, unix.MNT_DETACH)) }},
		{true, false, (*mounted).abort},
	}
	for n := range *mounts {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			m, how := mount(t), ends[n%len(ends)]
			stopped := m.inUse()
			if !how.used {
				done := stopped()
				if !how.meanwhile {
					done()
				}
			}
			how.end(m)
			stopped()()
			<-m.ended
		})
	}
}

// inUse has files of a mount used, with syncs that are postponed. What it
// returns tells the users to stop, and what that returns waits for them.
func (m *mounted) inUse() (stop func() (wait func())) {
	late := make(chan func(fuse.Status), 100)
	m.set(func(a *answers) {
		a.read = fill('l')
		a.write = func([]byte) fuse.Status { return fuse.OK }
		a.fsync = func(cancel <-chan struct{}) fuse.Status { late <- m.Postpone(cancel); return fuse.OK }
	})
	go func() {
		for {
			select {
			case done := <-late:
				done(fuse.OK)
			case <-m.ended:
				return
			}
		}
	}()
	var stopping atomic.Bool
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() { m.use(user+2, &stopping) })
	}
	return func() func() { stopping.Store(true); return users.Wait }
}

// use opens, reads, writes and syncs a file until it is to stop, or cannot.
func (m *mounted) use(n int, stop *atomic.Bool) {
	buf := make([]byte, 4096)
	for !stop.Load() {
		fd, err := unix.Open(filepath.Join(m.dir, fmt.Sprint("file", n)), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		f := os.NewFile(uintptr(fd), "file")
		_, read := f.ReadAt(buf, 0)
		_, write := f.WriteAt(buf, 0)
		if err := errors.Join(read, write, f.Sync(), f.Close()); err != nil {
			return
		}
	}
}
