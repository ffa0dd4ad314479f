package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// fileStatus is what `akvfs stat --json` prints of a file.
type fileStatus struct {
	Path       string            `json:"path"`
	Type       string            `json:"type"`
	Mode       string            `json:"mode"` // octal, with set-ID and sticky bits
	Links      uint64            `json:"links"`
	UID        uint32            `json:"uid"`
	GID        uint32            `json:"gid"`
	Size       int64             `json:"size"`      // bytes
	Allocated  int64             `json:"allocated"` // bytes on the backing disk
	Inode      uint64            `json:"inode"`
	Modified   time.Time         `json:"modified"`
	Target     string            `json:"target,omitempty"` // of a symbolic link
	Attributes map[string][]byte `json:"xattrs,omitempty"` // values in base64
}

func newStat(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat VOLUME PATH...",
		Short: "Describe files of a volume, mounted or not",
		Long: `Describe files and directories in VOLUME: type, mode, owner, sizes, times and
extended attributes. A PATH may be a pattern (see akvfs ls). --json prints an
array.`,
		Example: `  akvfs stat /data/enc storage.bson
  akvfs stat /data/enc 'journal/*' --json`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return a.readCommand(cmd, func(_ context.Context, t tree, paths []string) error {
		if len(paths) == 0 {
			return &usageError{cmd.CommandPath(), errors.New("PATH is missing")}
		}
		var all []fileStatus
		for _, p := range paths {
			s, err := statusOfFile(t, p)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		if asJSON {
			return a.printJSON(all)
		}
		for _, s := range all {
			if err := a.printFileStatus(s); err != nil {
				return err
			}
		}
		return nil
	})
}

func statusOfFile(t tree, name string) (fileStatus, error) {
	info, err := t.Lstat(name)
	if err != nil {
		return fileStatus{}, err
	}
	s := fileStatus{Path: name, Type: typeName(info.Mode()), Size: info.Size(), Modified: info.ModTime().UTC()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Mode = fmt.Sprintf("%04o", st.Mode&0o7777)
		s.Links, s.UID, s.GID, s.Allocated, s.Inode = uint64(st.Nlink), st.Uid, st.Gid, st.Blocks*512, st.Ino
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if s.Target, err = t.ReadLink(name); err != nil {
			return s, err
		}
	}
	s.Attributes, err = t.Xattrs(name)
	return s, err
}

func typeName(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

func (a *app) printFileStatus(s fileStatus) error {
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("Path", "%s", printable(s.Path))
	row("  type", "%s, mode %s, %d links", s.Type, s.Mode, s.Links)
	row("  owner", "user %d, group %d", s.UID, s.GID)
	row("  size", "%d bytes, %d allocated", s.Size, s.Allocated)
	row("  modified", "%s", clock(s.Modified))
	row("  inode", "%d", s.Inode)
	if s.Target != "" {
		row("  target", "%s", printable(s.Target))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Attributes)) {
		row("  "+printable(name), "%q", s.Attributes[name])
	}
	return t.Flush()
}
