package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/export"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/volume"
)

func newSnapshot(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Take, keep, prove and restore snapshots of a volume",
		Long: `Snapshots are volumes of their own, encrypted as their original is: whatever
reads a volume reads a snapshot, given its directory.

VOLUME is a backing directory, a mount point or a volume's ID, or, if that is
lost, the directory in which its snapshots are.`,
		Example: "  akvfs snapshot create /var/lib/mongodb nightly-1\n  akvfs snapshot list /var/lib/mongodb\n  akvfs snapshot restore /var/lib/mongodb nightly-1 /data/restored",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	cmd.AddCommand(newSnapshotCreate(a), newSnapshotList(a), newSnapshotShow(a), newSnapshotVerify(a),
		newSnapshotRestore(a), newSnapshotRewrap(a), newSnapshotDelete(a), newSnapshotPrune(a),
		newSnapshotExport(a), newSnapshotImport(a), newSnapshotDiff(a))
	return cmd
}

func newSnapshotCreate(a *app) *cobra.Command {
	var f keyFlags
	var to string
	var hold time.Duration
	cmd := &cobra.Command{
		Use:   "create VOLUME [NAME]",
		Short: "Take a snapshot of a volume, mounted or not",
		Long: `Take a snapshot of VOLUME. It shows one point in time across all files, with
everything that was synced before, and is durable when the command returns.
NAME is the date and time (UTC) if none is given.

Programs go on meanwhile. For the last of the copy those that write are held,
for milliseconds as a rule and never longer than --max-hold: the command says
for how long. On XFS and btrfs the snapshot shares its blocks with the volume
and takes no room at first; elsewhere it is a full copy.

Snapshots go to DIR, or to BACKING.snapshots beside the backing directory.
DIR is remembered: the other commands find the snapshot by its name. The
volume's keys are needed: one that is not mounted is opened for this.`,
		Example:           "  akvfs snapshot create /var/lib/mongodb\n  akvfs snapshot create /data/enc before-upgrade --to /backup/rs0",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			p := daemon.SnapshotParams{Name: time.Now().UTC().Format("20060102T150405Z"), MaxHold: hold.String()}
			if len(given) > 1 {
				p.Name = given[1]
			}
			if err := snapshot.CheckName(p.Name); err != nil {
				return err
			}
			if to != "" {
				var err error
				if p.Dir, err = filepath.Abs(to); err != nil {
					return err
				}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			bar := newProgress(a.err)
			defer bar.end()
			var made daemon.SnapshotCreated
			err := a.keyCall(ctx, f, given[0], daemon.MethodSnapshotCreate, p, &made, func(raw json.RawMessage) {
				var now snapshot.Progress
				if json.Unmarshal(raw, &now) == nil {
					bar.snapshot(now)
				}
			})
			if err != nil {
				return err
			}
			bar.end()
			if f.json {
				return a.printJSON(made)
			}
			_, err = fmt.Fprintf(a.out, "snapshot %s: %d objects, %d bytes in %s, writers held for %s\n%s\n", made.Name, made.Objects, made.Bytes,
				micros(made.Took), micros(made.Held), made.Dir)
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `DIR`ectory for snapshots of this volume (default BACKING.snapshots)")
	cmd.Flags().DurationVar(&hold, "max-hold", snapshot.DefaultMaxHold, "how long writers may be held; a snapshot that would take longer is not made")
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

func micros(n int64) string { return (time.Duration(n) * time.Microsecond).String() }

// snapshot shows how far work on a snapshot is.
func (p *progress) snapshot(now snapshot.Progress) {
	if p.bar != nil && now.Total > 0 && p.bar.GetMax64() != now.Total {
		p.bar.ChangeMax64(now.Total)
	}
	p.observe(export.Progress{Objects: int64(now.Files), Bytes: now.Bytes})
}

// collections calls do with each directory that may hold snapshots of a
// volume, until it says that it is done.
func (a *app) collections(ctx context.Context, name string, do func(c *snapshot.Collection) (done bool, err error)) error {
	var known daemon.SnapshotDirs
	err := a.keyCall(ctx, keyFlags{}, name, daemon.MethodSnapshotDirs, nil, &known, nil)
	var missing *daemon.PathError
	if errors.Is(err, volume.ErrNotVolume) || errors.As(err, &missing) { // the volume is lost, and its snapshots are there
		dir := name
		if missing != nil {
			dir = snapshot.DefaultDir(name)
		}
		known.Dirs = []string{dir}
		if c, openErr := snapshot.OpenCollection(dir, false); openErr == nil {
			all, _, _ := c.List()
			if len(all) > 0 || c.Marked() {
				err = nil
			}
			c.Close()
		}
	}
	if err != nil {
		return err
	}
	for _, dir := range known.Dirs {
		c, err := snapshot.OpenCollection(dir, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		done, err := do(c)
		c.Close()
		if done || err != nil {
			return err
		}
	}
	return nil
}

// withSnapshot finds a volume's snapshot by its name.
func (a *app) withSnapshot(ctx context.Context, name, which string, do func(c *snapshot.Collection, s *snapshot.Snapshot) error) error {
	if err := snapshot.CheckName(which); err != nil {
		return err
	}
	found := false
	err := a.collections(ctx, name, func(c *snapshot.Collection) (bool, error) {
		s, err := c.Get(which)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return true, fmt.Errorf("%s: %w", filepath.Join(c.Dir, which), err)
		}
		found = true
		return true, do(c, s)
	})
	if err == nil && !found {
		err = &host.NoSnapshotError{Volume: name, Name: which}
	}
	return err
}

// allSnapshots lists a volume's snapshots. Damaged ones are told of at once.
func (a *app) allSnapshots(ctx context.Context, name string) (all []host.Snapshot, err error) {
	if a.served(ctx, name) {
		var r host.Snapshots
		err := a.ask(ctx, host.MethodSnapshotList, volumeOf(name), &r, nil)
		for _, d := range r.Damaged {
			fmt.Fprintf(a.err, "akvfs: %s\n", d)
		}
		return r.Snapshots, err
	}
	all = []host.Snapshot{}
	err = a.collections(ctx, name, func(c *snapshot.Collection) (bool, error) {
		found, damaged, err := c.List()
		for _, d := range damaged {
			fmt.Fprintf(a.err, "akvfs: %v\n", d)
		}
		for _, s := range found {
			all = append(all, host.Snapshot{Dir: s.Dir, Manifest: s.Manifest})
		}
		return false, err
	})
	return all, err
}

func newSnapshotList(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:               "list VOLUME",
		Short:             "List the snapshots of a volume, the oldest first",
		Long:              "List the snapshots of VOLUME, the oldest first of each directory. No key is needed.",
		Example:           "  akvfs snapshot list /var/lib/mongodb\n  akvfs snapshot list /data/enc --json",
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			all, err := a.allSnapshots(ctx, given[0])
			if err != nil {
				return err
			}
			if f.json {
				return a.printJSON(all)
			}
			t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tMADE\tBYTES\tHELD\tDIRECTORY")
			for _, s := range all {
				fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", s.Name, clock(s.Created), s.Bytes, micros(s.Held), s.Dir)
			}
			return t.Flush()
		},
	}
	f.addJSON(cmd)
	return cmd
}

func newSnapshotShow(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:               "show VOLUME NAME",
		Short:             "Show a snapshot, and which keys open it",
		Long:              "Show snapshot NAME of VOLUME, and which versions of which keys open it. No key is needed.",
		Example:           "  akvfs snapshot show /var/lib/mongodb nightly-1\n  akvfs snapshot show /data/enc nightly-1 --json",
		Args:              args("VOLUME", "NAME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			s, err := a.showSnapshot(ctx, given[0], given[1])
			if err != nil {
				return err
			}
			if f.json {
				return a.printJSON(s.Snapshot)
			}
			return a.printSnapshot(s)
		},
	}
	f.addJSON(cmd)
	return cmd
}

