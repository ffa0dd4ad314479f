package store

import "golang.org/x/sys/unix"

// Syncer is a store that can be made durable as a whole.
type Syncer interface {
	// SyncAll makes everything that was done so far durable: content,
	// attributes and names of all files.
	SyncAll() error
}

var (
	_ Syncer = (*Disk)(nil)
	_ Syncer = (*Mem)(nil)
	_ Syncer = (*Faulty)(nil)
)

// SyncAll is syncfs(2) of the file system that the root lies on, other
// directories of it included.
func (d *Disk) SyncAll() error {
	fd, err := d.openDir(".")
	if err != nil {
		return pathError("syncfs", ".", err)
	}
	defer unix.Close(fd)
	return pathError("syncfs", ".", retry(func() error { return unix.Syncfs(fd) }))
}
