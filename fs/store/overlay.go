package store

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Overlay is a store of which the contents of files can be changed, in memory,
// over another store that is only read: a volume that crashed is recovered in
// it without a byte being written. Names, owners and modes cannot be changed
// (EROFS). What was changed stays until the Overlay is dropped; syncs do
// nothing.
type Overlay struct {
	FS // the store below; the methods that would change it are replaced

	mu     sync.Mutex // guards layers
	layers map[objectID]*layer
}

// objectID names an object of the store below.
type objectID struct{ dev, ino uint64 }

// layer is what is different in one file.
type layer struct {
	mu    sync.RWMutex // guards everything below
	dirty bool         // anything is
	pages map[int64]*[overlayPage]byte
	size  int64
	below int64 // so many bytes from the start may come from below
	mtime time.Time
}

const overlayPage = 4096

var _ FS = (*Overlay)(nil)

// NewOverlay makes an Overlay over a store, which stays the caller's.
func NewOverlay(below FS) *Overlay { return &Overlay{FS: below, layers: map[objectID]*layer{}} }

// layer is the layer of a file with these attributes; made if there is none.
func (o *Overlay) layer(a *Attr) *layer {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := objectID{a.Dev, a.Ino}
	l := o.layers[key]
	if l == nil {
		l = &layer{pages: map[int64]*[overlayPage]byte{}, size: a.Size, below: a.Size}
		o.layers[key] = l
	}
	return l
}

// OpenFile opens a file that is there, for reading and, in memory, for writing.
func (o *Overlay) OpenFile(name string, flag int, perm uint32) (File, error) {
	if flag&(os.O_CREATE|os.O_TRUNC|unix.O_TMPFILE) != 0 {
		return nil, pathError("open", name, syscall.EROFS)
	}
	f, err := o.FS.OpenFile(name, os.O_RDONLY, perm)
	if err != nil {
		return nil, err
	}
	a, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &overlayFile{File: f, name: name, layer: o.layer(&a), writable: flag&syscall.O_ACCMODE != os.O_RDONLY}, nil
}

// Stat describes an object as it is with what was changed.
func (o *Overlay) Stat(name string) (Attr, error) {
	a, err := o.FS.Stat(name)
	if err == nil && a.Mode&unix.S_IFMT == unix.S_IFREG {
		o.mu.Lock()
		l := o.layers[objectID{a.Dev, a.Ino}]
		o.mu.Unlock()
		if l != nil {
			l.apply(&a)
		}
	}
	return a, err
}

func (l *layer) apply(a *Attr) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.dirty {
		a.Size = l.size
	}
	if !l.mtime.IsZero() {
		a.Mtime = l.mtime
	}
}

// What would change names or attributes is refused.

func (o *Overlay) Mkdir(name string, _ uint32) error { return refused("mkdir", name) }
func (o *Overlay) Mknod(name string, _ uint32, _ uint64) error {
	return refused("mknod", name)
}
func (o *Overlay) Symlink(_, name string) error               { return refused("symlink", name) }
func (o *Overlay) Link(_, name string) error                  { return refused("link", name) }
func (o *Overlay) Unlink(name string) error                   { return refused("unlink", name) }
func (o *Overlay) Rmdir(name string) error                    { return refused("rmdir", name) }
func (o *Overlay) Rename(_, name string, _ uint) error        { return refused("rename", name) }
func (o *Overlay) Chmod(name string, _ uint32) error          { return refused("chmod", name) }
func (o *Overlay) Chown(name string, _, _ int) error          { return refused("chown", name) }
func (o *Overlay) Chtimes(name string, _, _ *time.Time) error { return refused("chtimes", name) }
func (o *Overlay) Removexattr(name, _ string) error           { return refused("removexattr", name) }
func (o *Overlay) Setxattr(name, _ string, _ []byte, _ int) error {
	return refused("setxattr", name)
}
func (o *Overlay) SyncDir(string) error { return nil }

func refused(op, name string) error { return pathError(op, name, syscall.EROFS) }

// overlayFile is an open file of an Overlay.
type overlayFile struct {
	File     // of the store below, for reading
	name     string
	layer    *layer
	writable bool
}

