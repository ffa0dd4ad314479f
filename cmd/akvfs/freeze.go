package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
)

// thawTime bounds how long thawing may take once a command was interrupted.
const thawTime = 30 * time.Second

func newFreeze(a *app) *cobra.Command {
	timeout := daemon.DefaultFreeze
	var command string
	cmd := &cobra.Command{
		Use:   "freeze VOLUME",
		Short: "Hold a mounted volume still while its disk is snapshotted",
		Long: `Bring everything that was written to VOLUME to the disk, and let nobody change
it until ` + "`akvfs thaw`" + `: for a snapshot that the cloud, LVM or a storage system
takes of the disk. Programs that read go on, those that write wait.

The volume thaws by itself after --timeout, and the thaw that comes too late
says so: the snapshot is then like one after a power cut, which a volume
recovers from when it is mounted. So does one that was taken without freezing.

With --exec, a shell runs CMD in between, with AKVFS_BACKING in its
environment, and the volume is thawed whatever comes of it.`,
		Example:           "  akvfs freeze /var/lib/mongodb --exec /usr/local/sbin/snapshot-disk\n  akvfs freeze /data/enc --timeout 30s\n  akvfs thaw /data/enc",
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if timeout <= 0 || timeout > daemon.LongestFreeze {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--timeout is %v at most", daemon.LongestFreeze)}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			until, err := daemon.Freeze(ctx, a.runDirFor(given[0]), given[0], timeout)
			if err != nil {
				return err
			}
			if command == "" {
				_, err = fmt.Fprintf(a.out, "frozen until %s, or `akvfs thaw %s`\n", clock(until), given[0])
				return err
			}
			return errors.Join(a.whileFrozen(ctx, given[0], command), a.thaw(given[0]))
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "when the volume thaws by itself")
	cmd.Flags().StringVar(&command, "exec", "", "run `CMD` while it is frozen, and thaw it then")
	return cmd
}

// whileFrozen runs a command in a shell. An interrupt ends it.
func (a *app) whileFrozen(ctx context.Context, name, command string) error {
	s, err := daemon.StatusOf(ctx, a.runDirFor(name), name)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	c.Env = append(os.Environ(), "AKVFS_BACKING="+s.Backing)
	c.Stdout, c.Stderr = a.out, a.err
	if err := c.Run(); err != nil {
		return fmt.Errorf("the command while frozen: %w", err)
	}
	return nil
}

func (a *app) thaw(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), thawTime)
	defer cancel()
	held, err := daemon.Thaw(ctx, a.runDirFor(name), name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "thawed after %v\n", held.Round(time.Millisecond))
	return err
}

func newThaw(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "thaw VOLUME",
		Short: "Let a frozen volume change again",
		Long: `Let VOLUME, which was frozen, change again. If it had thawed by itself before, the
command says so and exits with 1: a snapshot that was still being taken then is
like one after a power cut.`,
		Example:           "  akvfs thaw /var/lib/mongodb",
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE:              func(_ *cobra.Command, given []string) error { return a.thaw(given[0]) },
	}
}
