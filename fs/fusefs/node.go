package fusefs

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/fs/store"
)

// node is what all kinds of node have in common.
type node struct {
	fs.Inode
	t    *tree
	file *openFile // of a regular file, else nil

	// setID: the mode last seen has set-user-ID or set-group-ID. Nobody else
	// changes modes, so that a write need not ask.
	setID atomic.Bool
	// shared: the mode last seen lets the group do something. In an object with
	// an ACL without that, the ACL lets in nobody but the owner.
	shared atomic.Bool
	// ghost is what answers for the object when it has no name; see haunt.
	ghost atomic.Pointer[ghost]

	// lastACL is the ACL that the object had when it lost a name; see keepACL.
	lastACL atomic.Pointer[[]byte]

	// lacks remembers of some attributes that the object has none.
	lacks [len(often)]absence
}

var (
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeStatxer   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// inner is the common part of any node.
func inner(in fs.InodeEmbedder) *node { return in.(interface{ common() *node }).common() }

func (n *node) common() *node { return n }

// path is one of the object's names, and false if it has none. The caller
// holds tree.names until it is done with the path.
func (n *node) path() (string, bool) {
	var names []string
	length := -1
	for in := n.EmbeddedInode(); !in.IsRoot(); {
		name, parent := in.Parent()
		if parent == nil {
			return "", false
		}
		names = append(names, name)
		length += len(name) + 1
		in = parent
	}
	if len(names) == 0 {
		return ".", true
	}
	var b strings.Builder
	b.Grow(length)
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString(names[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String(), true
}

// named calls do with the object's path.
func (n *node) named(do func(path string) error) error {
	n.t.names.RLock()
	defer n.t.names.RUnlock()
	p, ok := n.path()
	if !ok {
		return errNoName
	}
	return do(p)
}

// object is what can be done to an object by its path or its open file alike.
type object interface {
	Stat() (store.Attr, error)
	Truncate(size int64) error
	Chmod(mode uint32) error
	Chown(uid, gid int) error
	Chtimes(atime, mtime *time.Time) error
}

// byPath is an object by its path.
type byPath struct {
	vol  Volume
	path string
}

func (o byPath) Stat() (store.Attr, error)     { return o.vol.Stat(o.path) }
func (o byPath) Truncate(size int64) error     { return o.vol.Truncate(o.path, size) }
func (o byPath) Chmod(mode uint32) error       { return o.vol.Chmod(o.path, mode) }
func (o byPath) Chown(uid, gid int) error      { return o.vol.Chown(o.path, uid, gid) }
func (o byPath) Chtimes(a, m *time.Time) error { return o.vol.Chtimes(o.path, a, m) }

// with calls do with the object: its open file if it has one, as an unlinked
// file can still be reached through that, else its path, or what is left of it.
func (n *node) with(do func(object) error) error {
	if h := n.file.borrow(); h != nil {
		defer n.file.giveBack()
		return do(h)
	}
	err := n.named(func(p string) error { return do(byPath{n.t.vol, p}) })
	if err != errNoName {
		return err
	}
	// Opened and unlinked since.
	if h := n.file.borrow(); h != nil {
		defer n.file.giveBack()
		return do(h)
	}
	if g := n.ghost.Load(); g != nil {
		return do(g)
	}
	return err
}

func (n *node) stat() (a store.Attr, err error) {
	err = n.with(func(o object) error { a, err = o.Stat(); return err })
	return a, err
}

// Getattr describes the object.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	a, err := n.stat()
	if err != nil {
		return n.t.errno(err)
	}
	n.fill(&a, &out.Attr)
	out.SetTimeout(attrTimeout(&a))
	return fs.OK
}

// Statx is Getattr with the time of birth.
func (n *node) Statx(_ context.Context, _ fs.FileHandle, _, _ uint32, out *fuse.StatxOut) syscall.Errno {
	a, err := n.stat()
	if err != nil {
		return n.t.errno(err)
	}
	n.fillStatx(&a, &out.Statx)
	out.SetTimeout(attrTimeout(&a))
	return fs.OK
}

// Setattr changes what in says, in one request as much as the kernel likes.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if onlyKills(in.Valid) && !n.setID.Load() {
		return fs.OK // raw asks this at writes; the answer goes nowhere
	}
	var a store.Attr
	err := n.with(func(o object) error {
		if err := change(o, in); err != nil {
			return err
		}
		var err error
		a, err = o.Stat()
		return err
	})
	if err != nil {
		return n.t.errno(err)
	}
	n.fill(&a, &out.Attr)
	out.SetTimeout(attrTimeout(&a))
	if onlyKills(in.Valid) {
		n.NotifyContent(-1, 0) // the kernel remembers the old mode
	}
	return fs.OK
}

// Statfs describes the space that the volume has.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	s, err := n.t.vol.Statfs()
	if err != nil {
		return n.t.errno(err)
	}
	out.Blocks, out.Bfree, out.Bavail = s.Blocks, s.Bfree, s.Bavail
	out.Files, out.Ffree = s.Files, s.Ffree
	out.Bsize, out.Frsize = uint32(s.Bsize), uint32(s.Frsize)
	out.NameLen = uint32(s.NameMax)
	return fs.OK
}
