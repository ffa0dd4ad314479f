package fusefs

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// listing is one of the kernel's handles on a directory. Entries come in the
// order of their places, which are hashes of their names: what is added or
// removed meanwhile may or may not show, as POSIX has it, and what stays shows
// exactly once, however often the directory is read anew in between. go-fuse
// calls the reading methods of one listing one at a time.
type listing struct {
	d    *dir
	pos  int    // of the next entry
	last uint64 // the place of the entry before it

	mu      sync.Mutex
	entries []placed // nil: to be read; see shelf
}

// placed is an entry with its place, which the kernel takes for an offset.
type placed struct {
	store.DirEntry
	place uint64
}

var (
	_ fs.FileReaddirenter   = (*listing)(nil)
	_ fs.FileSeekdirer      = (*listing)(nil)
	_ fs.FileReleasedirer   = (*listing)(nil)
	_ fs.FileFsyncdirer     = (*listing)(nil)
	_ fs.NodeOpendirHandler = (*dir)(nil)
)

// OpendirHandle opens the directory; it is read when it is read.
func (d *dir) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return &listing{d: d}, 0, fs.OK
}

// Readdirent gives the next entry, nil at the end.
func (l *listing) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	entries, err := l.read()
	if err != nil {
		return nil, l.d.t.errno(err)
	}
	if l.pos >= len(entries) {
		return nil, fs.OK
	}
	e := &entries[l.pos]
	l.pos++
	l.last = e.place
	return &fuse.DirEntry{Mode: e.Type, Name: e.Name, Ino: e.Ino, Off: e.place}, fs.OK
}

// Seekdir goes back or forth to where an earlier entry ended. At the start the
// directory is read anew.
func (l *listing) Seekdir(_ context.Context, off uint64) syscall.Errno {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = off
	if off == 0 {
		l.entries = nil
	}
	l.pos = after(l.entries, off)
	return fs.OK
}

// Releasedir lets go of what was read.
func (l *listing) Releasedir(context.Context, uint32) {
	l.d.t.shelf.remove(l)
	l.forget()
}

// forget has the directory read anew when more of it is asked for.
func (l *listing) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}

// read gives the entries, which stay the caller's if they are forgotten.
func (l *listing) read() ([]placed, error) {
	l.mu.Lock()
	entries := l.entries
	l.mu.Unlock()
	if entries != nil {
		return entries, nil
	}
	entries, err := l.d.t.shelf.load(l.d)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.entries, l.pos = entries, after(entries, l.last)
	l.mu.Unlock()
	l.d.t.shelf.put(l, len(entries))
	return entries, nil
}

// after is the index of the first entry behind a place.
func after(entries []placed, place uint64) int {
	i, found := slices.BinarySearchFunc(entries, place, func(e placed, p uint64) int { return cmp.Compare(e.place, p) })
	if found {
		i++
	}
	return i
}

// shelf bounds what all listings of a mount hold in memory, whoever opens how
// many directories of whatever size: it keeps those that were read last, and
// the others read again.
type shelf struct {
	seed  maphash.Seed
	loads chan struct{} // a token for each directory that is being read

	mu    sync.Mutex
	held  []*listing // the one read first comes first
	sizes map[*listing]int
	total int // entries
}

const (
	// shelfRoom is how many entries are held: some 50 MiB of them. One listing
	// is, of any size.
	shelfRoom = 1 << 19
	// shelfLoads is how many directories are read at a time.
	shelfLoads = 4
)

func newShelf() *shelf {
	return &shelf{seed: maphash.MakeSeed(), loads: make(chan struct{}, shelfLoads), sizes: map[*listing]int{}}
}

// load reads a directory.
func (s *shelf) load(d *dir) ([]placed, error) {
	s.loads <- struct{}{}
	defer func() { <-s.loads }()
	var all []store.DirEntry
	err := d.named(func(p string) (err error) {
		all, err = d.t.vol.ReadDir(p)
		return err
	})
	if err == errNoName {
		err = syscall.ENOENT // removed, and only held open
	}
	if err != nil {
		return nil, err
	}
	entries := make([]placed, 0, len(all)+2)
	for _, e := range all {
		// Not 0, and positive where the kernel counts with a sign.
		entries = append(entries, placed{e, maphash.String(s.seed, e.Name)>>1 | 1<<8})
	}
	for i, e := range d.dots() {
		entries = append(entries, placed{e, uint64(i + 1)})
	}
	slices.SortFunc(entries, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.Name, b.Name))
	})
	for i := 1; i < len(entries); i++ { // two names of one hash, once in a lifetime
		entries[i].place = max(entries[i].place, entries[i-1].place+1)
	}
	return entries, nil
}

// put notes what a listing holds, and has others forget theirs for it.
func (s *shelf) put(l *listing, n int) {
	s.remove(l)
	s.mu.Lock()
	s.held, s.sizes[l] = append(s.held, l), n
	s.total += n
	var out []*listing
	for s.total > shelfRoom && len(s.held) > 1 {
		first := s.held[0]
		out = append(out, first)
		s.drop(first)
	}
	s.mu.Unlock()
	for _, l := range out {
		l.forget()
	}
}

func (s *shelf) remove(l *listing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(l)
}

// drop is called with mu held.
func (s *shelf) drop(l *listing) {
	n, ok := s.sizes[l]
	if !ok {
		return
	}
	s.total -= n
	delete(s.sizes, l)
	i := slices.Index(s.held, l)
	s.held = slices.Delete(s.held, i, i+1)
}

// dots are the entries of the directory for itself and its parent. For the
// root, whose parent is in another file system, the kernel knows better.
func (d *dir) dots() []store.DirEntry {
	self := d.StableAttr().Ino
	above := self
	if _, parent := d.Parent(); parent != nil {
		above = parent.StableAttr().Ino
	}
	return []store.DirEntry{
		{Name: ".", Ino: self, Type: unix.S_IFDIR},
		{Name: "..", Ino: above, Type: unix.S_IFDIR},
	}
}

// Fsyncdir makes the directory's entries durable. One that is removed has
// none.
func (l *listing) Fsyncdir(context.Context, uint32) syscall.Errno {
	err := l.d.named(l.d.t.vol.SyncDir)
	if err == errNoName {
		return fs.OK
	}
	return l.d.t.errno(err)
}
