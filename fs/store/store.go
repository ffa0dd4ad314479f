// Package store is the engine's view of a backing directory: the narrow set
// of file-system calls that a volume needs, and nothing of encryption.
//
// Disk is the real one, over a directory descriptor. Mem is a strict one in
// memory that forgets, reorders and tears whatever was not synced, so that a
// test can cut the power at every call; how it decides what survives is told
// in mem_log.go. Faulty wraps any store and lets a Hook fail its calls.
//
// Names are slash-separated and relative to the root of the store; "." is the
// root itself. No call follows a symbolic link in any component and none
// leaves the root. Every error is, or wraps, a syscall.Errno.
//
// All methods of FS and File are safe for concurrent use. Disk has no locks:
// a file's descriptor counts its users, and the last one closes it. Mem has
// one lock. No lock is held while a Hook runs.
package store

import "time"

// FS is a backing directory.
type FS interface {
	// OpenFile opens a regular file. flag takes O_RDONLY or O_RDWR, and
	// O_CREATE, O_EXCL, O_TRUNC, O_DIRECT, O_DSYNC, O_SYNC and O_NOATIME; perm
	// is used as given, without the umask, as far as a default ACL of the
	// directory lets it, which new objects of all kinds inherit. O_DIRECT answers EINVAL where the
	// store has no direct I/O. With O_TMPFILE, name is a directory, and the
	// new file has no name until File.LinkTo; EOPNOTSUPP where that is not known.
	OpenFile(name string, flag int, perm uint32) (File, error)
	// Stat describes the object itself, never a link's target.
	Stat(name string) (Attr, error)
	// ReadDir lists a directory in no set order, without "." and "..".
	ReadDir(name string) ([]DirEntry, error)
	// Readlink returns a link's target as stored.
	Readlink(name string) (string, error)

	Mkdir(name string, perm uint32) error
	// Mknod makes a FIFO, socket, device or empty regular file; mode has the type bits.
	Mknod(name string, mode uint32, dev uint64) error
	Symlink(target, name string) error
	Link(oldName, newName string) error
	Unlink(name string) error
	Rmdir(name string) error
	// Rename takes renameat2's flags: RENAME_NOREPLACE, RENAME_EXCHANGE.
	Rename(oldName, newName string, flags uint) error

	Chmod(name string, mode uint32) error
	// Chown changes the object itself; -1 leaves an ID as it is.
	Chown(name string, uid, gid int) error
	// Chtimes sets times of the object itself; nil leaves one as it is.
	Chtimes(name string, atime, mtime *time.Time) error

	// Getxattr, and the others, know ACLAccess and ACLDefault where the file
	// system below has ACLs, else they answer EOPNOTSUPP.
	Getxattr(name, attr string) ([]byte, error)
	// Setxattr takes setxattr's flags: XATTR_CREATE, XATTR_REPLACE.
	Setxattr(name, attr string, value []byte, flags int) error
	Listxattr(name string) ([]string, error)
	Removexattr(name, attr string) error

	// SyncDir makes the entries of one directory durable.
	SyncDir(name string) error
	// Statfs describes the file system below.
	Statfs() (Statfs, error)
	// Close releases the root; files already open stay usable.
	Close() error
}

// File is an open regular file.
type File interface {
	// ReadAt reads like io.ReaderAt: fewer bytes than asked for only together
	// with an error, io.EOF at the end.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes all of p or fails.
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Stat() (Attr, error)
	// Sync makes data and metadata durable (fsync).
	Sync() error
	// Datasync makes data, and the metadata needed to read it, durable (fdatasync).
	Datasync() error
	// Allocate is fallocate with its mode bits: FALLOC_FL_KEEP_SIZE,
	// FALLOC_FL_PUNCH_HOLE and so on.
	Allocate(mode uint32, off, length int64) error
	// Seek finds the next data or hole at or after off: whence is
	// unix.SEEK_DATA or unix.SEEK_HOLE. It moves no file position.
	Seek(off int64, whence int) (int64, error)

	Chmod(mode uint32) error
	Chown(uid, gid int) error
	Chtimes(atime, mtime *time.Time) error
	// LinkTo gives an open file (one made with no name, too) a name.
	LinkTo(newName string) error
	Close() error
}

// Attr is what Stat tells of an object.
type Attr struct {
	Ino     uint64
	Dev     uint64
	Mode    uint32 // type and permission bits, as in struct stat
	Nlink   uint32
	UID     uint32
	GID     uint32
	Rdev    uint64
	Size    int64 // bytes
	Blocks  int64 // 512-byte units
	Blksize int64
	Atime   time.Time
	Mtime   time.Time
	Ctime   time.Time
	// Btime is the time of birth; zero where the store keeps none. Together
	// with Ino it names an object for ever, as inode numbers are used again.
	Btime time.Time
}

// DirEntry is one entry of a directory.
type DirEntry struct {
	Name string
	Ino  uint64
	Type uint32 // the type bits of Attr.Mode
}

// Statfs describes a file system's space.
type Statfs struct {
	Type    int64
	Bsize   int64
	Frsize  int64
	Blocks  uint64
	Bfree   uint64
	Bavail  uint64
	Files   uint64
	Ffree   uint64
	NameMax int64
	Flags   int64
	Fsid    [2]int32
}
