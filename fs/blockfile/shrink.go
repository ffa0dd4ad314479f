package blockfile

import (
	"syscall"
	"time"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
)

// Truncate sets the plaintext size. Growing takes effect at the next commit;
// a cut is durable when Truncate returns, because what lies past the end is
// given up at home only once the journal says so.
func (f *File) Truncate(size int64) error {
	if f.env.Journal == nil {
		return syscall.EROFS
	}
	if size < 0 {
		return syscall.EINVAL
	}
	if size > f.env.maxSize() {
		return syscall.EFBIG
	}
	if err := f.catchUp(); err != nil {
		return err
	}
	grown, err := f.grow(size)
	if grown || err != nil {
		return err
	}
	return f.giveUp(func() (*journal.Record, func() error, error) { return f.cut(size) })
}

// grow makes the file longer by a hole, or reports that it is longer already.
func (f *File) grow(size int64) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size <= f.size {
		return size == f.size, nil
	}
	if err := f.mayChange(); err != nil {
		return false, err
	}
	f.markFirst()
	f.size = size
	return true, nil
}

// Punch makes the bytes from off to off+n read as zeros, and gives their
// blocks back to the backing store. The size stays.
func (f *File) Punch(off, n int64) error {
	if f.env.Journal == nil {
		return syscall.EROFS
	}
	if off < 0 || n <= 0 {
		return syscall.EINVAL
	}
	end := off + min(n, f.Size()-off)
	if end <= off {
		return nil
	}
	first, last := (off+format.BlockSize-1)/format.BlockSize, end/format.BlockSize
	if first > last { // within one block
		return f.zero(off, end)
	}
	if err := f.zero(off, first*format.BlockSize); err != nil {
		return err
	}
	if err := f.zero(last*format.BlockSize, end); err != nil {
		return err
	}
	return f.punchBlocks(first, max(last, format.Blocks(end)), end)
}

// punchBlocks turns blocks into holes, group by group. The last one may reach
// past end, if the file ends there.
func (f *File) punchBlocks(first, last, end int64) error {
	for first < last {
		next, err := f.nextPage(format.Group(first))
		if err != nil || next > format.Group(last-1) {
			return err
		}
		from := max(first, next*format.GroupBlocks)
		to := min(last, (next+1)*format.GroupBlocks)
		err = f.giveUp(func() (*journal.Record, func() error, error) { return f.punch(from, to, end) })
		if err != nil {
			return err
		}
		first = to
	}
	return nil
}

// zero writes zeros over a range that no block boundary cuts but at its ends.
func (f *File) zero(off, end int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for off < min(end, f.size) {
		number := off / format.BlockSize
		n := min(end, (number+1)*format.BlockSize) - off
		if hole, err := f.isHole(number); err != nil {
			return err
		} else if !hole {
			d, err := f.dirtyBlock(number, false)
			if err != nil {
				return err
			}
			clear(d[off%format.BlockSize : off%format.BlockSize+n])
		}
		off += n
	}
	return nil
}

// isHole reports whether a block reads as zeros because there is none. Called
// with mu held, shared or not.
func (f *File) isHole(number int64) (bool, error) {
	if f.dirty[number] != nil {
		return false, nil
	}
	e, err := f.entry(number)
	return e.Hole(), err
}

// giveUp commits a change that takes blocks away, then does at home what it
// says. change runs with all locks held and returns the record, or nil if
// there is nothing to do, and what to do at home once it is durable. Nobody
// sees the file between the two.
func (f *File) giveUp(change func() (*journal.Record, func() error, error)) error {
	for {
		if err := f.catchUp(); err != nil {
			return err
		}
		if _, err := f.submit(); err != nil {
			return err
		}
		room := journal.Room(f.env.Journal.MaxBlocks())
		ok, err := f.env.Journal.TryReserve(room)
		if err == nil && !ok {
			f.env.MakeRoom()
			if err = f.env.Journal.WaitRoom(room); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		done, err := f.tryGiveUp(change, room)
		if done || err != nil {
			return err
		}
	}
}

// tryGiveUp uses the room reserved; it reports false if the file got too many
// dirty blocks meanwhile, or is being renamed.
func (f *File) tryGiveUp(change func() (*journal.Record, func() error, error), room int) (bool, error) {
	f.home.Lock()
	defer f.home.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dirty)+1 > f.env.Journal.MaxBlocks() || f.behind() != nil || f.renaming > 0 {
		f.env.Journal.Unreserve(room)
		return false, nil
	}
	if err := f.commitDirect(); err != nil {
		f.env.Journal.Unreserve(room)
		return true, err
	}
	r, atHome, err := change()
	if err != nil || r == nil {
		f.env.Journal.Unreserve(room)
		return true, err
	}
	f.send(r, room)
	f.cutTicket = f.ticket
	if err := f.env.Journal.Wait(f.ticket); err != nil {
		return true, err
	}
	if err := f.unsynced.incur(atHome); err != nil {
		f.owe(atHome, err) // it is durable all the same
	}
	return true, nil
}

