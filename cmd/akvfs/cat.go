package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newCat(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cat VOLUME PATH...",
		Short: "Print files of a volume, mounted or not",
		Long: `Write the contents of files in VOLUME to standard output, one after another. A
PATH may be a pattern (see akvfs ls). A file that was tampered with is an
integrity failure, exit status 14, where it is met; what was printed before is
authentic.`,
		Example: `  akvfs cat /data/enc storage.bson | bsondump
  akvfs cat /data/enc 'diagnostic.data/*' > metrics`,
	}
	return a.readCommand(cmd, func(ctx context.Context, t tree, paths []string) error {
		if len(paths) == 0 {
			return &usageError{cmd.CommandPath(), errors.New("PATH is missing")}
		}
		for _, p := range paths {
			if err := copyOut(ctx, t, p, a.out); err != nil {
				return err
			}
		}
		return nil
	})
}

func copyOut(ctx context.Context, t tree, name string, out io.Writer) error {
	f, err := t.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", name)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() }) // ends a copy that waits for its reader
	defer stop()
	_, err = io.Copy(out, f)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
