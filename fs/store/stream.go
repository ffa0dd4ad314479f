package store

import "golang.org/x/sys/unix"

// Streamer is a File that takes bulk data which nobody will read again soon.
type Streamer interface {
	// Stream is WriteAt, but has the data begin its way to the disk at once
	// and not stay in the page cache, where the store can.
	Stream(p []byte, off int64) (int, error)
}

var _ Streamer = (*diskFile)(nil)

// Stream is pwritev2(2) with RWF_DONTCACHE, which Linux knows from 6.14 on.
func (f *diskFile) Stream(p []byte, off int64) (int, error) {
	return f.write(p, off, f.disk.stream)
}

func (d *Disk) stream(fd int, p []byte, off int64) (int, error) {
	if !d.noStreams.Load() {
		n, err := unix.Pwritev2(fd, [][]byte{p}, off, unix.RWF_DONTCACHE)
		if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
			return n, err
		}
		d.noStreams.Store(true)
	}
	return unix.Pwrite(fd, p, off)
}
