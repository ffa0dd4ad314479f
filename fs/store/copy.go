package store

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// Clone makes dst share all of src's blocks (FICLONE), so that neither time
// nor room is spent on them. It fails where the file system has no such thing,
// or the two are on different ones; EOPNOTSUPP for stores that are none of
// disk.
func Clone(dst, src File) error {
	return onDisk(dst, src, func(d, s *diskFile) error {
		return retry(func() error { return unix.IoctlFileClone(d.fd, s.fd) })
	})
}

// CloneRange makes dst share what src has from off to end, at the same place.
// off is a multiple of the file system's block size, and so is end, or it is
// where both files end. Else, and where Clone would, it fails.
func CloneRange(dst, src File, off, end int64) error {
	return onDisk(dst, src, func(d, s *diskFile) error {
		part := unix.FileCloneRange{Src_fd: int64(s.fd), Src_offset: uint64(off), Src_length: uint64(end - off), Dest_offset: uint64(off)}
		return retry(func() error { return unix.IoctlFileCloneRange(d.fd, &part) })
	})
}

// Copy copies n bytes from off on, to the same place. What is a hole in src is
// copied as zeros. It ends early where src does.
func Copy(dst, src File, off, n int64) error {
	for n > 0 {
		m, err := copyInKernel(dst, src, off, n)
		if err != nil {
			return copyByHand(dst, src, off, n)
		}
		if m == 0 {
			return nil
		}
		off, n = off+m, n-m
	}
	return nil
}

// copyInKernel is copy_file_range(2), which shares blocks where it can.
func copyInKernel(dst, src File, off, n int64) (copied int64, err error) {
	err = onDisk(dst, src, func(d, s *diskFile) error {
		return retry(func() error {
			from, to := off, off
			m, err := unix.CopyFileRange(s.fd, &from, d.fd, &to, int(min(n, 1<<30)), 0)
			copied = int64(m)
			return err
		})
	})
	return copied, err
}

// onDisk calls do if both are files on disk, while both stay open.
func onDisk(dst, src File, do func(d, s *diskFile) error) error {
	d, s := diskFileOf(dst), diskFileOf(src)
	if d == nil || s == nil {
		return unix.EOPNOTSUPP
	}
	return d.call("copy", func(int) error {
		return s.call("copy", func(int) error { return do(d, s) })
	})
}

func diskFileOf(f File) *diskFile {
	if t, ok := f.(*trackedFile); ok {
		f = t.File
	}
	d, _ := f.(*diskFile)
	return d
}

func copyByHand(dst, src File, off, n int64) error {
	buf := make([]byte, min(n, 1<<20))
	for n > 0 {
		m, err := src.ReadAt(buf[:min(n, int64(len(buf)))], off)
		if m > 0 {
			if _, err := dst.WriteAt(buf[:m], off); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		off, n = off+int64(m), n-int64(m)
	}
	return nil
}
