package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// Report is what a run did.
type Report struct {
	Direction Direction `json:"direction"`
	Resumed   bool      `json:"resumed"` // it went on from an unfinished run
	Files     int64     `json:"files"`
	Bytes     int64     `json:"bytes"` // of content, holes left out
	Seconds   float64   `json:"seconds"`
}

// Encrypt makes the plain files in a directory an encrypted volume in the same
// place, and goes on with what an earlier Encrypt or Decrypt left unfinished.
// Errors are ErrVolume, ErrInUse, ErrState, a *ProblemsError, a *SpaceError,
// a *FilesError, those of Config's functions, or the store's. After any of
// them, and after any crash, the next call of Encrypt or Decrypt goes on.
func Encrypt(ctx context.Context, st store.FS, cfg Config) (Report, error) {
	return run(ctx, st, cfg, Encrypting)
}

// Decrypt makes an encrypted volume plain files again. It is Encrypt's
// reverse in everything; its error for what is no volume is ErrNothing.
func Decrypt(ctx context.Context, st store.FS, cfg Config) (Report, error) {
	return run(ctx, st, cfg, Decrypting)
}

// Unfinished tells the direction of the conversion that a directory is in the
// middle of; "" if it is in none.
func Unfinished(st store.FS) (Direction, error) {
	s, err := loadState(st)
	if s == nil {
		return "", err
	}
	return s.Direction, nil
}

// conversion is one run.
type conversion struct {
	ctx      context.Context
	st       store.FS
	cfg      Config
	state    *state
	lock     io.Closer
	from, to tree // while files are converted
	buf      []byte
	progress Progress
	began    time.Time
	failed   []error
}

func newConversion(ctx context.Context, st store.FS, cfg Config) *conversion {
	return &conversion{ctx: ctx, st: st, cfg: cfg.withDefaults(), buf: make([]byte, chunkSize), began: time.Now()}
}

func run(ctx context.Context, st store.FS, cfg Config, want Direction) (Report, error) {
	c := newConversion(ctx, st, cfg)
	r := Report{Direction: want}
	finished, err := c.resume(want)
	r.Resumed = c.state != nil || finished
	if err == nil && !finished {
		err = c.steps(want)
	}
	err = errors.Join(err, c.unlock())
	r.Files, r.Bytes, r.Seconds = c.progress.Files, c.progress.Bytes, time.Since(c.began).Seconds()
	return r, err
}

// resume loads the state, if there is one, under its lock. finished says that
// only an empty state directory was left of a run that did what is wanted.
func (c *conversion) resume(want Direction) (finished bool, err error) {
	if attr, err := c.st.Stat(stateDir); errors.Is(err, syscall.ENOENT) {
		return false, nil
	} else if err != nil {
		return false, err
	} else if c.cfg.OnlyEmpty && (int(attr.UID) != os.Geteuid() || attr.Mode&0o077 != 0) {
		return false, foreign(stateDir)
	}
	if err := c.takeLock(); err != nil {
		return false, err
	}
	if c.state, err = loadState(c.st); err != nil || c.state != nil {
		return false, err
	}
	if err := c.removeState(); err != nil { // of a run that ended before it began, or after its end
		return false, err
	}
	is, err := c.isVolume()
	return err == nil && is == (want == Encrypting), err
}

func (c *conversion) takeLock() (err error) {
	if c.lock != nil {
		return nil
	}
	locker, ok := c.st.(store.Locker)
	if !ok {
		return errors.New("the store cannot lock")
	}
	c.lock, err = locker.TryLock(lockName)
	if errors.Is(err, store.ErrLocked) {
		err = ErrInUse
	}
	return err
}

func (c *conversion) unlock() error {
	if c.lock == nil {
		return nil
	}
	return c.lock.Close()
}

// steps takes a directory from whatever phase it is in to what is wanted.
func (c *conversion) steps(want Direction) error {
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if c.state == nil {
			if err := c.begin(want); err != nil {
				return err
			}
			continue
		}
		end, err := c.step(want)
		if err != nil {
			return err
		}
		if end && c.state == nil {
			return nil
		}
	}
}

// step does one phase; end says that the directory is what is wanted.
func (c *conversion) step(want Direction) (end bool, err error) {
	s := c.state
	switch s.Phase {
	case phaseCreate:
		if want == Decrypting {
			return true, c.giveUp()
		}
		return false, c.create()
	case phaseIn:
		return false, c.moveIn()
	case phaseFiles:
		if s.Direction != want {
			return false, c.turn()
		}
		return false, c.files()
	case phaseOut:
		return want == Encrypting, c.moveOut()
	case phaseRemove:
		return want == Decrypting, c.removeVolume()
	}
	return false, fmt.Errorf("%w: phase %q", ErrState, s.Phase)
}

// begin looks whether it can be done, and puts on record that it is.
func (c *conversion) begin(want Direction) error {
	is, err := c.isVolume()
	if err != nil {
		return err
	}
	s := &state{Version: stateVersion, Direction: want, Phase: phaseCreate}
	var found *scan
	switch {
	case want == Encrypting && is:
		return ErrVolume
	case want == Decrypting && !is:
		return ErrNothing
	case want == Encrypting:
		found, err = lookOutside(c.ctx, c.st)
	default:
		s.Phase = phaseIn
		found, err = c.lookInside()
	}
	if err != nil {
		return err
	}
	if err := c.check(found, want); err != nil {
		return err
	}
	s.Root, s.Dirs = found.root, found.attrs
	return c.record(s)
}

