package fusefs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// listing is one of the kernel's handles on a directory. The entries are
// those at the first read, or at the last one from the start (rewinddir): what
// is added or removed meanwhile may or may not show, as POSIX has it, and
// what stays shows exactly once. go-fuse calls the reading methods of one
// listing one at a time.
type listing struct {
	d       *dir
	entries []store.DirEntry
	loaded  bool
	pos     int // also the offset that the kernel sees: that of the next entry
}

var (
	_ fs.FileReaddirenter = (*listing)(nil)
	_ fs.FileSeekdirer    = (*listing)(nil)
	_ fs.FileFsyncdirer   = (*listing)(nil)
)

// OpendirHandle opens the directory; it is read when it is read.
func (d *dir) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return &listing{d: d}, 0, fs.OK
}

// Readdirent gives the next entry, nil at the end.
func (l *listing) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if !l.loaded {
		if err := l.load(); err != nil {
			return nil, l.d.t.errno(err)
		}
	}
	if l.pos >= len(l.entries) {
		return nil, fs.OK
	}
	e := &l.entries[l.pos]
	l.pos++
	return &fuse.DirEntry{Mode: e.Type, Name: e.Name, Ino: e.Ino, Off: uint64(l.pos)}, fs.OK
}

// Seekdir goes back or forth to where an earlier entry ended.
func (l *listing) Seekdir(_ context.Context, off uint64) syscall.Errno {
	if off == 0 {
		l.loaded = false
		return fs.OK
	}
	if !l.loaded {
		if err := l.load(); err != nil {
			return l.d.t.errno(err)
		}
	}
	l.pos = int(min(off, uint64(len(l.entries))))
	return fs.OK
}

// load reads the directory.
func (l *listing) load() error {
	entries := l.d.dots()
	err := l.d.named(func(p string) error {
		all, err := l.d.t.vol.ReadDir(p)
		entries = append(entries, all...)
		return err
	})
	if err == errNoName {
		err = syscall.ENOENT // removed, and only held open
	}
	if err != nil {
		return err
	}
	l.entries, l.pos, l.loaded = entries, 0, true
	return nil
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
