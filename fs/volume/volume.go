package volume

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/recovery"
	"github.com/akvfs/akvfs/fs/store"
)

// IntegrityError says that something in the backing directory is not what
// was written there.
type IntegrityError = blockfile.IntegrityError

// Keys is the part of the key hierarchy that a volume needs.
type Keys interface {
	blockfile.Keys
	// VolumeKey derives the volume's key for one purpose. The caller destroys it.
	VolumeKey(purpose string) (*crypto.Key, error)
}

// Options are chosen at each Open.
type Options struct {
	// ReadOnly opens for reading only and writes nothing: a volume that was
	// not closed cleanly is recovered in memory, which takes about as much of
	// that as its journal was in use.
	ReadOnly bool
	// NoJournal, together with ReadOnly, shows what lies at home and leaves the
	// journal unread: what was committed last may be missing, or not verify.
	// It is for whoever looks at a volume whose journal is damaged, or at names
	// alone, which no record of it changes.
	NoJournal bool
	// Brief is for a process that soon ends, and in which no volume is locked:
	// names take less time, and what they are made with is not erased before
	// the process is gone (see crypto.NameCipher.Brief).
	Brief bool
	// CommitInterval bounds how long a write that nobody syncs may be lost
	// for; 0 stands for DefaultCommitInterval.
	CommitInterval time.Duration
	// JournalSize is the size that the journal is given if it has another, in
	// bytes; 0 leaves it as it is.
	JournalSize int64
	// PageCache bounds the memory for tag pages, in bytes; 0 stands for 32 MiB.
	PageCache int
	Logger    *slog.Logger // nil: nothing is logged
	// Admit is given the number of the journal's newest frame before anything
	// is done with it; its error is Open's. nil: any will do.
	Admit func(frame uint64) error
}

// DefaultCommitInterval is that of Options.CommitInterval.
const DefaultCommitInterval = 5 * time.Second

// Volume is an open volume. All methods are safe for concurrent use.
type Volume struct {
	st     store.FS
	info   Info
	opened time.Time
	opts   Options
	log    *slog.Logger
	env    *blockfile.Env
	nonces *crypto.NonceSource
	names  *names
	table  *table
	// ownRoot: the root's owner and mode are rootName's; see SetRoot.
	ownRoot bool
	lock    io.Closer

	values  *crypto.BlockCipher // xattr values and link targets
	journal *journal.Journal    // nil if read-only
	jcipher *crypto.BlockCipher

	gate    gate
	tree    sync.RWMutex        // see the package comment
	moves   map[string]struct{} // see named; guarded by tree
	changes nameChanges         // of names

	syncFailed atomic.Pointer[error] // a sync of the whole store failed

	rewrapping sync.Mutex // one walk of Rewrap at a time; before all others

	back      background
	damages   atomic.Uint64
	recovered recovery.Report
}

// Stats tells how a volume fares.
type Stats struct {
	IntegrityErrors uint64          `json:"integrity_errors"` // since it was opened
	WriteFailures   uint64          `json:"write_failures"`   // commits and checkpoints of the background that failed
	CacheHits       uint64          `json:"cache_hits"`       // tag pages found in memory
	CacheMisses     uint64          `json:"cache_misses"`
	OpenFiles       int             `json:"open_files"`
	PendingBytes    int64           `json:"pending_bytes"` // in memory, not at home
	Journal         journal.Stats   `json:"journal"`
	Recovery        recovery.Report `json:"recovery"` // at Open
}

// Open opens a volume: proves its description, takes its lock, recovers it if
// it was not closed cleanly. The keys stay the caller's and must outlive the
// volume. Errors are those of ReadInfo, ErrInUse, a *journal.CorruptError, an
// *IntegrityError or the store's.
func Open(st store.FS, keys Keys, opts Options) (*Volume, error) {
	info, err := ReadInfo(st)
	if err != nil {
		return nil, err
	}
	if err := info.verify(keys); err != nil {
		return nil, err
	}
	v := &Volume{st: st, info: info, opts: opts.withDefaults(), table: newTable(), opened: time.Now()}
	v.log = v.opts.Logger.With("volume", info.ID.String())
	if err := v.start(keys); err != nil {
		v.release()
		return nil, err
	}
	return v, nil
}

// start takes the lock, opens keys and journal, and starts the background.
func (v *Volume) start(keys Keys) (err error) {
	if v.lock, err = tryLock(v.st, v.opts.ReadOnly); err != nil {
		return err
	}
	if err := v.findRoot(); err != nil {
		return err
	}
	if v.opts.ReadOnly {
		v.st = store.NewOverlay(v.st) // what a recovery changes stays there
	}
	if err := v.openKeys(keys); err != nil {
		return err
	}
	if err := v.openJournal(); err != nil {
		return err
	}
	if !v.opts.ReadOnly {
		// Names that were changed before this opening may not be durable, and
		// what is synced in it must not be lost with them.
		if err := v.syncStore(); err != nil {
			return err
		}
		v.keepInfo()
	}
	v.startBackground()
	return nil
}

