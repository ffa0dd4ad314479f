package fusefs

import (
	"errors"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// passthrough is a Volume without encryption: the directory itself. Tests
// take it to tell the layer's faults from the engine's, benchmarks as the
// cost of FUSE alone.
type passthrough struct{ st store.FS }

type passHandle struct {
	store.File
}

func (h passHandle) WriteBack(p []byte, off int64) (int, error) { return h.WriteAt(p, off) }

func (h passHandle) Sync(dataOnly bool) error {
	if dataOnly {
		return h.Datasync()
	}
	return h.File.Sync()
}

func (h passHandle) SyncThen(dataOnly bool, done func(error)) { done(h.Sync(dataOnly)) }

func (p passthrough) OpenFile(name string, flags int, mode uint32, owner Owner) (Handle, error) {
	f, err := p.st.OpenFile(name, flags, mode)
	if err != nil {
		return nil, err
	}
	if flags&os.O_CREATE != 0 {
		if err := p.own(name, mode, owner); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return passHandle{f}, nil
}

func (p passthrough) OpenTemp(dir string, mode uint32, owner Owner) (Handle, error) {
	f, err := p.st.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, mode)
	if err != nil {
		return nil, err
	}
	if err := p.ownTemp(f, dir, mode, owner); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return passHandle{f}, nil
}

func (p passthrough) ownTemp(f store.File, dir string, mode uint32, owner Owner) error {
	parent, err := p.st.Stat(dir)
	if err != nil {
		return err
	}
	a, err := f.Stat()
	if err != nil {
		return err
	}
	gid := int(owner.GID)
	if parent.Mode&unix.S_ISGID != 0 {
		gid = -1
	}
	if err := f.Chown(int(owner.UID), gid); err != nil || mode&setIDs == 0 {
		return err
	}
	return f.Chmod(a.Mode & 0o7777)
}

// own gives a new object its owner; a setgid directory has handed its group
// down already.
func (p passthrough) own(name string, mode uint32, owner Owner) error {
	dir, err := p.st.Stat(path.Dir(name))
	if err != nil {
		return err
	}
	gid := int(owner.GID)
	if dir.Mode&unix.S_ISGID != 0 {
		gid = -1
	}
	a, err := p.st.Stat(name)
	if err != nil || (a.UID == owner.UID && (gid == -1 || a.GID == owner.GID)) {
		return err
	}
	if err := p.st.Chown(name, int(owner.UID), gid); err != nil {
		return err
	}
	if mode&setIDs == 0 || a.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return p.st.Chmod(name, a.Mode&0o7777)
}

func (p passthrough) made(name string, mode uint32, owner Owner, err error) error {
	if err != nil {
		return err
	}
	return p.own(name, mode, owner)
}

func (p passthrough) Mkdir(name string, mode uint32, owner Owner) error {
	return p.made(name, mode, owner, p.st.Mkdir(name, mode))
}

func (p passthrough) Mknod(name string, mode uint32, dev uint64, owner Owner) error {
	return p.made(name, mode, owner, p.st.Mknod(name, mode, dev))
}

func (p passthrough) Symlink(target, name string, owner Owner) error {
	return p.made(name, unix.S_IFLNK, owner, p.st.Symlink(target, name))
}

func (p passthrough) Truncate(name string, size int64) error {
	f, err := p.st.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func (p passthrough) Stat(name string) (store.Attr, error)          { return p.st.Stat(name) }
func (p passthrough) ReadDir(name string) ([]store.DirEntry, error) { return p.st.ReadDir(name) }
func (p passthrough) Readlink(name string) (string, error)          { return p.st.Readlink(name) }
func (p passthrough) Link(from, to string) error                    { return p.st.Link(from, to) }
func (p passthrough) Unlink(name string) error                      { return p.st.Unlink(name) }
func (p passthrough) Rmdir(name string) error                       { return p.st.Rmdir(name) }
func (p passthrough) Rename(from, to string, flags uint) error      { return p.st.Rename(from, to, flags) }
func (p passthrough) Chmod(name string, mode uint32) error          { return p.st.Chmod(name, mode) }
func (p passthrough) Chown(name string, uid, gid int) error         { return p.st.Chown(name, uid, gid) }
func (p passthrough) Chtimes(name string, a, m *time.Time) error    { return p.st.Chtimes(name, a, m) }
func (p passthrough) Getxattr(name, attr string) ([]byte, error)    { return p.st.Getxattr(name, attr) }
func (p passthrough) Listxattr(name string) ([]string, error)       { return p.st.Listxattr(name) }
func (p passthrough) Removexattr(name, attr string) error           { return p.st.Removexattr(name, attr) }
func (p passthrough) SyncDir(name string) error                     { return p.st.SyncDir(name) }
func (p passthrough) Statfs() (store.Statfs, error)                 { return p.st.Statfs() }

func (p passthrough) Setxattr(name, attr string, value []byte, flags int) error {
	return p.st.Setxattr(name, attr, value, flags)
}

func (p passthrough) Errno(err error) syscall.Errno {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}
