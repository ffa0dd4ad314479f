package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
)

// exitTime is how long a daemon's process may take to be gone after it has
// committed and let go of everything.
const exitTime = 10 * time.Second

// tellSlow is how long after the time to wait for users of a mount the command
// says what it is waiting for.
const tellSlow = 10 * time.Second

func newUnmount(a *app) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "unmount MOUNTPOINT",
		Short: "Unmount a volume and wait until everything is committed",
		Long: `Unmount the volume at MOUNTPOINT (its backing directory or its ID will do, too)
and return once its daemon has committed everything and ended. The volume can
be mounted again at once.

A mount in use stays mounted: the command waits a little for those who use it,
then says who they are and exits with 15. A mount whose daemon was killed is
cleaned up.`,
		Example: `  akvfs unmount /var/lib/mongodb
  akvfs unmount /var/lib/mongodb --wait 2m`,
		Args:              args("MOUNTPOINT"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if wait < 0 {
				return &usageError{cmd.CommandPath(), errors.New("--wait must not be negative")}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.unmount(ctx, given[0], wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Second, "how long to wait for those who use the mount")
	return cmd
}

func (a *app) unmount(ctx context.Context, name string, wait time.Duration) error {
	// Held from before, a process file descriptor cannot come to mean another
	// process. Where the volume is not mounted, Unmount says so.
	gone := func() {}
	if s, err := daemon.StatusOf(ctx, a.runDirFor(name), name); err == nil && s.PID > 0 {
		gone = exitOf(s.PID)
	}
	slow := time.AfterFunc(wait+tellSlow, func() {
		fmt.Fprintln(a.err, "Waiting for the daemon, which commits what is pending; its log says more. Ctrl-C ends this command, and not the daemon's work.")
	})
	defer slow.Stop()
	result, err := daemon.Unmount(ctx, a.runDirFor(name), name, wait)
	if err != nil {
		return a.stopped(err, "the daemon may unmount all the same; `akvfs status` shows how it stands")
	}
	gone()
	if result.Dead {
		_, err = fmt.Fprintf(a.err, "The daemon of %s had been killed; its mount is cleaned up.\n", result.Mountpoint)
	}
	return err
}

// exitOf returns a function that waits until a process is gone, up to exitTime.
func exitOf(pid int) func() {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return func() {} // gone already, or an old kernel
	}
	return func() {
		defer unix.Close(fd)
		for deadline := time.Now().Add(exitTime); ; {
			left := time.Until(deadline)
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(left, 0).Milliseconds()))
			if !errors.Is(err, unix.EINTR) || n > 0 {
				return
			}
		}
	}
}
