package blockfile

import (
	"maps"
	"slices"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
)

// Blocks of a large write go home at once where nothing durable lies: past the
// committed end of a file, or in holes that were made by growing it. Only their
// entries need the journal then.
//
// Until their commit, home has more than any entry tells, which would look like
// tampering after a crash. So a record, the intent, is durable before the first
// of them: one that repeats the committed size, by which recovery cuts off what
// lies past that, and that lists the holes, to which recovery gives their zeros
// back unless a later record has the block at home. It must stay in the journal
// until the commit, and a checkpoint wants it gone, so that room for the commit
// is held from the intent on: commitDirect never waits for room. No older record
// that takes blocks away may still be needed, because recovery would repeat that
// too, after the blocks went home.

// directBlocks is from how many blocks on a write is large.
const directBlocks = 64

// intentBlocks is how many blocks of a hole an intent lists, if the journal is
// large enough: one write of the journal for 16 MiB of a stream.
const intentBlocks = 4096

// span is a run of blocks, the one at end not among them.
type span struct{ first, end int64 }

// landing is a large write, encrypted before the lock is taken, so that
// several writers encrypt at once.
type landing struct {
	run     *runBytes
	entries []format.Entry
	first   int64 // block
}

// prepare encrypts the whole blocks of a write that may go home directly, or
// returns nil.
func (f *File) prepare(p []byte, off int64) (*landing, error) {
	if len(p) < directBlocks*format.BlockSize {
		return nil, nil
	}
	f.mu.Lock()
	err := f.ensureHeader()
	may := err == nil && f.mayGoDirect(p, off)
	f.mu.Unlock()
	if !may {
		return nil, err
	}
	l := &landing{run: runPool.Get().(*runBytes), first: off / format.BlockSize}
	l.entries = make([]format.Entry, len(p)/format.BlockSize)
	crypto.Secretly(func() {
		for i := range l.entries {
			at := i * format.BlockSize
			f.seal(l.run[at:], &l.entries[i], p[at:at+format.BlockSize], l.first+int64(i))
		}
	})
	return l, nil
}

// writeDirect sends a prepared write home, unless something has come between,
// and tells how many bytes that were. Called with mu held.
func (f *File) writeDirect(l *landing, p []byte, off int64) (int, error) {
	if l == nil || !f.mayGoDirect(p, off) {
		return 0, nil
	}
	if ok, err := f.guard(l.first, int64(len(l.entries))); err != nil || !ok {
		return 0, err
	}
	done := 0
	for done < len(l.entries) {
		first := l.first + int64(done)
		n := min(len(l.entries)-done, int(format.GroupBlocks-first%format.GroupBlocks))
		ct := l.run[done*format.BlockSize : (done+n)*format.BlockSize]
		if err := writeRun(f.back, ct, format.BlockOffset(first)); err != nil {
			f.oweRun(first, int64(n), err)
			return done * format.BlockSize, err
		}
		for i := range n {
			f.direct[first+int64(i)] = l.entries[done+i]
		}
		done += n
	}
	return done * format.BlockSize, nil
}

// land commits what went home directly once it is much. The sync that this
// takes begins before the lock is taken, and other writers go on meanwhile.
func (f *File) land(direct int) error {
	most := f.env.Journal.MaxEntries()
	if direct > most-min(2*spanBlocks, most/4) {
		return f.CommitDirect()
	}
	if direct < most/2 || !f.landing.CompareAndSwap(false, true) {
		return nil
	}
	defer f.landing.Store(false)
	if err := f.syncBack(f.back.Datasync); err != nil {
		return err
	}
	return f.CommitDirect()
}

// mayGoDirect says whether a write is large, whole, new and not recoverable
// into something else.
func (f *File) mayGoDirect(p []byte, off int64) bool {
	first, n := off/format.BlockSize, int64(len(p)/format.BlockSize)
	if off%format.BlockSize != 0 || n < directBlocks || f.env.Journal.Freed() < f.cutTicket {
		return false
	}
	if len(f.direct)+int(n) > f.env.Journal.MaxEntries() {
		return false
	}
	if first < format.Blocks(f.committed) {
		return f.holes(first, n) == n
	}
	for b := first; b < first+n; b++ {
		if _, ok := f.direct[b]; ok || f.dirty[b] != nil {
			return false
		}
	}
	return true
}

