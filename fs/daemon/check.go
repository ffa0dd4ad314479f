package daemon

import (
	"context"
	"time"

	"github.com/akvfs/akvfs/fs/control"
)

// endingTime is how long Start waits for a daemon of the same volume that has
// been unmounted and is about to end.
const endingTime = 15 * time.Second

// checkPaths makes the paths canonical, clears away what killed daemons left,
// and refuses what cannot be mounted.
func (d *Daemon) checkPaths(ctx context.Context) (err error) {
	for _, path := range []string{d.cfg.Backing, d.cfg.Mountpoint} {
		if err := d.clear(ctx, path); err != nil {
			return err
		}
	}
	if d.cfg.Backing, err = directory(RoleBacking, d.cfg.Backing); err != nil {
		return err
	}
	if d.cfg.Mountpoint, err = directory(RoleMountpoint, d.cfg.Mountpoint); err != nil {
		return err
	}
	if err := d.checkEntries(ctx); err != nil {
		return err
	}
	for _, path := range []string{d.cfg.Backing, d.cfg.Mountpoint} {
		if mine, err := ours(path); err != nil {
			return err
		} else if mine {
			return &MountpointTakenError{path}
		}
	}
	if nested, err := insideVolume(d.cfg.Backing); err != nil {
		return err
	} else if nested {
		return &PathError{RoleBacking, d.cfg.Backing, ProblemInsideVolume}
	}
	return checkPair(d.cfg.Backing, d.cfg.Mountpoint)
}

// clear takes away what killed daemons left at a path.
func (d *Daemon) clear(ctx context.Context, path string) error {
	path, err := canonical(path)
	if err != nil {
		return nil // whoever needs the path says what is wrong with it
	}
	n, err := clearDead(ctx, path)
	if n > 0 {
		d.log.Warn("cleaned up a mount whose daemon was killed", "mountpoint", path)
	}
	return err
}

// checkEntries looks through the run directory for mounts of this volume, or
// at this mount point: a live one is an error, a dead one is cleared away.
func (d *Daemon) checkEntries(ctx context.Context) error {
	dir, entries, err := entriesIn(d.cfg.RunDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Backing != d.cfg.Backing && e.Mountpoint != d.cfg.Mountpoint {
			continue
		}
		if e.Live && !d.awaitEnding(ctx, dir, e) {
			return &InUseError{e.Backing, e.Mountpoint, e.PID}
		}
		if err := d.clear(ctx, e.Mountpoint); err != nil {
			return err
		}
		if !e.Live {
			dir.Remove(e.Name)
		}
	}
	return nil
}

// awaitEnding waits for a daemon whose mount is gone, and which only commits
// what is left; false says that it is mounted, or does not end.
func (d *Daemon) awaitEnding(ctx context.Context, dir *control.Dir, e control.Entry) bool {
	for deadline := time.Now().Add(endingTime); time.Now().Before(deadline) && ctx.Err() == nil; {
		if mine, err := ours(e.Mountpoint); err != nil || mine {
			return false
		}
		if now, err := dir.Entry(e.Name); err != nil || !now.Live {
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryUnmount):
		}
	}
	return false
}

// checkUnused refuses a volume that another process has open, before a vault
// is asked for anything. Opening the volume decides for good.
func (d *Daemon) checkUnused(context.Context) error {
	if pid, ok := flockHolder(lockFile(d.cfg.Backing)); ok {
		return &InUseError{Backing: d.cfg.Backing, PID: pid}
	}
	return nil
}
