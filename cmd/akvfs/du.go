package main

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"github.com/spf13/cobra"
)

func newDu(a *app) *cobra.Command {
	var u usage
	cmd := &cobra.Command{
		Use:   "du VOLUME [PATH...]",
		Short: "Add up the space that a volume's files take",
		Long: `Add up what files in VOLUME take on the backing disk, in KiB, for each directory
below the PATHs and for these. A file with several names counts once. A PATH
may be a pattern (see akvfs ls).`,
		Example: `  akvfs du -s /data/enc
  akvfs du --apparent-size /data/enc journal`,
	}
	cmd.Flags().BoolVarP(&u.summarize, "summarize", "s", false, "only the PATHs themselves")
	cmd.Flags().BoolVar(&u.apparent, "apparent-size", false, "add up sizes of plaintext instead")
	return a.readCommand(cmd, func(ctx context.Context, t tree, paths []string) error {
		if len(paths) == 0 {
			paths = []string{"."}
		}
		u.ctx, u.tree, u.seen = ctx, t, map[uint64]bool{}
		u.print = func(kib int64, name string) error {
			_, err := fmt.Fprintf(a.out, "%d\t%s\n", kib, printable(name))
			return err
		}
		for _, p := range paths {
			bytes, err := u.sum(p)
			if err != nil {
				return err
			}
			if err := u.print((bytes+1023)/1024, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// usage is one run of du.
type usage struct {
	ctx                 context.Context
	tree                tree
	summarize, apparent bool
	seen                map[uint64]bool // inodes with several names
	print               func(kib int64, name string) error
}

// sum adds up an object and all below it, in bytes, and prints the directories below.
func (u *usage) sum(name string) (total int64, err error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	info, err := u.tree.Lstat(name)
	if err != nil {
		return 0, err
	}
	total = u.own(info)
	if !info.IsDir() {
		return total, nil
	}
	entries, err := u.tree.ReadDir(name)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		below := path.Join(name, e.Name())
		n, err := u.sum(below)
		if err != nil {
			return 0, err
		}
		total += n
		if e.IsDir() && !u.summarize {
			if err := u.print((n+1023)/1024, below); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

func (u *usage) own(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && !info.IsDir() && st.Nlink > 1 {
		if u.seen[st.Ino] {
			return 0
		}
		u.seen[st.Ino] = true
	}
	switch {
	case u.apparent && info.Mode().IsRegular():
		return info.Size()
	case u.apparent || !ok:
		return 0
	}
	return st.Blocks * 512
}
