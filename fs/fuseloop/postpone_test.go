package fuseloop

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestPostponed: an FSYNC is answered when done is called, once, by whomever,
// and other requests are served meanwhile by the reader that had it.
func TestPostponed(t *testing.T) {
	m := mount(t)
	const many = 50
	dones := make(chan func(fuse.Status), many)
	m.set(func(a *answers) {
		a.read = fill('p')
		a.fsync = func(cancel <-chan struct{}) fuse.Status {
			done := m.Postpone(cancel)
			if done == nil || !m.Postponed(cancel) || m.Postpone(cancel) != nil {
				t.Error("not postponed, or twice")
			}
			dones <- done
			return fuse.OK
		}
	})
	told := make(chan error, many)
	for n := range many {
		f := m.openNth(n + 2)
		go func() { told <- f.Sync() }()
	}
	var all []func(fuse.Status)
	for range many {
		all = append(all, <-dones)
	}
	if _, err := m.open().ReadAt(make([]byte, 10), 0); err != nil {
		t.Error(err)
	}
	if n := m.lookout.open.Load(); n < many {
		t.Errorf("%d requests are open, of which the lookout knows %d", many, n)
	}
	select {
	case err := <-told:
		t.Fatalf("answered before it was: %v", err)
	default:
	}
	for i, done := range all {
		code := fuse.OK
		if i%2 == 1 {
			code = fuse.EIO
		}
		done(code)
		done(fuse.EPERM) // too late
	}
	failed := 0
	for range many {
		if err := <-told; errors.Is(err, syscall.EIO) {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if failed != many/2 {
		t.Errorf("%d failed", failed)
	}
	if m.Postpone(nil) != nil || m.Postponed(nil) {
		t.Error("what is no request is postponed")
	}
	m.eventually("nothing is open", func() bool { return m.lookout.open.Load() == 0 })
}

// TestPostponedAndFailed: a handler that fails or panics after all is answered
// with that, once, whoever calls done later.
func TestPostponedAndFailed(t *testing.T) {
	m := mount(t)
	late := make(chan func(fuse.Status), 1)
	for want, fail := range map[syscall.Errno]func() fuse.Status{
		syscall.ENOSPC: func() fuse.Status { return fuse.Status(syscall.ENOSPC) },
		syscall.EIO:    func() fuse.Status { panic("after all") },
	} {
		m.set(func(a *answers) {
			a.fsync = func(cancel <-chan struct{}) fuse.Status { late <- m.Postpone(cancel); return fail() }
		})
		f := m.open()
		if err := f.Sync(); !errors.Is(err, want) {
			t.Error(err)
		}
		(<-late)(fuse.OK)
	}
	m.logs.text.set("")
	m.set(func(a *answers) { // early, and then in vain
		a.fsync = func(cancel <-chan struct{}) fuse.Status { m.Postpone(cancel)(fuse.OK); return fuse.EIO }
	})
	if err := m.open().Sync(); err != nil {
		t.Error(err)
	}
	m.eventually("nothing is open", func() bool { return m.lookout.open.Load() == 0 })
}

// TestOnlySyncs: no other request can be postponed.
func TestOnlySyncs(t *testing.T) {
	m := mount(t)
	m.set(func(a *answers) {
		a.read = fill('o')
		a.write = func([]byte) fuse.Status { return fuse.OK }
		a.during = func(cancel <-chan struct{}) {
			if m.Postpone(cancel) != nil || m.Postponed(cancel) {
				t.Error("a request that is no sync is postponed")
			}
		}
	})
	f := m.open()
	if _, err := f.ReadAt([]byte("x"), 0); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Error(err)
	}
}

// TestPanic: a panic is EIO to one request and a line in the log; the mount lives.
func TestPanic(t *testing.T) {
	m := mount(t)
	m.set(func(a *answers) {
		a.read = func(uint64, []byte) (fuse.ReadResult, fuse.Status) { panic("in read") }
		a.write = func([]byte) fuse.Status { panic("in write") }
		a.fsync = func(cancel <-chan struct{}) fuse.Status { m.Postpone(cancel); panic("in fsync") }
		a.setxattr = func(string, []byte) fuse.Status { panic("in setxattr") }
		a.getxattr = func([]byte) (uint32, fuse.Status) { panic("in getxattr") }
		a.forget = func() { panic("in forget") }
	})
	f := m.open()
	_, read := f.ReadAt(make([]byte, 10), 0)
	_, write := f.WriteAt(make([]byte, 10), 0)
	_, getxattr := unix.Getxattr(m.dir, "user.a", nil)
	for what, err := range map[string]error{
		"in read": read, "in write": write, "in fsync": f.Sync(),
		"in setxattr": unix.Setxattr(m.dir, "user.a", nil, 0), "in getxattr": getxattr,
	} {
		if !errors.Is(err, syscall.EIO) || !strings.Contains(m.logs.text.get(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m.must(f.Close())
	m.forgetAll()
	m.eventually("forgotten", func() bool { return strings.Contains(m.logs.text.get(), "in forget") })
	m.set(func(a *answers) { a.read, a.forget = fill('l'), nil })
	if _, err := m.open().ReadAt(make([]byte, 10), 0); err != nil {
		t.Error(err)
	}
	m.logs.text.set("")
}
