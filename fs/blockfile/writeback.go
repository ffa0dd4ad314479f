package blockfile

import (
	"slices"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// work is what a writeback brings home: a copy of the file's state at one
// time, all of it durable in the journal.
type work struct {
	numbers []int64
	blocks  map[int64]*block
	pages   map[int64]*pinned // copies
	size    int64
}

// Writeback brings every committed block and tag page home. They are durable
// there only after Settle.
func (f *File) Writeback() error {
	f.home.Lock()
	defer f.home.Unlock()
	return f.writeback()
}

// Settle brings everything committed home and makes it durable there: the
// journal is then no longer needed for what was committed before the call.
func (f *File) Settle() error {
	f.home.Lock()
	defer f.home.Unlock()
	if err := f.writeback(); err != nil {
		return err
	}
	return f.syncHome()
}

// syncHome makes durable what is at home. Called with home held.
func (f *File) syncHome() error {
	if !f.unsynced.due() {
		return nil
	}
	owed := f.unsynced.amount()
	if err := f.syncBack(f.back.Datasync); err != nil {
		return err
	}
	f.unsynced.settle(owed)
	return nil
}

// writeback does the work of Writeback. Called with home held.
func (f *File) writeback() error {
	if err := f.settleOverdue(); err != nil {
		return err
	}
	w, err := f.gather()
	if err != nil {
		return err
	}
	if w == nil {
		return f.saveTime()
	}
	if err := f.SyncName(); err != nil {
		return err
	}
	if err := f.unsynced.incur(func() error { return f.bringHome(w) }); err != nil {
		return err
	}
	f.arrived(w)
	return f.saveTime()
}

// gather copies what is in flight. The lock keeps newer records from being
// submitted while it waits for the last one, so that all of it is durable.
func (f *File) gather() (*work, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.flight)+len(f.pages) == 0 {
		return nil, nil
	}
	if err := f.env.Journal.Wait(f.ticket); err != nil {
		return nil, err
	}
	w := &work{blocks: make(map[int64]*block, len(f.flight)), pages: make(map[int64]*pinned, len(f.pages)), size: f.committed}
	for b, ct := range f.flight {
		w.blocks[b] = ct
		w.numbers = append(w.numbers, b)
	}
	for g, p := range f.pages {
		c := *p
		w.pages[g] = &c
	}
	slices.Sort(w.numbers)
	return w, nil
}

// bringHome writes the work into the backing file. Called with home held.
func (f *File) bringHome(w *work) error {
	if err := w.write(f.back); err != nil {
		return err
	}
	return f.lengthen(w.size)
}

// write writes blocks and pages to their places in a backing file, or in a
// copy of it.
func (w *work) write(to store.File) error {
	run := runPool.Get().(*runBytes)
	defer runPool.Put(run)
	for i := 0; i < len(w.numbers); {
		n := runLength(w.numbers[i:])
		for k, b := range w.numbers[i : i+n] {
			copy(run[k*format.BlockSize:], w.blocks[b].data())
		}
		if err := writeRun(to, run[:n*format.BlockSize], format.BlockOffset(w.numbers[i])); err != nil {
			return err
		}
		i += n
	}
	for g, p := range w.pages {
		if _, err := to.WriteAt(p.page[:], format.TagPageOffset(g)); err != nil {
			return err
		}
	}
	return nil
}

// streamFrom is from how many bytes on a write home is bulk. What is less is
// cheaper to gather in the page cache until a sync.
const streamFrom = 64 << 10

// writeRun writes ciphertext to its place.
func writeRun(to store.File, ct []byte, off int64) error {
	write := to.WriteAt
	if s, ok := to.(store.Streamer); ok && len(ct) >= streamFrom {
		write = s.Stream
	}
	_, err := write(ct, off)
	return err
}

// lengthen gives the backing file the size that stands for size plaintext
// bytes, unless it is longer: writes that went home directly make it so. They
// happen under mu, which keeps them from coming between.
func (f *File) lengthen(size int64) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	attr, err := f.back.Stat()
	if err != nil || attr.Size >= format.BackingSize(size) {
		return err
	}
	return f.back.Truncate(format.BackingSize(size))
}

// runLength counts how many of the sorted numbers, from the first on, are
// blocks side by side in one group.
func runLength(numbers []int64) int {
	n := 1
	for n < len(numbers) && numbers[n] == numbers[0]+int64(n) && format.Group(numbers[n]) == format.Group(numbers[0]) {
		n++
	}
	return n
}

// arrived forgets what is at home now, unless it was changed meanwhile. Nobody
// else has the blocks that it frees: their records are written, readers hold
// mu, and those of an Away are left to it.
func (f *File) arrived(w *work) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgetTime()
	for b, ct := range w.blocks {
		if f.flight[b] == ct {
			delete(f.flight, b)
			f.env.pending.Add(-format.BlockSize)
			if !f.lent {
				blockPool.Put(ct)
			}
		}
	}
	f.lent = f.lent && len(f.flight) > 0
	for g, p := range w.pages {
		if now := f.pages[g]; now != nil && now.ticket == p.ticket {
			delete(f.pages, g)
			f.env.pages.Add(pageKey{f.cached, g}, &p.page)
		}
	}
}

// commitAndWriteback brings home everything written so far.
func (f *File) commitAndWriteback() error {
	if err := f.Commit(); err != nil {
		return err
	}
	return f.Writeback()
}
