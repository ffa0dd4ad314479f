package blockfile

import (
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// pinned is a tag page that is newer than home.
type pinned struct {
	page   format.TagPage
	ticket journal.Ticket
}

// File is an open encrypted file. One File stands for one backing file, no
// matter how many handles there are. All methods are safe for concurrent use.
type File struct {
	env  *Env
	back store.File

	home sync.Mutex // whoever changes the backing file's content; before mu

	mu        sync.RWMutex // guards everything below
	path      string
	closed    bool
	id        format.FileID
	cipher    *crypto.BlockCipher // nil while there is no header
	size      int64               // plaintext bytes, as readers see it
	committed int64               // size as of the last record
	dirty     map[int64]*block
	flight    map[int64]*block       // committed, not at home
	lent      bool                   // an Away may have blocks of flight
	direct    map[int64]format.Entry // at home, not committed; see direct.go
	intent    bool                   // there is an intent, which stays until direct is committed
	cleared   []span                 // holes that it lists
	renaming  int                    // no record may be made, as its path would soon be wrong
	renamed   *sync.Cond             // of mu: renaming has ended
	held      int                    // bytes of room in the journal for committing direct
	cutTicket journal.Ticket         // older records may take blocks away again
	pages     map[int64]*pinned
	ticket    journal.Ticket // last record
	cached    uint64         // the File in the keys of cached pages
	mtime     time.Time      // see times.go
	saved     time.Time      // mtime as the backing file has it; zero: unknown
	logged    time.Time      // mtime as of the last record
	logTime   bool           // mtime is to be committed even if nothing else is
	overdue   []func() error // see overdue.go
	cause     error          // of the last failure of what is overdue
	room      room           // where the backing file is known to be allocated
	first     time.Time      // when the oldest dirty block came, for the commit interval
	latest    time.Time      // when the latest write came

	name    sync.Mutex  // held while fresh is made durable; after home and mu
	landing atomic.Bool // one writer is in land
	// failed is the first failure to sync the backing file; see syncBack.
	failed atomic.Pointer[error]
	// lost: something written was lost; see Lock.
	lost atomic.Pointer[error]
	// fresh: the name or the header may not be durable.
	fresh debt
	// unsynced: home has writes that no fdatasync covered.
	unsynced debt
}

// debt counts what has to be made durable, so that what is added while an
// older part is being paid is not taken for paid.
type debt struct{ owed, paid atomic.Uint64 }

// incur does what is to be made durable. It is owed while it is being done, and
// anew when it is done: a sync of the whole store, which waits for nobody, may
// have begun in between, and covers it in part.
func (d *debt) incur(do func() error) error {
	d.add()
	defer d.add()
	return do()
}

func (d *debt) add()               { d.owed.Add(1) }
func (d *debt) due() bool          { return d.paid.Load() < d.owed.Load() }
func (d *debt) amount() uint64     { return d.owed.Load() }
func (d *debt) settle(upTo uint64) { d.paid.Store(max(d.paid.Load(), upTo)) }

// Open makes a File of an open backing file. back becomes the File's. path is
// the name in the backing directory.
func Open(env *Env, back store.File, path string) (*File, error) {
	f := newFile(env, back, path)
	attr, err := back.Stat()
	if err != nil {
		return nil, err
	}
	f.mtime, f.saved, f.logged = attr.Mtime, attr.Mtime, attr.Mtime
	if attr.Size == 0 {
		return f, nil
	}
	if env.Journal != nil {
		f.cutTicket = env.Journal.Last()
	}
	if f.id, f.cipher, err = f.readHeader(attr.Size); err != nil {
		return nil, err
	}
	size, ok := format.PlainSize(attr.Size)
	if !ok && f.cipher != nil {
		return nil, f.damage("size", -1, nil)
	}
	f.size, f.committed = size, size
	if f.cipher == nil {
		f.size, f.committed = 0, 0
	}
	return f, f.checkEnd()
}

func newFile(env *Env, back store.File, path string) *File {
	f := &File{
		env: env, back: back, path: path, cached: env.files.Add(1),
		dirty: map[int64]*block{}, flight: map[int64]*block{}, pages: map[int64]*pinned{},
		direct: map[int64]format.Entry{},
	}
	f.renamed = sync.NewCond(&f.mu)
	return f
}

// checkEnd proves the size: the last tag page repeats it.
func (f *File) checkEnd() error {
	if f.size == 0 {
		return nil
	}
	_, err := f.tagPage(format.LastGroup(f.size))
	return err
}

// readHeader opens the file key. A file of no more than a header whose header
// is unreadable was being made when the power was cut, and is empty: it has no
// cipher.
func (f *File) readHeader(backing int64) (id format.FileID, _ *crypto.BlockCipher, _ error) {
	page := make([]byte, format.PageSize)
	n, err := f.back.ReadAt(page, 0)
	if n < len(page) && err != nil && backing >= format.PageSize {
		return id, nil, err
	}
	h, err := format.ParseHeader(page[:n])
	if errors.Is(err, format.ErrHeader) && backing <= format.PageSize {
		return id, nil, nil
	}
	if err != nil {
		return id, nil, f.damage("header", -1, err)
	}
	slot, _ := h.Current()
	key, err := f.env.Keys.UnwrapFileKey(h.ID, slot.MasterKey, slot.Wrapped[:])
	if err != nil {
		return id, nil, f.damage("header", -1, err)
	}
	cipher, err := crypto.NewBlockCipher(key)
	return h.ID, cipher, err
}

// ensureHeader makes the file's key and header. Called with mu held.
func (f *File) ensureHeader() error {
	if f.closed {
		return syscall.EBADF
	}
	if f.cipher != nil {
		return nil
	}
	h := &format.Header{}
	if _, err := rand.Read(h.ID[:]); err != nil {
		return err
	}
	key, err := crypto.NewKey()
	if err != nil {
		return err
	}
	master, wrapped, err := f.env.Keys.WrapFileKey(h.ID, key)
	if err != nil {
		key.Destroy()
		return err
	}
	h.Slots[0] = format.Slot{Sequence: 1, MasterKey: master, Wrapped: [format.WrappedKeySize]byte(wrapped)}
	if err := f.writeHeader(h); err != nil {
		key.Destroy()
		return err
	}
	f.id = h.ID
	f.cipher, err = crypto.NewBlockCipher(key)
	return err
}

func (f *File) writeHeader(h *format.Header) error {
	return f.fresh.incur(func() error {
		return f.unsynced.incur(func() error {
			_, err := f.back.WriteAt(h.Encode()[:], 0)
			return err
		})
	})
}

// damage reports an integrity error and returns it.
func (f *File) damage(what string, number int64, cause error) error {
	err := &IntegrityError{Path: f.path, What: what, Number: number, Err: cause}
	if f.env.Damage != nil {
		f.env.Damage(err)
	}
	return err
}

// Stat is the backing file's, with size and times as a reader of the
// plaintext sees them.
func (f *File) Stat() (store.Attr, error) {
	attr, err := f.back.Stat()
	if err != nil {
		return attr, err
	}
	f.Overlay(&attr)
	return attr, nil
}

// Overlay puts what the File knows better into the backing file's attributes.
func (f *File) Overlay(attr *store.Attr) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	attr.Size, attr.Mtime = f.size, f.mtime
}

