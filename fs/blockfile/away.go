package blockfile

import (
	"time"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// Away is what of a file is committed and not at home, at one time. Put over a
// copy of the backing file as it is then, it makes that the whole file. It is
// ciphertext, and good for as long as anybody wants.
type Away struct {
	Modified time.Time
	work     *work // nil: only the time of modification is away
}

// Away tells what is away from home; nil if nothing is. What is overdue at
// home is done first. To be the whole file, nothing may be uncommitted.
func (f *File) Away() (*Away, error) {
	f.home.Lock()
	defer f.home.Unlock()
	if err := f.settleOverdue(); err != nil {
		return nil, err
	}
	w, err := f.gather()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if w == nil && !f.timeOwed() {
		return nil, nil
	}
	f.lent = f.lent || w != nil && len(w.blocks) > 0
	return &Away{f.mtime, w}, nil
}

// Onto brings it into a copy of the backing file.
func (a *Away) Onto(back store.File) error {
	if a.work == nil {
		return nil
	}
	if err := a.work.write(back); err != nil {
		return err
	}
	attr, err := back.Stat()
	if size := format.BackingSize(a.work.size); err == nil && attr.Size < size {
		err = back.Truncate(size)
	}
	return err
}
