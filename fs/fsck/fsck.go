package fsck

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// Options say how a volume is checked.
type Options struct {
	// Keys opens the volume's keys from what is stored in meta. nil: the check
	// does without, and proves nothing.
	Keys func(ctx context.Context, meta keymgr.Storage, id uuid.UUID) (*keymgr.MasterKeys, error)
	// Repair has what can be repaired repaired. It needs Keys.
	Repair bool
	// AcceptLoss has a repair give up what a damaged journal held and cannot be
	// brought home; it is listed.
	AcceptLoss bool
	// Cluster is what the volume's cluster is called, for a repair of volume.json
	// that has nothing else to go by; nil: nobody has said. Copies are other
	// copies of volume.json, such as snapshots have: each counts only as far as
	// the keys prove it.
	Cluster *string
	Copies  [][]byte
	// Salvage is told of each damaged file that is left, and copies out what
	// can be read of it. nil: nothing is copied.
	Salvage *Salvage
	// From is where a check that was interrupted goes on: Report.Next.
	From volume.Path
	Jobs int   // 0: as many as there are cores
	Rate int64 // bytes a second to read at most; 0: no bound
	// Found is told of each finding when it is made. nil: they are in the report.
	Found func(Finding)
	// Progress is called now and then. nil: never.
	Progress func(volume.ScrubProgress)
	Logger   *slog.Logger // nil: nothing is logged
}

func (o *Options) proves() bool { return o.Keys != nil }

// ErrRepairNeedsKeys is an Options.Repair without Keys.
var ErrRepairNeedsKeys = errors.New("a repair needs the keys: without them nothing is proven")

// Backing is what Run needs of a store.
type Backing interface {
	store.FS
	store.Locker
	store.Syncer
}

// claimed is a store whose volume's lock is held by this check, and lent to
// whatever opens the volume for it.
type claimed struct{ Backing }

// TryLock is store.Locker's.
func (claimed) TryLock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// check is one run.
type check struct {
	opts   Options
	st     claimed
	report *report
	info   volume.Info // as far as it could be read
	keys   *keymgr.MasterKeys
	// fromKept: the keys are those of the keyring's kept copy.
	fromKept   bool
	badJournal bool

	counting sync.Mutex // guards the report's Objects and Bytes during structure, and one call of Progress
}

func (c *check) count(objects uint64, bytes int) {
	c.counting.Lock()
	defer c.counting.Unlock()
	c.report.Objects += objects
	c.report.Bytes += uint64(bytes)
	if c.opts.Progress != nil {
		c.opts.Progress(volume.ScrubProgress{Objects: c.report.Objects, Bytes: c.report.Bytes})
	}
}

// Run checks the volume in st, which nobody may have open, and repairs it if
// that is asked for. Damage is in the report and no error. Errors are ctx's,
// with what was found so far; volume.ReadInfo's where there is no volume that
// this version knows; volume.ErrInUse; what opts.Keys answers where the keys
// cannot be had for another reason than damage; or the store's.
func Run(ctx context.Context, st Backing, opts Options) (*Report, error) {
	if opts.Repair && !opts.proves() {
		return nil, ErrRepairNeedsKeys
	}
	if _, err := st.Stat(volume.MetaDir); err != nil {
		_, err := volume.ReadInfo(st)
		return nil, err
	}
	c := &check{opts: opts, st: claimed{st}, report: newReport(opts.Found)}
	fine, err := c.description(nil)
	if err != nil {
		return nil, err
	}
	lock, err := volume.ClaimToRead(st)
	if err != nil {
		return nil, err
	}
	if lock != nil {
		defer lock.Close()
	}
	err = c.run(ctx, fine)
	if c.keys != nil {
		c.keys.Destroy()
	}
	if opts.Repair {
		c.report.leave()
	}
	slices.SortStableFunc(c.report.Findings, byPlace)
	return &c.report.Report, err
}

func byPlace(a, b Finding) int {
	switch {
	case a.Path < b.Path:
		return -1
	case a.Path > b.Path:
		return 1
	case a.Offset < b.Offset:
		return -1
	case a.Offset > b.Offset:
		return 1
	}
	return 0
}

