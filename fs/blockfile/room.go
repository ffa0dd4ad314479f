package blockfile

import (
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
)

// Room is taken from the backing store ahead of a writer that goes on where it
// stopped: a quarter of what the file has, within these bounds in bytes, so
// that large files lie in few pieces. Trim gives back what was not used.
const (
	leastAhead = 1 << 20
	mostAhead  = 64 << 20
)

// room is a range of the backing file, in bytes, that is known to be
// allocated. A tag page of which it holds blocks is allocated as well.
type room struct{ start, end int64 }

func (r room) covers(start, end int64) bool { return r.start <= start && end <= r.end }

// has reports whether a block has room, and its tag page with it.
func (r room) has(block int64) bool {
	start := format.BlockOffset(block)
	return r.covers(start, start+format.PageSize)
}

// add takes another range in: joined to this one if they touch, else in its place.
func (r *room) add(start, end int64) {
	if start <= r.end && end >= r.start && r.end > 0 {
		start, end = min(start, r.start), max(end, r.end)
	}
	*r = room{start, end}
}

// cut forgets what lies from end on.
func (r *room) cut(end int64) {
	if r.end = min(r.end, end); r.end <= r.start {
		*r = room{}
	}
}

// allocate takes room on the backing store for a write, so that a full disk
// is the writer's error and not a later writeback's. What is no hole has room
// already. Called with mu held.
func (f *File) allocate(off, n int64) error {
	first, last := off/format.BlockSize, (off+n-1)/format.BlockSize
	start, end := format.BlockOffset(first), format.BlockOffset(last)+format.PageSize
	inside := last < format.Blocks(f.size)
	if f.room.covers(start, end) || (inside && !f.anyHole(first, last)) {
		return nil
	}
	page, err := f.tagPage(format.Group(first))
	if err != nil {
		return err
	}
	if tag := format.TagPageOffset(format.Group(first)); page.Empty() {
		if n < directBlocks*format.BlockSize {
			err = f.take(tag, tag+format.PageSize, 0)
		} else {
			start = tag // one piece: what lies between is on its way
		}
		if err != nil {
			return err
		}
	}
	return f.take(start, end, f.ahead(inside, first, end))
}

// ahead is how much more than a write of blocks from first on to take, which ends
// at end: nothing for one into a hole of a sparse file, unless it goes on where
// the last one stopped.
func (f *File) ahead(inside bool, first, end int64) int64 {
	if !inside {
		return max(leastAhead, min(f.size/4, mostAhead))
	}
	if gap := format.BlockOffset(first) - f.room.end; gap < 0 || gap > format.PageSize {
		return 0
	}
	return max(min(max(leastAhead, f.comes(first)*format.PageSize), format.BackingSize(f.size)-end), 0)
}

// take allocates from start to end in the backing file, and some ahead of
// that if there is room.
func (f *File) take(start, end, ahead int64) error {
	err := f.back.Allocate(unix.FALLOC_FL_KEEP_SIZE, start, end+ahead-start)
	if ahead > 0 && isNoSpace(err) {
		ahead = 0
		err = f.back.Allocate(unix.FALLOC_FL_KEEP_SIZE, start, end-start)
	}
	if isUnsupported(err) {
		return nil
	}
	if err == nil {
		f.room.add(start, end+ahead)
	}
	return err
}

// anyHole reports whether a block from first to last has no room at home yet.
// Called with mu held.
func (f *File) anyHole(first, last int64) bool {
	for b := first; b <= last && b < format.Blocks(f.size); b++ {
		if f.dirty[b] != nil || f.flight[b] != nil {
			continue
		}
		if e, err := f.entry(b); err == nil && e.Hole() {
			return true
		}
	}
	return false
}