// holes counts the blocks from first on, up to most, that are holes for readers
// and at home, in a file whose last record knows of all of it. Called with mu
// held.
func (f *File) holes(first, most int64) int64 {
	if f.size != f.committed {
		return 0
	}
	b, end := first, min(first+most, format.Blocks(f.committed))
	for b < end {
		page, err := f.tagPage(format.Group(b))
		if err != nil {
			break
		}
		next := min(end, (format.Group(b)+1)*format.GroupBlocks)
		for b < next && f.holeIn(page, b) {
			b++
		}
		if b < next {
			break
		}
	}
	return max(b-first, 0)
}

// holeIn reports whether a block is a hole, by its group's tag page and by what
// is newer than that.
func (f *File) holeIn(page *format.TagPage, b int64) bool {
	_, direct := f.direct[b]
	return !direct && f.dirty[b] == nil && page.Entry(int(b%format.GroupBlocks)).Hole()
}

// guard makes name, header and an intent for n blocks durable, where they are
// not. With no room in the journal it reports false.
func (f *File) guard(first, n int64) (bool, error) {
	inside := first < format.Blocks(f.committed)
	if f.renaming > 0 {
		return false, nil
	}
	if f.intent && (!inside || f.listed(first, n)) {
		return true, nil
	}
	if err := f.SyncName(); err != nil {
		return false, err
	}
	var holes []int64
	if inside {
		end := first + f.holes(first, max(n, f.comes(first)))
		if end < first+n {
			return false, nil
		}
		for b := first; b < end && (b < first+n || f.room.has(b)); b++ {
			holes = append(holes, b)
		}
	}
	return f.intend(holes)
}

// comes guesses how many blocks will be written from this one on: a writer that
// goes on where others went home is taken to go on, and further the further it
// has come. Called with mu held.
func (f *File) comes(first int64) int64 {
	if _, goesOn := f.direct[first-1]; !goesOn {
		return 0
	}
	return min(intentBlocks, int64(f.env.Journal.MaxEntries()/8), int64(4*len(f.direct)))
}

// listed reports whether an intent lists these blocks.
func (f *File) listed(first, n int64) bool {
	for _, s := range f.cleared {
		if s.first <= first && first+n <= s.end {
			return true
		}
	}
	return false
}

// intend makes an intent durable that lists these holes, which lie side by
// side. The first one holds the room for their commit.
func (f *File) intend(holes []int64) (bool, error) {
	room, held := journal.EntriesRoom(len(holes)), 0
	if !f.intent {
		held = journal.EntriesRoom(f.env.Journal.MaxEntries())
	}
	if ok, err := f.env.Journal.TryReserve(room + held); err != nil || !ok {
		return false, err
	}
	r, err := f.intentOf(holes)
	if err != nil {
		f.env.Journal.Unreserve(room + held)
		return false, err
	}
	f.markFirst()
	f.held += held
	f.send(r, room)
	if err := f.env.Journal.Wait(f.ticket); err != nil {
		return false, err
	}
	if len(holes) > 0 {
		f.cleared = append(f.cleared, span{holes[0], holes[len(holes)-1] + 1})
	}
	f.intent = true
	f.unsynced.add()
	f.forgetTime()
	return true, nil
}

// intentOf is a record of holes that stay holes, and of the committed size.
func (f *File) intentOf(holes []int64) (*journal.Record, error) {
	if len(holes) == 0 {
		return f.newRecord(f.committed), nil
	}
	r, err := f.begin(holes)
	if err != nil {
		return nil, err
	}
	f.fill(r, holes, func(b int64) journal.Block { return journal.Block{Index: int(b % format.GroupBlocks)} })
	return r, nil
}

// CommitDirect submits what went home directly, without waiting for room in
// the journal.
func (f *File) CommitDirect() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commitDirect()
}

// commitDirect is CommitDirect with mu held.
func (f *File) commitDirect() error {
	if !f.intent {
		return nil
	}
	if err := f.syncBack(f.back.Datasync); err != nil {
		return err
	}
	numbers := slices.Sorted(maps.Keys(f.direct))
	r, err := f.begin(numbers)
	if err != nil {
		return err
	}
	f.fill(r, numbers, f.enterDirect)
	f.send(r, f.held)
	f.intent, f.held, f.cleared = false, 0, nil
	return nil
}

// enterDirect enters a block that went home directly in its page, which is
// pinned. If it is dirty again, that is for a later record.
func (f *File) enterDirect(b int64) journal.Block {
	e := f.direct[b]
	delete(f.direct, b)
	index := int(b % format.GroupBlocks)
	*f.pages[format.Group(b)].page.Entry(index) = e
	return journal.Block{Index: index, Entry: e, AtHome: true}
}
