package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/store"
)

// RewrapOptions say how file keys are to be wrapped anew.
type RewrapOptions struct {
	// Master is the ID of the active master key. It must have been the one
	// that Keys wraps with since before Rewrap is called.
	Master [16]byte
	// Pace is called after each file that was written; it may wait. Its error
	// ends the walk. nil: never.
	Pace func(context.Context) error
	// Progress is called now and then, and at the end. nil: never.
	Progress func(RewrapProgress)
}

// RewrapProgress tells how far a walk has come.
type RewrapProgress struct {
	Files     uint64 `json:"files"`         // looked at
	Rewrapped uint64 `json:"rewrapped"`     // file keys wrapped anew
	Bytes     uint64 `json:"bytes_written"` // to do so; none of them is data
}

// RewrapError says that the keys of some files could not be wrapped anew. All
// others were, unless there are maxRewrapFailures.
type RewrapError struct{ Failed []error }

func (e *RewrapError) Error() string {
	if len(e.Failed) == 1 {
		return fmt.Sprintf("a file's key could not be re-wrapped: %v", e.Failed[0])
	}
	return fmt.Sprintf("the keys of %d files could not be re-wrapped, the first: %v", len(e.Failed), e.Failed[0])
}

// Unwrap gives the failures.
func (e *RewrapError) Unwrap() []error { return e.Failed }

const (
	// maxRewrapFailures ends a walk: so many have a cause in common.
	maxRewrapFailures = 16
	// rewrapBatch is how many re-wrapped files are synced together, and
	// rewrapSyncs how many of them at a time, whose flushes the disk joins.
	rewrapBatch = 512
	rewrapSyncs = 64
	// rewrapReport is after how many files progress is told.
	rewrapReport = 256
)

// Rewrap walks the whole volume and wraps every file key that is not under the
// master key in opts under that one. It must have returned before Close. When it
// returns nil, no file has its key under another one, and that is durable: not
// one that is open and has no name, nor one that was made, linked or renamed
// meanwhile.
//
// A walk that was cut short is begun again: a file that is done costs one read
// of its header. One walk runs at a time; another one waits. Errors are ctx's,
// Pace's, ErrLocked when the volume is locked meanwhile, a *RewrapError or the
// store's.
func (v *Volume) Rewrap(ctx context.Context, opts RewrapOptions) (RewrapProgress, error) {
	if v.opts.ReadOnly {
		return RewrapProgress{}, syscall.EROFS
	}
	v.rewrapping.Lock()
	defer v.rewrapping.Unlock()
	w := &rewrap{v: v, opts: opts, ctx: ctx}
	v.followMoves(true)
	defer v.followMoves(false)
	err := w.everything()
	w.fail(w.settle())
	w.report()
	if err == nil && len(w.failed) > 0 {
		err = &RewrapError{w.failed}
	}
	return w.done, err
}

// rewrap is one walk.
type rewrap struct {
	v      *Volume
	opts   RewrapOptions
	ctx    context.Context
	done   RewrapProgress
	batch  []rewrapped
	failed []error
}

// rewrapped is a file whose new header may not be durable.
type rewrapped struct {
	sync  func() error
	close func()
}

// everything visits open files first: from then on whatever gets a header gets
// it under the active key, and who had one has it at home. Then the tree; then
// what names were given to meanwhile, since the walk may have been where they
// are now before they were there; and open files again, for those that lost
// their name before the walk came to them.
func (w *rewrap) everything() error {
	if err := w.openFiles(); err != nil {
		return err
	}
	for moved := []string{"."}; len(moved) > 0; moved = w.v.takeMoves() {
		for _, name := range moved {
			if err := w.visit(name); err != nil {
				return err
			}
		}
	}
	return w.openFiles()
}

// visit looks at an object, a directory with all below it.
func (w *rewrap) visit(name string) error {
	attr, err := w.v.st.Stat(name)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.object(name, attr.Mode)
}

func (w *rewrap) object(name string, mode uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.directory(name)
	case unix.S_IFREG:
		return w.file(name)
	}
	return nil
}

// directory visits what is in a backing directory.
func (w *rewrap) directory(name string) error {
	w.v.tree.RLock() // no entry is renamed while the directory is read
	entries, err := w.v.st.ReadDir(name)
	w.v.tree.RUnlock()
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name == "." && e.Name == MetaDir {
			continue
		}
		if err := w.object(path.Join(name, e.Name), e.Type); err != nil {
			return err
		}
	}
	return nil
}

