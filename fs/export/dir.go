package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir copies the paths and all below them into a directory, which is made if
// it is missing. What is there already with the same size and time of
// modification is kept, so that an export that was interrupted goes on about
// where it stopped: a file gets its time only when its content is durable.
// Owners are set where the process may. All of it is durable when Dir returns.
func Dir(ctx context.Context, t Tree, paths []string, dest string, o Observer) error {
	if err := os.MkdirAll(dest, 0o700); err != nil {
		return err
	}
	d := &dirExport{walker: newWalker(t, o), ctx: ctx, dest: dest}
	if err := d.walk(ctx, paths, d.object); err != nil {
		return err
	}
	if err := d.settle(); err != nil {
		return err
	}
	// Modes and times of directories come last: what is put into them needs
	// the one and changes the other.
	for _, o := range slices.Backward(d.dirs) {
		if err := d.attributes(o); err != nil {
			return err
		}
	}
	return syncAll(dest)
}

type dirExport struct {
	*walker
	ctx  context.Context
	dest string
	dirs []*object

	fresh []*object // files that are copied, and not durable yet
	bytes int64     // of them
}

// Bounds of what is copied before it is made durable: an end before that costs
// as much again.
const (
	freshFiles = 1000
	freshBytes = 256 << 20
)

// settle makes durable what was copied, and then gives it its attributes.
func (d *dirExport) settle() error {
	if len(d.fresh) == 0 {
		return nil
	}
	if err := syncAll(d.dest); err != nil {
		return err
	}
	for _, o := range d.fresh {
		if err := d.attributes(o); err != nil {
			return err
		}
	}
	d.fresh, d.bytes = nil, 0
	return nil
}

func (d *dirExport) path(name string) string { return filepath.Join(d.dest, filepath.FromSlash(name)) }

func (d *dirExport) object(o *object) error {
	path := d.path(o.name)
	if o.info.IsDir() {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		d.dirs = append(d.dirs, o)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if o.info.Mode().IsRegular() && o.same == "" && unchanged(path, o.info) {
		return d.attributes(o)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if o.same != "" {
		return os.Link(d.path(o.same), path)
	}
	if err := d.create(o, path); err != nil {
		return err
	}
	if !o.info.Mode().IsRegular() {
		return d.attributes(o)
	}
	d.fresh, d.bytes = append(d.fresh, o), d.bytes+o.info.Size()
	if len(d.fresh) < freshFiles && d.bytes < freshBytes {
		return nil
	}
	return d.settle()
}

// unchanged reports whether a file was exported already. The time is what is
// set last.
func unchanged(path string, info fs.FileInfo) bool {
	have, err := os.Lstat(path)
	return err == nil && have.Mode().IsRegular() && have.Size() == info.Size() && have.ModTime().Equal(info.ModTime())
}

// create makes anything but a directory.
func (d *dirExport) create(o *object, path string) error {
	switch {
	case o.info.Mode().IsRegular():
		return d.copy(o, path)
	case o.info.Mode()&fs.ModeSymlink != 0:
		target, err := d.tree.ReadLink(o.name)
		if err != nil {
			return err
		}
		return os.Symlink(target, path)
	case o.stat == nil:
		return fmt.Errorf("%s: unknown type %v", o.name, o.info.Mode())
	}
	if err := unix.Mknod(path, o.stat.Mode, int(o.stat.Rdev)); err != nil {
		return &fs.PathError{Op: "mknod", Path: path, Err: err}
	}
	return nil
}

// copy copies a regular file; blocks of zeros become holes.
func (d *dirExport) copy(o *object, path string) (err error) {
	in, err := d.tree.Open(o.name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	size, err := io.CopyBuffer(&sparse{f: out}, &watched{ctx: d.ctx, r: in, w: d.walker}, make([]byte, 1<<20))
	if err != nil {
		return err
	}
	return out.Truncate(size)
}

// sparse writes a file from front to back and leaves out blocks of zeros.
type sparse struct {
	f   *os.File
	off int64
}

var zeros [4096]byte

func (s *sparse) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, len(zeros)-int(s.off%int64(len(zeros))))
		if part := p[done : done+n]; !bytes.Equal(part, zeros[:n]) {
			if _, err := s.f.WriteAt(part, s.off); err != nil {
				return done, err
			}
		}
		done += n
		s.off += int64(n)
	}
	return len(p), nil
}

// attributes sets owner, mode, extended attributes and times of what Dir made.
func (d *dirExport) attributes(o *object) error {
	path := d.path(o.name)
	link := o.info.Mode()&fs.ModeSymlink != 0
	if o.stat != nil && os.Geteuid() == 0 {
		if err := os.Lchown(path, int(o.stat.Uid), int(o.stat.Gid)); err != nil {
			return err
		}
	}
	if err := d.xattrs(o, path); err != nil {
		return err
	}
	if !link {
		if err := os.Chmod(path, o.info.Mode()); err != nil {
			return err
		}
	}
	t, err := unix.TimeToTimespec(o.info.ModTime())
	if err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}

// xattrs sets the attributes that this process may set: without privilege,
// those of users.
func (d *dirExport) xattrs(o *object, path string) error {
	attrs, err := d.tree.Xattrs(o.name)
	if err != nil {
		return err
	}
	for name, value := range attrs {
		if !strings.HasPrefix(name, "user.") && os.Geteuid() != 0 {
			continue
		}
		if err := unix.Lsetxattr(path, name, value, 0); err != nil {
			return &fs.PathError{Op: "setxattr " + name, Path: path, Err: err}
		}
	}
	return nil
}

func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
