package devvolume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/fusefs"
	"github.com/akvfs/akvfs/keymgr/file"
)

// prefix is how the directories of keepers begin.
const prefix = "akvfs-dev-"

// Place is where a throwaway volume and its parts are.
type Place struct {
	Dir        string // holds all of it; anybody may pass through
	Mountpoint string
	Backing    string
	KeyID      string // of the embedded key store
	RunDir     string // AKVFS_RUN_DIR for commands on the volume
	StateDir   string // AKVFS_STATE_DIR
}

// placeIn is the place whose directory is dir.
func placeIn(dir string) Place {
	private := filepath.Join(dir, "private")
	return Place{
		Dir:        dir,
		Mountpoint: filepath.Join(dir, "mount"),
		Backing:    filepath.Join(private, "backing"),
		KeyID:      file.KeyID(filepath.Join(private, "key.json")),
		RunDir:     filepath.Join(private, "run"),
		StateDir:   filepath.Join(private, "state"),
	}
}

func (p Place) lock() string { return filepath.Join(p.Dir, "private", "lock") }

// newPlace makes a place's directories below parent and locks it. The lock
// lasts as long as this process.
func newPlace(parent string) (p Place, lock *os.File, err error) {
	dir, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return p, nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return p, nil, err
	}
	p = placeIn(dir)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for _, d := range []string{filepath.Dir(p.Backing), p.RunDir, p.StateDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return p, nil, err
		}
	}
	// The tree's root has the backing directory's mode.
	for _, d := range []string{p.Backing, p.Mountpoint} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return p, nil, err
		}
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return p, nil, err
	}
	lock, err = p.claim()
	return p, lock, err
}

// claim makes the lock, which is locked from the moment that it can be seen.
func (p Place) claim() (*os.File, error) {
	hidden := p.lock() + ".new"
	f, err := os.OpenFile(hidden, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := os.Rename(hidden, p.lock()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// MountsLeftError says that something else is mounted in a place, so that
// nothing in it may be removed.
type MountsLeftError struct{ Mountpoints []string }

func (e *MountsLeftError) Error() string {
	return "not removed, since something is mounted there: " + strings.Join(e.Mountpoints, ", ")
}

const (
	removals   = 20 // attempts, while a detached volume may still write
	removePace = 50 * time.Millisecond
)

// remove takes away the volume's mounts, in use or not, and then everything.
func (p Place) remove(ctx context.Context) error {
	if err := p.detach(ctx); err != nil {
		return err
	}
	left, err := mountsIn(p.Dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return &MountsLeftError{left}
	}
	for range removals {
		if err = os.RemoveAll(p.Dir); err == nil {
			return nil
		}
		time.Sleep(removePace)
	}
	return err
}

// detach unmounts what akvfs has mounted at the mount point, and with it what
// was mounted inside.
func (p Place) detach(ctx context.Context) error {
	for {
		mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != p.Mountpoint, false })
		if err != nil {
			return err
		}
		if n := len(mounts); n == 0 || mounts[n-1].FSType != "fuse."+fusefs.TypeName {
			return nil
		}
		if err := daemon.Detach(ctx, p.Mountpoint); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("cannot unmount %s: %w", p.Mountpoint, err)
		}
	}
}

func mountsIn(dir string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	var paths []string
	for _, m := range mounts {
		paths = append(paths, m.Mountpoint)
	}
	return paths, err
}

// sweep removes what killed keepers of this user have left in a directory. What
// it cannot tell or remove, it leaves.
func sweep(ctx context.Context, parent string) {
	found, err := filepath.Glob(filepath.Join(parent, prefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		if p := placeIn(dir); mine(dir) && p.abandoned() {
			_ = p.remove(ctx) // the next one tries again
		}
	}
}

// mine reports whether a path is a directory, and no link, of this user.
func mine(dir string) bool {
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// abandoned reports whether the keeper of a place is gone. A place without a
// lock is just being made.
func (p Place) abandoned() bool {
	f, err := os.OpenFile(p.lock(), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// exists reports whether there is anything of a place.
func (p Place) exists() bool {
	_, err := os.Lstat(p.Dir)
	return !errors.Is(err, fs.ErrNotExist)
}