// record makes the state directory, and closes the directory to all but root.
func (c *conversion) record(s *state) error {
	if err := c.st.Mkdir(stateDir, 0o700); err != nil && (c.cfg.OnlyEmpty || !errors.Is(err, syscall.EEXIST)) {
		return err
	}
	if err := c.takeLock(); err != nil {
		return err
	}
	if err := saveState(c.st, s); err != nil {
		return err
	}
	if err := c.st.SyncDir("."); err != nil {
		return err
	}
	c.state = s
	return c.fence()
}

// fence lets nobody but root into the directory, as no database may start in
// what is half of one. It is repeated whenever a run goes on.
func (c *conversion) fence() error {
	if err := c.st.Chmod(".", 0o700); err != nil {
		return err
	}
	return c.st.Chown(".", os.Geteuid(), os.Getegid())
}

// isVolume reports whether the directory itself is a volume.
func (c *conversion) isVolume() (bool, error) {
	_, err := volume.ReadInfo(c.st)
	if errors.Is(err, volume.ErrIncomplete) {
		return false, err
	}
	if errors.Is(err, volume.ErrNotVolume) {
		return false, nil
	}
	return err == nil, err
}

// lookInside looks through a volume that is still where it was.
func (c *conversion) lookInside() (found *scan, err error) {
	v, drop, err := c.cfg.Open(c.ctx, quiet{c.st})
	if err != nil {
		return nil, err
	}
	defer drop()
	defer func() { err = errors.Join(err, v.Close()) }()
	if found, err = look(c.ctx, sealed{v}); err != nil {
		return nil, err
	}
	return found, c.checkInside(found, v)
}

// ownMetadata starts the names of what goes with a volume that is decrypted.
var ownMetadata = []string{"volume.json", "keyring.json", "journal", "lock", "root", "snapshots.json"}

// checkInside complains of entries that did not decrypt, and of what somebody
// else keeps with the volume's metadata, as it would go with it.
func (c *conversion) checkInside(found *scan, v *volume.Volume) error {
	if n := v.Stats().IntegrityErrors; n > 0 {
		found.problem(".", fmt.Sprintf("holds %d entries that do not decrypt; see akvfs fsck", n))
	}
	entries, err := c.st.ReadDir(metaDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.ContainsFunc(ownMetadata, func(own string) bool { return strings.HasPrefix(e.Name, own) }) {
			found.problem(path.Join(metaDir, e.Name), "would be removed with the volume: move it away, or delete it")
		}
	}
	return nil
}

// check refuses what could not be carried through.
func (c *conversion) check(s *scan, want Direction) error {
	if len(s.problems) > 0 {
		return &ProblemsError{s.problems}
	}
	if s.largest == nil {
		return nil
	}
	return c.room(s.largest, c.forVolume(want))
}

// forVolume is the space that the volume itself takes, if it is to be made.
func (c *conversion) forVolume(want Direction) int64 {
	if want == Encrypting && c.state == nil {
		return c.cfg.VolumeBytes
	}
	return 0
}

// room refuses a file for which there is no space beside itself.
func (c *conversion) room(u *unit, more int64) error {
	need := spaceFor(u) + more
	free, err := freeSpace(c.st)
	if err == nil && free < need {
		if err = syncAll(c.st); err == nil { // what was removed may be free only then
			free, err = freeSpace(c.st)
		}
	}
	if err == nil && free < need {
		err = &SpaceError{u.names[0], need, free}
	}
	return err
}

// spaceFor is what a file's copy takes at most: header, tag pages, and what
// the file system needs for extents and names.
func spaceFor(u *unit) int64 {
	if u.bytes() == 0 {
		return 0
	}
	return u.bytes() + u.bytes()/64 + 1<<20
}

func freeSpace(st store.FS) (int64, error) {
	fs, err := st.Statfs()
	return int64(fs.Bavail) * fs.Bsize, err
}

func (c *conversion) tell() {
	c.progress.Elapsed = time.Since(c.began)
	c.cfg.Observe(c.progress)
}

// quiet is a volume's backing directory. It keeps the times of access as they
// are, where it may, and what is opened is read from the disk, not from memory:
// the plaintext goes on the word of what was read.
type quiet struct{ store.FS }

// OpenFile is FS's.
func (q quiet) OpenFile(name string, flag int, perm uint32) (store.File, error) {
	f, err := q.FS.OpenFile(name, flag|unix.O_NOATIME, perm)
	if errors.Is(err, syscall.EPERM) { // of somebody else's file
		f, err = q.FS.OpenFile(name, flag, perm)
	}
	if err == nil {
		forget(f)
	}
	return f, err
}

func forget(f any) {
	if cached, ok := f.(store.Forgetter); ok {
		cached.Forget()
	}
}

// SyncAll is store.Syncer's.
func (q quiet) SyncAll() error { return syncAll(q.FS) }

// TryLock is store.Locker's.
func (q quiet) TryLock(name string) (io.Closer, error) {
	return q.FS.(store.Locker).TryLock(name)
}
