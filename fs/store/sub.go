package store

import (
	"errors"
	"io"
	"path"
	"time"
)

// Sub is one directory of another store as a store of its own. Names cannot
// leave the directory, and its files are the other store's. It has no locks.
type Sub struct {
	fs  FS
	dir string
}

var (
	_ FS     = (*Sub)(nil)
	_ Locker = (*Sub)(nil)
	_ Syncer = (*Sub)(nil)
)

// NewSub gives the directory dir of fs, which may be missing until its first
// use. fs stays the caller's: closing a Sub closes nothing.
func NewSub(fs FS, dir string) *Sub { return &Sub{fs, dir} }

// at translates a name. One that is no name stays as it is, so that the store
// below refuses it.
func (s *Sub) at(name string) string {
	if checkName(name) != nil {
		return ""
	}
	return path.Join(s.dir, name)
}

// OpenFile is FS's.
func (s *Sub) OpenFile(name string, flag int, perm uint32) (File, error) {
	return s.fs.OpenFile(s.at(name), flag, perm)
}

// Stat is FS's.
func (s *Sub) Stat(name string) (Attr, error) { return s.fs.Stat(s.at(name)) }

// ReadDir is FS's.
func (s *Sub) ReadDir(name string) ([]DirEntry, error) { return s.fs.ReadDir(s.at(name)) }

// Readlink is FS's.
func (s *Sub) Readlink(name string) (string, error) { return s.fs.Readlink(s.at(name)) }

// Mkdir is FS's.
func (s *Sub) Mkdir(name string, perm uint32) error { return s.fs.Mkdir(s.at(name), perm) }

// Mknod is FS's.
func (s *Sub) Mknod(name string, mode uint32, dev uint64) error {
	return s.fs.Mknod(s.at(name), mode, dev)
}

// Symlink is FS's.
func (s *Sub) Symlink(target, name string) error { return s.fs.Symlink(target, s.at(name)) }

// Link is FS's.
func (s *Sub) Link(oldName, newName string) error { return s.fs.Link(s.at(oldName), s.at(newName)) }

// Unlink is FS's.
func (s *Sub) Unlink(name string) error { return s.fs.Unlink(s.at(name)) }

// Rmdir is FS's.
func (s *Sub) Rmdir(name string) error { return s.fs.Rmdir(s.at(name)) }

// Rename is FS's.
func (s *Sub) Rename(oldName, newName string, flags uint) error {
	return s.fs.Rename(s.at(oldName), s.at(newName), flags)
}

// Chmod is FS's.
func (s *Sub) Chmod(name string, mode uint32) error { return s.fs.Chmod(s.at(name), mode) }

// Chown is FS's.
func (s *Sub) Chown(name string, uid, gid int) error { return s.fs.Chown(s.at(name), uid, gid) }

// Chtimes is FS's.
func (s *Sub) Chtimes(name string, atime, mtime *time.Time) error {
	return s.fs.Chtimes(s.at(name), atime, mtime)
}

// Getxattr is FS's.
func (s *Sub) Getxattr(name, attr string) ([]byte, error) { return s.fs.Getxattr(s.at(name), attr) }

// Setxattr is FS's.
func (s *Sub) Setxattr(name, attr string, value []byte, flags int) error {
	return s.fs.Setxattr(s.at(name), attr, value, flags)
}

// Listxattr is FS's.
func (s *Sub) Listxattr(name string) ([]string, error) { return s.fs.Listxattr(s.at(name)) }

// Removexattr is FS's.
func (s *Sub) Removexattr(name, attr string) error { return s.fs.Removexattr(s.at(name), attr) }

// SyncDir is FS's.
func (s *Sub) SyncDir(name string) error { return s.fs.SyncDir(s.at(name)) }

// SyncAll is Syncer's: it makes all of the store below durable.
func (s *Sub) SyncAll() error {
	below, ok := s.fs.(Syncer)
	if !ok {
		return errors.New("the store cannot be synced as a whole")
	}
	return below.SyncAll()
}

// TryLock is Locker's.
func (s *Sub) TryLock(name string) (io.Closer, error) {
	below, ok := s.fs.(Locker)
	if !ok {
		return nil, errors.New("the store cannot lock")
	}
	return below.TryLock(s.at(name))
}

// Statfs is FS's.
func (s *Sub) Statfs() (Statfs, error) { return s.fs.Statfs() }

// Close closes nothing.
func (s *Sub) Close() error { return nil }
