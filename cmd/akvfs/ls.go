package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newLs(a *app) *cobra.Command {
	var l lister
	cmd := &cobra.Command{
		Use:   "ls VOLUME [PATH...]",
		Short: "List files of a volume, mounted or not",
		Long: `List what is in VOLUME, a backing directory, mount point or volume ID, or at
PATHs in it. A PATH may be a pattern: *, ?, [a-z], {a,b}, and ** for any
directories. An unmounted volume is opened with its key and only read; with -l,
if its daemon was killed, it is recovered in memory.`,
		Example: `  akvfs ls /data/enc
  akvfs ls -l -R /data/enc journal
  akvfs ls /data/enc '**/*.wt'`,
	}
	a.listCommand(cmd, func() bool { return !l.long }, func(ctx context.Context, t tree, paths []string) error {
		out := bufio.NewWriterSize(a.out, 64<<10)
		l.ctx, l.tree, l.out = ctx, t, out
		err := l.list(paths)
		return errors.Join(err, out.Flush())
	})
	cmd.Flags().BoolVarP(&l.long, "long", "l", false, "mode, links, owner, group, size and time, too")
	cmd.Flags().BoolVarP(&l.recursive, "recursive", "R", false, "directories below, too")
	return cmd
}

// lister is one run of ls.
type lister struct {
	ctx             context.Context
	tree            tree
	out             *bufio.Writer
	long, recursive bool
	headed          bool // something was printed that a heading has to keep off from
}

// list lists the paths: files first, then directories by their content, with
// headings if there is more than one.
func (l *lister) list(paths []string) error {
	if len(paths) == 0 {
		paths = []string{"."}
	}
	var files []fs.FileInfo
	var names, dirs []string
	for _, p := range paths {
		info, err := l.tree.Lstat(p)
		if err != nil {
			return err
		}
		if info.IsDir() {
			dirs = append(dirs, p)
		} else {
			files, names = append(files, info), append(names, p)
		}
	}
	if err := l.print(".", names, files); err != nil {
		return err
	}
	l.headed = len(files) > 0
	for _, d := range dirs {
		entries, err := l.tree.ReadDir(d)
		if err == nil {
			err = l.directory(d, entries, len(paths) > 1 || l.recursive)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// directory lists a directory that has been read.
func (l *lister) directory(name string, entries []fs.DirEntry, heading bool) (err error) {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if heading {
		blank := ""
		if l.headed {
			blank = "\n"
		}
		fmt.Fprintf(l.out, "%s%s:\n", blank, printable(name))
		l.headed = true
	}
	names := make([]string, len(entries))
	infos := make([]fs.FileInfo, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
		if l.long {
			if infos[i], err = e.Info(); err != nil {
				return err
			}
		}
	}
	if err := l.print(name, names, infos); err != nil || !l.recursive {
		return err
	}
	return l.below(name, entries)
}

// below lists the directories among the entries of one, while the next few are
// being read.
func (l *lister) below(name string, entries []fs.DirEntry) error {
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, path.Join(name, e.Name()))
		}
	}
	var ahead []<-chan dirRead
	for i, d := range dirs {
		for next := i + len(ahead); next < len(dirs) && len(ahead) <= runtime.GOMAXPROCS(0); next++ {
			ahead = append(ahead, l.read(dirs[next]))
		}
		r := <-ahead[0]
		ahead = ahead[1:]
		if r.err != nil {
			return r.err
		}
		if err := l.directory(d, r.entries, true); err != nil {
			return err
		}
	}
	return nil
}

// dirRead is a directory that was read.
type dirRead struct {
	entries []fs.DirEntry
	err     error
}

// read reads a directory beside what else is done.
func (l *lister) read(name string) <-chan dirRead {
	done := make(chan dirRead, 1)
	go func() {
		entries, err := l.tree.ReadDir(name)
		done <- dirRead{entries, err}
	}()
	return done
}

// print prints a line for each name in a directory.
func (l *lister) print(dir string, names []string, infos []fs.FileInfo) error {
	if !l.long {
		for _, n := range names {
			if _, err := l.out.WriteString(printable(n) + "\n"); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(l.out, 0, 0, 1, ' ', tabwriter.AlignRight)
	for i, n := range names {
		info := infos[i]
		var st syscall.Stat_t
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			st = *s
		}
		name := printable(n)
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err := l.tree.ReadLink(path.Join(dir, n)); err == nil {
				name += " -> " + printable(target)
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s %s\n", info.Mode(), st.Nlink, st.Uid, st.Gid, info.Size(),
			info.ModTime().Local().Format("2006-01-02 15:04:05"), name)
	}
	return t.Flush()
}

// printable quotes a name with characters that would upset a terminal or a
// script that reads lines.
func printable(name string) string {
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return fmt.Sprintf("%q", name)
		}
	}
	return strings.TrimPrefix(name, "./")
}
