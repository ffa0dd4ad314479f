package snapshot

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/store"
)

// bringHome puts over the copies what was away from home at the picture, so
// that the snapshot is a volume that was closed cleanly. Nobody waits for it.
func (m *maker) bringHome(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copyWorkers)
	names := map[store.ObjectID][]*listed{}
	for i := range m.tree.objects {
		if o := &m.tree.objects[i]; o.kind() == unix.S_IFREG && m.away[o.attr.Ino] != nil {
			names[o.attr.ID()] = append(names[o.attr.ID()], o)
		}
	}
	for id, objects := range names {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			away := m.away[id.Ino]
			size, err := m.copier.onto(id, away)
			for _, o := range objects {
				o.attr.Size, o.attr.Mtime = size, away.Modified
			}
			return err
		})
	}
	return g.Wait()
}

// onto puts what was away over the copy of its file, and tells its size then.
func (c *copier) onto(id store.ObjectID, away *blockfile.Away) (size int64, err error) {
	dst, err := c.to.OpenFile(c.staged(id), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := away.Onto(dst); err != nil {
		return 0, err
	}
	attr, err := dst.Stat()
	return attr.Size, err
}
