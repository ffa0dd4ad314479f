package fuseloop

import (
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// viaHelper has fusermount3 mount, as for users that are not root.
func (m *mounted) viaHelper() {
	m.Helper()
	m.Loop.fs, m.mountpoint, m.helper = m.fs, m.dir, true
	m.protocol = fuse.NewProtocolServer(m.fs, &m.opts)
	fd, err := m.attachByHelper([]string{"nosuid", "nodev"})
	m.must(err)
	m.fd = fd
	m.must(m.greet())
	m.run()
}

// TestHelper: fusermount3's mounts are like our own, and busy while in use; a
// source's name may have commas in it.
func TestHelper(t *testing.T) {
	m := unmounted(t, func(o *fuse.MountOptions) { o.FsName = `a,b\c` })
	m.viaHelper()
	m.set(func(a *answers) { a.read = fill('f') })
	f := m.open()
	if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
		t.Error(err)
	}
	out, err := exec.Command("findmnt", "-rno", "SOURCE,FSTYPE", m.dir).Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != `a,b\x5cc fuse.akvfs` {
		t.Errorf("the mount table has %q, %v", got, err)
	}
	if err := m.Unmount(); err == nil || !strings.Contains(err.Error(), unix.EBUSY.Error()) {
		t.Errorf("unmounting in use: %v", err)
	}
	m.must(f.Close())
	m.eventually("unmounted", func() bool { return m.Unmount() == nil })
	m.mustBeClosed()
	if _, err := received(0); err == nil {
		t.Error("what is no socket has sent a descriptor")
	}
}

// TestChildren: no program that is started before, while or after a mount is
// made, whoever makes it, has the connection.
func TestChildren(t *testing.T) {
	var stop atomic.Bool
	var all sync.WaitGroup
	var seen atomic.Int32
	for range 2 {
		all.Go(func() {
			for !stop.Load() {
				out, err := exec.Command("sh", "-c", "ls -l /proc/self/fd").Output()
				if err != nil || strings.Contains(string(out), "/dev/fuse") {
					t.Errorf("a child has: %s, %v", out, err)
				}
				seen.Add(1)
			}
		})
	}
	for n := range 10 {
		t.Run("", func(t *testing.T) {
			m := unmounted(t, nil)
			before := seen.Load()
			if n%2 == 0 {
				m.serve()
			} else {
				m.viaHelper()
			}
			m.eventually("children", func() bool { return seen.Load() > before+1 })
			if flags, err := unix.FcntlInt(uintptr(m.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("the descriptor's flags are %x, %v", flags, err)
			}
		})
	}
	stop.Store(true)
	all.Wait()
}