// file sees to one backing file. It is looked at without a lock, and only what
// is to be changed is changed under one.
func (w *rewrap) file(name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.v.names.holdsName(name) {
		return nil
	}
	w.count()
	back, err := openQuietly(w.v.st, name, os.O_RDWR)
	if err != nil {
		if attr, now := w.v.st.Stat(name); isGone(now) || now == nil && attr.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil // it has another name meanwhile
		}
		return w.fail(err)
	}
	h, err := blockfile.ReadHeader(back, name)
	if err != nil || h == nil {
		back.Close()
		return w.fail(err)
	}
	if slot, _ := h.Current(); slot.MasterKey == w.opts.Master {
		return w.fail(back.Close())
	}
	return w.change(back, name)
}

// change re-wraps the file in back: if it is open, by way of its File, which
// knows who writes it; if not, with names locked, so that nobody opens it or
// sets its times meanwhile.
func (w *rewrap) change(back store.File, name string) error {
	if err := w.v.gate.change(); err != nil {
		back.Close()
		return err
	}
	defer w.v.gate.changed()
	w.v.tree.Lock()
	attr, err := back.Stat()
	if err != nil {
		w.v.tree.Unlock()
		back.Close()
		return w.fail(err)
	}
	if e := w.v.table.hold(attr.Ino); e != nil {
		w.v.tree.Unlock()
		back.Close()
		return w.held(e)
	}
	n, err := blockfile.RewrapHome(w.v.env.Keys, back, name, w.opts.Master)
	w.v.tree.Unlock()
	return w.wrote(n, err, rewrapped{back.Datasync, func() { back.Close() }})
}

// openFiles sees to every file in the table.
func (w *rewrap) openFiles() error {
	for _, e := range w.v.table.all() {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if e := w.v.table.hold(e.ino); e != nil {
			if err := w.open(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// open re-wraps a file of the table, of which it has a reference.
func (w *rewrap) open(e *entry) error {
	if err := w.v.gate.change(); err != nil {
		w.v.table.drop(e)
		return err
	}
	defer w.v.gate.changed()
	return w.held(e)
}

// held is open with the gate passed already.
func (w *rewrap) held(e *entry) error {
	n, err := e.file.Rewrap(w.opts.Master)
	return w.wrote(n, err, rewrapped{e.file.SyncHome, func() { w.v.table.drop(e) }})
}

// wrote takes account of a file, and has the batch synced if it is full.
func (w *rewrap) wrote(n int, err error, r rewrapped) error {
	if n == 0 {
		r.close()
		return w.fail(err)
	}
	w.done.Rewrapped++
	w.done.Bytes += uint64(n)
	w.batch = append(w.batch, r)
	if err := w.fail(err); err != nil {
		return err
	}
	if len(w.batch) == rewrapBatch {
		if err := w.fail(w.settle()); err != nil {
			return err
		}
	}
	if w.opts.Pace == nil {
		return nil
	}
	return w.opts.Pace(w.ctx)
}

// settle makes the batch durable: each file by itself, which finds out about
// each one whether it is.
func (w *rewrap) settle() error {
	errs := make([]error, len(w.batch))
	turns := make(chan struct{}, rewrapSyncs)
	for i, r := range w.batch {
		turns <- struct{}{}
		go func() {
			errs[i] = r.sync()
			<-turns
		}()
	}
	for range rewrapSyncs {
		turns <- struct{}{}
	}
	for _, r := range w.batch {
		r.close()
	}
	w.batch = w.batch[:0]
	return errors.Join(errs...)
}

// fail notes a file's failure. It answers an error once the walk is not worth
// going on with.
func (w *rewrap) fail(err error) error {
	if err == nil {
		return nil
	}
	w.failed = append(w.failed, err)
	if len(w.failed) < maxRewrapFailures {
		return nil
	}
	return &RewrapError{w.failed}
}

func (w *rewrap) count() {
	if w.done.Files++; w.done.Files%rewrapReport == 0 {
		w.report()
	}
}

func (w *rewrap) report() {
	if w.opts.Progress != nil {
		w.opts.Progress(w.done)
	}
}

// isGone reports whether nothing is found under a name any more: what was
// there was removed, or renamed, which takeMoves tells of.
func isGone(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR)
}

// openQuietly opens a backing file without changing the time of its last
// access, where that is permitted.
func openQuietly(st store.FS, name string, access int) (store.File, error) {
	back, err := st.OpenFile(name, access|unix.O_NOATIME, 0)
	if errors.Is(err, syscall.EPERM) {
		back, err = st.OpenFile(name, access, 0)
	}
	return back, err
}
