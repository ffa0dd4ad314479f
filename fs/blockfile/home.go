package blockfile

import (
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// CutHome makes a backing file that is longer the right length for size
// plaintext bytes, with nothing but a hole after the last page. Recovery does
// the same when it repeats a cut. One that stopped half-way has left the file
// at its last page's end, and is completed by the next.
func CutHome(back store.File, size int64) error {
	attr, err := back.Stat()
	if err != nil || attr.Size < format.PagesEnd(size) {
		return err
	}
	if err := back.Truncate(format.PagesEnd(size)); err != nil {
		return err
	}
	return back.Truncate(format.BackingSize(size))
}

// PunchHome makes whole pages of a backing file zeros, as holes where the
// store has those.
func PunchHome(back store.File, off, n int64) error {
	err := back.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if !isUnsupported(err) {
		return err
	}
	zeros := make([]byte, format.PageSize)
	for end := off + n; off < end; off += format.PageSize {
		if _, err := back.WriteAt(zeros, off); err != nil {
			return err
		}
	}
	return nil
}