func (a *app) showSnapshot(ctx context.Context, name, which string) (r host.ShownSnapshot, err error) {
	if a.served(ctx, name) {
		err = a.ask(ctx, host.MethodSnapshotShow, host.SnapshotParams{Of: volumeOf(name), Name: which}, &r, nil)
		return r, err
	}
	err = a.withSnapshot(ctx, name, which, func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
		r.Snapshot = host.Snapshot{Dir: s.Dir, Manifest: s.Manifest}
		return a.keyCall(ctx, keyFlags{}, s.Dir, daemon.MethodKeyList, nil, &r.Keys, nil)
	})
	return r, err
}

func (a *app) printSnapshot(s host.ShownSnapshot) error {
	m := s.Manifest
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "name\t%s\ndirectory\t%s\nvolume\t%s\ncluster\t%s\nmade\t%s\n", m.Name, s.Dir, m.Volume, m.Cluster, clock(m.Created))
	fmt.Fprintf(t, "objects\t%d\nbytes\t%d\nwriters held for\t%s\ntook\t%s\n", m.Objects, m.Bytes, micros(m.Held), micros(m.Took))
	for _, mk := range s.Keys.MasterKeys {
		for _, k := range mk.Wraps {
			fmt.Fprintf(t, "master key %s\topened by %s version %s, of %s\n", mk.ID, k.KeyID, k.Version, clock(k.Created))
		}
	}
	return t.Flush()
}

