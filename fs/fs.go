// Package fs reads encrypted volumes without mounting them: Open gives an
// io/fs.FS of a volume's plaintext, for backup and analysis tools.
//
//	vol, err := fs.Open(ctx, "/data/enc", fs.Options{Openers: keymgr.Openers{"https": akv.Open}})
//	if err != nil { … }
//	defer vol.Close()
//	data, err := fs.ReadFile(vol, "storage.bson") // of io/fs
//
// Nothing is ever written: a volume whose daemon was killed is recovered in
// memory, and the backing directory may be on read-only media. A volume that
// is mounted answers volume.ErrInUse: os.OpenRoot of its mount point gives an
// FS of the same shape, and a snapshot of it one that stands still.
//
// FS has ReadDir, Stat, ReadFile, Lstat and ReadLink, and its files are
// io.ReaderAt and io.Seeker. All methods of FS and File may be called
// concurrently.
//
// The engine below is in the packages of this directory: volume, blockfile,
// journal, store and so on.
package fs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// Options say how a volume is opened. Openers is needed.
type Options struct {
	Openers  keymgr.Openers         // the key providers, by scheme
	Provider keymgr.ProviderOptions // for each of them
	Logger   *slog.Logger           // nil: nothing is logged

	// NamesOnly is for who asks for nothing but names and types, which are the
	// same whatever the journal holds: it is not read, which for one of 128 MiB
	// takes as long as some ten thousand names. Sizes and times may be older
	// ones, and files are not opened (errors.ErrUnsupported).
	NamesOnly bool

	// Brief is for a process that soon ends: names take less time, and keys of
	// names, and names, are in its memory until then, Close or not.
	Brief bool
}

// FS is the plaintext tree of a volume.
type FS struct {
	vol       *volume.Volume
	keys      *keymgr.MasterKeys
	store     *store.Disk
	namesOnly bool
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// Open opens the volume in a backing directory, with the first of its keys
// that can be had. Errors are those of volume.ReadInfo and volume.Open
// (volume.ErrInUse if it is mounted), of keymgr.LoadKeyring and
// keymgr.OpenKeyring, or the store's.
func Open(ctx context.Context, backing string, opts Options) (_ *FS, err error) {
	f := &FS{namesOnly: opts.NamesOnly}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.store, err = store.OpenDisk(backing); err != nil {
		return nil, err
	}
	info, err := volume.ReadInfo(f.store)
	if err != nil {
		return nil, err
	}
	f.keys, err = keymgr.OpenKeyring(ctx, volume.Metadata(f.store), info.ID, func(keyID string) (keymgr.Provider, error) {
		return opts.Openers.Open(keyID, opts.Provider)
	})
	if err != nil {
		return nil, err
	}
	f.vol, err = volume.Open(f.store, f.keys, volume.Options{ReadOnly: true, NoJournal: opts.NamesOnly, Brief: opts.Brief, Logger: opts.Logger})
	return f, err
}

// Close closes the volume and drops its keys. Files still open answer errors.
func (f *FS) Close() error {
	var errs []error
	if f.vol != nil {
		errs = append(errs, f.vol.Close())
	}
	if f.keys != nil {
		f.keys.Destroy()
	}
	if f.store != nil {
		errs = append(errs, f.store.Close())
	}
	return errors.Join(errs...)
}

// Info describes the volume.
func (f *FS) Info() volume.Info { return f.vol.Info() }

// Keys are the volume's keys, until Close: what is derived from them proves a
// snapshot's manifest.
func (f *FS) Keys() volume.Keys { return f.keys }

// Scrub proves all that there is; see volume.Scrub.
func (f *FS) Scrub(ctx context.Context, opts volume.ScrubOptions) (volume.ScrubProgress, error) {
	return f.vol.Scrub(ctx, opts)
}

// Open opens a file or a directory. Symbolic links are followed as long as
// they stay within the volume.
func (f *FS) Open(name string) (fs.File, error) {
	real, attr, err := f.resolve("open", name)
	if err != nil {
		return nil, err
	}
	info := newInfo(name, attr)
	switch attr.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return &dir{fs: f, name: name, real: real, info: info}, nil
	case unix.S_IFREG:
		if f.namesOnly {
			return nil, pathError("open", name, errors.ErrUnsupported)
		}
		h, err := f.vol.OpenFile(real, unix.O_RDONLY, 0, volume.Owner{})
		if err != nil {
			return nil, pathError("open", name, err)
		}
		return &File{name: name, handle: h, size: attr.Size, info: info}, nil
	}
	return nil, pathError("open", name, syscall.ENXIO) // nobody is at the other end
}