// Size is the plaintext size in bytes.
func (f *File) Size() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.size
}

// Backing is the backing file, for calls that touch no content.
func (f *File) Backing() store.File { return f.back }

// Path is the file's name in the backing directory, as records give it.
func (f *File) Path() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.path
}

// BeginRename brings home what is committed, and keeps more from being
// committed until EndRename: recovery finds a file by the path in its records,
// and none is needed then under the one that it is about to lose. What was
// written may stay uncommitted. To be quick, and because nobody makes room in
// the journal meanwhile, the file is settled before.
func (f *File) BeginRename() error {
	f.mu.Lock()
	f.renaming++
	err := f.commitDirect()
	f.mu.Unlock()
	if err == nil {
		err = f.Settle()
	}
	if err != nil {
		f.EndRename()
	}
	return err
}

// EndRename follows BeginRename, and Renamed if the name has changed.
func (f *File) EndRename() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renaming--
	f.renamed.Broadcast()
}

// Renamed tells the file its new name, which is not durable yet. It is called
// between BeginRename and EndRename.
func (f *File) Renamed(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.path = path
	f.fresh.add()
}

// syncBack makes the backing file durable. A failure is for ever: the kernel
// takes pages that it could not write for clean, and would call the next sync
// a success. What was committed stays safe, since the journal keeps it until a
// later mount brings it home again.
func (f *File) syncBack(sync func() error) error {
	if err := f.failed.Load(); err != nil {
		return *err
	}
	err := sync()
	if err != nil {
		f.failed.CompareAndSwap(nil, &err)
	}
	return err
}

