package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/snapshot"
)

// damagedError says that a snapshot is not what it was made.
type damagedError struct{ name string }

func (e *damagedError) Error() string { return fmt.Sprintf("snapshot %s is damaged", e.name) }

func newSnapshotVerify(a *app) *cobra.Command {
	var f keyFlags
	var v verification
	cmd := &cobra.Command{
		Use:   "verify VOLUME NAME",
		Short: "Prove that a snapshot, or a stream, is what it was made",
		Long: `Hold snapshot NAME of VOLUME against its manifest: every object with its
attributes, and the authentication tags of every block. Then, with the keys,
prove the manifest and decrypt every block. With --no-key that is left out: a
block of data that was changed is then not found.

A verification that was interrupted is continued with --resume: files whose
blocks were proven by then are not read again.

With --input FILE it is a stream, as akvfs snapshot export writes it, that is
held against its checksums; - is standard input.

What is damaged is listed, and the exit status is 14.`,
		Example: `  akvfs snapshot verify /var/lib/mongodb nightly-1
  akvfs snapshot verify /backup/rs0 nightly-1 --no-key --json
  akvfs snapshot verify --input /backup/nightly-1.akvfs`,
		Args: func(cmd *cobra.Command, given []string) error {
			if v.input != "" {
				return args()(cmd, given)
			}
			return args("VOLUME", "NAME")(cmd, given)
		},
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if v.input != "" {
				return a.verifyStream(ctx, cmd, v.input, f.json)
			}
			return a.verifySnapshot(ctx, given[0], given[1], v, f)
		},
	}
	cmd.Flags().BoolVar(&v.noKey, "no-key", false, "use no keys, and leave out what needs them")
	cmd.Flags().BoolVar(&v.resume, "resume", false, "go on where the last verification of the snapshot was interrupted")
	cmd.Flags().StringVar(&v.input, "input", "", "verify the stream in `FILE` instead")
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

// verification is what to verify, and how.
type verification struct {
	noKey, resume bool
	input         string // a stream's file
}

func (a *app) verifySnapshot(ctx context.Context, name, which string, v verification, f keyFlags) error {
	bar := newProgress(a.err)
	defer bar.end()
	r, err := a.verify(ctx, name, which, v, f.timeout, bar)
	if err != nil {
		if r != nil {
			for _, d := range r.Damages { // which may be why
				fmt.Fprintln(a.err, d)
			}
		}
		return a.stopped(err, "with --resume, the same command goes on where it stopped")
	}
	bar.end()
	if f.json {
		err = a.printJSON(r)
	} else {
		for _, d := range r.Damages {
			fmt.Fprintln(a.out, d)
		}
		_, err = fmt.Fprintf(a.out, "snapshot %s: %s\n", which, r.Summary())
	}
	if err == nil && len(r.Damages) > 0 {
		err = &damagedError{which}
	}
	return err
}

// verify proves a snapshot as far as noKey allows.
func (a *app) verify(ctx context.Context, name, which string, v verification, timeout time.Duration, bar *progress) (r *snapshot.Report, err error) {
	if a.served(ctx, name) {
		params := host.VerifyParams{
			SnapshotParams: host.SnapshotParams{Of: volumeOf(name), Name: which}, NoKey: v.noKey, Resume: v.resume, Timeout: timeout.String(),
		}
		err = askFor(ctx, a, host.MethodSnapshotVerify, params, &r, bar.snapshot)
		return r, err
	}
	if !v.noKey {
		if err := harden(crypto.HardenProcess); err != nil {
			return nil, err
		}
	}
	err = a.withSnapshot(ctx, name, which, func(_ *snapshot.Collection, s *snapshot.Snapshot) (err error) {
		r, err = host.Verify(ctx, s, host.Verification{
			Access: a.access(s.Dir, timeout), NoKey: v.noKey, Resume: v.resume, Progress: bar.snapshot,
		})
		return err
	})
	return r, err
}

// verifyStream verifies a stream in a file, or of standard input.
func (a *app) verifyStream(ctx context.Context, cmd *cobra.Command, name string, asJSON bool) error {
	if name == "-" {
		name = ""
	}
	in, err := openStream(cmd, name)
	if err != nil {
		return err
	}
	defer in.Close()
	bar := newProgress(a.err)
	defer bar.end()
	info, err := snapshot.VerifyStream(ctx, bufio.NewReaderSize(in, 1<<20), bar.snapshot)
	if err != nil {
		return err
	}
	bar.end()
	if asJSON {
		return a.printJSON(info)
	}
	what := ""
	if info.Base != "" {
		what = " since " + info.Base
	}
	_, err = fmt.Fprintf(a.out, "snapshot %s%s: a stream of %d bytes and %d files: no damage\n", info.Name, what, info.Bytes, info.Files)
	return err
}

