package store

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Locker is a store in which a file can be locked against all other
// processes, and against other openings in this one.
type Locker interface {
	// TryLock locks the file of that name, which it makes if it is not there,
	// until the Closer is closed or the process ends. It never waits: what is
	// locked answers ErrLocked. The file must never be unlinked or renamed.
	TryLock(name string) (io.Closer, error)
}

// TryLock locks a file with flock(2). A child that inherited the descriptor
// would hold the lock too, but it is closed on exec. NFS wants the file open
// for writing; on a read-only file system, reading has to do.
func (d *Disk) TryLock(name string) (io.Closer, error) {
	f, err := d.openFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		f, err = d.openFile(name, os.O_RDONLY, 0)
	}
	if err != nil {
		return nil, pathError("lock", name, err)
	}
	err = retry(func() error { return unix.Flock(f.fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		f.Close()
		return nil, pathError("lock", name, err)
	}
	return f, nil
}
