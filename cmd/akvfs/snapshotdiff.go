package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/snapshot"
)

func newSnapshotDiff(a *app) *cobra.Command {
	timeout := daemon.DefaultKeyTimeout
	asJSON := false
	cmd := &cobra.Command{
		Use:   "diff VOLUME A [B]",
		Short: "List the files that differ between two snapshots, or from now",
		Long: `List the files of VOLUME that were added, removed or changed between its
snapshots A and B, or between A and the volume as it is now, mounted or not.
The keys are needed, for the names.

Two snapshots are compared by the tags of their blocks, exactly and without
reading the blocks. With the volume itself, files of one size and time of
modification are taken for the same; one that is written to meanwhile is as it
is when it is looked at.`,
		Example: `  akvfs snapshot diff /var/lib/mongodb nightly-1 nightly-2
  akvfs snapshot diff /data/enc nightly-1 --json`,
		Args: func(cmd *cobra.Command, given []string) error {
			names := []string{"VOLUME", "A", "B"}
			return args(names[:max(2, min(3, len(given)))]...)(cmd, given)
		},
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			changes, err := a.diff(ctx, given, timeout)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(changes)
			}
			return a.printChanges(changes)
		},
	}
	cmd.Flags().DurationVar(&timeout, "key-timeout", timeout, "how long an attempt to reach the key vault may take")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// diff compares two snapshots of a volume, or one with the volume: the names
// are VOLUME, A and perhaps B.
func (a *app) diff(ctx context.Context, names []string, timeout time.Duration) (changes []snapshot.Change, err error) {
	err = a.withSnapshot(ctx, names[0], names[1], func(_ *snapshot.Collection, old *snapshot.Snapshot) error {
		if len(names) < 3 {
			changes, err = a.diffTrees(ctx, old.Dir, names[0], snapshot.BySizeAndTime, timeout)
			return err
		}
		return a.withSnapshot(ctx, names[0], names[2], func(_ *snapshot.Collection, now *snapshot.Snapshot) error {
			same, done, err := snapshot.ByTags(old, now)
			if err != nil {
				return err
			}
			defer done()
			changes, err = a.diffTrees(ctx, old.Dir, now.Dir, same, timeout)
			return err
		})
	})
	return changes, err
}

func (a *app) diffTrees(ctx context.Context, old, now string, same snapshot.Same, timeout time.Duration) (_ []snapshot.Change, err error) {
	if old == now {
		return []snapshot.Change{}, nil
	}
	was, err := a.openTree(ctx, old, openOptions{timeout: timeout})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, was.Close()) }()
	is, err := a.openTree(ctx, now, openOptions{timeout: timeout})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, is.Close()) }()
	return snapshot.Diff(ctx, was, is, same)
}

func (a *app) printChanges(changes []snapshot.Change) error {
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, c := range changes {
		fmt.Fprintf(t, "%s\t%s", c.What, printable(c.Path))
		if len(c.Of) > 0 {
			fmt.Fprintf(t, "\t%s", strings.Join(c.Of, ", "))
		}
		if c.Before != c.After {
			fmt.Fprintf(t, "\t%d -> %d bytes", c.Before, c.After)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