// MarkFresh says that the file's name may not be durable.
func (f *File) MarkFresh() { f.fresh.add() }

// Unpaid is what of a file a sync of the whole store would make durable.
type Unpaid struct{ fresh, unsynced uint64 }

// Unpaid tells what is written but may not be durable now.
func (f *File) Unpaid() Unpaid { return Unpaid{f.fresh.amount(), f.unsynced.amount()} }

// Paid says that a sync of the whole store has ended, which began after
// Unpaid was asked.
func (f *File) Paid(u Unpaid) {
	f.fresh.settle(u.fresh)
	f.unsynced.settle(u.unsynced)
}

// Fresh reports whether name or header may not be durable.
func (f *File) Fresh() bool { return f.fresh.due() }

// Quiet reports whether there is something to commit, and nothing has been
// written since a time.
func (f *File) Quiet(since time.Time) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.uncommitted() && f.latest.Before(since)
}

// Pending tells what the file still has to do: blocks or a size to commit,
// and since when; committed blocks to bring home; home writes to make durable.
func (f *File) Pending() (commit bool, since time.Time, writeback, sync bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.uncommitted(), f.first, len(f.flight)+len(f.pages)+len(f.overdue) > 0 || f.timeOwed(), f.unsynced.due()
}

// uncommitted reports whether a commit has anything to do. Called with mu held.
func (f *File) uncommitted() bool {
	return len(f.dirty)+len(f.direct) > 0 || f.size != f.committed || f.logTime
}

// Close forgets the file: keys, dirty blocks and all. What must be kept is
// settled first. Whoever still uses the file hears EBADF; commits, writebacks
// and syncs find nothing to do.
func (f *File) Close() error {
	f.home.Lock()
	defer f.home.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropDirty(0)
	f.env.pending.Add(-int64(len(f.flight)) * format.BlockSize)
	f.forgetPages()
	f.closed, f.size, f.committed, f.logTime, f.saved = true, 0, 0, false, f.mtime
	clear(f.flight)
	clear(f.direct)
	f.overdue = nil
	if f.intent {
		f.env.Journal.Unreserve(f.held)
		f.intent, f.cleared = false, nil
	}
	f.Paid(f.Unpaid()) // a checkpoint that has just found the file must leave it be
	clear(f.pages)
	if f.cipher != nil {
		f.cipher.Destroy()
		f.cipher = nil
	}
	return f.back.Close()
}

// Leave is Close of a file that Inspect opened, but for the backing file, which
// stays open.
func (f *File) Leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.cipher != nil {
		f.cipher.Destroy()
		f.cipher = nil
	}
}

// Trim gives back what was allocated ahead of writes that never came.
func (f *File) Trim() error {
	f.home.Lock()
	defer f.home.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	attr, err := f.back.Stat()
	if err != nil || attr.Blocks*512 <= attr.Size+format.PageSize {
		return err
	}
	f.room = room{}
	f.forgetTime()
	return f.back.Truncate(attr.Size)
}
