package store

import (
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// diskFile is an open file of a Disk. Its position in the file is never used:
// reads and writes say where.
type diskFile struct {
	descriptor
	name   string // as it was opened, for errors
	disk   *Disk
	direct bool // opened with O_DIRECT
	bulk   bulk
}

// call calls f while the descriptor stays open.
func (f *diskFile) call(op string, g func(fd int) error) error {
	if err := f.use(); err != nil {
		return pathError(op, f.name, err)
	}
	defer f.release()
	return pathError(op, f.name, retry(func() error { return g(f.fd) }))
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.use(); err != nil {
		return 0, pathError("read", f.name, err)
	}
	defer f.release()
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, pathError("read", f.name, err)
		}
		done += n
		// A direct read that is not a whole number of sectors has met the end,
		// and no other could begin there.
		if n == 0 || f.direct && n%512 != 0 && done < len(p) {
			return done, io.EOF
		}
	}
	return done, nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, off, unix.Pwrite)
}

// write writes all of p with calls of one kind.
func (f *diskFile) write(p []byte, off int64, pwrite func(fd int, p []byte, off int64) (int, error)) (int, error) {
	if err := f.use(); err != nil {
		return 0, pathError("write", f.name, err)
	}
	defer f.release()
	done := 0
	for done < len(p) {
		n, err := pwrite(f.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = unix.EIO
		}
		if err != nil {
			return done, pathError("write", f.name, err)
		}
		done += n
	}
	return done, nil
}

func (f *diskFile) Truncate(size int64) error {
	return f.call("truncate", func(fd int) error { return unix.Ftruncate(fd, size) })
}

func (f *diskFile) Stat() (Attr, error) {
	if err := f.use(); err != nil {
		return Attr{}, pathError("stat", f.name, err)
	}
	defer f.release()
	var stx unix.Statx_t
	if err := statx(f.fd, "", &stx); err != nil {
		return Attr{}, pathError("stat", f.name, err)
	}
	return attrOf(&stx), nil
}

func (f *diskFile) Sync() error { return f.call("sync", unix.Fsync) }

func (f *diskFile) Datasync() error { return f.call("datasync", unix.Fdatasync) }

func (f *diskFile) Allocate(mode uint32, off, length int64) error {
	return f.call("allocate", func(fd int) error { return unix.Fallocate(fd, mode, off, length) })
}

// Seek does move the descriptor's position, which nothing here depends on;
// the answer is each call's own.
func (f *diskFile) Seek(off int64, whence int) (pos int64, err error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, pathError("seek", f.name, unix.EINVAL)
	}
	err = f.call("seek", func(fd int) (err error) {
		pos, err = unix.Seek(fd, off, whence)
		return err
	})
	if err != nil {
		return 0, err
	}
	return pos, nil
}

func (f *diskFile) Chmod(mode uint32) error {
	return f.call("chmod", func(fd int) error { return unix.Fchmod(fd, mode&0o7777) })
}

func (f *diskFile) Chown(uid, gid int) error {
	return f.call("chown", func(fd int) error { return unix.Fchown(fd, uid, gid) })
}

func (f *diskFile) Chtimes(atime, mtime *time.Time) error {
	ts, err := timespecs(atime, mtime)
	if err != nil {
		return pathError("chtimes", f.name, err)
	}
	return f.call("chtimes", func(fd int) error {
		return unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH)
	})
}

// LinkTo asks for the link by descriptor, which needs a privilege or a recent
// kernel, and then over /proc, which needs neither.
func (f *diskFile) LinkTo(newName string) error {
	p, err := f.disk.locate(newName)
	if err != nil {
		return linkError("link", f.name, newName, err)
	}
	defer p.leave()
	if err := f.use(); err != nil {
		return linkError("link", f.name, newName, err)
	}
	defer f.release()
	err = retry(func() error { return unix.Linkat(f.fd, "", p.dir, p.base, unix.AT_EMPTY_PATH) })
	if err == unix.ENOENT {
		err = retry(func() error {
			return unix.Linkat(unix.AT_FDCWD, procFD(f.fd), p.dir, p.base, unix.AT_SYMLINK_FOLLOW)
		})
	}
	return linkError("link", f.name, newName, err)
}

func (f *diskFile) Close() error {
	f.bulk.close()
	return pathError("close", f.name, f.close())
}
