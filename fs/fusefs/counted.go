package fusefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/fs/meter"
)

// counted counts the kernel's requests on their way to raw, with how long each
// took and how many bytes it moved. Requests that are not here, such as FORGET,
// are not counted.
type counted struct {
	fuse.RawFileSystem
	ops *meter.Operations
	// postponed tells of the FSYNC that just returned whether it has counted
	// itself, or will: it is answered by somebody else.
	postponed func(cancel <-chan struct{}) bool
}

// metered counts the requests to a file system in ops, unless that is nil.
func metered(to fuse.RawFileSystem, ops *meter.Operations, postponed func(<-chan struct{}) bool) fuse.RawFileSystem {
	if ops == nil {
		return to
	}
	return &counted{to, ops, postponed}
}

// done counts a request and hands its answer on.
func (c *counted) done(k meter.Kind, began time.Duration, code fuse.Status) fuse.Status {
	c.ops.Done(k, began, faulty(code))
	return code
}

// faulty tells answers that say something of the volume from those that say
// something of the request.
func faulty(code fuse.Status) bool {
	switch syscall.Errno(code) {
	case syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.ENOKEY:
		return true
	}
	return false
}

// Read counts the bytes that were read, too.
func (c *counted) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	began := meter.Clock()
	r, code := c.RawFileSystem.Read(cancel, in, buf)
	if r != nil {
		c.ops.AddRead(r.Size())
	}
	return r, c.done(meter.Read, began, code)
}

// Write counts the bytes that were written, too. go-fuse calls it where Writev
// is not there.
func (c *counted) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	began := meter.Clock()
	n, code := c.RawFileSystem.Write(cancel, in, data)
	c.ops.AddWritten(int(n))
	return n, c.done(meter.Write, began, code)
}

// Writev counts the bytes that were written, too.
func (c *counted) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	began := meter.Clock()
	n, code := c.RawFileSystem.Writev(cancel, in, data)
	if code == fuse.ENOSYS {
		return n, code // Write comes next
	}
	c.ops.AddWritten(int(n))
	return n, c.done(meter.Write, began, code)
}

// Release has no answer.
func (c *counted) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	began := meter.Clock()
	c.RawFileSystem.Release(cancel, in)
	c.done(meter.Release, began, fuse.OK)
}

// Readlink counts a request.
func (c *counted) Readlink(cancel <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	began := meter.Clock()
	target, code := c.RawFileSystem.Readlink(cancel, in)
	return target, c.done(meter.Other, began, code)
}

// GetXAttr counts a request.
func (c *counted) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	began := meter.Clock()
	n, code := c.RawFileSystem.GetXAttr(cancel, in, attr, dest)
	return n, c.done(meter.Xattr, began, code)
}

// ListXAttr counts a request.
func (c *counted) ListXAttr(cancel <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	began := meter.Clock()
	n, code := c.RawFileSystem.ListXAttr(cancel, in, dest)
	return n, c.done(meter.Xattr, began, code)
}

// Lookup counts a request.
func (c *counted) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Lookup, began, c.RawFileSystem.Lookup(cancel, in, name, out))
}

// GetAttr counts a request.
func (c *counted) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Getattr, began, c.RawFileSystem.GetAttr(cancel, in, out))
}

// SetAttr counts a request.
func (c *counted) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Setattr, began, c.RawFileSystem.SetAttr(cancel, in, out))
}

// Mknod counts a request.
func (c *counted) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Names, began, c.RawFileSystem.Mknod(cancel, in, name, out))
}

// Mkdir counts a request.
func (c *counted) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Names, began, c.RawFileSystem.Mkdir(cancel, in, name, out))
}

// Unlink counts a request.
func (c *counted) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Names, began, c.RawFileSystem.Unlink(cancel, in, name))
}

// Rmdir counts a request.
func (c *counted) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Names, began, c.RawFileSystem.Rmdir(cancel, in, name))
}

// Rename counts a request.
func (c *counted) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Names, began, c.RawFileSystem.Rename(cancel, in, oldName, newName))
}

// Link counts a request.
func (c *counted) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Names, began, c.RawFileSystem.Link(cancel, in, name, out))
}

// Symlink counts a request.
func (c *counted) Symlink(cancel <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Names, began, c.RawFileSystem.Symlink(cancel, in, target, name, out))
}

// SetXAttr counts a request.
func (c *counted) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Xattr, began, c.RawFileSystem.SetXAttr(cancel, in, attr, data))
}

// RemoveXAttr counts a request.
func (c *counted) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, attr string) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Xattr, began, c.RawFileSystem.RemoveXAttr(cancel, in, attr))
}

// Create counts a request.
func (c *counted) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Open, began, c.RawFileSystem.Create(cancel, in, name, out))
}

// Tmpfile counts a request.
func (c *counted) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Open, began, c.RawFileSystem.Tmpfile(cancel, in, out))
}

// Open counts a request.
func (c *counted) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Open, began, c.RawFileSystem.Open(cancel, in, out))
}

// Lseek counts a request.
func (c *counted) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Other, began, c.RawFileSystem.Lseek(cancel, in, out))
}

// Fsync counts a request, unless it is postponed.
func (c *counted) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	began := meter.Clock()
	code := c.RawFileSystem.Fsync(cancel, in)
	if c.postponed(cancel) {
		return code
	}
	return c.done(meter.Fsync, began, code)
}

// FsyncDir counts a request.
func (c *counted) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Fsync, began, c.RawFileSystem.FsyncDir(cancel, in))
}

// Fallocate counts a request.
func (c *counted) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Other, began, c.RawFileSystem.Fallocate(cancel, in))
}

// OpenDir counts a request.
func (c *counted) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Readdir, began, c.RawFileSystem.OpenDir(cancel, in, out))
}

// ReadDir counts a request.
func (c *counted) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Readdir, began, c.RawFileSystem.ReadDir(cancel, in, out))
}

// ReadDirPlus counts a request.
func (c *counted) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Readdir, began, c.RawFileSystem.ReadDirPlus(cancel, in, out))
}

// StatFs counts a request.
func (c *counted) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Other, began, c.RawFileSystem.StatFs(cancel, in, out))
}

// Statx counts a request.
func (c *counted) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	began := meter.Clock()
	return c.done(meter.Getattr, began, c.RawFileSystem.Statx(cancel, in, out))
}
