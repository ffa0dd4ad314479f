package crypto

import "sync"

// slabSize is small because memory that may be locked is scarce for an
// ordinary user: 512 keys a slab.
const slabSize = 16 << 10

// keys is the arena of all keys of the process.
var keys arena

// An arena hands out slots of KeySize bytes in locked memory. It grows by a
// slab at a time and never shrinks: the most keys that were ever in use at
// once cost their 32 bytes for good.
type arena struct {
	mu    sync.Mutex
	slabs []*slab
	free  []slot
}

// A slab is one locked mapping. Its bookkeeping is outside it.
type slab struct {
	mem  []byte
	used []bool // by slot; guarded by the arena's mu
}

// A slot is the place of one key.
type slot struct {
	slab  *slab
	index int
}

func (s slot) bytes() *[KeySize]byte {
	return (*[KeySize]byte)(s.slab.mem[s.index*KeySize:])
}

// take returns a slot that is all zeros.
func (a *arena) take() (slot, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.free) == 0 {
		if err := a.grow(); err != nil {
			return slot{}, err
		}
	}
	s := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	s.slab.used[s.index] = true
	return s, nil
}

// put zeroes a slot and takes it back. A second put would hand one slot to
// two keys, so it panics.
func (a *arena) put(s slot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !s.slab.used[s.index] {
		panic("crypto: a key's memory was freed twice")
	}
	clear(s.bytes()[:])
	s.slab.used[s.index] = false
	a.free = append(a.free, s)
}

func (a *arena) grow() error {
	mem, err := lockedPages(slabSize)
	if err != nil {
		return err
	}
	s := &slab{mem: mem, used: make([]bool, len(mem)/KeySize)}
	a.slabs = append(a.slabs, s)
	for i := len(s.used) - 1; i >= 0; i-- {
		a.free = append(a.free, slot{s, i})
	}
	return nil
}
