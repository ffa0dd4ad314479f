package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/volume"
)

func newSnapshotExport(a *app) *cobra.Command {
	var f keyFlags
	var base, output string
	cmd := &cobra.Command{
		Use:   "export VOLUME NAME",
		Short: "Write a snapshot as one encrypted stream",
		Long: `Write snapshot NAME of VOLUME as one stream, to standard output or to FILE. It
is encrypted as the snapshot is, no key is needed, and akvfs snapshot import
makes a snapshot of it again, on another host, too.

With --base OLD, an older snapshot of the volume, the stream holds only the
blocks that have changed since; whoever imports it must have OLD.

With --output, FILE.partial is written until the stream is whole. An export that
was interrupted is continued by the same command: what is there is held against
its checksums, and the rest added.`,
		Example: `  akvfs snapshot export /var/lib/mongodb nightly-2 --output /backup/nightly-2.akvfs
  akvfs snapshot export /data/enc nightly-2 --base nightly-1 | ssh host akvfs snapshot import /backup/rs0`,
		Args:              args("VOLUME", "NAME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			switch {
			case output == "" && f.json:
				return &usageError{cmd.CommandPath(), errors.New("--json goes with --output: the stream goes to standard output")}
			case output == "" && isTerminal(a.out):
				return &usageError{cmd.CommandPath(), errors.New("a stream does not go to a terminal: redirect it, or use --output FILE")}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.withSnapshot(ctx, given[0], given[1], func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
				if base == "" {
					return a.exportSnapshot(ctx, s, nil, output, f.json)
				}
				return a.withSnapshot(ctx, given[0], base, func(_ *snapshot.Collection, old *snapshot.Snapshot) error {
					return a.exportSnapshot(ctx, s, old, output, f.json)
				})
			})
		},
	}
	cmd.Flags().StringVar(&base, "base", "", "write only what has changed since snapshot `OLD`")
	cmd.Flags().StringVar(&output, "output", "", "the `FILE` to write, instead of standard output")
	f.addJSON(cmd)
	return cmd
}

// exportSnapshot writes a snapshot to a file; "": to standard output.
func (a *app) exportSnapshot(ctx context.Context, s, base *snapshot.Snapshot, output string, asJSON bool) error {
	bar := newProgress(a.err)
	defer bar.end()
	if output == "" {
		_, err := snapshot.Export(ctx, a.out, s, base, bar.snapshot)
		return a.stopped(err, "the stream is not whole, and no import takes it")
	}
	done, err := snapshot.ExportFile(ctx, output, s, base, bar.snapshot)
	if err != nil {
		return a.stopped(err, "the same command goes on where it stopped")
	}
	bar.end()
	if asJSON {
		return a.printJSON(done)
	}
	what := "snapshot " + done.Name
	if done.Base != "" {
		what += " since " + done.Base
	}
	if done.Kept > 0 {
		what += fmt.Sprintf(" (%d bytes were there already)", done.Kept)
	}
	_, err = fmt.Fprintf(a.out, "%s: %d bytes, %s\n", done.Path, done.Bytes, what)
	return err
}

func newSnapshotImport(a *app) *cobra.Command {
	var f keyFlags
	var input string
	cmd := &cobra.Command{
		Use:   "import VOLUME|DIR",
		Short: "Make a snapshot of a stream",
		Long: `Make a snapshot of the stream that akvfs snapshot export wrote, from standard
input or from FILE, among the snapshots of VOLUME, or in DIR, a directory of
snapshots that need not exist yet. No key is needed.

The stream is held against its checksums, and the snapshot against its manifest,
before it gets its name: an import that fails or is interrupted leaves nothing.
A stream with the difference from an older snapshot needs that one beside it.`,
		Example: `  akvfs snapshot import /backup/rs0 --input /backup/nightly-2.akvfs
  akvfs snapshot import /backup/rs0 < nightly-2.akvfs`,
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			in, err := openStream(cmd, input)
			if err != nil {
				return err
			}
			defer in.Close()
			dir, want, err := a.collectionFor(ctx, given[0])
			if err != nil {
				return err
			}
			s, err := a.importSnapshot(ctx, in, dir, want)
			if err != nil {
				return err
			}
			if f.json {
				return a.printJSON(host.Snapshot{Dir: s.Dir, Manifest: s.Manifest})
			}
			_, err = fmt.Fprintf(a.out, "snapshot %s: %d objects, %d bytes\n%s\n", s.Manifest.Name, s.Manifest.Objects, s.Manifest.Bytes, s.Dir)
			return err
		},
	}
	cmd.Flags().StringVar(&input, "input", "", "the `FILE` to read, instead of standard input")
	f.addJSON(cmd)
	return cmd
}

// openStream opens a file to read a stream from; "": standard input.
func openStream(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name != "" {
		return os.Open(name)
	}
	if isTerminal(os.Stdin) {
		return nil, &usageError{cmd.CommandPath(), errors.New("a stream does not come from a terminal: redirect it, or use --input FILE")}
	}
	return io.NopCloser(os.Stdin), nil
}

// collectionFor is the directory that a snapshot is imported to: a volume's own,
// which takes snapshots of that volume alone, or a directory as it is named.
func (a *app) collectionFor(ctx context.Context, name string) (dir string, want uuid.UUID, err error) {
	s, err := daemon.StatusOf(ctx, a.runDir(), name)
	var missing *daemon.PathError
	if errors.Is(err, volume.ErrNotVolume) || errors.As(err, &missing) {
		return name, uuid.Nil, nil
	}
	if err != nil {
		return "", uuid.Nil, err
	}
	want, err = uuid.Parse(s.VolumeID)
	return snapshot.DefaultDir(s.Backing), want, err
}

func (a *app) importSnapshot(ctx context.Context, in io.Reader, dir string, want uuid.UUID) (*snapshot.Snapshot, error) {
	c, err := snapshot.OpenCollection(dir, true)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	bar := newProgress(a.err)
	defer bar.end()
	m, err := snapshot.Import(ctx, bufio.NewReaderSize(in, 1<<20), c, want, bar.snapshot)
	if err != nil {
		return nil, err
	}
	return c.Get(m.Name)
}
