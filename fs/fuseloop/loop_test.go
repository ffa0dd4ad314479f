package fuseloop

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestAnswers: data and errors arrive, in all sizes, in both directions.
func TestAnswers(t *testing.T) {
	m := mount(t)
	m.fs.read = fill('r')
	var wrote []byte
	m.fs.write = func(data []byte) fuse.Status { wrote = bytes.Clone(data); return fuse.OK }
	m.fs.fsync = func(<-chan struct{}) fuse.Status { return fuse.OK }
	f := m.open()
	for _, n := range []int{1, 47, 48, 4096, quick - answerHeader, quick, small - answerHeader, small, 1 << 20} {
		got := make([]byte, n)
		if read, err := f.ReadAt(got, 0); read != n || err != nil || strings.Trim(string(got), "r") != "" {
			t.Errorf("reading %d bytes: %d, %v", n, read, err)
		}
		want := bytes.Repeat([]byte{'w'}, n)
		if _, err := f.WriteAt(want, 0); err != nil || !bytes.Equal(want, wrote) {
			t.Errorf("writing %d bytes: %d arrived, %v", n, len(wrote), err)
		}
	}
	m.must(f.Sync())
	m.fs.read = func(uint64, []byte) (fuse.ReadResult, fuse.Status) { return nil, fuse.Status(syscall.ENOKEY) }
	m.fs.write = func([]byte) fuse.Status { return fuse.Status(syscall.ENOSPC) }
	m.fs.fsync = func(<-chan struct{}) fuse.Status { return fuse.Status(syscall.EDQUOT) }
	if _, err := f.ReadAt(make([]byte, 5000), 0); !errors.Is(err, syscall.ENOKEY) {
		t.Error(err)
	}
	if _, err := f.WriteAt(make([]byte, 5000), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EDQUOT) {
		t.Error(err)
	}
	m.fs.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
		return fuse.ReadResultData(buf[:0]), fuse.OK
	}
	if _, err := f.ReadAt(make([]byte, 5000), 0); err != io.EOF {
		t.Error(err)
	}
}

// TestAttributes: names and values of any size, and errors.
func TestAttributes(t *testing.T) {
	m := mount(t)
	var stored []byte
	m.fs.setxattr = func(name string, value []byte) fuse.Status {
		if name != "user.a" {
			return fuse.EINVAL
		}
		stored = bytes.Clone(value)
		return fuse.OK
	}
	m.fs.getxattr = func(buf []byte) (uint32, fuse.Status) {
		if len(buf) < len(stored) {
			return uint32(len(stored)), fuse.ERANGE
		}
		return uint32(copy(buf, stored)), fuse.OK
	}
	for _, n := range []int{0, 1, 4096, 65536} {
		value := bytes.Repeat([]byte{'x'}, n)
		m.must(unix.Setxattr(m.dir, "user.a", value, 0))
		got := make([]byte, 65536)
		size, err := unix.Getxattr(m.dir, "user.a", got)
		if err != nil || !bytes.Equal(got[:size], value) {
			t.Errorf("%d bytes: got %d, %v", n, size, err)
		}
		if size, err := unix.Getxattr(m.dir, "user.a", nil); err != nil || size != n {
			t.Errorf("size of %d bytes: %d, %v", n, size, err)
		}
	}
	if err := unix.Setxattr(m.dir, "user.other", nil, 0); err != syscall.EINVAL {
		t.Error(err)
	}
}