// Stat describes what Open would open.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	_, attr, err := f.resolve("stat", name)
	if err != nil {
		return nil, err
	}
	return newInfo(name, attr), nil
}

// Lstat describes an object itself, not what a link points to.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	attr, err := f.lstat("lstat", name)
	if err != nil {
		return nil, err
	}
	return newInfo(name, attr), nil
}

func (f *FS) lstat(op, name string) (attr store.Attr, err error) {
	err = f.itself(op, name, func(real string) error {
		attr, err = f.vol.Stat(real)
		return err
	})
	return attr, err
}

// itself calls do with an object's path without links, except that the object
// itself may be one.
func (f *FS) itself(op, name string, do func(real string) error) error {
	dir, _, err := f.resolve(op, path.Dir(name))
	if !valid(name) {
		err = fs.ErrInvalid
	}
	if err == nil {
		err = do(path.Join(dir, path.Base(name)))
	}
	if err != nil {
		return pathError(op, name, err)
	}
	return nil
}

// ReadLink is a symbolic link's target.
func (f *FS) ReadLink(name string) (target string, err error) {
	err = f.itself("readlink", name, func(real string) error {
		target, err = f.vol.Readlink(real)
		return err
	})
	return target, err
}

// ReadDir lists a directory by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	real, attr, err := f.resolve("readdir", name)
	if err != nil {
		return nil, err
	}
	if attr.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, pathError("readdir", name, syscall.ENOTDIR)
	}
	return f.list(real)
}

// list lists the directory of a path without links.
func (f *FS) list(real string) ([]fs.DirEntry, error) {
	entries, err := f.vol.ReadDir(real)
	if err != nil {
		return nil, pathError("readdir", real, err)
	}
	list := make([]fs.DirEntry, len(entries))
	made := make([]entry, len(entries))
	for i, e := range entries {
		made[i] = entry{fs: f, dir: real, name: e.Name, kind: fileMode(e.Type).Type()}
		list[i] = &made[i]
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// ReadFile reads a whole file.
func (f *FS) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	regular, ok := file.(*File)
	if !ok {
		return nil, pathError("read", name, syscall.EISDIR)
	}
	data := make([]byte, regular.size)
	n, err := regular.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

// Xattrs are an object's extended attributes.
func (f *FS) Xattrs(name string) (map[string][]byte, error) {
	values := map[string][]byte{}
	err := f.itself("getxattr", name, func(real string) error {
		names, err := f.vol.Listxattr(real)
		for _, attr := range names {
			if err == nil {
				values[attr], err = f.vol.Getxattr(real, attr)
			}
		}
		return err
	})
	return values, err
}

// mostLinks is how many symbolic links a path may lead through, as in Linux.
const mostLinks = 40

// resolve follows symbolic links, and gives the path without them.
func (f *FS) resolve(op, name string) (string, store.Attr, error) {
	if !valid(name) {
		return "", store.Attr{}, pathError(op, name, fs.ErrInvalid)
	}
	real, attr, err := f.walk(name)
	if err != nil {
		return "", attr, pathError(op, name, err)
	}
	return real, attr, nil
}

// walk goes through a path component by component.
func (f *FS) walk(name string) (real string, attr store.Attr, err error) {
	real, rest, links := ".", name, 0
	if attr, err = f.vol.Stat("."); err != nil {
		return "", attr, err
	}
	for rest != "" && rest != "." {
		var next string
		next, rest, _ = strings.Cut(rest, "/")
		at := path.Join(real, next)
		if attr, err = f.vol.Stat(at); err != nil {
			return "", attr, err
		}
		if attr.Mode&unix.S_IFMT != unix.S_IFLNK {
			real = at
			continue
		}
		target, err := f.vol.Readlink(at)
		if err != nil {
			return "", attr, err
		}
		if links++; links > mostLinks {
			return "", attr, syscall.ELOOP
		}
		// Starts again with the link replaced; a target outside the volume
		// leads nowhere here.
		full := path.Join(real, target, rest)
		if path.IsAbs(target) || full == ".." || strings.HasPrefix(full, "../") {
			return "", attr, syscall.ENOENT
		}
		real, rest = ".", full
		if attr, err = f.vol.Stat("."); err != nil {
			return "", attr, err
		}
	}
	return real, attr, nil
}

// valid is fs.ValidPath for names of any bytes, as Linux has them.
func valid(name string) bool {
	if name == "." {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return false
		}
	}
	return true
}

func pathError(op, name string, err error) error {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
