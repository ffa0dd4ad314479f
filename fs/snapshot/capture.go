package snapshot

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// listed is an object of the volume's backing tree as a listing found it.
type listed struct {
	name   string
	attr   store.Attr
	target string
	xattrs map[string][]byte
}

func (l *listed) kind() uint32 { return l.attr.Mode & unix.S_IFMT }

// listing is the backing tree at one time.
type listing struct {
	at      time.Time
	objects []listed // a directory before what is in it
}

// tickTime is more than the distance of two times of change that the kernel
// tells apart.
const tickTime = 20 * time.Millisecond

// list walks the tree. What is unchanged since before, which may be nil, is
// not asked for its attributes and target again.
func list(ctx context.Context, st store.FS, before *listing) (*listing, error) {
	known := map[store.ObjectID]*listed{}
	if before != nil {
		for i := range before.objects {
			o := &before.objects[i]
			if before.at.Sub(o.attr.Ctime) > tickTime {
				known[o.attr.ID()] = o
			}
		}
	}
	l := &listing{at: time.Now()}
	return l, l.walk(ctx, st, ".", known)
}

func (l *listing) walk(ctx context.Context, st store.FS, name string, known map[store.ObjectID]*listed) error {
	if name == volume.MetaDir || ctx.Err() != nil {
		return ctx.Err()
	}
	o := listed{name: name}
	var err error
	if o.attr, err = st.Stat(name); err != nil {
		return skipGone(err)
	}
	if k := known[o.attr.ID()]; k != nil && k.attr.Ctime.Equal(o.attr.Ctime) {
		o.target, o.xattrs = k.target, k.xattrs
	} else if err := o.ask(st); err != nil {
		return skipGone(err)
	}
	l.objects = append(l.objects, o)
	if o.kind() != unix.S_IFDIR {
		return nil
	}
	entries, err := st.ReadDir(name)
	if err != nil {
		return skipGone(err)
	}
	slices.SortFunc(entries, func(a, b store.DirEntry) int { return cmp.Compare(a.Name, b.Name) })
	for _, e := range entries {
		if err := l.walk(ctx, st, path.Join(name, e.Name), known); err != nil {
			return err
		}
	}
	return nil
}

// ask reads what Stat does not tell.
func (o *listed) ask(st store.FS) (err error) {
	if o.kind() == unix.S_IFLNK {
		if o.target, err = st.Readlink(o.name); err != nil {
			return err
		}
	}
	names, err := st.Listxattr(o.name)
	if err != nil {
		return err
	}
	for _, attr := range names {
		value, err := st.Getxattr(o.name, attr)
		if err != nil {
			return err
		}
		if o.xattrs == nil {
			o.xattrs = map[string][]byte{}
		}
		o.xattrs[attr] = value
	}
	return nil
}

// skipGone forgives that an object was there a moment ago. While the volume
// stands still none goes.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
