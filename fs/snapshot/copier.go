package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// copyWorkers is how many files are copied at a time: most of the time of each
// goes into waiting for the disk.
const copyWorkers = 4

// copier copies backing files, each under the number of its object, to where
// they wait for their names. What has been copied stays, and is brought up to
// date by the next copy.
type copier struct {
	from    *store.Tracker
	to      store.FS
	staging string // in to
	report  func(Progress)

	mu     sync.Mutex
	copied map[store.ObjectID]bool // guarded by mu
	noted  Progress                // guarded by mu

	noClone atomic.Bool
}

// Progress tells how far a copy is. In the phase "hold" the volume stands
// still.
type Progress struct {
	Phase string `json:"phase"` // copy, hold, restore, export, import, structure, blocks
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
	// Total is what Bytes come to, about; 0: that is not known.
	Total int64 `json:"total,omitempty"`
}

func (c *copier) staged(id store.ObjectID) string {
	return path.Join(c.staging, fmt.Sprintf("%x-%x", id.Dev, id.Ino))
}

// effort is what a copy took: bytes that were copied, and runs of blocks that
// were shared.
type effort struct{ bytes, shares int64 }

func (e effort) little() bool { return e.bytes <= littleBytes && e.shares <= littleShares }

// update copies what the listing has and the copy has not, or not as it is
// now. A file that has gone from its name meanwhile is left out, and forgotten:
// if it has another name, the next listing has it copied, all of it.
func (c *copier) update(ctx context.Context, l *listing, changes store.Changes) (effort, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copyWorkers)
	var bytes, shares atomic.Int64
	c.forgetGone(l)
	for o, changed := range c.due(l, changes) {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			e, err := c.file(ctx, o, changed)
			bytes.Add(e.bytes)
			shares.Add(e.shares)
			if errors.Is(err, fs.ErrNotExist) {
				c.forget(o.attr.ID())
				return nil
			}
			return err
		})
	}
	err := g.Wait()
	return effort{bytes.Load(), shares.Load()}, err
}

// forgetGone forgets the copies of files that are not there any more: their
// numbers may come back with other files.
func (c *copier) forgetGone(l *listing) {
	there := map[store.ObjectID]bool{}
	for i := range l.objects {
		there[l.objects[i].attr.ID()] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.copied, func(id store.ObjectID, _ bool) bool { return !there[id] })
}

func (c *copier) forget(id store.ObjectID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.copied, id)
}

// due are the files that the copy has not, or not as they are now, each once,
// with what was changed.
func (c *copier) due(l *listing, changes store.Changes) iter.Seq2[*listed, *store.Changed] {
	return func(yield func(*listed, *store.Changed) bool) {
		seen := map[store.ObjectID]bool{}
		for i := range l.objects {
			o := &l.objects[i]
			id := o.attr.ID()
			if o.kind() != unix.S_IFREG || seen[id] {
				continue
			}
			seen[id] = true
			if c.has(id) && changes[id] == nil {
				continue
			}
			if !yield(o, changes[id]) {
				return
			}
		}
	}
}

// parts are what of a file is to be copied, and whether the rest of it is there.
func (c *copier) parts(id store.ObjectID, changed *store.Changed, size int64) (parts []store.Part, again bool) {
	if c.has(id) {
		return changed.Parts(size), true
	}
	return []store.Part{{Off: 0, End: size}}, false
}

// left is what update would take.
func (c *copier) left(l *listing, changes store.Changes) (e effort) {
	for o, changed := range c.due(l, changes) {
		parts, _ := c.parts(o.attr.ID(), changed, o.attr.Size)
		e.shares += int64(len(parts))
		for _, p := range parts {
			if c.noClone.Load() {
				e.bytes += p.End - p.Off
			}
		}
	}
	return e
}

func (c *copier) phase(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted.Phase = name
}

func (c *copier) has(id store.ObjectID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copied[id]
}

