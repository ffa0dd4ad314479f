package blockfile

import (
	"github.com/akvfs/akvfs/fs/format"
)

// What a durable record takes away from the backing file may fail there, and so
// may a large write that goes home directly and has been done in part. Then the
// backing file has more than the records say: what is left would come back as
// the content of a hole, or look like damage. Until it is gone the file takes
// no change, holes are believed without a look at home, and the journal keeps
// its records, so that the next mount's recovery does the same.

// owe notes what is still to be done at home, and why it was not done. Called
// with mu held.
func (f *File) owe(do func() error, cause error) {
	f.overdue, f.cause = append(f.overdue, do), cause
}

// oweRun notes that home may have something of n blocks of one group that were
// to go there directly: past the end of the file, or in holes. Called with mu
// held.
func (f *File) oweRun(first, n int64, cause error) {
	f.room = room{} // what is taken away has none any more
	if first < format.Blocks(f.committed) {
		f.owe(func() error { return PunchHome(f.back, format.BlockOffset(first), n*format.BlockSize) }, cause)
		return
	}
	f.owe(func() error { return CutHome(f.back, max(f.size, f.committed)) }, cause)
}

// behind is why the file takes no change now, nil if it does. Called with mu
// held, shared or not.
func (f *File) behind() error {
	if len(f.overdue) > 0 {
		return f.cause
	}
	return nil
}

// mayChange makes the file ready for a change. Called with mu held.
func (f *File) mayChange() error {
	if err := f.behind(); err != nil {
		return err
	}
	return f.ensureHeader()
}

// catchUp does what is overdue at home.
func (f *File) catchUp() error {
	f.mu.RLock()
	err := f.behind()
	f.mu.RUnlock()
	if err == nil {
		return nil
	}
	f.home.Lock()
	defer f.home.Unlock()
	return f.settleOverdue()
}

// settleOverdue is catchUp with home held.
func (f *File) settleOverdue() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.overdue) > 0 {
		f.forgetTime()
		if err := f.unsynced.incur(f.overdue[0]); err != nil {
			f.cause = err
			return err
		}
		f.overdue = f.overdue[1:]
	}
	return nil
}

// holeAt checks a hole's block at home. Called with mu held, shared or not.
func (f *File) holeAt(ct []byte, number int64) error {
	if f.behind() == nil && !format.IsZero(ct[:format.BlockSize]) {
		return f.damage("block", number, nil)
	}
	return nil
}
