package convert

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// file is an open regular file of either side.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Seek(off int64, whence int) (int64, error)
	Close() error
}

// tree is a side of the conversion. Paths are plaintext on both.
type tree interface {
	Stat(name string) (store.Attr, error)
	ReadDir(name string) ([]store.DirEntry, error)
	Readlink(name string) (string, error)
	Link(oldName, newName string) error
	Unlink(name string) error
	Rmdir(name string) error
	Chmod(name string, mode uint32) error
	Chown(name string, uid, gid int) error
	Chtimes(name string, atime, mtime *time.Time) error
	Getxattr(name, attr string) ([]byte, error)
	Setxattr(name, attr string, value []byte, flags int) error
	Listxattr(name string) ([]string, error)
	Removexattr(name, attr string) error

	mkdir(name string) error
	mknod(name string, mode uint32, dev uint64) error
	symlink(target, name string) error
	open(name string) (file, error)
	create(name string) (file, error)
	// home makes all that was written durable in its place, so that what is
	// read then comes from there, and with it all else in the directory.
	home() error
}

// plain is the side of plain files.
type plain struct{ store.FS }

// ReadDir leaves out what is not the database's.
func (p plain) ReadDir(name string) ([]store.DirEntry, error) {
	entries, err := p.FS.ReadDir(name)
	return ours(name, entries), err
}

func (p plain) mkdir(name string) error { return p.Mkdir(name, 0o700) }
func (p plain) mknod(name string, mode uint32, dev uint64) error {
	return p.Mknod(name, mode, dev)
}
func (p plain) symlink(target, name string) error { return p.Symlink(target, name) }
func (p plain) open(name string) (file, error) {
	return p.OpenFile(name, os.O_RDONLY|unix.O_NOATIME, 0)
}
func (p plain) create(name string) (file, error) {
	return p.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}
func (p plain) home() error { return syncAll(p.FS) }

// sealed is the encrypted side.
type sealed struct{ *volume.Volume }

// ReadDir leaves out what is not the database's.
func (s sealed) ReadDir(name string) ([]store.DirEntry, error) {
	entries, err := s.Volume.ReadDir(name)
	return ours(name, entries), err
}

func (s sealed) mkdir(name string) error { return s.Mkdir(name, 0o700, self()) }
func (s sealed) mknod(name string, mode uint32, dev uint64) error {
	return s.Mknod(name, mode, dev, self())
}
func (s sealed) symlink(target, name string) error { return s.Symlink(target, name, self()) }
func (s sealed) open(name string) (file, error) {
	return s.OpenFile(name, os.O_RDONLY, 0, volume.Owner{})
}
func (s sealed) create(name string) (file, error) {
	return s.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600, self())
}

func (s sealed) home() error {
	if err := s.Sync(); err != nil {
		return err
	}
	return s.Checkpoint()
}

func self() volume.Owner {
	return volume.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

// ours leaves out a root's own directories.
func ours(dir string, entries []store.DirEntry) []store.DirEntry {
	if dir != "." {
		return entries
	}
	kept := entries[:0]
	for _, e := range entries {
		if e.Name != stateDir && e.Name != lostFound {
			kept = append(kept, e)
		}
	}
	return kept
}

func syncAll(st store.FS) error { return st.(store.Syncer).SyncAll() }