func (c *copier) done(id store.ObjectID, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.copied[id] {
		c.copied[id] = true
		c.noted.Files++
	}
	c.noted.Bytes += n
	if c.report != nil {
		c.report(c.noted)
	}
}

// file copies one file, or what of it has changed. It is opened by a name that
// may have been given to another meanwhile, which is then left to the listing
// that knows.
func (c *copier) file(ctx context.Context, o *listed, changed *store.Changed) (e effort, err error) {
	src, err := c.from.FS.OpenFile(o.name, os.O_RDONLY, 0)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	attr, err := src.Stat()
	if err != nil {
		return e, err
	}
	id := attr.ID()
	if id != o.attr.ID() {
		return e, fs.ErrNotExist
	}
	dst, err := c.to.OpenFile(c.staged(id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	parts, again := c.parts(id, changed, attr.Size)
	if e, err = c.contents(ctx, dst, src, attr.Size, parts, again); err != nil {
		return e, err
	}
	c.done(id, e.bytes)
	return e, nil
}

// contents brings dst, which has everything but parts if it is copied again,
// up to date with src, of a size.
func (c *copier) contents(ctx context.Context, dst, src store.File, size int64, parts []store.Part, again bool) (e effort, err error) {
	if !c.noClone.Load() {
		if again {
			if n, err := share(ctx, dst, src, size, parts); err == nil || ctx.Err() != nil {
				return effort{shares: n}, err
			}
		}
		if err := dst.Truncate(0); err != nil { // FICLONE leaves a longer end
			return e, err
		}
		if err = store.Clone(dst, src); err == nil {
			return effort{shares: 1}, dst.Truncate(size)
		}
		c.noClone.Store(true)
		parts, again = []store.Part{{Off: 0, End: size}}, false
	}
	if !again { // there may be something of another file of that number
		if err := dst.Truncate(0); err != nil {
			return e, err
		}
	}
	if err := dst.Truncate(size); err != nil {
		return e, err
	}
	for _, p := range parts {
		n, err := copyPart(ctx, dst, src, p.Off, p.End)
		if e.bytes += n; err != nil {
			return e, err
		}
	}
	return e, nil
}

// share has dst share parts of src, which is of a size. It fails, among others,
// where src has just grown.
func share(ctx context.Context, dst, src store.File, size int64, parts []store.Part) (shares int64, err error) {
	if err := dst.Truncate(size); err != nil {
		return 0, err
	}
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return shares, err
		}
		if err := store.CloneRange(dst, src, p.Off, p.End); err != nil {
			return shares, err
		}
		shares++
	}
	return shares, nil
}

// copyAtOnce is how many bytes are copied before it is looked whether to stop.
const copyAtOnce = 16 << 20

// copyPart copies from off to end, holes as holes. It counts the bytes of data.
func copyPart(ctx context.Context, dst, src store.File, off, end int64) (copied int64, err error) {
	for off < end {
		if err := ctx.Err(); err != nil {
			return copied, err
		}
		data, err := src.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data = end
		} else if err != nil {
			return copied, err
		}
		data = min(data, end)
		if data > off {
			if err := punch(dst, off, data-off); err != nil {
				return copied, err
			}
		}
		if off = data; off >= end {
			break
		}
		hole, err := src.Seek(off, unix.SEEK_HOLE)
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return copied, err
		}
		if err != nil { // it has become shorter
			break
		}
		hole = min(hole, end, off+copyAtOnce)
		if err := store.Copy(dst, src, off, hole-off); err != nil {
			return copied, err
		}
		copied, off = copied+hole-off, hole
	}
	return copied, nil
}

// punch makes a hole, where the file system below can; it may lie past the end.
func punch(f store.File, off, n int64) error {
	err := f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	attr, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, min(max(0, attr.Size-off), n))
	if len(zeros) == 0 {
		return nil
	}
	_, err = f.WriteAt(zeros, off)
	return err
}
