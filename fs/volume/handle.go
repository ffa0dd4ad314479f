package volume

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// Handle is an open regular file. It can always be read, also when it was
// opened for writing only, since the kernel's write-back cache does that. All
// methods are safe for concurrent use.
type Handle struct {
	v      *Volume
	e      *entry
	write  bool
	closed atomic.Bool
	// meta: attributes changed that no fsync covered.
	meta atomic.Bool
}

// OpenFile opens a regular file. flags are open(2)'s: O_RDONLY, O_WRONLY,
// O_RDWR, O_CREAT, O_EXCL, O_TRUNC; others are ignored. mode and owner are
// those of a file that it creates.
func (v *Volume) OpenFile(name string, flags int, mode uint32, owner Owner) (*Handle, error) {
	writes := flags&syscall.O_ACCMODE != os.O_RDONLY || flags&(os.O_CREATE|os.O_TRUNC) != 0
	if v.opts.ReadOnly && writes {
		return nil, syscall.EROFS
	}
	h, err := v.enterAndOpen(name, flags, mode, owner)
	if err != nil {
		return nil, err
	}
	if flags&os.O_TRUNC != 0 {
		if err := h.Truncate(0); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

func (v *Volume) enterAndOpen(name string, flags int, mode uint32, owner Owner) (*Handle, error) {
	enter, leave := v.gate.look, v.gate.looked
	if flags&(os.O_CREATE|os.O_TRUNC) != 0 {
		enter, leave = v.gate.change, v.gate.changed
	}
	if err := enter(); err != nil {
		return nil, err
	}
	defer leave()
	v.tree.RLock()
	defer v.tree.RUnlock()
	return v.open(name, flags, mode, owner)
}

// open opens or creates. Called with tree held shared, so that the path is
// still the file's when it is in the table.
func (v *Volume) open(name string, flags int, mode uint32, owner Owner) (*Handle, error) {
	backing, err := v.names.backing(name)
	if err != nil {
		return nil, err
	}
	if err := v.spare(); err != nil {
		return nil, err
	}
	writes := flags&syscall.O_ACCMODE != os.O_RDONLY
	back, err := v.openBacking(name, backing, flags, mode, owner)
	readOnly := false
	if errors.Is(err, syscall.EROFS) && !writes && flags&(os.O_CREATE|os.O_TRUNC) == 0 {
		readOnly = true
		back, err = openQuietly(v.st, backing, os.O_RDONLY)
	}
	if err != nil {
		return nil, err
	}
	e, err := v.acquire(back, backing, readOnly)
	if err != nil {
		return nil, err
	}
	if e.readOnly && writes {
		v.table.drop(e)
		return nil, syscall.EROFS
	}
	return &Handle{v: v, e: e, write: writes}, nil
}

func (v *Volume) openBacking(name, backing string, flags int, mode uint32, owner Owner) (back store.File, err error) {
	access := os.O_RDWR
	if v.opts.ReadOnly {
		access = os.O_RDONLY
	}
	if flags&os.O_EXCL == 0 || flags&os.O_CREATE == 0 {
		back, err = openQuietly(v.st, backing, access)
		if flags&os.O_CREATE == 0 || !errors.Is(err, syscall.ENOENT) {
			return back, err
		}
	}
	err = v.create(name, mode, owner, func(b string) error {
		back, err = v.st.OpenFile(b, access|os.O_CREATE|os.O_EXCL|unix.O_NOATIME, mode&0o7777)
		return err
	})
	if errors.Is(err, syscall.EEXIST) && flags&os.O_EXCL == 0 { // another one was quicker
		return openQuietly(v.st, backing, access)
	}
	if err != nil && back != nil { // made, and not given to its owner
		back.Close()
	}
	return back, err
}

// acquire takes an open backing file into the table. backing is empty while it
// has no name. Called with tree held.
func (v *Volume) acquire(back store.File, backing string, readOnly bool) (*entry, error) {
	return v.table.acquire(back, backing, func() (*entry, error) {
		f, err := blockfile.Open(v.env, back, backing)
		if err != nil {
			return nil, err
		}
		if !readOnly && backing != "" && v.changes.unsaved() {
			f.MarkFresh()
		}
		return &entry{file: f, readOnly: readOnly}, nil
	})
}

// ReadAt is io.ReaderAt's.
func (h *Handle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.v.gate.look(); err != nil {
		return 0, err
	}
	defer h.v.gate.looked()
	return h.e.file.ReadAt(p, off)
}

// refusal is why nothing can be written through a handle.
func (h *Handle) refusal() error {
	if h.e.readOnly {
		return syscall.EROFS
	}
	return syscall.EBADF
}

// WriteAt writes all of p or fails. It is durable after Sync.
func (h *Handle) WriteAt(p []byte, off int64) (int, error) {
	if err := h.v.gate.change(); err != nil {
		return 0, err
	}
	defer h.v.gate.changed()
	if !h.write {
		return 0, h.refusal()
	}
	return h.e.file.WriteAt(p, off)
}

// WriteBack is WriteAt, but leaves the time of modification alone: what is
// written comes from a cache that tells it by itself.
func (h *Handle) WriteBack(p []byte, off int64) (int, error) {
	if !h.write {
		return 0, h.refusal()
	}
	if err := h.v.gate.change(); err != nil {
		return 0, err
	}
	defer h.v.gate.changed()
	return h.e.file.WriteBack(p, off)
}

// Truncate sets the plaintext size.
func (h *Handle) Truncate(size int64) error {
	if err := h.v.gate.change(); err != nil {
		return err
	}
	defer h.v.gate.changed()
	return h.e.file.Truncate(size)
}

// Stat describes the file; Size is the plaintext's.
func (h *Handle) Stat() (store.Attr, error) {
	if err := h.v.gate.look(); err != nil {
		return store.Attr{}, err
	}
	defer h.v.gate.looked()
	return h.e.file.Stat()
}

// Sync makes everything written durable, and with dataOnly false attributes too.
func (h *Handle) Sync(dataOnly bool) error {
	if err := h.v.gate.change(); err != nil {
		return err
	}
	defer h.v.gate.changed()
	t, err := h.beginSync(dataOnly)
	if err != nil || t == 0 {
		return err
	}
	return h.v.env.Journal.Wait(t)
}

// SyncThen is Sync for a caller that need not wait: done is called once, with
// what Sync would have returned, before SyncThen returns or after. It must be
// short, and may not use the volume.
func (h *Handle) SyncThen(dataOnly bool, done func(error)) {
	t, err := h.enterAndBeginSync(dataOnly)
	if err != nil || t == 0 {
		done(err)
		return
	}
	// Whoever holds the gate commits by itself: nothing need be kept out.
	h.v.env.Journal.Then(t, done)
}

func (h *Handle) enterAndBeginSync(dataOnly bool) (journal.Ticket, error) {
	if err := h.v.gate.change(); err != nil {
		return 0, err
	}
	defer h.v.gate.changed()
	return h.beginSync(dataOnly)
}

// beginSync is Sync up to where it waits for the journal.
func (h *Handle) beginSync(dataOnly bool) (journal.Ticket, error) {
	if h.v.opts.ReadOnly {
		return 0, nil
	}
	if !dataOnly && h.meta.Swap(false) {
		if err := h.e.file.SyncAttributes(); err != nil {
			h.meta.Store(true)
			return 0, err
		}
	}
	return h.e.file.BeginSync(!dataOnly)
}

// Allocate is fallocate with its mode bits.
func (h *Handle) Allocate(mode uint32, off, n int64) error {
	if err := h.v.gate.change(); err != nil {
		return err
	}
	defer h.v.gate.changed()
	if !h.write {
		return h.refusal()
	}
	return h.e.file.Allocate(mode, off, n)
}

// Seek finds data or a hole: whence is unix.SEEK_DATA or unix.SEEK_HOLE.
func (h *Handle) Seek(off int64, whence int) (int64, error) {
	if err := h.v.gate.change(); err != nil {
		return 0, err
	}
	defer h.v.gate.changed()
	return h.e.file.Seek(off, whence)
}

// Chmod sets the permission bits.
func (h *Handle) Chmod(mode uint32) error {
	if err := h.v.gate.change(); err != nil {
		return err
	}
	defer h.v.gate.changed()
	h.meta.Store(true)
	return h.e.file.Backing().Chmod(mode)
}

// Chown sets the owner; -1 leaves an ID as it is.
func (h *Handle) Chown(uid, gid int) error {
	if err := h.v.gate.change(); err != nil {
		return err
	}
	defer h.v.gate.changed()
	h.meta.Store(true)
	return h.e.file.Backing().Chown(uid, gid)
}

// Chtimes sets times; nil leaves one as it is.
func (h *Handle) Chtimes(atime, mtime *time.Time) error {
	if err := h.v.gate.change(); err != nil {
		return err
	}
	defer h.v.gate.changed()
	if h.e.readOnly {
		return syscall.EROFS
	}
	if atime != nil {
		h.meta.Store(true)
	}
	return h.e.file.Chtimes(atime, mtime)
}

// LinkTo gives the file one more name.
func (h *Handle) LinkTo(newName string) error {
	if err := h.v.gate.change(); err != nil {
		return err
	}
	defer h.v.gate.changed()
	h.v.tree.Lock()
	defer h.v.tree.Unlock()
	to, err := h.v.changing(newName)
	if err != nil {
		return err
	}
	if err := h.v.names.prepare(newName, to); err != nil {
		return err
	}
	if err := h.v.changes.do(func() error { return h.e.file.Backing().LinkTo(to) }); err != nil {
		h.v.names.release(to)
		return err
	}
	h.v.named(to)
	h.v.table.revived(h.e, to)
	return nil
}

// Close gives the handle back, also while the volume is locked. What was
// written and not synced is committed in the background.
func (h *Handle) Close() error {
	if h.closed.Swap(true) {
		return syscall.EBADF
	}
	open := h.v.gate.giveBack()
	defer h.v.gate.changed()
	var err error
	if open && h.write && h.v.table.sole(h.e) {
		err = h.e.file.Trim()
	}
	h.v.table.drop(h.e)
	return err
}

// OpenTemp makes an open file without a name in a directory. LinkTo gives it one.
func (v *Volume) OpenTemp(dir string, mode uint32, owner Owner) (*Handle, error) {
	if err := v.gate.change(); err != nil {
		return nil, err
	}
	defer v.gate.changed()
	v.tree.RLock()
	defer v.tree.RUnlock()
	backing, err := v.changing(dir)
	if err != nil {
		return nil, err
	}
	if err := v.spare(); err != nil {
		return nil, err
	}
	back, err := v.st.OpenFile(backing, os.O_RDWR|unix.O_TMPFILE|unix.O_NOATIME, mode&0o7777)
	if err != nil {
		return nil, err
	}
	if err := v.ownTemp(back, backing, mode, owner); err != nil {
		back.Close()
		return nil, err
	}
	e, err := v.acquire(back, "", false)
	if err != nil {
		return nil, err
	}
	v.table.nameless(e)
	return &Handle{v: v, e: e, write: true}, nil
}

// ownTemp is own for a file without a name.
func (v *Volume) ownTemp(back store.File, dir string, mode uint32, owner Owner) error {
	parent, err := v.statBacking(dir)
	if err != nil {
		return err
	}
	attr, err := back.Stat()
	if err != nil {
		return err
	}
	if err := back.Chown(int(owner.UID), v.heirGroup(dir, &parent, owner)); err != nil {
		return err
	}
	if mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return nil
	}
	return back.Chmod(attr.Mode & 0o7777) // what the change of owner has cleared
}
