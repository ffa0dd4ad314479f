package store

import (
	"maps"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const rootIno = 1

// inode is an object of a Mem, at one moment.
type inode struct {
	ino          uint64
	mode         uint32
	nlink        uint32
	uid, gid     uint32
	rdev         uint64
	atime, mtime time.Time
	ctime, btime time.Time
	xattrs       map[string]string
	target       string            // of a symbolic link
	content      content           // of a regular file
	entries      map[string]uint64 // of a directory
	above        uint64            // the directory that a directory is in
}

func (n *inode) kind() uint32 { return n.mode & unix.S_IFMT }
func (n *inode) isDir() bool  { return n.kind() == unix.S_IFDIR }

func (n *inode) clone() *inode {
	c := *n
	c.xattrs = maps.Clone(n.xattrs)
	c.entries = maps.Clone(n.entries)
	c.content = n.content.clone()
	return &c
}

func (n *inode) attr() Attr {
	a := Attr{
		Ino: n.ino, Dev: memDev, Mode: n.mode, Nlink: n.nlink, UID: n.uid, GID: n.gid, Rdev: n.rdev,
		Size: n.content.size, Blocks: n.content.blocks() * (memPage / 512), Blksize: memPage,
		Atime: n.atime, Mtime: n.mtime, Ctime: n.ctime, Btime: n.btime,
	}
	switch n.kind() {
	case unix.S_IFLNK:
		a.Size = int64(len(n.target))
	case unix.S_IFDIR:
		a.Size = memPage
	}
	return a
}

// memDev is the device number of every Mem.
const memDev = 0xa5f5

// image is a whole tree at one moment. Changes to it are made by functions
// that cannot fail and name inodes by number, so that the same change can be
// made to the live image at once and to the durable one later.
type image struct {
	inodes map[uint64]*inode
}

func (img *image) clone() *image {
	c := &image{inodes: make(map[uint64]*inode, len(img.inodes))}
	for ino, n := range img.inodes {
		c.inodes[ino] = n.clone()
	}
	return c
}

// walk finds what a checked name stands for, following no link.
func (img *image) walk(name string) (*inode, error) {
	n := img.inodes[rootIno]
	if name == "." {
		return n, nil
	}
	for rest, more := name, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		next, err := img.child(n, part)
		if err != nil {
			return nil, err
		}
		n = next
	}
	return n, nil
}

// child finds an entry of what must be a directory.
func (img *image) child(n *inode, base string) (*inode, error) {
	switch {
	case n.kind() == unix.S_IFLNK:
		return nil, syscall.ELOOP
	case !n.isDir():
		return nil, syscall.ENOTDIR
	case len(base) > 255:
		return nil, syscall.ENAMETOOLONG
	}
	ino, ok := n.entries[base]
	if !ok {
		return nil, syscall.ENOENT
	}
	return img.inodes[ino], nil
}

// slot is where a name is or would be: a directory, the last component, and
// what is there, nil if nothing is. base is "." for the root itself.
type slot struct {
	dir  *inode
	base string
	node *inode
	// bad is why nothing can ever be there.
	bad error
}

// find gives the slot of a name, whose directory must exist.
func (img *image) find(name string) (slot, error) {
	if err := checkName(name); err != nil {
		return slot{}, err
	}
	dir, base := split(name)
	d, err := img.walk(dir)
	if err != nil {
		return slot{}, err
	}
	if base == "." {
		return slot{dir: d, base: base, node: d}, nil
	}
	n, err := img.child(d, base)
	switch err {
	case nil, syscall.ENOENT:
		return slot{dir: d, base: base, node: n}, nil
	case syscall.ENAMETOOLONG:
		return slot{dir: d, base: base, bad: err}, nil
	}
	return slot{}, err
}

// findBoth is find for two names.
func (img *image) findBoth(a, b string) (at, other slot, err error) {
	if at, err = img.find(a); err == nil {
		other, err = img.find(b)
	}
	return at, other, err
}

// existing is find for a name that must be there.
func (img *image) existing(name string) (slot, error) {
	s, err := img.find(name)
	if err == nil {
		err = s.missing()
	}
	return s, err
}

// missing is the error for a slot with nothing in it.
func (s *slot) missing() error {
	if s.node == nil && s.bad == nil {
		return syscall.ENOENT
	}
	return s.bad
}

// taken is the error for a slot that nothing new can go into.
func (s *slot) taken() error {
	if s.node != nil {
		return syscall.EEXIST
	}
	return s.bad
}

// enter gives an inode a name in a directory.
func (img *image) enter(dir uint64, base string, ino uint64, now time.Time) {
	d, n := img.inodes[dir], img.inodes[ino]
	if d.entries == nil {
		d.entries = map[string]uint64{}
	}
	d.entries[base] = ino
	d.mtime, d.ctime, n.ctime = now, now, now
	if n.isDir() {
		n.above = dir
		d.nlink++
	} else {
		n.nlink++
	}
}

// leave takes a name out of a directory. A directory without a name has no
// link at all left.
func (img *image) leave(dir uint64, base string, now time.Time) {
	d := img.inodes[dir]
	n := img.inodes[d.entries[base]]
	delete(d.entries, base)
	d.mtime, d.ctime, n.ctime = now, now, now
	if n.isDir() {
		d.nlink--
		n.above = 0
	} else {
		n.nlink--
	}
}

// gone tells whether nothing leads to the inode any more.
func (n *inode) gone() bool {
	if n.isDir() {
		return n.above == 0 && n.ino != rootIno
	}
	return n.nlink == 0
}

// update changes an inode if the image has it.
func (img *image) update(ino uint64, f func(*inode)) {
	if n := img.inodes[ino]; n != nil {
		f(n)
	}
}

// above tells whether directory a is b or contains it, however deep.
func (img *image) above(a, b *inode) bool {
	for b.ino != rootIno {
		if b == a {
			return true
		}
		b = img.inodes[b.above]
	}
	return a.ino == rootIno
}
