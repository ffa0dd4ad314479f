package fusefs

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSizesBeyondTheStore: a size that the file system below cannot have is
// refused to whoever asks for it, and nobody else suffers.
func TestSizesBeyondTheStore(t *testing.T) {
	eachEngine(t, func(t *testing.T, m *mounted) {
		for _, size := range []int64{17 << 40, 1 << 50, 1 << 60, 1 << 62, 1<<63 - 1} {
			must(t, os.WriteFile(m.path("victim"), []byte("held"), 0o600))
			fd, err := unix.Open(m.path("victim"), unix.O_RDWR, 0)
			must(t, err)
			if err := unix.Ftruncate(fd, size); err != unix.EFBIG {
				t.Errorf("truncate to %d: %v", size, err)
			}
			if err := unix.Fallocate(fd, 0, size-4096, 4096); err != unix.EFBIG && err != unix.ENOSPC {
				t.Errorf("allocate at %d: %v", size, err)
			}
			must(t, unix.Fsync(fd))
			if _, err := unix.Pwrite(fd, []byte("far"), size-3); err == nil {
				if err := unix.Fsync(fd); err != unix.EFBIG {
					t.Errorf("sync of a write at %d: %v", size, err)
				}
			}
			must(t, unix.Close(fd))
			must(t, os.WriteFile(m.path("other"), []byte("fine"), 0o600))
			m.remount()
			for name, want := range map[string]string{"victim": "held", "other": "fine"} {
				b := make([]byte, 4)
				f, err := os.Open(m.path(name))
				must(t, err)
				if _, err := f.ReadAt(b, 0); err != nil || string(b) != want {
					t.Errorf("%s after %d: %q, %v", name, size, b, err)
				}
				must(t, f.Close())
			}
			must(t, os.Remove(m.path("victim")))
		}
	})
}
