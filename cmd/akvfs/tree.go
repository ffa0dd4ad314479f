package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
	akvfs "github.com/akvfs/akvfs/fs"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/export"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/snapshot"
)

// tree is the plaintext of a volume, mounted or not.
type tree interface {
	export.Tree
	io.Closer
}

// mountTree is that of a mounted volume: what its mount shows.
type mountTree struct {
	fs.ReadDirFS
	fs.ReadLinkFS
	root *os.Root
}

func (m *mountTree) Open(name string) (fs.File, error) { return m.ReadDirFS.Open(name) }
func (m *mountTree) Close() error                      { return m.root.Close() }

// Xattrs are an object's extended attributes.
func (m *mountTree) Xattrs(name string) (map[string][]byte, error) {
	full := filepath.Join(m.root.Name(), filepath.FromSlash(name))
	list := make([]byte, 64<<10) // the kernel's own bound for names and for a value
	n, err := unix.Llistxattr(full, list)
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	attrs := map[string][]byte{}
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(full, attr, value)
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr", Path: name, Err: err}
		}
		attrs[attr] = value[:n]
	}
	return attrs, nil
}

// openTree opens a volume for reading: through its mount if it is mounted,
// else by its keys, without a mount.
func (a *app) openTree(ctx context.Context, name string, o openOptions) (tree, error) {
	s, err := daemon.StatusOf(ctx, a.runDirFor(name), name)
	if err != nil {
		return nil, err
	}
	if s.State != daemon.StateUnmounted && s.Mountpoint != "" {
		root, err := os.OpenRoot(s.Mountpoint)
		if err != nil {
			return nil, err
		}
		f := root.FS()
		return &mountTree{f.(fs.ReadDirFS), f.(fs.ReadLinkFS), root}, nil
	}
	if err := harden(crypto.HardenProcess); err != nil {
		return nil, err
	}
	return a.openUnmounted(ctx, s.Backing, o)
}

// openUnmounted opens the volume in a backing directory by its keys, and has
// that put on record.
func (a *app) openUnmounted(ctx context.Context, backing string, o openOptions) (*akvfs.FS, error) {
	access := a.access(backing, o.timeout)
	access.NamesOnly = o.namesOnly
	access.Brief = o.namesOnly // docs/SECURITY.md tells what that leaves
	return access.Open(ctx, backing)
}

// access is this process's to the volumes that lie where one does.
func (a *app) access(path string, timeout time.Duration) host.Access {
	return host.Access{RunDir: a.runDir(), StateDir: a.stateDir(), Openers: a.openersFor(path), KeyTimeout: timeout}
}

// openTreeAt opens a volume, or a snapshot of it, for reading.
func (a *app) openTreeAt(ctx context.Context, name, at string, o openOptions) (t tree, err error) {
	if at == "" {
		return a.openTree(ctx, name, o)
	}
	err = a.withSnapshot(ctx, name, at, func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
		t, err = a.openTree(ctx, s.Dir, o)
		return err
	})
	return t, err
}

// openOptions say how a volume is opened that is not mounted.
type openOptions struct {
	timeout   time.Duration // for the key vault
	namesOnly bool          // see akvfs.Options
}

// readCommand is a command that reads from a volume: VOLUME and then paths in
// it, which may be patterns.
func (a *app) readCommand(cmd *cobra.Command, read func(ctx context.Context, t tree, paths []string) error) *cobra.Command {
	return a.listCommand(cmd, func() bool { return false }, read)
}

// listCommand is a readCommand that may want names alone.
func (a *app) listCommand(cmd *cobra.Command, namesOnly func() bool, read func(ctx context.Context, t tree, paths []string) error) *cobra.Command {
	timeout := daemon.DefaultKeyTimeout
	var at string
	cmd.Flags().StringVar(&at, "at", "", "read `SNAPSHOT` of the volume instead")
	cmd.Flags().DurationVar(&timeout, "key-timeout", timeout, "how long an attempt to reach the key vault may take")
	cmd.ValidArgsFunction = directories
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		return args("VOLUME")(cmd, given[:min(len(given), 1)])
	}
	cmd.RunE = func(cmd *cobra.Command, given []string) (err error) {
		defer rareCollections()()
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		t, err := a.openTreeAt(ctx, given[0], at, openOptions{timeout, namesOnly()})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		paths, err := expand(t, given[1:])
		if err != nil {
			return err
		}
		return read(ctx, t, paths)
	}
	return cmd
}

// rareCollections lets a hundred megabytes of garbage be until the function
// that it gives is called. A command that soon ends has little that is not
// garbage, and with a heap of 4 MiB would collect for half of its time.
func rareCollections() func() {
	ballast := make([]byte, 128<<20) // counts for the collector, and is never touched
	return func() { runtime.KeepAlive(ballast) }
}

// expand turns the paths of a command line into those of a tree. One with *, ?,
// [ or { in it is a pattern, in which ** stands for any directories; one that
// is there as it stands is no pattern.
func expand(t tree, given []string) (paths []string, err error) {
	for _, arg := range given {
		name := path.Clean(strings.TrimLeft(arg, "/"))
		_, statErr := t.Lstat(name)
		if statErr == nil || !strings.ContainsAny(name, "*?[{") {
			if statErr != nil {
				return nil, statErr
			}
			paths = append(paths, name)
			continue
		}
		found, err := doublestar.Glob(t, name, doublestar.WithNoFollow(), doublestar.WithFailOnIOErrors())
		if err != nil {
			return nil, &fs.PathError{Op: "match", Path: arg, Err: err}
		}
		if len(found) == 0 {
			return nil, &fs.PathError{Op: "match", Path: arg, Err: fs.ErrNotExist}
		}
		paths = append(paths, found...)
	}
	return paths, nil
}