// TestManyAtOnce: as many requests are served at a time as there are, and
// afterwards no more readers wait than should.
func TestManyAtOnce(t *testing.T) {
	m := mount(t)
	const many = 100
	var inside sync.WaitGroup
	inside.Add(many)
	m.fs.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
		inside.Done()
		inside.Wait()
		return fill('m')(0, buf)
	}
	var all sync.WaitGroup
	for range many {
		f := m.open()
		all.Go(func() {
			if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	m.eventually("readers end", func() bool {
		n := int32(0)
		m.readers.Range(func(any, any) bool { n++; return true })
		return n <= m.Loop.spare && m.idle.Load() == n
	})
}

// TestAlwaysAReader: whatever order readers come and go in, one is left.
func TestAlwaysAReader(t *testing.T) {
	for _, spare := range []int32{1, 2} {
		m := unmounted(t, nil)
		m.spare = spare
		m.serve()
		m.fs.read = fill('a')
		var all sync.WaitGroup
		for range 16 {
			f := m.open()
			all.Go(func() {
				for range 500 {
					if _, err := f.ReadAt(make([]byte, 100), 0); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
}

// TestPostponed: an FSYNC is answered when done is called, once, by whomever,
// and other requests are served meanwhile by the reader that had it.
func TestPostponed(t *testing.T) {
	m := mount(t)
	m.fs.read = fill('p')
	const many = 50
	dones := make(chan func(fuse.Status), many)
	m.fs.fsync = func(cancel <-chan struct{}) fuse.Status {
		done := m.Postpone(cancel)
		if done == nil || !m.Postponed(cancel) || m.Postpone(cancel) != nil {
			t.Error("not postponed, or twice")
		}
		dones <- done
		return fuse.OK
	}
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
}

// TestPostponedAndFailed: a handler that fails after all is answered with that.
func TestPostponedAndFailed(t *testing.T) {
	m := mount(t)
	var late func(fuse.Status)
	m.fs.fsync = func(cancel <-chan struct{}) fuse.Status {
		late = m.Postpone(cancel)
		return fuse.Status(syscall.ENOSPC)
	}
	if err := m.open().Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	late(fuse.OK)
}

// TestPanic: a panic is EIO to one request and a line in the log; the mount lives.
func TestPanic(t *testing.T) {
	m := mount(t)
	m.fs.read = func(uint64, []byte) (fuse.ReadResult, fuse.Status) { panic("in read") }
	m.fs.write = func([]byte) fuse.Status { panic("in write") }
	m.fs.fsync = func(cancel <-chan struct{}) fuse.Status { m.Postpone(cancel); panic("in fsync") }
	m.fs.setxattr = func(string, []byte) fuse.Status { panic("in setxattr") }
	m.fs.getxattr = func([]byte) (uint32, fuse.Status) { panic("in getxattr") }
	f := m.open()
	_, read := f.ReadAt(make([]byte, 10), 0)
	_, write := f.WriteAt(make([]byte, 10), 0)
	_, getxattr := unix.Getxattr(m.dir, "user.a", nil)
	for what, err := range map[string]error{
		"in read": read, "in write": write, "in fsync": f.Sync(),
		"in setxattr": unix.Setxattr(m.dir, "user.a", nil, 0), "in getxattr": getxattr,
	} {
		if !errors.Is(err, syscall.EIO) || !strings.Contains(m.logs.String(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m.fs.read = fill('l')
	if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
		t.Error(err)
	}
	m.logs.text.Reset()
}

// TestSignal: a caller that is told to end waits for its answer, and the
// kernel, which tells of it, is told not to.
func TestSignal(t *testing.T) {
	m := mount(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	m.fs.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
		entered <- struct{}{}
		<-leave
		return fill('s')(0, buf)
	}
	for range 2 {
		cmd := exec.Command("dd", "if="+m.dir+"/file", "of=/dev/null", "bs=4096", "count=1")
		m.must(cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		<-entered
		m.must(cmd.Process.Signal(syscall.SIGUSR1))
		m.must(cmd.Process.Signal(syscall.SIGTERM))
		select {
		case err := <-ended:
			t.Fatalf("it ended without its answer: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		leave <- struct{}{}
		<-ended
	}
}

// TestUnmount: while somebody uses the mount it is busy and goes on; then it
// ends, once, whoever unmounts.
func TestUnmount(t *testing.T) {
	for name, by := range map[string]func(*mounted) error{
		"itself": (*mounted).Unmount,
		"others": func(m *mounted) error { return unix.Unmount(m.dir, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t)
			m.fs.read = fill('u')
			f := m.open()
			if err := m.Unmount(); err != syscall.EBUSY {
				t.Fatalf("unmounting in use: %v", err)
			}
			if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
				t.Fatal(err)
			}
			m.must(f.Close())
			m.eventually("unmounted", func() bool { return by(m) == nil })
			<-m.fs.ended
			if m.mounts() || !m.closed {
				t.Error("it is still there")
			}
			if code := m.InodeNotify(1, 0, 0); code != fuse.Status(syscall.EBADF) {
				t.Errorf("a notification after the end: %v", code)
			}
		})
	}
}

// TestAbort: who waits for an answer gets an error at once, and Serve waits for
// handlers and for postponed answers before it closes anything.
func TestAbort(t *testing.T) {
	m := mount(t)
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	m.fs.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
		entered <- struct{}{}
		<-leave
		return fill('b')(0, buf)
	}
	var done func(fuse.Status)
	m.fs.fsync = func(cancel <-chan struct{}) fuse.Status {
		done = m.Postpone(cancel)
		entered <- struct{}{}
		return fuse.OK
	}
	told := make(chan error, 2)
	f, g := m.open(), m.openNth(3)
	go func() { _, err := f.ReadAt(make([]byte, 10), 0); told <- err }()
	<-entered
	go func() { told <- g.Sync() }()
	<-entered
	m.abort()
	for range 2 {
		if err := <-told; !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("an aborted request: %v", err)
		}
	}
	ended := func() bool {
		select {
		case <-m.fs.ended:
			return true
		default:
			return false
		}
	}
	close(leave)
	m.eventually("readers end", func() bool { return m.idle.Load() == 0 })
	if ended() {
		t.Error("it has ended before all was answered")
	}
	done(fuse.OK)
	<-m.fs.ended
}

// TestWiped: no buffer holds anything of requests or answers afterwards.
func TestWiped(t *testing.T) {
	m := mount(t)
	const marker = 0xA7
	marked := func(n int) []byte { return bytes.Repeat([]byte{marker}, n) }
	m.fs.read = fill(marker)
	m.fs.write = func([]byte) fuse.Status { return fuse.OK }
	m.fs.setxattr = func(string, []byte) fuse.Status { return fuse.EIO }
	m.fs.getxattr = func(buf []byte) (uint32, fuse.Status) { fill(marker)(0, buf); return uint32(len(buf)), fuse.OK }
	f := m.open()
	for _, n := range []int{1, 40, 100, 4096, 70_000, 1 << 20} {
		_, write := f.WriteAt(marked(n), 0)
		_, read := f.ReadAt(make([]byte, n), 0)
		m.must(errors.Join(write, read))
		if n <= 65536 {
			_ = unix.Setxattr(m.dir, "user.a", marked(n), 0)
			_, err := unix.Getxattr(m.dir, "user.a", make([]byte, n))
			m.must(err)
		}
	}
	m.fs.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) { fill(marker)(0, buf); return nil, fuse.EIO }
	_, _ = f.ReadAt(make([]byte, 300_000), 0)
	m.fs.getxattr = func(buf []byte) (uint32, fuse.Status) { fill(marker)(0, buf); return 0, fuse.EIO }
	_, _ = unix.Getxattr(m.dir, "user.a", make([]byte, 60_000))
	m.must(f.Close())
	m.eventually("unmounted", func() bool { return m.Unmount() == nil })
	<-m.fs.ended
	if len(m.made.readers) == 0 || len(m.made.large) == 0 {
		t.Fatal("no buffers, so this shows nothing")
	}
	for _, r := range m.made.readers {
		if bytes.Count(r.in[headerSize:], []byte{marker})+bytes.Count(r.out[answerHeader:], []byte{marker}) > 0 {
			t.Error("a reader's buffers hold data")
		}
	}
	for _, b := range m.made.large {
		if bytes.IndexByte(*b, marker) >= 0 {
			t.Error("a large buffer holds data")
		}
	}
}

// TestNotifyInHandler: a handler may have the kernel write back, which is a
// request of its own.
func TestNotifyInHandler(t *testing.T) {
	m := unmounted(t, func(o *fuse.MountOptions) { o.ExtraCapabilities = fuse.CAP_WRITEBACK_CACHE })
	m.spare = 1
	cached := cachedFiles{m.fs}
	m.serveThis(cached)
	var written atomic.Int64
	m.fs.write = func(data []byte) fuse.Status { written.Add(int64(len(data))); return fuse.OK }
	m.fs.read = fill('n')
	m.fs.getxattr = func([]byte) (uint32, fuse.Status) { return 0, m.InodeNotify(2, 0, 0) }
	f := m.open()
	if _, err := f.WriteAt(make([]byte, 100_000), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Getxattr(m.dir, "user.a", nil); err != nil {
		t.Fatal(err)
	}
	if code := m.EntryNotify(1, "file2"); !code.Ok() {
		t.Error(code)
	}
	if written.Load() < 100_000 {
		t.Errorf("%d bytes came", written.Load())
	}
}
