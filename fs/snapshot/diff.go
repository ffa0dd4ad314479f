package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// Tree is a plaintext tree, such as one of package fs. A FileInfo's Sys is a
// *syscall.Stat_t.
type Tree interface {
	fs.ReadDirFS
	fs.ReadLinkFS
	Xattrs(name string) (map[string][]byte, error)
}

// What a Change is.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is an object that two trees do not have alike.
type Change struct {
	Path string `json:"path"`
	What string `json:"change"` // Added, Removed, Changed
	// Of says what of a changed object is another: type, content, target, mode,
	// owner, device, attributes, time.
	Of []string `json:"of,omitempty"`
	// Before and After are the sizes of a file in bytes; 0 where it is none.
	Before int64 `json:"size_before"`
	After  int64 `json:"size_after"`
}

// Same tells whether two files have the same content.
type Same func(a, b fs.FileInfo) (bool, error)

// BySizeAndTime takes files of one size and time of modification for the same,
// as rsync does.
func BySizeAndTime(a, b fs.FileInfo) (bool, error) {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()), nil
}

// Diff tells what is another in b than in a, in order of the paths. Errors are
// ctx's, the trees' or same's.
func Diff(ctx context.Context, a, b Tree, same Same) ([]Change, error) {
	d := &differ{ctx: ctx, a: a, b: b, same: same, changes: []Change{}}
	err := d.directory(".")
	return d.changes, err
}

// differ compares two trees.
type differ struct {
	ctx     context.Context
	a, b    Tree
	same    Same
	changes []Change
}

