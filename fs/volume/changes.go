package volume

import "sync/atomic"

// nameChanges counts changes of names: of what has begun before a sync of the
// store and has not ended then, nothing is known to be durable.
type nameChanges struct{ begun, ended, saved atomic.Uint64 }

// do changes a name.
func (n *nameChanges) do(change func() error) error {
	n.begun.Add(1)
	defer n.ended.Add(1)
	return change()
}

// sure is how many changes a sync of the store covers that begins now; saved is
// told when it has ended.
func (n *nameChanges) sure() uint64 { return n.ended.Load() }

func (n *nameChanges) save(sure uint64) { n.saved.Store(sure) }

// unsaved reports whether there is a change that may not be durable.
func (n *nameChanges) unsaved() bool { return n.begun.Load() != n.saved.Load() }