func (o Options) withDefaults() Options {
	if o.CommitInterval <= 0 {
		o.CommitInterval = DefaultCommitInterval
	}
	if o.PageCache <= 0 {
		o.PageCache = 32 << 20
	}
	if o.Admit == nil {
		o.Admit = func(uint64) error { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func tryLock(st store.FS, readOnly bool) (io.Closer, error) {
	locker, ok := st.(store.Locker)
	if !ok {
		return nil, errors.New("the store cannot lock")
	}
	lock, err := locker.TryLock(lockName)
	if errors.Is(err, store.ErrLocked) {
		return nil, ErrInUse
	}
	if readOnly && errors.Is(err, syscall.EROFS) {
		return nil, nil // nobody can write
	}
	return lock, err
}

func (v *Volume) openKeys(keys Keys) (err error) {
	if v.nonces, err = crypto.NewNonceSource(); err != nil {
		return err
	}
	if v.names, err = newNames(v.st, v.info, keys, v.opts.Brief); err != nil {
		return err
	}
	if v.values, err = volumeCipher(keys, "xattr"); err != nil {
		return err
	}
	if v.jcipher, err = volumeCipher(keys, "journal"); err != nil {
		return err
	}
	v.env = &blockfile.Env{
		Volume: v.info.ID, Keys: keys, Nonces: v.nonces,
		Damage: v.damaged, MakeRoom: v.wake,
	}
	if !v.opts.ReadOnly {
		if v.env.MaxSize, err = sizeLimit(v.st); err != nil {
			return err
		}
	}
	return v.env.SetPageCache(v.opts.PageCache)
}

// openJournal opens the journal and brings home what it holds.
func (v *Volume) openJournal() error {
	if v.opts.ReadOnly && v.opts.NoJournal {
		return nil
	}
	cfg := journal.Config{Volume: v.info.ID, Cipher: v.jcipher, Nonces: v.nonces}
	j, records, err := journal.Open(v.st, JournalDir, cfg, v.opts.ReadOnly)
	if err != nil {
		return err
	}
	if err := v.opts.Admit(j.Position()); err != nil {
		closeJournal(j)
		return err
	}
	if v.opts.ReadOnly {
		closeJournal(j)
		return v.recover(records)
	}
	if err := v.recover(records); err != nil {
		closeJournal(j)
		return err
	}
	if err := j.Start(); err != nil {
		closeJournal(j)
		return err
	}
	if j, err = v.resizeJournal(j, cfg); err != nil {
		closeJournal(j)
		return err
	}
	v.journal, v.env.Journal = j, j
	if !j.Stats().Direct {
		v.log.Warn("the backing file system refuses direct I/O: the journal is written through the page cache, which is slower and as safe")
	}
	return nil
}

func closeJournal(j *journal.Journal) {
	if j != nil {
		j.Close()
	}
}

func (v *Volume) recover(records []journal.Record) error {
	if len(records) == 0 {
		return nil
	}
	v.log.Info("volume was not closed cleanly: recovering", "records", len(records), "in_memory", v.opts.ReadOnly)
	report, err := recovery.Run(v.st, v.env, records)
	if err != nil {
		return err
	}
	v.recovered = report
	v.log.Info("recovered", "report", report.String())
	return nil
}

// damaged counts and logs an integrity error.
func (v *Volume) damaged(err *IntegrityError) {
	v.damages.Add(1)
	v.log.Error("integrity error", "what", err.What, "number", err.Number, "backing_file", err.Path)
}

// Info is the volume's description.
func (v *Volume) Info() Info { return v.info }

// Stats tells how the volume fares.
func (v *Volume) Stats() Stats {
	s := Stats{IntegrityErrors: v.damages.Load(), OpenFiles: v.table.len(), PendingBytes: v.env.Pending(), Recovery: v.recovered}
	s.WriteFailures = v.back.failures.Load()
	s.CacheHits, s.CacheMisses = v.env.PageCache()
	if v.journal != nil {
		s.Journal = v.journal.Stats()
	}
	return s
}

// Close makes everything durable at home and closes the volume, so that the
// next Open has nothing to recover. If that fails the volume is closed all
// the same, and the next Open recovers what was committed. Handles still
// open answer errors from then on.
//
// A locked volume has no keys to commit with. What its lock left in the
// journal stays there for the next Open.
func (v *Volume) Close() error {
	v.gate.hold()
	defer v.gate.letGo()
	if v.gate.locked {
		v.release()
		return nil
	}
	err := v.commitAll() // the background still makes room in the journal
	v.stopBackground()
	err = errors.Join(err, v.runCheckpoint())
	v.release()
	return err
}

// release lets go of everything; what is not at home stays in the journal.
func (v *Volume) release() {
	v.table.closeAll()
	closeJournal(v.journal)
	for _, c := range []*crypto.BlockCipher{v.values, v.jcipher} {
		if c != nil {
			c.Destroy()
		}
	}
	if v.names != nil && v.names.cipher != nil {
		v.names.cipher.Destroy()
	}
	if v.lock != nil {
		v.lock.Close()
	}
}

// Errno is what a program sees of an error of this package.
func Errno(err error) syscall.Errno {
	var errno syscall.Errno
	var integrity *IntegrityError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &integrity):
		return syscall.EIO
	case errors.As(err, &errno):
		return errno
	}
	return syscall.EIO
}

// JournalPosition is the number of the newest frame that is durable in the
// journal, also once the volume is closed; 0 if it is open for reading only.
func (v *Volume) JournalPosition() uint64 {
	if v.journal == nil {
		return 0
	}
	return v.journal.Position()
}

// JournalSize is the size of the journal in bytes, 0 if the volume is open for
// reading only.
func (v *Volume) JournalSize() int64 {
	if v.journal == nil {
		return 0
	}
	return v.journal.Size()
}
