package volume

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/store"
)

// table holds every file that is open or not yet at rest, once, by its inode
// number in the backing file system.
type table struct {
	mu    sync.Mutex
	files map[uint64]*entry
	// dropped: something was closed that had lost its last name before what it
	// had committed was at home.
	dropped atomic.Bool
}

// entry is a file in the table.
type entry struct {
	ino  uint64
	file *blockfile.File
	// readOnly: the backing file is open for reading alone, as its file system
	// had become read-only. Nothing may be changed through the entry.
	readOnly bool
	// guarded by table.mu
	refs  int                 // open handles
	names map[string]struct{} // backing paths known in this session
	gone  bool                // no name is left
}

func newTable() *table { return &table{files: map[uint64]*entry{}} }

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.files)
}

func (t *table) all() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := make([]*entry, 0, len(t.files))
	for _, e := range t.files {
		entries = append(entries, e)
	}
	return entries
}

// get finds a file without taking a reference; the caller holds the tree lock
// or only overlays attributes.
func (t *table) get(ino uint64) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.files[ino]
}

// acquire gives the entry of an open backing file, which becomes the table's,
// with one more reference. open makes the entry if there is none: nobody sees
// it before.
func (t *table) acquire(back store.File, backing string, open func() (*entry, error)) (*entry, error) {
	attr, err := back.Stat()
	if err != nil {
		back.Close()
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.files[attr.Ino]; e != nil {
		back.Close()
		e.refs++
		e.names[backing] = struct{}{}
		return e, nil
	}
	e, err := open()
	if err != nil {
		back.Close()
		return nil, err
	}
	e.ino, e.refs, e.names = attr.Ino, 1, map[string]struct{}{backing: {}}
	t.files[attr.Ino] = e
	return e, nil
}

// hold gives the entry of an inode with one more reference, or nil.
func (t *table) hold(ino uint64) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.files[ino]
	if e != nil {
		e.refs++
	}
	return e
}

// sole reports whether only one handle is open.
func (t *table) sole(e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e.refs == 1
}

// drop gives a reference back, and closes the file if it was the last one and
// nothing is left to do.
func (t *table) drop(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.refs--
	t.evictIdle(e)
}

// renamed moves an entry, and with a directory all below it, to a new path.
func (t *table) renamed(from, to string) {
	for _, e := range t.all() {
		t.mu.Lock()
		changed := ""
		for name := range e.names {
			if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == '/') {
				delete(e.names, name)
				changed = to + rest
				e.names[changed] = struct{}{}
			}
		}
		t.mu.Unlock()
		if changed != "" {
			e.file.Renamed(changed)
		}
	}
}

// unlinked takes a name away. last says that it was the file's only one.
func (t *table) unlinked(e *entry, name string, last bool) {
	t.mu.Lock()
	delete(e.names, name)
	e.gone = e.gone || last
	other := ""
	for n := range e.names {
		other = n
	}
	t.mu.Unlock()
	if !last && e.file.Path() == name {
		e.file.Renamed(other)
	}
}

// below lists the entries at a path or below it.
func (t *table) below(name string) (found []*entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.files {
		for n := range e.names {
			if rest, ok := strings.CutPrefix(n, name); ok && (rest == "" || rest[0] == '/') {
				found = append(found, e)
				break
			}
		}
	}
	return found
}

// evict removes and closes what nobody holds and what is at rest.
func (t *table) evict() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.files {
		t.evictIdle(e)
	}
}

// evictOne is evict for one entry.
func (t *table) evictOne(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evictIdle(e)
}

// evictIdle closes an entry that nobody holds and that is at rest, or has no
// name to be found under. Called with mu held.
func (t *table) evictIdle(e *entry) {
	if e.refs > 0 || t.files[e.ino] != e || !(e.gone || e.atRest()) {
		return
	}
	if e.gone && !e.atRest() {
		t.dropped.Store(true)
	}
	delete(t.files, e.ino)
	e.file.Close()
}

func (e *entry) atRest() bool {
	commit, _, writeback, sync := e.file.Pending()
	return !commit && !writeback && !sync && !e.file.Fresh()
}

// nameOwed lists what nobody holds and what waits for nothing but a durable
// name: empty files that were just made, for instance.
func (t *table) nameOwed() (owed []*entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.files {
		commit, _, writeback, sync := e.file.Pending()
		if e.refs == 0 && !e.gone && !commit && !writeback && !sync && e.file.Fresh() {
			owed = append(owed, e)
		}
	}
	return owed
}

func (t *table) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, e := range t.files {
		delete(t.files, ino)
		e.file.Close()
	}
}

// linked notes one more name of the file at a path.
func (t *table) linked(from, to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.files {
		if _, ok := e.names[from]; ok {
			e.names[to] = struct{}{}
		}
	}
}

// nameless says that a file has no name yet.
func (t *table) nameless(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(e.names)
	e.gone = true
}

// revived gives a file without a name one.
func (t *table) revived(e *entry, name string) {
	t.mu.Lock()
	e.names[name] = struct{}{}
	e.gone = false
	t.mu.Unlock()
	if e.file.Path() == "" {
		e.file.Renamed(name)
	}
}
