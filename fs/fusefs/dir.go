package fusefs

import (
	"context"
	"errors"
	"os"
	"path"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// dir is a directory.
type dir struct{ node }

var (
	_ fs.NodeLookuper       = (*dir)(nil)
	_ fs.NodeCreater        = (*dir)(nil)
	_ fs.NodeTmpfiler       = (*dir)(nil)
	_ fs.NodeMkdirer        = (*dir)(nil)
	_ fs.NodeMknoder        = (*dir)(nil)
	_ fs.NodeSymlinker      = (*dir)(nil)
	_ fs.NodeLinker         = (*dir)(nil)
	_ fs.NodeUnlinker       = (*dir)(nil)
	_ fs.NodeRmdirer        = (*dir)(nil)
	_ fs.NodeRenamer        = (*dir)(nil)
	_ fs.NodeOpendirHandler = (*dir)(nil)
)

// callerOf is who asks: the owner of what is created.
func callerOf(ctx context.Context) Owner {
	caller, ok := fuse.FromContext(ctx)
	if !ok {
		return Owner{}
	}
	return Owner{UID: caller.Uid, GID: caller.Gid}
}

// childPath is the path of an entry. The caller holds tree.names.
func (d *dir) childPath(name string) (string, error) {
	p, ok := d.path()
	switch {
	case !ok:
		return "", errNoName
	case p == ".":
		return name, nil
	}
	return p + "/" + name, nil
}

// entry calls do with the path of an entry.
func (d *dir) entry(name string, do func(path string) error) error {
	d.t.names.RLock()
	defer d.t.names.RUnlock()
	p, err := d.childPath(name)
	if err != nil {
		return err
	}
	return do(p)
}

// found calls do with the path of an entry and then looks the entry up.
func (d *dir) found(ctx context.Context, name string, out *fuse.EntryOut, do func(path string) error) (*fs.Inode, syscall.Errno) {
	var a store.Attr
	err := d.entry(name, func(p string) (err error) {
		if err = do(p); err == nil {
			a, err = d.t.vol.Stat(p)
		}
		return err
	})
	if err != nil {
		return nil, d.t.errno(err)
	}
	return d.t.child(ctx, d.EmbeddedInode(), &a, out), fs.OK
}

// Lookup finds an entry.
func (d *dir) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return d.found(ctx, name, out, func(string) error { return nil })
}

// Mkdir makes a directory.
func (d *dir) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return d.found(ctx, name, out, func(p string) error {
		return d.t.vol.Mkdir(p, d.newMode(path.Dir(p), mode)&0o7777, callerOf(ctx))
	})
}

// Mknod makes a FIFO, socket, device or empty regular file.
func (d *dir) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return d.found(ctx, name, out, func(p string) error {
		return d.t.vol.Mknod(p, d.newMode(path.Dir(p), mode), uint64(dev), callerOf(ctx))
	})
}

// Symlink makes a symbolic link.
func (d *dir) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return d.found(ctx, name, out, func(p string) error {
		return d.t.vol.Symlink(target, p, callerOf(ctx))
	})
}

// Link gives an object one more name, or a file made by Tmpfile its first.
func (d *dir) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n := inner(target)
	var a store.Attr
	err := d.entry(name, func(p string) (err error) {
		if err = n.link(p); err == nil {
			a, err = d.t.vol.Stat(p)
		}
		return err
	})
	if err != nil {
		return nil, d.t.errno(err)
	}
	n.fill(&a, &out.Attr)
	out.SetAttrTimeout(attrTimeout(&a))
	out.SetEntryTimeout(entryTimeout)
	return n.EmbeddedInode(), fs.OK
}

// link gives the object a name. The caller holds tree.names.
func (n *node) link(newPath string) error {
	if old, ok := n.path(); ok {
		return n.t.vol.Link(old, newPath)
	}
	h := n.file.borrow()
	if h == nil {
		return errNoName
	}
	defer n.file.giveBack()
	return h.LinkTo(newPath)
}

