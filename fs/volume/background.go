package volume

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/store"
)

const (
	// tick is how often the background looks for work.
	tick = 250 * time.Millisecond
	// quietTime is after how long without a write a file is committed, whatever
	// the commit interval. sync(2) and syncfs(2) have the kernel write to us
	// what it has cached, and tell us nothing: they end a stream of writes, and
	// what they wrote is to be durable soon after.
	quietTime = 200 * time.Millisecond
	// checkpointInterval bounds how long a committed block stays away from home.
	checkpointInterval = 5 * time.Second
	// restInterval is the same while somebody copies the backing directory.
	restInterval = 30 * time.Second
	// fullEnough is the part of the journal that starts a checkpoint, and
	// restEnough that which does while somebody copies the backing directory.
	fullEnough = 0.5
	restEnough = 0.75
	// manyFiles is from how many files on one sync of the whole store is
	// cheaper than one for each.
	manyFiles = 8
	// syncInterval is how long the background leaves between two such syncs
	// for new files that nobody syncs.
	syncInterval = time.Second
)

// background commits and checkpoints what nobody asks for. It does not pass
// through the gate: whoever holds that may need room in the journal, or stops
// the background. Its channels are made anew with the gate held.
type background struct {
	kick chan struct{}
	stop chan struct{}
	done chan struct{}
	once sync.Once
	turn sync.Mutex // one checkpoint at a time
	// synced is when commitAll last synced the store, in Unix nanoseconds.
	synced atomic.Int64
	rests  atomic.Int64 // how many copy the backing directory

	failures atomic.Uint64 // commits and checkpoints that failed
}

func (v *Volume) startBackground() {
	v.back.kick = make(chan struct{}, 1)
	v.back.stop = make(chan struct{})
	v.back.done = make(chan struct{})
	v.back.once = sync.Once{}
	if v.journal == nil {
		close(v.back.done)
		return
	}
	go v.work()
}

// stopBackground ends the goroutine and waits for it.
func (v *Volume) stopBackground() {
	v.back.once.Do(func() { close(v.back.stop) })
	<-v.back.done
}

// wake asks for a checkpoint soon.
func (v *Volume) wake() {
	select {
	case v.back.kick <- struct{}{}:
	default:
	}
}

// limits tell when a checkpoint is due that nothing else asks for: after how long,
// or when how much of the journal is in use.
func (b *background) limits() (interval time.Duration, full float64) {
	if b.rests.Load() > 0 {
		return restInterval, restEnough
	}
	return checkpointInterval, fullEnough
}

func (v *Volume) work() {
	defer close(v.back.done)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last := time.Now()
	for {
		kicked := false
		select {
		case <-v.back.stop:
			return
		case <-v.back.kick:
			kicked = true
		case <-ticker.C:
		}
		full, err := v.commitDue(v.opts.CommitInterval)
		if err != nil {
			v.log.Error("commit failed", "error", err)
			v.back.failures.Add(1)
		}
		interval, enough := v.back.limits()
		if full || kicked || v.journal.Fill() > enough || time.Since(last) > interval {
			if err := v.runCheckpoint(); err != nil {
				v.log.Error("checkpoint failed", "error", err)
				v.back.failures.Add(1)
			}
			last = time.Now()
		}
	}
}

// commitDue commits every file whose oldest uncommitted write is that old, or
// which nobody has written to for a while. It never waits for room in the
// journal, which only its caller makes: full says that some was missing.
func (v *Volume) commitDue(age time.Duration) (full bool, err error) {
	due, err := v.due(age)
	errs := []error{err}
	for _, e := range due {
		done, err := e.file.TryCommit()
		full = full || !done && err == nil
		errs = append(errs, err)
	}
	return full, errors.Join(errs...)
}

// commitAll commits everything, files together in as few frames as take them,
// and waits for records that nobody has waited for. Somebody else makes room in
// the journal.
func (v *Volume) commitAll() error {
	if v.journal == nil {
		return nil
	}
	due, err := v.due(0)
	errs := []error{err}
	for _, e := range due {
		_, err := e.file.BeginCommit()
		errs = append(errs, err)
	}
	return errors.Join(append(errs, v.journal.Wait(v.journal.Last()))...)
}