func newSnapshotRestore(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore VOLUME NAME DIR",
		Short: "Make a volume of a snapshot",
		Long: `Make a volume of snapshot NAME of VOLUME in DIR, which is missing or empty. It is
encrypted as its original is, and opened by the keys of the snapshot's day; no
key is needed to restore it. Mount it as any other, beside the original too:
nothing that the two write can give anything away about the other.

A restore that was interrupted is continued by the same command. On XFS and
btrfs, blocks are shared with the snapshot.`,
		Example:           "  akvfs snapshot restore /data/enc nightly-1 /data/restored",
		Args:              args("VOLUME", "NAME", "DIR"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			bar := newProgress(a.err)
			defer bar.end()
			m, err := a.restore(ctx, given[0], given[1], given[2], bar)
			if err != nil {
				return a.stopped(err, "the same command goes on where it stopped")
			}
			bar.end()
			_, err = fmt.Fprintf(a.out, "%s: %d objects, %d bytes of snapshot %s\n", given[2], m.Objects, m.Bytes, m.Name)
			return err
		},
	}
	return cmd
}

func (a *app) restore(ctx context.Context, name, which, dir string, bar *progress) (m *snapshot.Manifest, err error) {
	if a.served(ctx, name) {
		var r host.Snapshot
		params := host.RestoreParams{SnapshotParams: host.SnapshotParams{Of: volumeOf(name), Name: which}, Dir: absolute(dir)}
		err := askFor(ctx, a, host.MethodSnapshotRestore, params, &r, bar.snapshot)
		return r.Manifest, err
	}
	err = a.withSnapshot(ctx, name, which, func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
		m = s.Manifest
		if err := snapshot.Restore(ctx, s, dir, bar.snapshot); err != nil {
			return err
		}
		// What another volume in this place was says nothing about this one.
		return daemon.ForgetSeen(a.stateDir(), m.Volume, dir)
	})
	return m, err
}

func newSnapshotDelete(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "delete VOLUME NAME",
		Short:             "Delete a snapshot",
		Long:              "Delete snapshot NAME of VOLUME. Its name goes at once; the next command on\nsnapshots removes what an interrupted one leaves.",
		Example:           "  akvfs snapshot delete /var/lib/mongodb nightly-1",
		Args:              args("VOLUME", "NAME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if a.served(ctx, given[0]) {
				return a.ask(ctx, host.MethodSnapshotDelete, host.SnapshotParams{Of: volumeOf(given[0]), Name: given[1]}, nil, nil)
			}
			return a.withSnapshot(ctx, given[0], given[1], func(c *snapshot.Collection, s *snapshot.Snapshot) error {
				return c.Delete(s.Manifest.Name)
			})
		},
	}
}