// cut shortens the file. Called with home and mu held.
func (f *File) cut(size int64) (*journal.Record, func() error, error) {
	if size >= f.size {
		return nil, nil, nil
	}
	if size%format.BlockSize != 0 {
		if err := f.zeroTail(size); err != nil {
			return nil, nil, err
		}
	}
	last := format.LastGroup(size)
	var end *pinned
	if size > 0 {
		var err error
		if end, err = f.pin(last); err != nil {
			return nil, nil, err
		}
	}
	f.drop(format.Blocks(size))
	f.forgetPages()
	f.committed = min(f.committed, size) // groups past the end are gone
	f.size = size
	f.stamp(time.Now())
	f.room.cut(format.BackingSize(size))
	r, err := f.snapshot(len(f.dirty))
	if err != nil {
		return nil, nil, err
	}
	r.Cut = size
	if end != nil {
		f.dropEntries(r, end, last, size)
	}
	return r, func() error { return CutHome(f.back, size) }, nil
}

// zeroTail zeroes what the last block will have past the end.
func (f *File) zeroTail(size int64) error {
	number := size / format.BlockSize
	if hole, err := f.isHole(number); err != nil || hole {
		return err
	}
	d, err := f.dirtyBlock(number, false)
	if err != nil {
		return err
	}
	clear(d.data()[size%format.BlockSize:])
	return nil
}

// drop forgets every block from first on, and every page past its group.
func (f *File) drop(first int64) {
	f.dropDirty(first)
	for b := range f.flight {
		if b >= first {
			delete(f.flight, b)
			f.env.pending.Add(-format.BlockSize)
		}
	}
	for g := range f.pages {
		if g > format.Group(first-1) || first == 0 {
			delete(f.pages, g)
		}
	}
}

// dropEntries takes the entries past the end out of the last page, and into
// the record, which lists that page already or gets it now.
func (f *File) dropEntries(r *journal.Record, end *pinned, last, size int64) {
	g := recordGroup(r, last)
	for i := int(format.Blocks(size) - last*format.GroupBlocks); i < format.GroupBlocks; i++ {
		if e := end.page.Entry(i); !e.Hole() {
			*e = format.Entry{}
			g.Blocks = append(g.Blocks, journal.Block{Index: i})
		}
	}
	f.sealPage(last, &end.page)
	g.Trailer = *end.page.Trailer()
}

// recordGroup is the record's part for a group, made if it has none.
func recordGroup(r *journal.Record, number int64) *journal.Group {
	for i := range r.Groups {
		if r.Groups[i].Number == number {
			return &r.Groups[i]
		}
	}
	r.Groups = append(r.Groups, journal.Group{Number: number})
	return &r.Groups[len(r.Groups)-1]
}

// punch turns the blocks from first to last of one group into holes, a block
// that reaches past end only if the file ends there. Called with home and mu
// held.
func (f *File) punch(first, last, end int64) (*journal.Record, func() error, error) {
	if last*format.BlockSize > end && f.size != end {
		last--
	}
	last = min(last, format.Blocks(f.size))
	if first >= last {
		return nil, nil, nil
	}
	group := format.Group(first)
	p, err := f.pin(group)
	if err != nil {
		return nil, nil, err
	}
	f.forget(first, last)
	f.room = room{}
	f.stamp(time.Now())
	r, err := f.snapshot(len(f.dirty))
	if err != nil {
		return nil, nil, err
	}
	g := recordGroup(r, group)
	for b := first; b < last; b++ {
		if e := p.page.Entry(int(b % format.GroupBlocks)); !e.Hole() {
			*e = format.Entry{}
			g.Blocks = append(g.Blocks, journal.Block{Index: int(b % format.GroupBlocks)})
		}
	}
	f.sealPage(group, &p.page)
	g.Trailer = *p.page.Trailer()
	return r, func() error {
		return PunchHome(f.back, format.BlockOffset(first), (last-first)*format.BlockSize)
	}, nil
}

// forget drops the blocks from first to last that are not at home.
func (f *File) forget(first, last int64) {
	for b := first; b < last; b++ {
		f.forgetDirty(b)
		if f.flight[b] != nil {
			delete(f.flight, b)
			f.env.pending.Add(-format.BlockSize)
		}
	}
}
