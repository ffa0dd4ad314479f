package fusefs

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// full is a Volume that has no room for what the kernel writes back.
type full struct{ passthrough }

type fullHandle struct{ Handle }

func openFull(dir string, _ bool) (Volume, func() error, error) {
	st, err := store.OpenDisk(dir)
	if err != nil {
		return nil, nil, err
	}
	return full{passthrough{st}}, st.Close, nil
}

func (f full) OpenFile(path string, flags int, mode uint32, owner Owner) (Handle, error) {
	h, err := f.passthrough.OpenFile(path, flags, mode, owner)
	if err != nil {
		return nil, err
	}
	return fullHandle{h}, nil
}

func (h fullHandle) WriteBack(data []byte, off int64) (int, error) {
	if string(data) == "fits" {
		return h.Handle.WriteBack(data, off)
	}
	return 0, syscall.ENOSPC
}

// A close has the kernel write back and tells what came of it, whatever came of
// another one.
func TestClose(t *testing.T) {
	for backend, want := range map[string]error{"engine": nil, "full": syscall.ENOSPC} {
		t.Run(backend, func(t *testing.T) {
			m := mount(t, serveArgs{Backend: backend})
			must(t, os.WriteFile(m.path("fits"), []byte("fits"), 0o600))
			for i := range 4 {
				fd, err := unix.Open(m.path(fmt.Sprint("f", i)), unix.O_CREAT|unix.O_WRONLY, 0o600)
				must(t, err)
				_, err = unix.Write(fd, []byte("data"))
				must(t, err)
				if err := unix.Close(fd); err != want {
					t.Errorf("close: %v, want %v", err, want)
				}
			}
		})
	}
}