// directory compares what is in a directory of both.
func (d *differ) directory(dir string) error {
	was, err := names(d.a, dir)
	if err != nil {
		return err
	}
	is, err := names(d.b, dir)
	if err != nil {
		return err
	}
	all := slices.Collect(maps.Keys(is))
	for name := range was {
		if _, both := is[name]; !both {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	for _, name := range all {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		_, before := was[name]
		_, after := is[name]
		name = path.Join(dir, name)
		switch {
		case before && after:
			err = d.object(name)
		case before:
			err = d.only(d.a, name, Removed)
		default:
			err = d.only(d.b, name, Added)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func names(t Tree, dir string) (map[string]struct{}, error) {
	entries, err := t.ReadDir(dir)
	all := map[string]struct{}{}
	for _, e := range entries {
		all[e.Name()] = struct{}{}
	}
	return all, err
}

// only lists an object that one tree has, and all below it.
func (d *differ) only(t Tree, name, what string) error {
	return fs.WalkDir(t, name, func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = d.ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := t.Lstat(name)
		if err != nil {
			return err
		}
		c := Change{Path: name, What: what}
		if info.Mode().IsRegular() && what == Added {
			c.After = info.Size()
		} else if info.Mode().IsRegular() {
			c.Before = info.Size()
		}
		d.changes = append(d.changes, c)
		return nil
	})
}

// object compares an object of both.
func (d *differ) object(name string) error {
	was, err := d.a.Lstat(name)
	if err != nil {
		return err
	}
	is, err := d.b.Lstat(name)
	if err != nil {
		return err
	}
	of, err := d.differences(name, was, is)
	if err != nil {
		return err
	}
	if len(of) > 0 {
		c := Change{Path: name, What: Changed, Of: of}
		if was.Mode().IsRegular() {
			c.Before = was.Size()
		}
		if is.Mode().IsRegular() {
			c.After = is.Size()
		}
		d.changes = append(d.changes, c)
	}
	switch {
	case was.IsDir() && is.IsDir():
		return d.directory(name)
	case was.IsDir():
		return d.below(d.a, name, Removed)
	case is.IsDir():
		return d.below(d.b, name, Added)
	}
	return nil
}

// below lists what is in a directory that the other tree has as something else.
func (d *differ) below(t Tree, dir, what string) error {
	in, err := names(t, dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if err := d.only(t, path.Join(dir, name), what); err != nil {
			return err
		}
	}
	return nil
}

// differences tells what of an object is another.
func (d *differ) differences(name string, was, is fs.FileInfo) (of []string, err error) {
	if was.Mode().Type() != is.Mode().Type() {
		return []string{"type"}, nil
	}
	if was.Mode().IsRegular() {
		same, err := d.same(was, is)
		if err != nil {
			return nil, err
		}
		if !same {
			of = append(of, "content")
		}
	}
	if was.Mode()&fs.ModeSymlink != 0 {
		old, err := d.a.ReadLink(name)
		target, also := d.b.ReadLink(name)
		if err := errors.Join(err, also); err != nil {
			return nil, err
		}
		if old != target {
			of = append(of, "target")
		}
	}
	if was.Mode() != is.Mode() {
		of = append(of, "mode")
	}
	of = append(of, numbers(was, is)...)
	old, err := d.a.Xattrs(name)
	attrs, also := d.b.Xattrs(name)
	if err := errors.Join(err, also); err != nil {
		return nil, err
	}
	if !maps.EqualFunc(old, attrs, bytes.Equal) {
		of = append(of, "attributes")
	}
	if was.Mode().IsRegular() && !was.ModTime().Equal(is.ModTime()) && !slices.Contains(of, "content") {
		of = append(of, "time")
	}
	return of, nil
}

// numbers compares what only Sys tells.
func numbers(was, is fs.FileInfo) (of []string) {
	old, ok := was.Sys().(*syscall.Stat_t)
	now, also := is.Sys().(*syscall.Stat_t)
	if !ok || !also {
		return nil
	}
	if old.Uid != now.Uid || old.Gid != now.Gid {
		of = append(of, "owner")
	}
	if was.Mode()&fs.ModeDevice != 0 && old.Rdev != now.Rdev {
		of = append(of, "device")
	}
	return of
}

// ByTags compares files of two snapshots of one volume by their blocks' tags,
// exactly, without reading the blocks. Call done at the end.
func ByTags(a, b *Snapshot) (same Same, done func(), err error) {
	was, err := tagged(a)
	if err != nil {
		return nil, nil, err
	}
	is, err := tagged(b)
	if err != nil {
		was.st.Close()
		return nil, nil, err
	}
	same = func(x, y fs.FileInfo) (bool, error) {
		old, ok := was.of(x)
		now, also := is.of(y)
		if !ok || !also || x.Size() != y.Size() {
			return false, nil
		}
		if old.Tags == now.Tags {
			return true, nil
		}
		return sameTags(was.st, is.st, old, now)
	}
	return same, func() { was.st.Close(); is.st.Close() }, nil
}

// tags finds a snapshot's objects by their inodes.
type tags struct {
	st      disk
	objects map[uint64]Object
}

func tagged(s *Snapshot) (*tags, error) {
	st, err := s.open()
	if err != nil {
		return nil, err
	}
	t := &tags{st, map[uint64]Object{}}
	err = s.Manifest.EachObject(st, func(o Object, name string) error {
		if o.Mode&unix.S_IFMT != unix.S_IFREG || o.Same != "" {
			return nil
		}
		attr, err := st.Stat(name)
		t.objects[attr.Ino] = o
		return err
	})
	if err != nil {
		st.Close()
		return nil, err
	}
	return t, nil
}

func (t *tags) of(info fs.FileInfo) (o Object, ok bool) {
	if st, is := info.Sys().(*syscall.Stat_t); is {
		o, ok = t.objects[st.Ino]
	}
	return o, ok
}

// sameTags compares tag pages of two files of one size: with another header
// alone, only the key was wrapped anew.
func sameTags(a, b store.FS, old, now Object) (same bool, err error) {
	was, err := openObject(a, old)
	if err != nil {
		return false, err
	}
	defer was.Close()
	is, err := openObject(b, now)
	if err != nil {
		return false, err
	}
	defer is.Close()
	x, y := make([]byte, format.PageSize), make([]byte, format.PageSize)
	for group := int64(0); format.TagPageOffset(group) < max(old.Size, now.Size); group++ {
		for _, r := range []struct {
			f store.File
			p []byte
		}{{was, x}, {is, y}} {
			n, err := r.f.ReadAt(r.p, format.TagPageOffset(group))
			if err != nil && !errors.Is(err, io.EOF) {
				return false, err
			}
			clear(r.p[n:])
		}
		if !bytes.Equal(x, y) {
			return false, nil
		}
	}
	return true, nil
}

func openObject(st store.FS, o Object) (store.File, error) {
	name, err := decodePath(o.Path)
	if err != nil {
		return nil, err
	}
	return st.OpenFile(name, os.O_RDONLY, 0)
}
