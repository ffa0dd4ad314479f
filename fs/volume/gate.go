package volume

import (
	"sync"
	"syscall"
)

// ErrLocked is what a locked volume answers.
const ErrLocked = syscall.ENOKEY

// gate is what every operation on a volume passes through, once: an operation
// that calls another one calls the inner part of it. It is
//
//	open    everything passes
//	held    what changes something waits, what only looks passes
//	locked  nothing passes: ErrLocked, except what gives something back
//
// It is held for as long as it takes to commit everything, be it to lock the
// volume or to take a picture of it. It comes before every other lock of this
// package; both of its own are free while operations wait for the kernel.
type gate struct {
	changes sync.RWMutex // shared by changes, exclusively while held
	looks   sync.RWMutex // shared by the rest, exclusively while the keys come or go; after changes
	locked  bool         // written with both held exclusively
}

// look lets an operation in that changes nothing. Unless it fails, looked
// follows.
func (g *gate) look() error {
	g.looks.RLock()
	if g.locked {
		g.looks.RUnlock()
		return ErrLocked
	}
	return nil
}

func (g *gate) looked() { g.looks.RUnlock() }

// change lets an operation in that changes something, or commits it. Unless
// it fails, changed follows.
func (g *gate) change() error {
	g.changes.RLock()
	if g.locked {
		g.changes.RUnlock()
		return ErrLocked
	}
	return nil
}

func (g *gate) changed() { g.changes.RUnlock() }

// giveBack lets an operation in that needs no key, in any state; changed
// follows, and open tells whether the volume is not locked.
func (g *gate) giveBack() (open bool) {
	g.changes.RLock()
	return !g.locked
}

// hold waits for the changes under way and keeps others out, until letGo.
func (g *gate) hold()  { g.changes.Lock() }
func (g *gate) letGo() { g.changes.Unlock() }

// alone runs do while nothing else passes, and then is locked or not as do
// says. The gate is held.
func (g *gate) alone(do func() (locked bool)) {
	g.looks.Lock()
	defer g.looks.Unlock()
	g.locked = do()
}
