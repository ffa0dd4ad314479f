package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/akvfs/akvfs/fs/fusefs"
	"github.com/akvfs/akvfs/fs/volume"
)

const (
	// retryUnmount is how often a busy mount is tried again.
	retryUnmount = 100 * time.Millisecond
	// tellHolders is how often a daemon that was told to stop says whom it
	// is waiting for.
	tellHolders = time.Minute
	// namespaceTime is how long after the unmount the kernel may take to let
	// go of the connection.
	namespaceTime = 30 * time.Second
)

func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }

// LingeringError says that the mount is gone from here, but another mount
// namespace, such as a container's, still has it.
type LingeringError struct{ Mountpoint string }

func (e *LingeringError) Error() string {
	return fmt.Sprintf("%s is unmounted, but another mount namespace still holds it; the daemon serves until that one lets go", e.Mountpoint)
}

// UnfinishedError says that a volume is unmounted and let go of, but that not
// everything could be committed or brought home.
type UnfinishedError struct {
	Mountpoint string
	Err        error
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("%s is unmounted, but not everything could be committed or brought home: %v", e.Mountpoint, e.Err)
}

// Unwrap is why.
func (e *UnfinishedError) Unwrap() error { return e.Err }

// Unmount unmounts, commits and lets go of everything. While the mount is in
// use it tries again, up to wait, and then leaves it mounted and serving with
// a *BusyError. A *LingeringError says that it is unmounted but not ended, an
// *UnfinishedError what the commit answered.
func (d *Daemon) Unmount(ctx context.Context, wait time.Duration) error {
	d.unmounting.Lock()
	defer d.unmounting.Unlock()
	d.thawAlone("the volume was unmounted")
	deadline := time.Now().Add(wait)
	for {
		err := d.tryUnmount(ctx)
		if err == nil {
			return d.awaitEnd(namespaceTime)
		}
		if !isBusy(err) {
			return &fusefs.UnmountError{Mountpoint: d.cfg.Mountpoint, Err: err}
		}
		if !time.Now().Before(deadline) {
			return &BusyError{d.cfg.Mountpoint, holders(d.cfg.Mountpoint)}
		}
		select {
		case <-ctx.Done():
			if !isClosed(d.ended) {
				return ctx.Err()
			}
		case <-d.ended:
		case <-time.After(retryUnmount):
		}
	}
}

// tryUnmount unmounts unless that is done already. What lies over our mount
// is left alone: it is busy then.
func (d *Daemon) tryUnmount(ctx context.Context) error {
	top, there, err := d.position()
	switch {
	case err != nil || !there:
		return err
	case !top:
		return syscall.EBUSY
	}
	// Not to be cut short: the end that it brings about cancels ctx.
	err = unmountPath(context.WithoutCancel(ctx), d.cfg.Mountpoint, false)
	if err != nil && !isBusy(err) {
		if _, there, again := d.position(); again == nil && !there {
			return nil // somebody else was faster
		}
	}
	return err
}

// position tells whether our mount is there, and whether it lies uppermost.
func (d *Daemon) position() (top, there bool, err error) {
	if isClosed(d.ended) {
		return false, false, nil
	}
	devices, err := mountDevices(d.cfg.Mountpoint)
	i := slices.Index(devices, d.device)
	return i == len(devices)-1, i >= 0, err
}

// awaitEnd waits for the end after an unmount. The kernel may take up to limit
// to let go of the connection; what the volume then takes to commit and to
// bring home, on a slow disk, is nobody else's doing.
func (d *Daemon) awaitEnd(limit time.Duration) error {
	select {
	case <-d.server.Done():
	case <-time.After(limit):
		if !isClosed(d.server.Done()) {
			return &LingeringError{d.cfg.Mountpoint}
		}
	}
	<-d.ended
	return d.err
}

// Stop begins the end: it commits, and unmounts as soon as nobody uses the
// mount. It does not wait; Done tells. A mount in use goes on serving
// meanwhile, and the log says who uses it.
func (d *Daemon) Stop() {
	if isClosed(d.stopping) {
		return
	}
	d.beginStop()
	go d.stop()
}

func (d *Daemon) stop() {
	// Whoever loses patience and kills us then loses nothing.
	if err := d.volume.Sync(); err != nil && !errors.Is(err, volume.ErrLocked) {
		d.log.Error("commit failed", "error", err)
	}
	var told []Holder
	var last time.Time
	for !isClosed(d.ended) {
		err := d.Unmount(context.Background(), 0)
		var busy *BusyError
		if errors.As(err, &busy) {
			if !slices.Equal(told, busy.Holders) || time.Since(last) > tellHolders {
				told, last = busy.Holders, time.Now()
				d.log.Warn("told to stop, but still in use; waiting", "error", err)
			}
		} else if err != nil && !isClosed(d.ended) {
			d.log.Error("cannot unmount; trying again", "error", err)
		}
		select {
		case <-d.ended:
		case <-time.After(5 * retryUnmount):
		}
	}
}

// Detach takes away the mount at a path although it is in use. It is for the
// mounts of volumes that are thrown away with it: nothing is committed, and
// whoever uses such a mount goes on until its daemon ends.
func Detach(ctx context.Context, mountpoint string) error {
	return unmountPath(ctx, mountpoint, true)
}
