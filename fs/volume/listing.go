package volume

import (
	"path"
	"runtime"
	"slices"
	"sync"

	"github.com/akvfs/akvfs/fs/store"
)

const (
	// namesEach is how many names are worth a goroutine of their own: some
	// hundred microseconds.
	namesEach = 64
	// namesKept is of how many entries a directory's names are kept for the
	// lookups that follow: of more, the cache would lose the first again.
	namesKept = namesCached / 4
)

// plainEntries turns the entries of a backing directory into the tree's, on
// all processors. It takes their place.
func (v *Volume) plainEntries(backing string, entries []store.DirEntry) []store.DirEntry {
	keep := len(entries) <= namesKept
	if v.names.cipher == nil {
		v.plainNames(backing, entries, false)
		return entriesOf(entries)
	}
	each := max(namesEach, (len(entries)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	if len(entries) <= each {
		v.plainNames(backing, entries, keep)
		return entriesOf(entries)
	}
	var running sync.WaitGroup
	for part := range slices.Chunk(entries, each) {
		running.Go(func() { v.plainNames(backing, part, keep) })
	}
	running.Wait()
	return entriesOf(entries)
}

// plainNames translates names, and leaves none of what is no entry of the tree.
func (v *Volume) plainNames(backing string, entries []store.DirEntry, keep bool) {
	for i := range entries {
		e := &entries[i]
		plain, ok, err := v.names.plain(backing, e.Name)
		if err != nil {
			v.damaged(&IntegrityError{Path: path.Join(backing, e.Name), What: "name", Number: -1, Err: err})
		}
		if !ok {
			plain = ""
		} else if keep {
			v.names.cache.Add(plain, e.Name)
		}
		e.Name = plain
	}
}

// entriesOf drops what has no name.
func entriesOf(entries []store.DirEntry) []store.DirEntry {
	return slices.DeleteFunc(entries, func(e store.DirEntry) bool { return e.Name == "" })
}
