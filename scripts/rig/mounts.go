package rig

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// pollInterval is how often a condition is looked at.
const pollInterval = 20 * time.Millisecond

// pause waits one interval; it fails when ctx is done or the deadline has passed.
func pause(ctx context.Context, deadline time.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollInterval):
	}
	if time.Now().After(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// MountsAt lists the mounts at exactly this path, from the kernel's table
// alone, so that dead ones show too.
func MountsAt(path string) ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
}

// aliveMount says whether a FUSE file system is mounted at path and answers.
// The mount table would not do: a dead mount stands there until the new daemon
// detaches it, and then the directory below answers.
func aliveMount(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}

// unmount unmounts in order, waiting while the mount is busy.
func unmount(ctx context.Context, path string) error {
	deadline := time.Now().Add(unmountTimeout)
	for {
		err := unix.Unmount(path, 0)
		if !errors.Is(err, syscall.EBUSY) {
			return wrapUnmount(path, err)
		}
		if pause(ctx, deadline) != nil {
			return wrapUnmount(path, err)
		}
	}
}

// detach unmounts whatever is at path, however many deep and dead. MNT_FORCE
// fails the calls that wait for a daemon.
func detach(path string) error {
	for range 16 {
		at, err := MountsAt(path)
		if err != nil || len(at) == 0 {
			return err
		}
		if err := unix.Unmount(path, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
			return wrapUnmount(path, err)
		}
	}
	return fmt.Errorf("%s stays mounted", path)
}

func wrapUnmount(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", path, err)
}
