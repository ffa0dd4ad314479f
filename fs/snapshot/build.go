package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// build gives what was copied its names and attributes, as the picture has
// them, and describes it. Directories get their attributes last: what is made
// in them would change their times.
func (m *maker) build(ctx context.Context) ([]Object, error) {
	objects := make([]Object, len(m.tree.objects))
	first := map[store.ObjectID]string{}
	for i := range m.tree.objects {
		l := &m.tree.objects[i]
		objects[i] = describe(l)
		if other, ok := first[l.attr.ID()]; ok && l.kind() != unix.S_IFDIR {
			objects[i].Same = encodePath(other)
			if err := m.partial.st.Link(other, l.name); err != nil {
				return nil, err
			}
			continue
		}
		first[l.attr.ID()] = l.name
		if err := m.place(l); err != nil {
			return nil, err
		}
	}
	for _, l := range slices.Backward(m.tree.objects) {
		if l.kind() == unix.S_IFDIR {
			if err := dress(m.partial.st, &l); err != nil {
				return nil, err
			}
		}
	}
	if err := m.partial.st.Rmdir(stagingName); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return nil, err
	}
	return objects, digestAll(ctx, m.partial.st, objects, m.tree.objects)
}

func describe(l *listed) Object {
	o := Object{
		Path: encodePath(l.name), Mode: l.attr.Mode, UID: l.attr.UID, GID: l.attr.GID,
		Mtime: l.attr.Mtime.UnixNano(), Rdev: l.attr.Rdev, Target: encodePath(l.target), Xattrs: l.xattrs,
	}
	if l.kind() == unix.S_IFREG {
		o.Size = l.attr.Size
	}
	return o
}

// place makes one object under its name.
func (m *maker) place(l *listed) (err error) {
	st := m.partial.st
	switch l.kind() {
	case unix.S_IFDIR:
		if l.name != "." {
			err = st.Mkdir(l.name, 0o700)
		}
		return err
	case unix.S_IFREG:
		err = st.Rename(m.copier.staged(l.attr.ID()), l.name, unix.RENAME_NOREPLACE)
	case unix.S_IFLNK:
		err = st.Symlink(l.target, l.name)
	default:
		err = st.Mknod(l.name, l.attr.Mode&unix.S_IFMT|0o600, l.attr.Rdev)
	}
	if err != nil {
		return err
	}
	return dress(st, l)
}

// dress gives an object its owner, mode, extended attributes and times.
func dress(st store.FS, l *listed) error {
	if err := st.Chown(l.name, int(l.attr.UID), int(l.attr.GID)); err != nil {
		return err
	}
	for name, value := range l.xattrs {
		if err := st.Setxattr(l.name, name, value, 0); err != nil {
			return err
		}
	}
	if l.kind() != unix.S_IFLNK {
		if err := st.Chmod(l.name, l.attr.Mode&0o7777); err != nil {
			return err
		}
	}
	return st.Chtimes(l.name, &l.attr.Atime, &l.attr.Mtime)
}

// digestAll fills in the digests of files.
func digestAll(ctx context.Context, st store.FS, objects []Object, tree []listed) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * copyWorkers)
	for i := range objects {
		o := &objects[i]
		if o.Mode&unix.S_IFMT != unix.S_IFREG || o.Same != "" {
			continue
		}
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			o.Tags, err = tagsDigest(st, tree[i].name)
			return err
		})
	}
	return g.Wait()
}

// groupsAhead is how many tag pages of a file are being read while one is
// digested: they lie far from each other, and alone each waits for the disk.
const groupsAhead = 32

// tagsDigest is the SHA-256 of a file's header and tag pages, in hexadecimal;
// "" of an empty file.
func tagsDigest(st store.FS, name string) (digest string, err error) {
	f, err := st.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	attr, err := f.Stat()
	if err != nil || attr.Size == 0 {
		return "", err
	}
	sum := sha256.New()
	page := make([]byte, format.PageSize)
	need := func(group int64) {
		if a, ok := f.(store.Advisor); ok && format.TagPageOffset(group) < attr.Size {
			a.WillNeed(format.TagPageOffset(group), format.PageSize)
		}
	}
	for group := range int64(groupsAhead) {
		need(group)
	}
	add := func(off int64) error {
		n, err := f.ReadAt(page, off)
		sum.Write(page[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	err = add(0)
	for group := int64(0); err == nil && format.TagPageOffset(group) < attr.Size; group++ {
		need(group + groupsAhead)
		err = add(format.TagPageOffset(group))
	}
	return hex.EncodeToString(sum.Sum(nil)), err
}

// when is a time of an Object.
func when(nanoseconds int64) *time.Time {
	t := time.Unix(0, nanoseconds)
	return &t
}
