package blockfile

import "time"

// The time of modification is the File's own while it is open: each write back
// changes that of the backing file, and a kernel that caches writes tells its
// own when it has changed. It comes home with the blocks, and is in every record.

// stamp sets the time of modification. Called with mu held.
func (f *File) stamp(t time.Time) { f.mtime = t }

// timeOwed reports whether the backing file has another time of modification.
// Called with mu held, shared or not.
func (f *File) timeOwed() bool { return !f.mtime.Equal(f.saved) }

// Chtimes sets times; nil leaves one as it is. A time of modification alone
// costs no call of the store now.
func (f *File) Chtimes(atime, mtime *time.Time) error {
	if f.env.Journal != nil && atime == nil && mtime != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stamp(*mtime)
		return nil
	}
	f.home.Lock()
	defer f.home.Unlock()
	if err := f.back.Chtimes(atime, mtime); err != nil {
		return err
	}
	if mtime != nil {
		f.mu.Lock()
		f.stamp(*mtime)
		f.saved = *mtime
		f.mu.Unlock()
	}
	return nil
}

// saveTime brings the time of modification home. Called with home held.
func (f *File) saveTime() error {
	f.mu.RLock()
	mtime, owed := f.mtime, f.timeOwed()
	f.mu.RUnlock()
	if !owed {
		return nil
	}
	if err := f.back.Chtimes(nil, &mtime); err != nil {
		return err
	}
	f.mu.Lock()
	f.saved = mtime
	f.mu.Unlock()
	return nil
}

// forgetTime says that the backing file has a time of modification of its own
// making. Called with mu held.
func (f *File) forgetTime() { f.saved = time.Time{} }

// commitTime has the next commit make the time of modification durable, if it
// is not. It reports false if the file has no header yet, and so no records.
func (f *File) commitTime() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mtime.Equal(f.logged) {
		return true
	}
	f.logTime = f.cipher != nil
	return f.logTime
}

// SyncAttributes makes the backing file's attributes durable, and whatever is
// at home with them.
func (f *File) SyncAttributes() error {
	f.home.Lock()
	err := f.saveTime()
	f.home.Unlock()
	if err != nil {
		return err
	}
	return f.syncBack(f.back.Sync)
}
