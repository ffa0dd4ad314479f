package store

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash cuts the power, if a Hook has not already, and gives the store as it
// comes up again: what is durable, and of the rest what chance lets survive.
// The same seed gives the same store; different ones may be asked for in
// turn, and each is a store of its own. All calls of m and of its files fail
// from now on. It panics after Kill.
func (m *Mem) Crash(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.s == nil {
		panic("store: Crash after Kill")
	}
	if m.dead == nil {
		m.dead = ErrCut
	}
	return m.after(seed)
}

// AfterCrash gives what Crash would, and lets m go on. A Hook may call it, and
// so look at a cut before every operation of a single run; only a cut in the
// middle of one takes ErrCut.
func (m *Mem) AfterCrash(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.s == nil {
		panic("store: AfterCrash after Kill")
	}
	return m.after(seed)
}

func (m *Mem) after(seed uint64) *Mem { return &Mem{s: m.s.crash(rand.New(rand.NewPCG(seed, 0)))} }

// Kill ends the process that uses the store, and gives the store as the next
// process finds it: with all that was done, and with no file open or locked.
// What was not durable still is not. All calls of m and of its files fail
// from now on; it panics if called twice or after a cut.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead != nil {
		panic("store: Kill of what is dead")
	}
	s := m.s
	m.s, m.dead = nil, ErrKilled
	open := slices.Sorted(maps.Keys(s.opens))
	clear(s.opens)
	clear(s.locked)
	for _, ino := range open {
		s.drop(ino)
	}
	return &Mem{s: s}
}

// crash makes the state after a power cut.
func (s *state) crash(r *rand.Rand) *state {
	c := s.fork()
	c.commit(c.base + int64(survivors(r, len(c.log))))
	for _, ino := range slices.Sorted(maps.Keys(c.pending)) {
		if n := c.durable.inodes[ino]; n != nil {
			c.flip(r, n)
		}
	}
	after := newState(c.durable, nil, s.Options)
	after.nextIno, after.time = s.nextIno, s.time
	for ino, n := range c.durable.inodes {
		if n.gone() {
			delete(c.durable.inodes, ino)
			continue
		}
		n.content.trim(n.content.size)
		after.used += n.content.blocks()
	}
	after.durable = after.live.clone()
	return after
}

// fork copies what decides about a crash.
func (s *state) fork() *state {
	c := newState(nil, s.durable.clone(), s.Options)
	c.log, c.base = slices.Clone(s.log), s.base
	for ino, ws := range s.pending {
		for _, w := range ws {
			own := *w
			own.dead = slices.Clone(w.dead)
			c.pending[ino] = append(c.pending[ino], &own)
		}
	}
	return c
}

// survivors picks how many of n changes survive: often none or all of them.
func survivors(r *rand.Rand, n int) int {
	switch r.IntN(4) {
	case 0:
		return 0
	case 1:
		return n
	}
	return r.IntN(n + 1)
}

// flip lets chance decide about each sector that was written to a file and
// not synced, and about each size that a write grew it to. What was written
// after a change that did not survive is void where it needed the change.
func (s *state) flip(r *rand.Rand, n *inode) {
	odds := []float64{0, 0.1, 0.5, 0.9, 1}[r.IntN(5)]
	lost := s.frees(n.ino)
	for _, w := range s.pending[n.ino] {
		sized := voidAfter(w, lost)
		w.sectors(func(off int64, b []byte) {
			if r.Float64() < odds {
				n.content.write(b, off)
			}
		})
		if w.end > n.content.size && !sized && r.Float64() < max(odds, 0.1) {
			n.content.size = w.end
		}
	}
}

// lostFree is a change that gave space back or set a size, and did not survive.
type lostFree struct {
	*freed
	lsn int64
}

// frees lists those of one file.
func (s *state) frees(ino uint64) (lost []lostFree) {
	for i := range s.log {
		if f := s.log[i].frees; f != nil && f.ino == ino {
			lost = append(lost, lostFree{f, s.base + int64(i)})
		}
	}
	return lost
}

// voidAfter kills the sectors of a write that lie in space which a lost
// change before it had given back. It tells whether such a change set the size.
func voidAfter(w *write, lost []lostFree) (sized bool) {
	for _, f := range lost {
		if f.lsn >= w.lsn {
			break
		}
		w.kill(pageUp(f.from)*memPage, f.to)
		sized = sized || f.sizes
	}
	return sized
}
