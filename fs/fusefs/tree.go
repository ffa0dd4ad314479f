package fusefs

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/fuseloop"
	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/fs/store"
)

// tree is one mount.
type tree struct {
	vol      Volume
	log      *slog.Logger
	readOnly bool
	directIO func(path string) bool // nil: never
	loop     *fuseloop.Loop
	ops      *meter.Operations // nil: nothing is counted

	// names: see the package comment. keeping is what the operation that holds
	// it exclusively takes a name from.
	names   sync.RWMutex
	keeping *file

	door  door // see lock.go
	shelf *shelf

	openMu sync.Mutex
	open   map[*openFile]struct{} // those that have a Handle
}

// changeNames runs an operation that takes a name away, in the volume and in
// go-fuse's tree alike, with names held exclusively. A file that has a name
// left after it need not be kept.
func (t *tree) changeNames(op func() fuse.Status) fuse.Status {
	t.names.Lock()
	code := op()
	kept := t.keeping
	t.keeping = nil
	named := false
	if kept != nil {
		_, named = kept.path()
	}
	t.names.Unlock()
	if named {
		kept.file.letGo()
	}
	return code
}

// errNoName says that an object has neither a name nor an open file. The
// kernel then walks the path anew.
const errNoName = syscall.ESTALE

func newTree(v Volume, log *slog.Logger) *tree {
	return &tree{vol: v, log: log, shelf: newShelf(), open: map[*openFile]struct{}{}}
}

// errno is what the kernel gets of an error; 0 of none.
func (t *tree) errno(err error) syscall.Errno {
	if err == nil {
		return fs.OK
	}
	return t.vol.Errno(err)
}

// newNode is a node for an object, not yet in go-fuse's tree.
func (t *tree) newNode(a *store.Attr) fs.InodeEmbedder {
	var in fs.InodeEmbedder
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		in = &dir{}
	case unix.S_IFREG:
		in = &file{}
	case unix.S_IFLNK:
		in = &symlink{}
	default:
		in = &special{}
	}
	n := inner(in)
	n.t = t
	if a.Mode&unix.S_IFMT == unix.S_IFREG {
		n.file = &openFile{node: n}
	}
	return in
}

// identity is what makes two objects one: inode number and time of birth.
func identity(a *store.Attr) fs.StableAttr {
	id := fs.StableAttr{Mode: a.Mode & unix.S_IFMT, Ino: a.Ino}
	if !a.Btime.IsZero() {
		id.Gen = uint64(a.Btime.UnixNano())
	}
	return id
}

// child answers a lookup or a creation: with the object's node, which is the
// one that it has already if the kernel knows it.
func (t *tree) child(ctx context.Context, parent *fs.Inode, a *store.Attr, out *fuse.EntryOut) *fs.Inode {
	return t.enter(ctx, parent, t.newNode(a), a, out)
}

func (t *tree) enter(ctx context.Context, parent *fs.Inode, in fs.InodeEmbedder, a *store.Attr, out *fuse.EntryOut) *fs.Inode {
	inner(in).fill(a, &out.Attr)
	out.SetAttrTimeout(attrTimeout(a))
	out.SetEntryTimeout(entryTimeout)
	entered := parent.NewInode(ctx, in, identity(a))
	if f := inner(in).file; f != nil {
		f.entered.Store(true)
	}
	return entered
}

// opened and closed keep account of the files that have a Handle.
func (t *tree) opened(f *openFile) {
	t.openMu.Lock()
	defer t.openMu.Unlock()
	t.open[f] = struct{}{}
}

func (t *tree) closed(f *openFile) {
	t.openMu.Lock()
	defer t.openMu.Unlock()
	delete(t.open, f)
}

// closeAll closes what the kernel did not release before the mount ended: it
// drops the releases that are still queued then.
func (t *tree) closeAll() {
	t.openMu.Lock()
	left := slices.Collect(maps.Keys(t.open))
	t.openMu.Unlock()
	var errs []error
	for _, f := range left {
		errs = append(errs, f.closeNow())
	}
	if err := errors.Join(errs...); err != nil {
		t.log.Warn("closing files after the mount's end", "error", err)
	}
}