func newSnapshotPrune(a *app) *cobra.Command {
	var keep int
	var older string
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune VOLUME",
		Short: "Delete old snapshots of a volume",
		Long: `Delete the snapshots of VOLUME that are older than --older-than (30d, 12h), but
never the newest --keep of them. With --keep alone, all but the newest are
deleted. What is deleted is listed.`,
		Example:           "  akvfs snapshot prune /var/lib/mongodb --keep 7\n  akvfs snapshot prune /data/enc --older-than 30d --keep 3 --dry-run",
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			var age time.Duration
			var err error
			if older != "" {
				if age, err = parseAge(older); err != nil {
					err = fmt.Errorf("--older-than %w", err)
				}
			}
			if err == nil && keep <= 0 && age == 0 {
				err = errors.New("say what to keep: --keep N, --older-than AGE or both")
			}
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.prune(ctx, given[0], keep, age, dry)
		},
	}
	cmd.Flags().IntVar(&keep, "keep", 0, "how many of the newest to keep in any case")
	cmd.Flags().StringVar(&older, "older-than", "", "delete only what is of this `AGE`, such as 30d or 12h")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "list what would be deleted, and delete nothing")
	return cmd
}

// prune deletes what is old, the oldest first, of all collections together.
func (a *app) prune(ctx context.Context, name string, keep int, age time.Duration, dry bool) error {
	gone := func(s host.Snapshot) { fmt.Fprintf(a.out, "%s\t%s\n", s.Name, s.Dir) }
	if a.served(ctx, name) {
		params := host.PruneParams{Of: volumeOf(name), Keep: keep, OlderThan: age.String(), DryRun: dry}
		return askFor(ctx, a, host.MethodSnapshotPrune, params, nil, gone)
	}
	all, err := a.allSnapshots(ctx, name)
	if err != nil {
		return err
	}
	for _, s := range host.Prunable(all, keep, age, time.Now()) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !dry {
			if err := host.DeleteSnapshot(s); err != nil {
				return err
			}
		}
		gone(s)
	}
	return nil
}

func newSnapshotRewrap(a *app) *cobra.Command {
	var f keyFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "rewrap VOLUME [NAME...]",
		Short: "Bring snapshots under a newer version of their key, or another key",
		Long: `Wrap the master keys of snapshots NAME of VOLUME under the newest version of
their key, or with --to under another one, so that the version of their day may
be disabled. No data is touched, and the new key is proven first; the old one
must still open them. With --all it is every snapshot, one after the other: the
first that fails ends it, and the same command goes on from there.`,
		Example: "  akvfs snapshot rewrap /data/enc --all\n  akvfs snapshot rewrap /data/enc nightly-1 --to https://vault2.vault.azure.net/keys/mongo",
		Args: func(cmd *cobra.Command, given []string) error {
			return args("VOLUME")(cmd, given[:min(len(given), 1)])
		},
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if all == (len(given) > 1) {
				return &usageError{cmd.CommandPath(), errors.New("name the snapshots, or give --all")}
			}
			if err := f.check(cmd); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			names := given[1:]
			if all {
				listed, err := a.allSnapshots(ctx, given[0])
				if err != nil {
					return err
				}
				for _, s := range listed {
					names = append(names, s.Name)
				}
			}
			for _, name := range names {
				if err := a.rewrapSnapshot(ctx, f, given[0], name); err != nil {
					return fmt.Errorf("snapshot %s: %w", name, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every snapshot of the volume")
	f.addTarget(cmd)
	f.addTimeout(cmd)
	return cmd
}

// rewrapSnapshot rotates the key of a snapshot, which is a volume as to that.
func (a *app) rewrapSnapshot(ctx context.Context, f keyFlags, volume, name string) error {
	return a.withSnapshot(ctx, volume, name, func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
		var c daemon.KeyChange
		if err := a.keyCall(ctx, f, s.Dir, daemon.MethodKeyRotate, f.KeyParams, &c, nil); err != nil {
			return err
		}
		what := "is under the newest version already"
		if c.Changed {
			what = fmt.Sprintf("is opened by %s version %s", c.After.KeyID, c.After.Version)
		}
		_, err := fmt.Fprintf(a.out, "%s %s\n", name, what)
		return err
	})
}
