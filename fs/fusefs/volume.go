package fusefs

import (
	"syscall"
	"time"

	"github.com/akvfs/akvfs/fs/store"
)

// Volume is what a mount needs of a directory tree. Paths are relative to its
// root, which is ".", with slashes between names. No method follows a symbolic
// link. All methods are called concurrently. The engine's is
// *volume.Volume, which Mount takes; this is the part of it that is used.
type Volume interface {
	// Stat describes an object; Size is what a reader sees.
	Stat(path string) (store.Attr, error)
	// ReadDir lists a directory without "." and "..".
	ReadDir(path string) ([]store.DirEntry, error)
	// OpenFile opens a regular file. flags are O_RDONLY or O_RDWR, with
	// O_CREAT and O_EXCL for a new one.
	OpenFile(path string, flags int, mode uint32, owner Owner) (Handle, error)
	// OpenTemp makes an open file without a name; LinkTo gives it one.
	OpenTemp(dir string, mode uint32, owner Owner) (Handle, error)

	Mkdir(path string, mode uint32, owner Owner) error
	Mknod(path string, mode uint32, dev uint64, owner Owner) error
	Symlink(target, path string, owner Owner) error
	Readlink(path string) (string, error)
	Link(oldPath, newPath string) error
	Unlink(path string) error
	Rmdir(path string) error
	// Rename takes renameat2's flags.
	Rename(oldPath, newPath string, flags uint) error

	Truncate(path string, size int64) error
	Chmod(path string, mode uint32) error
	// Chown leaves an ID of -1 as it is.
	Chown(path string, uid, gid int) error
	// Chtimes leaves a time of nil as it is.
	Chtimes(path string, atime, mtime *time.Time) error

	Getxattr(path, attr string) ([]byte, error)
	Setxattr(path, attr string, value []byte, flags int) error
	Listxattr(path string) ([]string, error)
	Removexattr(path, attr string) error

	// SyncDir makes a directory's entries durable.
	SyncDir(path string) error
	Statfs() (store.Statfs, error)

	// Errno is what a program sees of an error of any of these methods, or
	// of a Handle's.
	Errno(err error) syscall.Errno
}

// Handle is an open regular file of a Volume. It stays usable when the file
// has no name left. All methods but Close are called concurrently.
type Handle interface {
	// ReadAt is io.ReaderAt's.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes all of p or fails.
	WriteAt(p []byte, off int64) (int, error)
	// WriteBack is WriteAt for the kernel's cache, which keeps the time of
	// modification itself.
	WriteBack(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Stat() (store.Attr, error)
	// Sync makes all that was written durable, and attributes as well unless
	// dataOnly.
	Sync(dataOnly bool) error
	// SyncThen is Sync, but may return before done has been called, once, with
	// the result.
	SyncThen(dataOnly bool, done func(error))
	// Allocate is fallocate with its mode bits.
	Allocate(mode uint32, off, length int64) error
	// Seek takes SEEK_DATA and SEEK_HOLE.
	Seek(off int64, whence int) (int64, error)

	Chmod(mode uint32) error
	Chown(uid, gid int) error
	Chtimes(atime, mtime *time.Time) error
	// LinkTo gives the file one more name, or its first.
	LinkTo(newPath string) error
	Close() error
}
