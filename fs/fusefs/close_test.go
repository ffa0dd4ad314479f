package fusefs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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

// slow is a Volume in which closing a file waits while there is a file named
// slowMark, as it does in a frozen one.
type slow struct {
	passthrough
	mark string
}

const slowMark = "closing-waits"

type slowHandle struct {
	Handle
	mark string
}

func openSlow(dir string, _ bool) (Volume, func() error, error) {
	st, err := store.OpenDisk(dir)
	if err != nil {
		return nil, nil, err
	}
	return slow{passthrough{st}, filepath.Join(dir, slowMark)}, st.Close, nil
}

func (s slow) OpenFile(path string, flags int, mode uint32, owner Owner) (Handle, error) {
	h, err := s.passthrough.OpenFile(path, flags, mode, owner)
	if err != nil {
		return nil, err
	}
	return slowHandle{h, s.mark}, nil
}

func (h slowHandle) Close() error {
	for {
		if _, err := os.Lstat(h.mark); err != nil {
			return h.Handle.Close()
		}
		time.Sleep(time.Millisecond)
	}
}

// Files that were removed and forgotten may take long to close: the mount
// answers meanwhile, however many there are.
func TestForgetDoesNotWait(t *testing.T) {
	m := mount(t, serveArgs{Backend: "slow"})
	var known []int // descriptors by which the kernel knows files, but opens none
	for i := range 100 {
		name := m.path(fmt.Sprint("f", i))
		must(t, os.WriteFile(name, nil, 0o600))
		fd, err := unix.Open(name, unix.O_PATH, 0)
		must(t, err)
		known = append(known, fd)
		must(t, os.Remove(name))
	}
	mark := filepath.Join(m.backing, slowMark)
	must(t, os.WriteFile(mark, nil, 0o600))
	for _, fd := range known {
		must(t, unix.Close(fd)) // upon which the kernel forgets it
	}
	answered := make(chan error, 1)
	go func() {
		for i := range 100 {
			if _, err := os.Lstat(m.path(fmt.Sprint("no", i))); !errors.Is(err, fs.ErrNotExist) {
				answered <- fmt.Errorf("a name that is not there: %w", err)
				return
			}
		}
		answered <- nil
	}()
	select {
	case err := <-answered:
		must(t, err)
	case <-time.After(time.Minute):
		t.Error("the mount does not answer while removed files are being closed")
	}
	must(t, os.Remove(mark))
}
