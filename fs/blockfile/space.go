package blockfile

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
)

// Allocate is fallocate: plain or FALLOC_FL_KEEP_SIZE takes room on the
// backing store, FALLOC_FL_PUNCH_HOLE and FALLOC_FL_ZERO_RANGE make zeros.
// Other modes answer EOPNOTSUPP.
func (f *File) Allocate(mode uint32, off, n int64) error {
	if f.env.Journal == nil {
		return syscall.EROFS
	}
	if off < 0 || n <= 0 {
		return syscall.EINVAL
	}
	if off > f.env.maxSize()-n {
		return syscall.EFBIG
	}
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0:
		return f.preallocate(off, n, keep)
	case unix.FALLOC_FL_PUNCH_HOLE:
		if !keep {
			return syscall.EOPNOTSUPP
		}
		return f.Punch(off, n)
	case unix.FALLOC_FL_ZERO_RANGE:
		if err := f.Punch(off, n); err != nil {
			return err
		}
		return f.preallocate(off, n, keep)
	}
	return syscall.EOPNOTSUPP
}

// preallocate takes room for a range of blocks, and grows the file to its end.
func (f *File) preallocate(off, n int64, keep bool) error {
	if err := f.catchUp(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.mayChange(); err != nil {
		return err
	}
	first, last := off/format.BlockSize, (off+n-1)/format.BlockSize
	tag := format.TagPageOffset(format.Group(first))
	if err := f.take(tag, tag+format.PageSize, 0); err != nil {
		return err
	}
	if err := f.take(format.BlockOffset(first), format.BlockOffset(last)+format.PageSize, 0); err != nil {
		return err
	}
	if !keep && off+n > f.size {
		f.markFirst()
		f.size = off + n
	}
	return nil
}

// markFirst starts the commit interval if nothing was waiting. Called with mu held.
func (f *File) markFirst() {
	if !f.uncommitted() {
		f.first = time.Now()
	}
}

// Seek finds the next data or hole at or after off, as lseek does with
// unix.SEEK_DATA and unix.SEEK_HOLE; ENXIO where there is none. The end of
// the file is a hole.
func (f *File) Seek(off int64, whence int) (int64, error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, syscall.EINVAL
	}
	if off < 0 || off >= f.Size() {
		return 0, syscall.ENXIO
	}
	if f.env.Journal != nil { // so that the pages at home tell all
		if err := f.commitAndWriteback(); err != nil {
			return 0, err
		}
	}
	for b := off / format.BlockSize; ; b++ {
		next, hole, size, err := f.probe(b)
		if err != nil {
			return 0, err
		}
		if next >= format.Blocks(size) {
			if whence == unix.SEEK_HOLE {
				return size, nil
			}
			return 0, syscall.ENXIO
		}
		if hole == (whence == unix.SEEK_HOLE) {
			return max(off, next*format.BlockSize), nil
		}
		if b = next; whence == unix.SEEK_DATA && hole {
			if b, err = f.skipHoles(next); err != nil {
				return 0, err
			}
		}
	}
}

// probe tells whether a block is a hole.
func (f *File) probe(b int64) (block int64, hole bool, size int64, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if b >= format.Blocks(f.size) {
		return b, true, f.size, nil
	}
	hole, err = f.isHole(b)
	return b, hole, f.size, err
}

// skipHoles gives the last block of the holes that b is in, as far as whole
// groups without a page tell.
func (f *File) skipHoles(b int64) (int64, error) {
	next, err := f.nextPage(format.Group(b))
	if err != nil || next == format.Group(b) {
		return b, err
	}
	return next*format.GroupBlocks - 1, nil
}

// nextPage finds the first group at or after the given one that has a tag
// page or something dirty, and otherwise a group past the end of the file.
func (f *File) nextPage(group int64) (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	past := format.LastGroup(f.size) + 1
	next := past
	for g := range f.pages {
		if g >= group {
			next = min(next, g)
		}
	}
	for b := range f.dirty {
		if g := format.Group(b); g >= group {
			next = min(next, g)
		}
	}
	at, err := f.back.Seek(format.TagPageOffset(group), unix.SEEK_DATA)
	if errors.Is(err, syscall.ENXIO) {
		return next, nil
	}
	if err != nil {
		return 0, err
	}
	home := (at/format.PageSize - 1) / (format.GroupBlocks + 1)
	return min(next, max(home, group)), nil
}
