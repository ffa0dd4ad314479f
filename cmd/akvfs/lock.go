package main

import (
	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
)

func newLock(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "lock VOLUME",
		Short: "Take the keys of a mounted volume out of memory",
		Long: `Lock VOLUME, a backing directory, a mount point or a volume's ID. What is
acknowledged and pending is committed, the keys are zeroed, and the kernel
forgets what it had of the volume. It stays mounted, and every access answers
ENOKEY ("Required key not available") until ` + "`akvfs unlock`" + `: a volume that was
locked by hand does not unlock by itself.

Programs that use the mount, such as mongod, see errors. If something could
not be committed the volume is locked all the same; the command says so and
exits with 1.`,
		Example: `  akvfs lock /var/lib/mongodb
  akvfs lock /data/enc`,
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.stopped(daemon.Lock(ctx, a.runDirFor(given[0]), given[0]), "the daemon locks the volume all the same; `akvfs status` shows how it stands")
		},
	}
}

func newUnlock(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unlock VOLUME",
		Short: "Fetch the keys of a locked volume again and serve it",
		Long: `Unlock VOLUME, a backing directory, a mount point or a volume's ID. Its daemon
has the vault unwrap the master key first: if no key opens the volume it stays
locked, and the exit status is 10, 11 or 12 as for mount. Files that were open
go on.

A volume that was locked because its key was taken away unlocks by itself, at
the next check after the key is back; this command does not wait for that.`,
		Example: `  akvfs unlock /var/lib/mongodb
  akvfs unlock /data/enc`,
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.stopped(daemon.Unlock(ctx, a.runDirFor(given[0]), given[0]), "`akvfs status` shows whether the volume is locked still")
		},
	}
}
