package fuseloop

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestWiped: nothing that a loop has made holds anything of requests or answers
// afterwards.
func TestWiped(t *testing.T) {
	m := mount(t)
	const marker = 0xA7
	marked := func(n int) []byte { return bytes.Repeat([]byte{marker}, n) }
	m.set(func(a *answers) {
		a.read = fill(marker)
		a.write = func([]byte) fuse.Status { return fuse.OK }
		a.setxattr = func(string, []byte) fuse.Status { return fuse.EIO }
		a.getxattr = func(buf []byte) (uint32, fuse.Status) { fill(marker)(0, buf); return uint32(len(buf)), fuse.OK }
	})
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
	var st unix.Stat_t
	_ = unix.Stat(m.dir+"/"+string(marked(200)), &st)
	m.set(func(a *answers) { // what is made and not sent
		a.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) { fill(marker)(0, buf); return nil, fuse.EIO }
		a.getxattr = func(buf []byte) (uint32, fuse.Status) { fill(marker)(0, buf); return 0, fuse.EIO }
	})
	_, _ = f.ReadAt(make([]byte, 300_000), 0)
	_, _ = unix.Getxattr(m.dir, "user.a", make([]byte, 60_000))
	m.set(func(a *answers) {
		a.read = func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) { fill(marker)(0, buf); panic("in read") }
		a.write = func([]byte) fuse.Status { panic("in write") }
	})
	_, _ = f.ReadAt(make([]byte, 1000), 0)
	_, _ = f.WriteAt(marked(1000), 0)
	m.logs.text.set("")
	m.must(f.Close())
	m.eventually("unmounted", func() bool { return m.Unmount() == nil })
	m.mustBeWiped(marker)
}

// mustBeWiped finds no marker in what a loop that has ended has made.
func (m *mounted) mustBeWiped(marker byte) {
	m.Helper()
	made := m.made.get()
	if len(made.readers) == 0 || len(made.buffers) < 3 {
		m.Fatal("few buffers, so this shows nothing")
	}
	for _, r := range made.readers {
		if bytes.IndexByte(r.copy[headerSize:], marker) >= 0 || bytes.IndexByte(r.out[answerHeader:], marker) >= 0 {
			m.Error("a reader holds data")
		}
		if r.large != nil {
			m.Error("a reader has kept its buffer")
		}
	}
	for _, b := range made.buffers {
		if bytes.IndexByte(b[headerSize:], marker) >= 0 || bytes.IndexByte(b[answerHeader:headerSize], marker) >= 0 {
			m.Errorf("a buffer of %d bytes holds data", len(b))
		}
	}
}

// TestBuffers: what is got is large enough, however much data, and is got again.
func TestBuffers(t *testing.T) {
	b := newBuffers()
	for _, data := range []int{0, 1, leastData, leastData + 1, 65536, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		buf := b.get(data)
		if len(buf) < data+overhead || len(buf) > 2*max(data, leastData)+overhead {
			t.Errorf("for %d bytes: %d", data, len(buf))
		}
		b.put(buf)
		if again := b.get(data); len(again) != len(buf) {
			t.Errorf("then %d", len(again))
		}
	}
}