// due lists what is to be committed now. Without a durable name and header a
// commit is of no use, so that these are made so.
func (v *Volume) due(age time.Duration) ([]*entry, error) {
	quiet := time.Now().Add(-quietTime)
	var due, fresh []*entry
	for _, e := range v.table.all() {
		commit, since, _, _ := e.file.Pending()
		switch {
		case !(commit && time.Since(since) >= age || e.file.Quiet(quiet)):
		case e.file.Fresh():
			fresh = append(fresh, e)
		default:
			due = append(due, e)
		}
	}
	if len(fresh) >= manyFiles && age > 0 && time.Since(time.Unix(0, v.back.synced.Load())) < syncInterval {
		fresh = nil // next time
	}
	return append(due, fresh...), v.syncNames(fresh)
}

// syncNames makes names and headers durable.
func (v *Volume) syncNames(fresh []*entry) error {
	if len(fresh) >= manyFiles {
		defer func() { v.back.synced.Store(time.Now().UnixNano()) }()
		return v.syncStore()
	}
	var errs []error
	for _, e := range fresh {
		errs = append(errs, e.file.SyncName())
	}
	return errors.Join(errs...)
}

// Sync makes everything written so far durable, names too.
func (v *Volume) Sync() error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	return v.sync()
}

func (v *Volume) sync() error {
	if v.journal == nil {
		return nil
	}
	return errors.Join(v.commitAll(), v.syncStore())
}

// syncStore makes the whole store durable and notes what that covers. Like
// that of a file, a failure is for ever.
func (v *Volume) syncStore() error {
	sure := v.changes.sure()
	entries := v.table.all()
	unpaid := make([]blockfile.Unpaid, len(entries))
	for i, e := range entries {
		unpaid[i] = e.file.Unpaid()
	}
	if err := v.syncFailed.Load(); err != nil {
		return *err
	}
	if err := v.st.(store.Syncer).SyncAll(); err != nil {
		v.syncFailed.Store(&err)
		return err
	}
	for i, e := range entries {
		e.file.Paid(unpaid[i])
	}
	v.changes.save(sure)
	return nil
}

// Checkpoint brings every committed block home, makes it durable there, and
// frees the journal up to where it stood at the start.
func (v *Volume) Checkpoint() error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	return v.runCheckpoint()
}

func (v *Volume) runCheckpoint() error {
	if v.journal == nil {
		return nil
	}
	v.back.turn.Lock()
	defer v.back.turn.Unlock()
	return v.takeTurn()
}

// takeTurn is runCheckpoint with back.turn held.
func (v *Volume) takeTurn() error {
	err := v.checkpoint()
	v.journal.NoRoom(err)
	if err == nil {
		// Else each would stay in the table, and keep its descriptors.
		err = v.syncNames(v.table.nameOwed())
	}
	v.table.evict()
	return err
}

func (v *Volume) checkpoint() error {
	if err := v.syncFailed.Load(); err != nil {
		return *err
	}
	through := v.journal.Position()
	entries := v.table.all()
	if err := v.bringHome(entries); err != nil {
		return err
	}
	if err := v.syncMany(entries, func(e *entry) bool {
		_, _, _, sync := e.file.Pending()
		return sync
	}); err != nil {
		return err
	}
	for _, e := range entries {
		if err := e.file.Settle(); err != nil {
			return err
		}
	}
	if err := v.syncDropped(); err != nil {
		return err
	}
	return v.journal.Release(through)
}

// syncDropped makes the loss of names durable where the journal has what was
// committed under them and nobody brings it home any more: a power cut could
// bring back the name, with what the file was before.
func (v *Volume) syncDropped() error {
	if !v.table.dropped.Swap(false) {
		return nil
	}
	err := v.syncStore()
	if err != nil {
		v.table.dropped.Store(true)
	}
	return err
}

// bringHome writes every committed block home, where it is not durable yet.
// Called with back.turn held.
func (v *Volume) bringHome(entries []*entry) error {
	for _, e := range entries {
		if err := e.file.CommitDirect(); err != nil {
			return err
		}
	}
	if err := v.syncMany(entries, func(e *entry) bool {
		_, _, writeback, _ := e.file.Pending()
		return writeback && e.file.Fresh()
	}); err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, e.file.Writeback())
	}
	return errors.Join(errs...)
}

// syncMany syncs the whole store if that many of the entries want a sync.
func (v *Volume) syncMany(entries []*entry, wants func(*entry) bool) error {
	n := 0
	for _, e := range entries {
		if wants(e) {
			n++
		}
	}
	if n < manyFiles {
		return nil
	}
	return v.syncStore()
}