// Unlink removes a name. raw holds tree.names.
func (d *dir) Unlink(_ context.Context, name string) syscall.Errno {
	p, err := d.childPath(name)
	if err == nil {
		d.keep(name, p)
		err = d.t.vol.Unlink(p)
	}
	return d.t.errno(err)
}

// Rmdir removes an empty directory. raw holds tree.names.
func (d *dir) Rmdir(_ context.Context, name string) syscall.Errno {
	p, err := d.childPath(name)
	if err == nil {
		d.keep(name, p)
		err = d.t.vol.Rmdir(p)
	}
	return d.t.errno(err)
}

// Rename moves an entry or, with RENAME_EXCHANGE, two. raw holds tree.names.
func (d *dir) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*dir)
	if !ok {
		return syscall.ENOTDIR
	}
	oldPath, err := d.childPath(name)
	if err != nil {
		return d.t.errno(err)
	}
	newPath, err := to.childPath(newName)
	if err != nil {
		return d.t.errno(err)
	}
	if flags&(unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE) == 0 {
		to.keep(newName, newPath)
	}
	return d.t.errno(d.t.vol.Rename(oldPath, newPath, uint(flags)))
}

// keep keeps what has a name usable for those who have just looked it up, as
// it is about to lose the name. A symbolic link is kept by its target.
func (d *dir) keep(name, path string) {
	child := d.GetChild(name)
	if child == nil {
		return
	}
	inner(child.Operations()).keepACL(path)
	switch n := child.Operations().(type) {
	case *file:
		n.file.keep(path)
		d.t.keeping = n
	case *symlink:
		// If this fails, so does what the latecomer does: it looks again.
		_, _ = n.read(path)
		n.haunt(path)
	default:
		inner(n).haunt(path)
	}
}

// Create makes a regular file and opens it. The kernel has looked and found
// none. If there is one all the same, it is to look again: the file must not
// get a second node.
func (d *dir) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	var h Handle
	var direct bool
	err := d.entry(name, func(p string) (err error) {
		direct = d.t.directIO != nil && d.t.directIO(p)
		h, err = d.t.vol.OpenFile(p, os.O_RDWR|os.O_CREATE|os.O_EXCL, d.newMode(path.Dir(p), mode)&0o7777, callerOf(ctx))
		return err
	})
	if errors.Is(err, syscall.EEXIST) && flags&syscall.O_EXCL == 0 {
		return nil, nil, 0, syscall.ESTALE
	}
	if err != nil {
		return nil, nil, 0, d.t.errno(err)
	}
	return d.created(ctx, h, flags, direct, out)
}

// Tmpfile makes a file without a name (O_TMPFILE).
func (d *dir) Tmpfile(ctx context.Context, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	var h Handle
	err := d.named(func(p string) (err error) {
		h, err = d.t.vol.OpenTemp(p, d.newMode(p, mode)&0o7777, callerOf(ctx))
		return err
	})
	if err != nil {
		return nil, nil, 0, d.t.errno(err)
	}
	return d.created(ctx, h, flags, false, out)
}

// created answers with a new, open file.
func (d *dir) created(ctx context.Context, h Handle, flags uint32, direct bool, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	a, err := h.Stat()
	if err == nil && a.Mode&unix.S_IFMT != unix.S_IFREG {
		err = syscall.EIO
	}
	if err != nil {
		return nil, nil, 0, d.t.errno(errors.Join(err, h.Close()))
	}
	f := d.t.newNode(&a).(*file)
	shared, err := f.file.adopt(h)
	if err != nil {
		return nil, nil, 0, d.t.errno(err)
	}
	in := d.t.enter(ctx, d.EmbeddedInode(), f, &a, out)
	return in, newHandle(f.file, shared, flags, direct), openFlags(direct), fs.OK
}
