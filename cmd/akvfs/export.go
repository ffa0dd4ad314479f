package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/export"
	"github.com/akvfs/akvfs/fs/volume"
)

func newExport(a *app) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "export VOLUME [PATH...]",
		Short: "Copy a volume's plaintext out, as a tar stream or into a directory",
		Long: `Write what is at PATHs in VOLUME, or all of it, to standard output as a tar
stream, or with --to into a directory. A PATH may be a pattern (see akvfs ls).
Owners, modes, times, extended attributes and hard links come along; into a
directory, holes do as well, and an export that was interrupted goes on where
it stopped: what is there with the same size and time is kept.

What comes out is plaintext. Mind where it goes.`,
		Example: `  akvfs export /data/enc > plain.tar
  akvfs export /data/enc 'collection-*.wt' | ssh host tar xf -
  akvfs export /data/enc --to /restore/dbpath`,
	}
	cmd.Flags().StringVar(&to, "to", "", "the `DIR`ectory to copy into, instead of a tar stream")
	return a.readCommand(cmd, func(ctx context.Context, t tree, paths []string) error {
		if len(paths) == 0 {
			paths = []string{"."}
		}
		p := newProgress(a.err)
		defer p.end()
		if to != "" {
			err := export.Dir(ctx, t, paths, to, p.observe)
			return a.stopped(err, "the same command goes on where it stopped")
		}
		if isTerminal(a.out) {
			return &usageError{cmd.CommandPath(), errors.New("a tar stream does not go to a terminal: redirect it, or use --to DIR")}
		}
		return a.stopped(export.Tar(ctx, t, paths, a.out, p.observe), "the tar stream is not complete")
	})
}

// progress shows how far long work is, on a terminal and nowhere else.
type progress struct{ bar *progressbar.ProgressBar }

func newProgress(w io.Writer) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	return &progress{progressbar.NewOptions64(-1, progressbar.OptionSetWriter(w), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true))}
}

func (p *progress) observe(now export.Progress) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%d files", now.Objects))
		_ = p.bar.Set64(now.Bytes) // what cannot be shown is no reason to stop
	}
}

func (p *progress) scrub(now volume.ScrubProgress) {
	p.observe(export.Progress{Objects: int64(now.Objects), Bytes: int64(now.Bytes)})
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
