package store

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptor is a file descriptor that may be closed while others use it: the
// last of them closes it, so that no call ever meets a number that the kernel
// has given to another file.
type descriptor struct {
	fd int
	// state is twice the number of users, plus one once it is closed.
	state atomic.Int64
}

// use begins a use, which release ends. It answers EBADF once closed.
func (d *descriptor) use() error {
	for {
		s := d.state.Load()
		if s&1 != 0 {
			return syscall.EBADF
		}
		if d.state.CompareAndSwap(s, s+2) {
			return nil
		}
	}
}

func (d *descriptor) release() {
	if d.state.Add(-2) == 1 {
		closeFD(d.fd)
	}
}

// close forbids new uses. If there are uses under way, the last one closes,
// and its error is lost: who wants to know of errors syncs.
func (d *descriptor) close() error {
	for {
		s := d.state.Load()
		if s&1 != 0 {
			return syscall.EBADF
		}
		if d.state.CompareAndSwap(s, s|1) {
			if s == 0 {
				return closeFD(d.fd)
			}
			return nil
		}
	}
}

// closeFD closes fd once: on Linux it is closed even where EINTR is answered,
// and a second try could hit a stranger.
func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

// retry calls f until it is not interrupted by a signal. The Go runtime sends
// itself signals to pre-empt, so this happens on file systems that can be
// interrupted (FUSE, NFS, fallocate on ext4).
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
