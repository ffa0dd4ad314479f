package store

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// BulkReader is a File from which much can be read at once that nobody will
// read again soon.
type BulkReader interface {
	// ReadBulk is ReadAt, but leaves no copy in the page cache, where the
	// store can read so and p and off are aligned.
	ReadBulk(p []byte, off int64) (int, error)
}

var _ BulkReader = (*diskFile)(nil)

// bulk is a second descriptor of a file, for direct reads. The first of them
// opens it; where the file system or a permission refuses, there is none.
type bulk struct {
	once sync.Once
	file *diskFile
}

// ReadBulk reads with O_DIRECT. What the page cache holds and the disk does
// not, the kernel writes first.
func (f *diskFile) ReadBulk(p []byte, off int64) (int, error) {
	if !aligned(p, off) {
		return f.ReadAt(p, off)
	}
	f.bulk.once.Do(func() { f.bulk.file = f.reopenDirect() })
	if f.bulk.file == nil {
		return f.ReadAt(p, off)
	}
	n, err := f.bulk.file.ReadAt(p, off)
	if errors.Is(err, unix.EINVAL) { // refused only when it comes to reading
		return f.ReadAt(p, off)
	}
	return n, err
}

// reopenDirect opens the file once more by its descriptor, whatever its name
// is by now. It is nil where that cannot be.
func (f *diskFile) reopenDirect() *diskFile {
	if err := f.use(); err != nil {
		return nil
	}
	defer f.release()
	const flag = unix.O_RDONLY | unix.O_DIRECT | unix.O_CLOEXEC
	fd, err := unix.Open(procFD(f.fd), flag|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = unix.Open(procFD(f.fd), flag, 0)
	}
	if err != nil {
		return nil
	}
	return &diskFile{descriptor: descriptor{fd: fd}, name: f.name, disk: f.disk, direct: true}
}

// close closes what ReadBulk opened, and keeps it from opening more.
func (b *bulk) close() {
	b.once.Do(func() {})
	if b.file != nil {
		_ = b.file.close()
	}
}
