package fs

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// File is an open regular file.
type File struct {
	name   string
	handle *volume.Handle
	size   int64
	info   fs.FileInfo

	mu  sync.Mutex // guards pos
	pos int64
}

var (
	_ fs.File     = (*File)(nil)
	_ io.ReaderAt = (*File)(nil)
	_ io.Seeker   = (*File)(nil)
	_ io.WriterTo = (*File)(nil)
)

// Stat describes the file as it was when it was opened.
func (f *File) Stat() (fs.FileInfo, error) { return f.info, nil }

// Read reads from the file's position on.
func (f *File) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt reads at an offset. What was tampered with is a *volume.IntegrityError.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	n, err := f.handle.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, pathError("read", f.name, err)
	}
	return n, err
}

// Seek sets the position for Read.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.size
	default:
		return 0, pathError("seek", f.name, syscall.EINVAL)
	}
	if offset < 0 {
		return 0, pathError("seek", f.name, syscall.EINVAL)
	}
	f.pos = offset
	return offset, nil
}

// copyBytes is how much WriteTo has in memory: some whole reads of the engine.
const copyBytes = 1 << 20

// WriteTo writes the rest of the file, in pieces that the engine reads at its best.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, onlyReader{f}, make([]byte, copyBytes))
}

type onlyReader struct{ io.Reader }

// Close closes the file.
func (f *File) Close() error { return pathErrorOrNil("close", f.name, f.handle.Close()) }

func pathErrorOrNil(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return pathError(op, name, err)
}

// dir is an open directory.
type dir struct {
	fs         *FS
	name, real string
	info       fs.FileInfo

	mu   sync.Mutex // guards the rest
	read bool
	left []fs.DirEntry
}

func (d *dir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *dir) Read([]byte) (int, error)   { return 0, pathError("read", d.name, syscall.EISDIR) }
func (d *dir) Close() error               { return nil }

// ReadDir lists what is left of the directory, or n entries of it.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.read {
		all, err := d.fs.list(d.real)
		if err != nil {
			return nil, err
		}
		d.left, d.read = all, true
	}
	if n <= 0 {
		n = len(d.left)
	} else if len(d.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.left))
	list := d.left[:n:n]
	d.left = d.left[n:]
	return list, nil
}

// entry is one entry of a directory.
type entry struct {
	fs        *FS
	dir, name string
	kind      fs.FileMode
}

func (e *entry) Name() string               { return e.name }
func (e *entry) IsDir() bool                { return e.kind.IsDir() }
func (e *entry) Type() fs.FileMode          { return e.kind }
func (e *entry) String() string             { return fs.FormatDirEntry(e) }
func (e *entry) Info() (fs.FileInfo, error) { return e.fs.Lstat(path.Join(e.dir, e.name)) }

// info describes an object. Sys is a *syscall.Stat_t.
type info struct {
	name string
	mode fs.FileMode
	stat syscall.Stat_t
}

func newInfo(name string, a store.Attr) fs.FileInfo {
	i := &info{name: path.Base(name), mode: fileMode(a.Mode), stat: syscall.Stat_t{
		Dev: a.Dev, Ino: a.Ino, Mode: a.Mode, Uid: a.UID, Gid: a.GID, Rdev: a.Rdev, Size: a.Size, Blocks: a.Blocks,
		Atim: syscall.NsecToTimespec(a.Atime.UnixNano()), Mtim: syscall.NsecToTimespec(a.Mtime.UnixNano()),
		Ctim: syscall.NsecToTimespec(a.Ctime.UnixNano()),
	}}
	setCounts(&i.stat, a)
	return i
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.stat.Size }
func (i *info) Mode() fs.FileMode  { return i.mode }
func (i *info) ModTime() time.Time { return time.Unix(i.stat.Mtim.Unix()) }
func (i *info) IsDir() bool        { return i.mode.IsDir() }
func (i *info) Sys() any           { return &i.stat }
func (i *info) String() string     { return fs.FormatFileInfo(i) }

// fileMode turns struct stat's mode into Go's.
func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for _, b := range []struct {
		bit uint32
		is  fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if m&b.bit != 0 {
			mode |= b.is
		}
	}
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	}
	return mode
}
