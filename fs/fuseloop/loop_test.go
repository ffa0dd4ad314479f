package fuseloop

import (
	"bytes"
	"errors"
	"fmt"
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
	var wrote shared[[]byte]
	m.set(func(a *answers) {
		a.read = fill('r')
		a.write = func(data []byte) fuse.Status { wrote.set(bytes.Clone(data)); return fuse.OK }
		a.fsync = func(<-chan struct{}) fuse.Status { return fuse.OK }
	})
	f := m.open()
	for _, n := range []int{1, 47, 48, 4096, small - answerHeader, small, quick - answerHeader, quick, 1 << 17, 1 << 20} {
		got := make([]byte, n)
		if read, err := f.ReadAt(got, 0); read != n || err != nil || strings.Trim(string(got), "r") != "" {
			t.Errorf("reading %d bytes: %d, %v", n, read, err)
		}
		want := bytes.Repeat([]byte{'w'}, n)
		if _, err := f.WriteAt(want, 0); err != nil || !bytes.Equal(want, wrote.get()) {
			t.Errorf("writing %d bytes: %d arrived, %v", n, len(wrote.get()), err)
		}
	}
	m.must(f.Sync())
	m.set(func(a *answers) {
		a.read = func(uint64, []byte) (fuse.ReadResult, fuse.Status) { return nil, fuse.Status(syscall.ENOKEY) }
		a.write = func([]byte) fuse.Status { return fuse.Status(syscall.ENOSPC) }
		a.fsync = func(<-chan struct{}) fuse.Status { return fuse.Status(syscall.EDQUOT) }
	})
	if _, err := f.ReadAt(make([]byte, 5000), 0); !errors.Is(err, syscall.ENOKEY) {
		t.Error(err)
	}
	if _, err := f.WriteAt(make([]byte, 5000), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EDQUOT) {
		t.Error(err)
	}
	m.set(func(a *answers) {
		a.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
			return fuse.ReadResultData(buf[:0]), fuse.OK
		}
	})
	if _, err := f.ReadAt(make([]byte, 5000), 0); err != io.EOF {
		t.Error(err)
	}
}

