package fusefs

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// ghost is what is left of a directory, link or special file that has lost its
// last name, for those who hold it open: its attributes. They change in memory
// alone, as nobody finds the object again.
type ghost struct {
	mu   sync.Mutex
	attr store.Attr
}

// haunt keeps the attributes of an object that is about to lose a name. One
// that cannot be described answers ESTALE afterwards.
func (n *node) haunt(path string) {
	a, err := n.t.vol.Stat(path)
	if err != nil {
		return
	}
	a.Ctime = time.Now()
	a.Nlink--
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		a.Nlink = 0
	}
	n.ghost.Store(&ghost{attr: a})
}

// change does something to the attributes. An object that has other names
// which we do not know is not ours alone to change.
func (g *ghost) change(do func(a *store.Attr)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.attr.Nlink > 0 {
		return errNoName
	}
	do(&g.attr)
	g.attr.Ctime = time.Now()
	return nil
}

// Stat is what the object was, with the names that it has left.
func (g *ghost) Stat() (store.Attr, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.attr, nil
}

// Truncate is for regular files, which have no ghosts.
func (g *ghost) Truncate(int64) error { return syscall.EINVAL }

// Chmod sets the permission bits.
func (g *ghost) Chmod(mode uint32) error {
	return g.change(func(a *store.Attr) { a.Mode = a.Mode&unix.S_IFMT | mode&0o7777 })
}

// Chown leaves an ID of -1 as it is.
func (g *ghost) Chown(uid, gid int) error {
	return g.change(func(a *store.Attr) {
		if uid != -1 {
			a.UID = uint32(uid)
		}
		if gid != -1 {
			a.GID = uint32(gid)
		}
	})
}

// Chtimes leaves a time of nil as it is.
func (g *ghost) Chtimes(atime, mtime *time.Time) error {
	return g.change(func(a *store.Attr) {
		if atime != nil {
			a.Atime = *atime
		}
		if mtime != nil {
			a.Mtime = *mtime
		}
	})
}
