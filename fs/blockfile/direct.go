package blockfile

import (
	"maps"
	"slices"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
)

// Blocks of a large write past the committed end of a file go home at once:
// nothing durable lies there, so that only their entries need the journal.
//
// Until their commit, home is longer than any entry tells, which would look
// like tampering after a crash. A record that repeats the committed size, the
// intent, is durable before the first of them: recovery cuts the file by it.
// It must stay in the journal until the commit, and a checkpoint wants it
// gone, so that room for the commit is held from the intent on: commitDirect
// never waits for room. No older record that takes blocks away may still be
// needed, because recovery would repeat that too, after the blocks went home.

// directBlocks is from how many blocks on a write is large.
const directBlocks = 64

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
	if err := f.guard(); err != nil || !f.intent {
		return 0, err
	}
	done := 0
	for done < len(l.entries) {
		first := l.first + int64(done)
		n := min(len(l.entries)-done, int(format.GroupBlocks-first%format.GroupBlocks))
		ct := l.run[done*format.BlockSize : (done+n)*format.BlockSize]
		if err := writeRun(f.back, ct, format.BlockOffset(first)); err != nil {
			f.oweEnd(err)
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
	if direct > most-2*spanBlocks {
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
	if off%format.BlockSize != 0 || n < directBlocks || first < format.Blocks(f.committed) ||
		f.env.Journal.Freed() < f.cutTicket {
		return false
	}
	if len(f.direct)+int(n) > f.env.Journal.MaxEntries() {
		return false
	}
	for b := first; b < first+n; b++ {
		if _, ok := f.direct[b]; ok || f.dirty[b] != nil {
			return false
		}
	}
	return true
}

// guard makes name, header and the intent durable. With no room in the
// journal it leaves intent false.
func (f *File) guard() error {
	if f.intent {
		return nil
	}
	if err := f.SyncName(); err != nil {
		return err
	}
	room, held := journal.Room(0), journal.EntriesRoom(f.env.Journal.MaxEntries())
	if ok, err := f.env.Journal.TryReserve(room + held); err != nil || !ok {
		return err
	}
	f.markFirst()
	f.held = held
	r := f.newRecord(f.committed)
	f.ticket = f.env.Journal.Submit(r, room)
	if err := f.env.Journal.Wait(f.ticket); err != nil {
		return err
	}
	f.intent = true
	f.unsynced.add()
	f.forgetTime()
	return nil
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
	r, err := f.record(slices.Sorted(maps.Keys(f.direct)), f.enterDirect)
	if err != nil {
		return err
	}
	f.send(r, f.held)
	f.intent, f.held = false, 0
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

// seal, within crypto.Secretly, encrypts a block into dst, which has room for
// the tag behind it, and makes its entry.
func (f *File) seal(dst []byte, e *format.Entry, plain []byte, number int64) {
	ad := blockADPool.Get().(*[format.ADSize]byte)
	defer blockADPool.Put(ad)
	format.AD(ad, f.env.Volume, f.id, number, format.KindBlock)
	f.env.Nonces.Next((*[format.NonceSize]byte)(e[:format.NonceSize]))
	f.cipher.Seal(dst[:0], e[:format.NonceSize], plain, ad[:])
	copy(e[format.NonceSize:], dst[format.BlockSize:format.BlockSize+format.TagSize])
}
