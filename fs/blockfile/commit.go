package blockfile

import (
	"errors"
	"maps"
	"slices"
	"syscall"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
)

// Commit makes everything written so far durable. It returns when the journal
// holds it.
func (f *File) Commit() error {
	t, err := f.submit()
	if err != nil {
		return err
	}
	if t == 0 {
		return nil
	}
	return f.env.Journal.Wait(t)
}

// BeginCommit is Commit up to where it waits: what was written is durable when
// the journal holds the ticket, which is 0 if it is durable now.
func (f *File) BeginCommit() (journal.Ticket, error) { return f.submit() }

// TryCommit is Commit for the one that makes room in the journal: where there
// is none it does not wait, but reports done as false.
func (f *File) TryCommit() (done bool, err error) {
	t, room, err := f.submitSome()
	if err != nil || t == 0 {
		return room == 0, err
	}
	return room == 0, f.env.Journal.Wait(t)
}

// BeginSync is Commit, up to where that waits, for a caller who was promised
// durability: the file's name and header are made durable, too, where they may
// not be. With times, so is the time of modification. What was written is
// durable when the journal holds the ticket, which is 0 if it is now.
func (f *File) BeginSync(times bool) (journal.Ticket, error) {
	if err := f.lost.Load(); err != nil {
		return 0, *err
	}
	if times && !f.commitTime() {
		if err := f.SyncAttributes(); err != nil {
			return 0, err
		}
	}
	t, err := f.submit()
	if err != nil {
		return 0, err
	}
	// Afterwards: a rename in between is seen, and one after the record finds it
	// home before.
	return t, f.SyncName()
}

// SyncName makes name and header durable if they may not be.
func (f *File) SyncName() error {
	f.name.Lock()
	defer f.name.Unlock()
	owed := f.fresh.amount()
	if !f.fresh.due() {
		return nil
	}
	if err := f.syncBack(f.back.Sync); err != nil {
		return err
	}
	f.fresh.settle(owed)
	return nil
}

// submit hands all that is uncommitted to the journal, and returns the
// ticket of the file's last record.
func (f *File) submit() (journal.Ticket, error) {
	for {
		t, room, err := f.submitSome()
		if err != nil || room == 0 {
			return t, err
		}
		f.env.MakeRoom()
		if err := f.env.Journal.WaitRoom(room); err != nil {
			return 0, err
		}
	}
}

// submitSome submits records until nothing is left, or until the journal has
// no room; it then tells how much is wanted. Room is never waited for under mu.
func (f *File) submitSome() (t journal.Ticket, room int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.renaming > 0 {
		f.renamed.Wait()
	}
	if err := f.commitDirect(); err != nil {
		return 0, 0, err
	}
	for f.uncommitted() {
		n := min(len(f.dirty), f.env.Journal.MaxBlocks())
		room := journal.Room(n)
		ok, err := f.env.Journal.TryReserve(room)
		if err != nil || !ok {
			return 0, room, err
		}
		r, err := f.snapshot(n)
		if err != nil {
			f.env.Journal.Unreserve(room)
			return 0, 0, err
		}
		f.send(r, room)
	}
	return f.ticket, 0, nil
}

// send submits a record and stamps the pages that it changed. Called with mu held.
func (f *File) send(r *journal.Record, room int) {
	f.ticket = f.env.Journal.Submit(r, room)
	for _, g := range r.Groups {
		f.pages[g.Number].ticket = f.ticket
	}
}

// snapshot turns at most n dirty blocks, and the size, into a record, and
// moves the blocks into flight. Called with mu held, after commitDirect.
func (f *File) snapshot(n int) (*journal.Record, error) {
	numbers := slices.Sorted(maps.Keys(f.dirty))[:n]
	r, err := f.begin(numbers)
	if err != nil {
		return nil, err
	}
	f.sealDirty(numbers)
	f.fill(r, numbers, f.launch)
	return r, nil
}

// begin begins a record of these blocks, in order, and of the size, and pins
// the pages that it changes. Called with mu held.
func (f *File) begin(numbers []int64) (*journal.Record, error) {
	touched, err := f.pinFor(numbers)
	if err != nil {
		return nil, err
	}
	r := f.newRecord(f.size)
	r.Groups = make([]journal.Group, len(touched))
	for i, g := range touched {
		r.Groups[i].Number = g
	}
	return r, nil
}

// fill puts the blocks into the record that was begun for them: enter puts one
// into its page. Called with mu held.
func (f *File) fill(r *journal.Record, numbers []int64, enter func(int64) journal.Block) {
	blocks, i := make([]journal.Block, 0, len(numbers)), 0
	for _, b := range numbers {
		for r.Groups[i].Number != format.Group(b) {
			i, blocks = i+1, blocks[len(blocks):]
		}
		blocks = append(blocks, enter(b))
		r.Groups[i].Blocks = blocks[:len(blocks):len(blocks)]
	}
	f.sealGroups(r)
}

// newRecord is a record without blocks yet. Called with mu held.
func (f *File) newRecord(size int64) *journal.Record {
	f.logged, f.logTime = f.mtime, false
	return &journal.Record{File: f.id, Path: f.path, Modified: f.mtime, Cut: journal.NoCut, Size: size}
}

// pinFor pins the tag pages that a record with these blocks changes, the old
// and the new last page among them if the size changed, and lists them.
func (f *File) pinFor(numbers []int64) ([]int64, error) {
	var groups []int64
	for _, b := range numbers {
		groups = append(groups, format.Group(b))
	}
	if f.size != f.committed {
		groups = append(groups, format.LastGroup(f.size), format.LastGroup(f.committed))
	}
	slices.Sort(groups)
	groups = slices.Compact(groups)
	groups = slices.DeleteFunc(groups, func(g int64) bool {
		return g < 0 || g > format.LastGroup(f.size)
	})
	for _, g := range groups {
		if _, err := f.pin(g); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// launch moves a dirty block, which is sealed, into flight.
func (f *File) launch(b int64) journal.Block {
	ct, index := f.dirty[b], int(b%format.GroupBlocks)
	delete(f.dirty, b)
	if f.flight[b] != nil {
		f.env.pending.Add(-format.BlockSize)
	}
	f.flight[b] = ct
	return journal.Block{Index: index, Entry: *f.pages[format.Group(b)].page.Entry(index), Data: ct.data()}
}

// sealGroups seals the record's pages and takes the size as committed.
func (f *File) sealGroups(r *journal.Record) {
	for i := range r.Groups {
		p := f.pages[r.Groups[i].Number]
		f.sealPage(r.Groups[i].Number, &p.page)
		r.Groups[i].Trailer = *p.page.Trailer()
	}
	f.committed = f.size
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func isUnsupported(err error) bool { return errors.Is(err, syscall.EOPNOTSUPP) }
