package store

import (
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Tracker is a store that can tell which parts of which files were changed
// since it was asked before: who copies a tree that others write to copies
// those again. It tells of contents only; names and metadata are to be listed.
type Tracker struct {
	FS // the store below

	on      atomic.Bool
	mu      sync.Mutex // guards changes
	changes Changes
}

var (
	_ FS     = (*Tracker)(nil)
	_ Locker = (*Tracker)(nil)
	_ Syncer = (*Tracker)(nil)
)

// ObjectID names an object of a store for as long as it exists.
type ObjectID struct{ Dev, Ino uint64 }

// ID is the object's.
func (a *Attr) ID() ObjectID { return ObjectID{a.Dev, a.Ino} }

// Changes are the changed parts of files.
type Changes map[ObjectID]*Changed

// Add takes later changes in, which are given away with that.
func (c Changes) Add(later Changes) {
	for id, l := range later {
		if c[id] == nil {
			c[id] = l
			continue
		}
		maps.Copy(c[id].Pieces, l.Pieces)
		c[id].From = min(c[id].From, l.From)
		c[id].bound()
	}
}

// Changed is what was changed in one file: some pieces of ChangedPiece bytes,
// by number, and everything from a place on.
type Changed struct {
	Pieces map[int64]struct{}
	From   int64 // math.MaxInt64: nothing
}

// Part is what lies in a file from a place to before another.
type Part struct{ Off, End int64 }

// Parts are what was changed of a file of a size, in order and not side by side.
func (c *Changed) Parts(size int64) (parts []Part) {
	add := func(off, end int64) {
		if n := len(parts); n > 0 && parts[n-1].End == off {
			parts[n-1].End = end
		} else {
			parts = append(parts, Part{off, end})
		}
	}
	from := min(size, c.From/ChangedPiece*ChangedPiece)
	for _, piece := range slices.Sorted(maps.Keys(c.Pieces)) {
		if off := piece * ChangedPiece; off < from {
			add(off, min(off+ChangedPiece, from))
		}
	}
	if from < size {
		add(from, size)
	}
	return parts
}

const (
	// ChangedPiece is the size in bytes of what is noted as changed.
	ChangedPiece = 64 << 10
	// mostPieces bounds what is noted of one file: beyond, all of it counts.
	mostPieces = 1 << 16
)

// NewTracker makes a Tracker over a store, which it closes.
func NewTracker(below FS) *Tracker { return &Tracker{FS: below} }

// Track begins to note changes, from nothing, or ends it. Changes under way
// when it begins may be missing: who tracks copies after it began.
func (t *Tracker) Track(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes = Changes{}
	t.on.Store(on)
}

// Take gives what was changed since Track or the last Take. A change is noted
// when it has been made: one that a copy made before Take may have missed is
// in what this or the next Take gives.
func (t *Tracker) Take() Changes {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.changes
	t.changes = Changes{}
	return taken
}

// note adds a change of n bytes from off on; n < 0: of all from there.
func (t *Tracker) note(id ObjectID, off, n int64) {
	if !t.on.Load() || n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.changes[id]
	if c == nil {
		c = &Changed{Pieces: map[int64]struct{}{}, From: math.MaxInt64}
		t.changes[id] = c
	}
	if n < 0 {
		c.From = min(c.From, off)
		return
	}
	for piece := off / ChangedPiece; piece <= (off+n-1)/ChangedPiece; piece++ {
		c.Pieces[piece] = struct{}{}
	}
	c.bound()
}

// bound has all of a file count rather than too many pieces.
func (c *Changed) bound() {
	if len(c.Pieces) > mostPieces {
		c.Pieces, c.From = map[int64]struct{}{}, 0
	}
}

// OpenFile opens a file whose changes are noted.
func (t *Tracker) OpenFile(name string, flag int, perm uint32) (File, error) {
	f, err := t.FS.OpenFile(name, flag, perm)
	if err != nil || flag&os.O_RDWR == 0 {
		return f, err
	}
	attr, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	tracked := &trackedFile{File: f, tracker: t, id: attr.ID()}
	if flag&os.O_TRUNC != 0 {
		tracked.note(0, -1)
	}
	return tracked, nil
}

// Unlink notes that all of the file is changed: its number may be given to
// another.
func (t *Tracker) Unlink(name string) error {
	defer t.replaced(name)()
	return t.FS.Unlink(name)
}

// Rename notes the same of a file that it takes the name from.
func (t *Tracker) Rename(oldName, newName string, flags uint) error {
	defer t.replaced(newName)()
	return t.FS.Rename(oldName, newName, flags)
}

// replaced looks what a name is, and gives what notes it as changed.
func (t *Tracker) replaced(name string) (note func()) {
	if t.on.Load() {
		if attr, err := t.Stat(name); err == nil {
			return func() { t.note(attr.ID(), 0, -1) }
		}
	}
	return func() {}
}

// TryLock is that of the store below.
func (t *Tracker) TryLock(name string) (io.Closer, error) {
	if l, ok := t.FS.(Locker); ok {
		return l.TryLock(name)
	}
	return nil, pathError("lock", name, unix.EOPNOTSUPP)
}

// SyncAll is that of the store below.
func (t *Tracker) SyncAll() error {
	if s, ok := t.FS.(Syncer); ok {
		return s.SyncAll()
	}
	return pathError("syncfs", ".", unix.EOPNOTSUPP)
}

// trackedFile is a file that tells its tracker of its changes.
type trackedFile struct {
	File
	tracker *Tracker
	id      ObjectID
}

var (
	_ Advisor    = (*trackedFile)(nil)
	_ Streamer   = (*trackedFile)(nil)
	_ BulkReader = (*trackedFile)(nil)
)

func (f *trackedFile) note(off, n int64) { f.tracker.note(f.id, off, n) }

func (f *trackedFile) WriteAt(p []byte, off int64) (int, error) {
	defer f.note(off, int64(len(p)))
	return f.File.WriteAt(p, off)
}

func (f *trackedFile) Stream(p []byte, off int64) (int, error) {
	defer f.note(off, int64(len(p)))
	if s, ok := f.File.(Streamer); ok {
		return s.Stream(p, off)
	}
	return f.File.WriteAt(p, off)
}

func (f *trackedFile) Truncate(size int64) error {
	defer f.note(size, -1)
	return f.File.Truncate(size)
}

// Allocate notes what takes content away or moves it; room that is taken reads
// as it did.
func (f *trackedFile) Allocate(mode uint32, off, length int64) error {
	switch {
	case mode&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0:
		defer f.note(off, -1)
	case mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0:
		defer f.note(off, length)
	}
	return f.File.Allocate(mode, off, length)
}

func (f *trackedFile) WillNeed(off, length int64) {
	if a, ok := f.File.(Advisor); ok {
		a.WillNeed(off, length)
	}
}

func (f *trackedFile) ReadBulk(p []byte, off int64) (int, error) {
	if b, ok := f.File.(BulkReader); ok {
		return b.ReadBulk(p, off)
	}
	return f.File.ReadAt(p, off)
}
