package daemon

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// CreateConfig says what volume to make.
type CreateConfig struct {
	Backing      string // an empty directory; lost+found does not count
	KeyID        string
	KeyOperation string // keymgr.OpWrap, also if empty, or keymgr.OpEncrypt
	Cluster      string
	Names        string        // volume.NamesEncrypted, also if empty, or volume.NamesPlain
	JournalSize  int64         // bytes; 0 is the default
	KeyTimeout   time.Duration // 0 is DefaultKeyTimeout
	Openers      keymgr.Openers
	Now          func() time.Time // nil is time.Now
	StateDir     string           // for the audit log; "": none is kept
	By           *control.Peer    // who commands; nil: this process
}

// Create makes a volume. The key is proven before anything is written, and
// whatever goes wrong leaves the directory as it was; what an earlier Create
// left that was killed is removed. Errors are a *PathError, *InUseError,
// *keymgr.KeyError, *audit.Error or the store's.
func Create(ctx context.Context, cfg CreateConfig) (uuid.UUID, error) {
	if cfg.KeyTimeout <= 0 {
		cfg.KeyTimeout = DefaultKeyTimeout
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	path, err := directory(RoleBacking, cfg.Backing)
	if err != nil {
		return uuid.Nil, err
	}
	if nested, err := insideVolume(path); err != nil {
		return uuid.Nil, err
	} else if nested {
		return uuid.Nil, &PathError{RoleBacking, path, ProblemInsideVolume}
	}
	unlock, err := claim(path)
	if err != nil {
		return uuid.Nil, err
	}
	defer unlock()
	st, err := store.OpenDisk(path)
	if err != nil {
		return uuid.Nil, err
	}
	defer st.Close()
	if err := checkVacant(st, path); err != nil {
		return uuid.Nil, err
	}
	provider, err := cfg.Openers.Open(cfg.KeyID, keymgr.ProviderOptions{Operation: cfg.KeyOperation, Timeout: cfg.KeyTimeout, Now: cfg.Now})
	if err != nil {
		return uuid.Nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.KeyTimeout)
	defer cancel()
	if err := prove(ctx, provider); err != nil {
		return uuid.Nil, err
	}
	cfg.Backing = path
	return fill(ctx, st, cfg, provider)
}

// fill writes the volume under a key that has been proven.
func fill(ctx context.Context, st store.FS, cfg CreateConfig, provider keymgr.Provider) (_ uuid.UUID, err error) {
	var master *keymgr.MasterKeys
	var c creation
	defer func() {
		if master != nil {
			master.Destroy()
		}
		c.end(master, err)
	}()
	config := volume.Config{Cluster: cfg.Cluster, Names: cfg.Names, JournalSize: cfg.JournalSize, Now: cfg.Now()}
	return volume.Create(st, config, func(id uuid.UUID, meta volume.MetadataFiles) (_ volume.Keys, err error) {
		if err := c.begin(cfg, id); err != nil {
			return nil, err
		}
		if master, err = keymgr.CreateKeyring(ctx, meta, id, provider); err != nil {
			return nil, err
		}
		return master, ctx.Err()
	})
}

// claim takes a lock on a directory, so that two who make a volume in it do
// not take each other's work for the leavings of a killed one. It refuses a
// directory in which this process may not write.
func claim(path string) (unlock func(), err error) {
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return nil, &fs.PathError{Op: "write in", Path: path, Err: err}
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &InUseError{Backing: path}
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return func() { dir.Close() }, nil
}

// checkVacant refuses a directory with anything in it but lost+found and what
// an interrupted Create left.
func checkVacant(st store.FS, path string) error {
	entries, err := st.ReadDir(".")
	if err != nil {
		return err
	}
	_, err = volume.ReadInfo(st)
	incomplete := errors.Is(err, volume.ErrIncomplete)
	if !incomplete && !errors.Is(err, volume.ErrNotVolume) {
		return &PathError{RoleBacking, path, ProblemIsVolume}
	}
	for _, e := range entries {
		if e.Name != "lost+found" && !(incomplete && e.Name == ".akvfs") {
			return &PathError{RoleBacking, path, ProblemNotEmpty}
		}
	}
	return nil
}

// prove has a key wrap and unwrap a random secret.
func prove(ctx context.Context, provider keymgr.Provider) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	wrapped, err := provider.Wrap(ctx, secret)
	if err != nil {
		return err
	}
	back, err := provider.Unwrap(ctx, wrapped)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(secret, back) != 1 {
		return &keymgr.KeyError{
			Class: keymgr.Mismatch, KeyID: provider.KeyID(), Version: wrapped.Version, Op: "prove",
			Err: errors.New("it unwraps something else than it wrapped"),
		}
	}
	return nil
}