func (c *check) run(ctx context.Context, described bool) (err error) {
	if err := c.leftovers(); err != nil {
		return err
	}
	if c.opts.proves() && (!described || c.suspect()) {
		if described, err = c.findDescription(ctx, described); err != nil {
			return err
		}
	}
	fine, err := c.keyringForm()
	if err != nil {
		return err
	}
	clean, err := c.journalShape()
	if err != nil {
		return err
	}
	if !c.opts.proves() {
		return c.structure(ctx, clean)
	}
	if !described {
		return c.structure(ctx, false) // there is nothing to open the keys for
	}
	if c.keys, err = c.openKeys(ctx, fine); err != nil {
		return err
	}
	if described, err = c.provenDescription(ctx); err != nil {
		return err
	}
	if err := c.structure(ctx, false); err != nil || c.keys == nil || !described {
		return err
	}
	if err := c.prove(ctx); err != nil || !c.opts.Repair && c.opts.Salvage == nil {
		return err
	}
	if c.opts.Repair {
		if err := c.repair(ctx); err != nil {
			return err
		}
	}
	if c.opts.Salvage == nil {
		return nil
	}
	return c.withVolume(func(v *volume.Volume) error { return c.opts.Salvage.run(ctx, v, c.report.Findings) })
}

// withVolume opens the volume for reading, as it is with its journal if that
// is well, and as it lies at home if not.
func (c *check) withVolume(do func(v *volume.Volume) error) (err error) {
	opts := volume.Options{ReadOnly: true, NoJournal: c.badJournal, Logger: c.opts.Logger}
	v, err := volume.Open(c.st, c.keys, opts)
	var corrupt *journal.CorruptError
	if errors.As(err, &corrupt) {
		c.journalDamaged(err)
		opts.NoJournal = true
		v, err = volume.Open(c.st, c.keys, opts)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return do(v)
}

// prove is the part of the check that needs keys.
func (c *check) prove(ctx context.Context) error {
	return c.withVolume(func(v *volume.Volume) error {
		c.report.Pending = v.Stats().Recovery.Records
		done, err := v.Scrub(ctx, c.scrubOptions(c.report.damage))
		c.report.Objects, c.report.Bytes, c.report.Next = done.Objects, done.Bytes, done.Next
		c.report.Proven = err == nil && !c.badJournal
		return err
	})
}

func (c *check) scrubOptions(found func(volume.Damage)) volume.ScrubOptions {
	return volume.ScrubOptions{
		From: c.opts.From, Jobs: c.opts.Jobs, Pace: NewPacer(c.opts.Rate).Pace, Found: found, Progress: c.opts.Progress,
	}
}

// Scrub checks a volume that is open, with its keys. The report is never nil,
// and tells how far it came. Errors are ctx's, volume.ErrLocked or the store's.
func Scrub(ctx context.Context, v *volume.Volume, st store.FS, keys *keymgr.MasterKeys, opts Options) (*Report, error) {
	c := &check{opts: opts, report: newReport(opts.Found), info: v.Info(), keys: keys}
	c.st.Backing = lookedAt{st}
	c.report.Volume = c.info.ID.String()
	ok, err := c.description(keys)
	if err == nil && ok {
		err = c.keptDescription()
	}
	if err != nil {
		return &c.report.Report, err
	}
	if err := errors.Join(c.servedKeyring(), c.liveStructure(ctx, v)); err != nil {
		return &c.report.Report, err
	}
	done, err := v.Scrub(ctx, c.scrubOptions(c.report.damage))
	c.report.Objects, c.report.Bytes, c.report.Next = done.Objects, done.Bytes, done.Next
	c.report.Proven = err == nil
	slices.SortStableFunc(c.report.Findings, byPlace)
	return &c.report.Report, err
}

// lookedAt is a store that somebody else has locked, and that is only read.
type lookedAt struct{ store.FS }

// TryLock is store.Locker's.
func (lookedAt) TryLock(string) (io.Closer, error) { return nil, store.ErrLocked }

// SyncAll is store.Syncer's.
func (lookedAt) SyncAll() error { return nil }

// servedKeyring checks the keyring of a volume that is served, and its copy.
func (c *check) servedKeyring() error {
	fine, err := c.keyringForm()
	if err != nil || !fine {
		return err
	}
	keyring, err := keymgr.LoadKeyring(volume.Metadata(c.st))
	if err != nil {
		return err
	}
	if known, err := c.keys.Prove(keyring); known && err != nil {
		if errors.Is(err, keymgr.ErrDestroyed) {
			return volume.ErrLocked
		}
		c.keyringDamaged(err)
	}
	return nil
}