// TestAttributes: names and values of any size, and errors.
func TestAttributes(t *testing.T) {
	m := mount(t)
	var stored shared[[]byte]
	m.set(func(a *answers) {
		a.setxattr = func(name string, value []byte) fuse.Status {
			if name != "user.a" {
				return fuse.EINVAL
			}
			stored.set(bytes.Clone(value))
			return fuse.OK
		}
		a.getxattr = func(buf []byte) (uint32, fuse.Status) {
			value := stored.get()
			if len(buf) < len(value) {
				return uint32(len(value)), fuse.ERANGE
			}
			return uint32(copy(buf, value)), fuse.OK
		}
	})
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

// TestUnready: the file that go-fuse has on every mount is none of the file
// system's.
func TestUnready(t *testing.T) {
	m := mount(t)
	m.set(func(a *answers) { a.during = func(<-chan struct{}) { t.Error("it is asked for") } })
	fd, err := unix.Open(m.dir+"/"+unready, unix.O_RDWR|unix.O_CLOEXEC|unix.O_DIRECT, 0)
	m.must(err)
	defer unix.Close(fd)
	_, write := unix.Pwrite(fd, []byte("x"), 0)
	for what, err := range map[string]error{
		"write": write, "fsync": unix.Fsync(fd), "setxattr": unix.Fsetxattr(fd, "user.a", []byte("v"), 0),
	} {
		if err != unix.ERANGE {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestManyAtOnce: as many requests are served at a time as there are, and
// afterwards no more readers wait than should.
func TestManyAtOnce(t *testing.T) {
	m := mount(t)
	const many = 100
	var inside sync.WaitGroup
	inside.Add(many)
	m.set(func(a *answers) {
		a.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
			inside.Done()
			inside.Wait()
			return fill('m')(0, buf)
		}
	})
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
		m.serving.Range(func(any, any) bool { n++; return true })
		return n <= m.spare && m.idle.Load() == n
	})
}

// TestHeldRequestsAreSmall: what waits for a slow disk does not hold the large
// buffer that its request was read into.
func TestHeldRequestsAreSmall(t *testing.T) {
	m := mount(t)
	const many = 64
	entered, leave := make(chan struct{}), make(chan struct{})
	m.set(func(a *answers) {
		a.during = func(cancel <-chan struct{}) {
			if found, _ := m.serving.Load(cancel); found.(*reader).large != nil {
				t.Error("a READ that is served holds a large buffer")
			}
			entered <- struct{}{}
			<-leave
		}
		a.read = fill('h')
	})
	var all sync.WaitGroup
	for range many {
		f := m.open()
		all.Go(func() {
			if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	close(leave)
	all.Wait()
}

// TestAlwaysAReader: whatever order readers come and go in, one is left.
func TestAlwaysAReader(t *testing.T) {
	for _, spare := range []int32{1, 2} {
		m := unmounted(t, nil)
		m.spare = spare
		m.serve()
		m.set(func(a *answers) { a.read = fill('a') })
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

// forgetAll has the kernel forget what nobody uses.
func (m *mounted) forgetAll() { m.Helper(); m.must(unix.Mount("", m.dir, "", unix.MS_REMOUNT, "")) }

// TestForget: FORGETs are served without an answer, and the mount goes on.
func TestForget(t *testing.T) {
	m := mount(t)
	var forgotten atomic.Int32
	m.set(func(a *answers) { a.forget = func() { forgotten.Add(1) } })
	const many = 300
	for n := range many {
		m.must(m.openNth(n + 2).Close())
	}
	m.forgetAll()
	m.eventually("forgotten", func() bool { return forgotten.Load() >= many && m.forgets.Load() == 0 })
}

// TestSlowForgets: FORGETs that wait, as in a frozen volume, keep nobody else
// waiting.
func TestSlowForgets(t *testing.T) {
	m := mount(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	m.set(func(a *answers) {
		a.read = fill('s')
		a.forget = func() { entered <- struct{}{}; <-leave }
	})
	many := 3 * int(m.spare)
	for n := range many {
		m.must(m.openNth(n + 10).Close())
	}
	for n := range many { // with no other request in between
		if code := m.EntryNotify(1, fmt.Sprint("file", n+10)); !code.Ok() {
			t.Fatal(code)
		}
		<-entered
	}
	if _, err := m.open().ReadAt(make([]byte, 10), 0); err != nil {
		t.Error(err)
	}
	m.set(func(a *answers) { a.forget = nil })
	close(leave)
	m.eventually("forgotten", func() bool { return m.forgets.Load() == 0 })
}

// TestManyForgets: FORGETs do not add readers without end.
func TestManyForgets(t *testing.T) {
	k := newKernel(t)
	k.forgets.Store(mostForgets) // which wait
	k.idle.Store(1)
	k.r.request = request(opForget, []uint64{1})
	if k.takeTurn(k.r); k.idle.Load() != 0 {
		t.Error("one more adds a reader")
	}
}

// TestSignal: a caller that is told to end waits for its answer, and the
// kernel, which tells of it, is told not to.
func TestSignal(t *testing.T) {
	m := mount(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	m.set(func(a *answers) {
		a.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
			entered <- struct{}{}
			<-leave
			return fill('s')(0, buf)
		}
	})
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

// TestNotifyInHandler: a handler may have the kernel write back, which is a
// request of its own.
func TestNotifyInHandler(t *testing.T) {
	m := unmounted(t, func(o *fuse.MountOptions) { o.ExtraCapabilities = fuse.CAP_WRITEBACK_CACHE })
	m.spare = 1
	m.serveThis(cachedFiles{m.fs})
	var written atomic.Int64
	m.set(func(a *answers) {
		a.write = func(data []byte) fuse.Status { written.Add(int64(len(data))); return fuse.OK }
		a.read = fill('n')
		a.getxattr = func([]byte) (uint32, fuse.Status) { return 0, m.InodeNotify(2, 0, 0) }
	})
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
