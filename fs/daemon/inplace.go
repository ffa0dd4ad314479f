package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// The commands that convert a directory, as the audit log has them.
const (
	actionEncrypt = "encrypt in place"
	actionDecrypt = "decrypt in place"
)

// InPlace converts a directory in place; see package convert. CreateConfig
// says what volume Encrypt makes: Decrypt, and an Encrypt that goes on, take
// only Backing, which is the directory, Openers, KeyTimeout, Now, StateDir and By
// of it.
type InPlace struct {
	CreateConfig
	OnlyEmpty bool                   // see convert.Config
	Observe   func(convert.Progress) // nil hears nothing
	Logger    *slog.Logger           // nil: nothing is logged
}

// Encrypt makes a directory's plain files a volume in the same place, or goes
// on with that. Errors are a *PathError, a *BusyError if anybody has a file of
// it open or locked, those of convert.Encrypt and of Create.
func (p InPlace) Encrypt(ctx context.Context) (convert.Report, error) {
	return inPlace(ctx, p, actionEncrypt, convert.Encrypt)
}

// Decrypt makes a volume plain files in the same place, or goes on with that.
func (p InPlace) Decrypt(ctx context.Context) (convert.Report, error) {
	return inPlace(ctx, p, actionDecrypt, convert.Decrypt)
}

// Plan says what Encrypt or Decrypt would do, and how long it would take.
func (p InPlace) Plan(ctx context.Context, d convert.Direction) (convert.Plan, error) {
	return inPlace(ctx, p, "", func(ctx context.Context, st store.FS, cfg convert.Config) (convert.Plan, error) {
		return convert.Measure(ctx, st, cfg, d)
	})
}

// inPlace checks and opens the directory around one call of package convert.
func inPlace[T any](ctx context.Context, p InPlace, action string, do func(context.Context, store.FS, convert.Config) (T, error)) (result T, err error) {
	if p.KeyTimeout <= 0 {
		p.KeyTimeout = DefaultKeyTimeout
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	path, err := Free(p.Backing)
	if err != nil {
		return result, err
	}
	unlock, err := claim(path)
	if err != nil {
		return result, err
	}
	defer unlock()
	st, err := store.OpenDisk(path)
	if err != nil {
		return result, err
	}
	defer st.Close()
	p.Backing = path
	w := &worker{p: p, action: action}
	result, err = do(ctx, st, w.config())
	w.end(err)
	if errors.Is(err, volume.ErrInUse) {
		err = &InUseError{Backing: path}
	}
	return result, err
}

// Free is the canonical path of a directory of plain files, or of an unmounted
// volume, if nobody uses it: no process has a file of it open or locked, and no
// akvfs is mounted there or around it. Errors are a *PathError, an *InUseError
// or a *BusyError.
func Free(dir string) (string, error) {
	path, err := directory(RoleBacking, dir)
	if err != nil {
		return "", err
	}
	if fi, err := os.Lstat(filepath.Clean(dir)); err != nil {
		return "", err
	} else if fi.Mode()&os.ModeSymlink != 0 {
		return "", &PathError{RoleBacking, dir, ProblemSymlink}
	}
	if mounted, err := ours(path); err != nil {
		return "", err
	} else if mounted {
		return "", &InUseError{Backing: path, Mountpoint: path}
	}
	if nested, err := insideVolume(path); err != nil {
		return "", err
	} else if nested {
		return "", &PathError{RoleBacking, path, ProblemInsideVolume}
	}
	held := holders(path)
	for _, name := range []string{"mongod.lock", "WiredTiger.lock"} {
		pid, err := lockedBy(filepath.Join(path, name))
		if err != nil {
			return "", err
		}
		if pid > 0 && len(held) == 0 {
			held = append(held, Holder{PID: pid, Command: "unknown", Path: filepath.Join(path, name)})
		}
	}
	if len(held) > 0 {
		return "", &BusyError{path, held}
	}
	return path, nil
}

// lockedBy tells which process holds a record lock on a file, 0 for none. It
// sees processes that /proc does not show, those of other containers: such a
// one is process 1.
func lockedBy(path string) (pid int, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, &os.PathError{Op: "look for locks", Path: path, Err: err}
	}
	if lock.Type != unix.F_UNLCK {
		return max(1, int(lock.Pid)), nil
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return 1, nil
	}
	return 0, err
}

// worker gives a conversion its volume and keys, and keeps account of it.
type worker struct {
	p        InPlace
	action   string  // "": nothing is put on record
	accounts *Daemon // nil: the volume's ID is not known yet
	command  command
}

func (w *worker) config() convert.Config {
	size := w.p.JournalSize
	if size == 0 {
		size = journal.DefaultSize
	}
	return convert.Config{Create: w.create, Open: w.open, Observe: w.p.Observe, VolumeBytes: size, OnlyEmpty: w.p.OnlyEmpty}
}

// create makes the volume, after it has proven the key.
func (w *worker) create(ctx context.Context, st store.FS) error {
	cfg := w.p.CreateConfig
	provider, err := cfg.Openers.Open(cfg.KeyID, keymgr.ProviderOptions{Operation: cfg.KeyOperation, Timeout: cfg.KeyTimeout, Now: cfg.Now})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.KeyTimeout)
	defer cancel()
	if err := prove(ctx, provider); err != nil {
		return err
	}
	_, err = fill(ctx, st, cfg, provider)
	return err
}

// open opens the volume, and puts the command on record the first time.
func (w *worker) open(ctx context.Context, st store.FS) (*volume.Volume, func(), error) {
	info, err := volume.ReadInfo(st)
	if err != nil {
		return nil, nil, &VolumeError{w.p.Backing, err}
	}
	cfg := Config{
		Backing: w.p.Backing, Openers: w.p.Openers, KeyTimeout: w.p.KeyTimeout,
		StateDir: w.p.StateDir, Now: w.p.Now, Logger: w.p.Logger,
	}.complete()
	if w.action != "" && w.accounts == nil {
		if err := w.begin(cfg, info); err != nil {
			return nil, nil, err
		}
	}
	keys, err := openKeys(ctx, cfg, info.ID, volume.Metadata(st), recall(cfg, info.ID))
	if w.accounts != nil {
		w.accounts.keys = keys
		w.accounts.tellOpened(err)
	}
	if err != nil {
		return nil, nil, err
	}
	v, err := volume.Open(st, keys.current(), volume.Options{Logger: w.p.Logger})
	if err != nil {
		keys.destroy()
		return nil, nil, fmt.Errorf("%s: %w", w.p.Backing, err)
	}
	return v, keys.destroy, nil
}

func (w *worker) begin(cfg Config, info volume.Info) (err error) {
	accounts, err := unmounted(cfg, info.ID)
	if err != nil {
		return err
	}
	w.accounts = accounts
	w.command, err = accounts.begin(w.action, commander(w.p.By))
	return err
}

func (w *worker) end(err error) {
	if w.accounts != nil {
		w.accounts.end(w.command, err)
		w.accounts.closeAccounts()
	}
}