// ReadAt reads what is in memory, and the rest from below.
func (f *overlayFile) ReadAt(p []byte, off int64) (int, error) {
	l := f.layer
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.dirty {
		return f.File.ReadAt(p, off)
	}
	if off >= l.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), l.size-off))
	if err := f.readBelow(p[:n], off); err != nil {
		return 0, err
	}
	for number := off / overlayPage; number*overlayPage < off+int64(n); number++ {
		if page := l.pages[number]; page != nil {
			at := number*overlayPage - off
			copy(p[max(at, 0):n], page[max(-at, 0):])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readBelow reads from below what comes from there; the rest is zeros. Called
// with the layer's mu held.
func (f *overlayFile) readBelow(p []byte, off int64) error {
	clear(p)
	n := min(int64(len(p)), f.layer.below-off)
	if n <= 0 {
		return nil
	}
	if _, err := f.File.ReadAt(p[:n], off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// change runs do with the layer locked.
func (f *overlayFile) change(op string, do func(l *layer) error) error {
	if !f.writable {
		return pathError(op, f.name, syscall.EBADF)
	}
	f.layer.mu.Lock()
	defer f.layer.mu.Unlock()
	f.layer.dirty = true
	return do(f.layer)
}

// WriteAt writes into memory.
func (f *overlayFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	done := 0
	err := f.change("write", func(l *layer) error {
		for done < len(p) {
			at := off + int64(done)
			page, err := f.page(at / overlayPage)
			if err != nil {
				return err
			}
			done += copy(page[at%overlayPage:], p[done:])
		}
		l.size = max(l.size, off+int64(len(p)))
		return nil
	})
	return done, err
}

// page is a page in memory for writing, fetched from below if need be.
func (f *overlayFile) page(number int64) (*[overlayPage]byte, error) {
	if page := f.layer.pages[number]; page != nil && page != zeroPage {
		return page, nil
	}
	page := new([overlayPage]byte)
	if old := f.layer.pages[number]; old == nil { // else zeros
		if err := f.readBelow(page[:], number*overlayPage); err != nil {
			return nil, err
		}
	}
	f.layer.pages[number] = page
	return page, nil
}

// zeroPage stands for every page that was punched, and is never written to.
var zeroPage = new([overlayPage]byte)

// Truncate sets the size.
func (f *overlayFile) Truncate(size int64) error {
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	return f.change("truncate", func(l *layer) error {
		l.size, l.below = size, min(l.below, size)
		for number, page := range l.pages {
			if at := number * overlayPage; at >= size {
				delete(l.pages, number)
			} else if size-at < overlayPage && page != zeroPage {
				clear(page[size-at:])
			}
		}
		return nil
	})
}

// Allocate punches holes; room there always is.
func (f *overlayFile) Allocate(mode uint32, off, length int64) error {
	const keep = unix.FALLOC_FL_KEEP_SIZE
	if off < 0 || length <= 0 {
		return pathError("allocate", f.name, syscall.EINVAL)
	}
	switch mode {
	case keep:
		return nil
	case keep | unix.FALLOC_FL_PUNCH_HOLE:
		return f.change("allocate", func(l *layer) error { return f.punch(off, min(length, max(l.size-off, 0))) })
	}
	return pathError("allocate", f.name, syscall.EOPNOTSUPP)
}

func (f *overlayFile) punch(off, length int64) error {
	for end := off + length; off < end; {
		skip := off % overlayPage
		n := min(end-off, overlayPage-skip)
		if n == overlayPage {
			f.layer.pages[off/overlayPage] = zeroPage
		} else if page, err := f.page(off / overlayPage); err != nil {
			return err
		} else {
			clear(page[skip : skip+n])
		}
		off += n
	}
	return nil
}

// Stat describes the file as it is with what was changed.
func (f *overlayFile) Stat() (Attr, error) {
	a, err := f.File.Stat()
	if err == nil {
		f.layer.apply(&a)
	}
	return a, err
}

// Seek takes a file that was changed for data from end to end.
func (f *overlayFile) Seek(off int64, whence int) (int64, error) {
	l := f.layer
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case !l.dirty:
		return f.File.Seek(off, whence)
	case off < 0 || off >= l.size:
		return 0, pathError("seek", f.name, syscall.ENXIO)
	case whence == unix.SEEK_DATA:
		return f.nextData(off)
	case whence == unix.SEEK_HOLE:
		return l.size, nil
	}
	return 0, pathError("seek", f.name, syscall.EINVAL)
}

// nextData is where data begins at or after off, in memory or below. Called
// with the layer's mu held, shared.
func (f *overlayFile) nextData(off int64) (int64, error) {
	l := f.layer
	next := l.size
	if off < l.below {
		pos, err := f.File.Seek(off, unix.SEEK_DATA)
		if err != nil && !errors.Is(err, syscall.ENXIO) {
			return 0, err
		}
		if err == nil && pos < l.below {
			next = min(next, pos)
		}
	}
	if next == off {
		return off, nil
	}
	for page := range l.pages {
		if start := page * overlayPage; start+overlayPage > off {
			next = min(next, max(start, off))
		}
	}
	if next >= l.size {
		return 0, pathError("seek", f.name, syscall.ENXIO)
	}
	return next, nil
}

// Chtimes sets the time of modification in memory.
func (f *overlayFile) Chtimes(_, mtime *time.Time) error {
	if mtime == nil {
		return nil
	}
	f.layer.mu.Lock()
	defer f.layer.mu.Unlock()
	f.layer.mtime = *mtime
	return nil
}

func (f *overlayFile) Sync() error          { return nil }
func (f *overlayFile) Datasync() error      { return nil }
func (f *overlayFile) Chmod(uint32) error   { return refused("chmod", f.name) }
func (f *overlayFile) Chown(_, _ int) error { return refused("chown", f.name) }
func (f *overlayFile) LinkTo(string) error  { return refused("link", f.name) }

// WillNeed hands the hint down.
func (f *overlayFile) WillNeed(off, length int64) {
	if a, ok := f.File.(Advisor); ok {
		a.WillNeed(off, length)
	}
}
