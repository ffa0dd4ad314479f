package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
)

// TestReadBulk: it reads what ReadAt reads, also what is not on the disk yet
// and what has no name any more, aligned or not, and from several goroutines.
func TestReadBulk(t *testing.T) {
	st, err := OpenDisk(t.TempDir())
	must0(t, err)
	f, err := st.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
	must0(t, err)
	want := bytes.Repeat([]byte("akvfs"), 100_000)
	_, err = f.WriteAt(want, 0)
	must0(t, err)
	must0(t, st.Unlink("f"))
	bulk := f.(BulkReader)
	var all sync.WaitGroup
	for _, c := range []struct{ off, skew, length int }{
		{0, 0, 1 << 17}, {8192, 0, 1 << 18}, {4096, 1, 1 << 16}, {5000, 0, 1 << 16},
		{len(want) &^ 4095, 0, 1 << 13}, {len(want) + 1<<20&^4095, 0, 1 << 12},
	} {
		all.Go(func() {
			p, q := AlignedBuffer(c.skew + c.length)[c.skew:], make([]byte, c.length)
			n, err := bulk.ReadBulk(p, int64(c.off))
			m, plainErr := f.ReadAt(q, int64(c.off))
			if n != m || !bytes.Equal(p[:n], q[:m]) || errors.Is(err, io.EOF) != errors.Is(plainErr, io.EOF) {
				t.Errorf("%+v: %d bytes, %v; ReadAt: %d bytes, %v", c, n, err, m, plainErr)
			}
		})
	}
	all.Wait()
	_, err = f.WriteAt([]byte("new"), 4096)
	must0(t, err)
	p := AlignedBuffer(1 << 16)
	if _, err := bulk.ReadBulk(p, 0); err != nil || string(p[4096:4099]) != "new" {
		t.Errorf("%q, %v", p[4096:4099], err)
	}
	must0(t, f.Close())
	if _, err := bulk.ReadBulk(p, 0); !errors.Is(err, syscall.EBADF) {
		t.Errorf("after Close: %v", err)
	}
	must0(t, st.Close())
}

// TestReadBulkRefused: where there is no second descriptor, there is ReadAt.
func TestReadBulkRefused(t *testing.T) {
	st, err := OpenDisk(t.TempDir())
	must0(t, err)
	f, err := st.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
	must0(t, err)
	_, err = f.WriteAt([]byte("akvfs"), 0)
	must0(t, err)
	f.(*diskFile).bulk.once.Do(func() {}) // as when reopening it fails
	p := AlignedBuffer(4096)
	if n, err := f.(BulkReader).ReadBulk(p, 0); n != 5 || !errors.Is(err, io.EOF) || string(p[:n]) != "akvfs" {
		t.Errorf("%q, %v", p[:n], err)
	}
	must0(t, errors.Join(f.Close(), st.Close()))
}
