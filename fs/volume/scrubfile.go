package volume

import (
	"cmp"
	"errors"
	"path"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// A scrub must not fill the table with every file there is, and must not keep a
// key across a lock of the volume. So a file is proven in parts, each within
// one passage of the gate, by a File of the scrub's own. Only if that finds
// damage, which may be somebody's write on its way home, is it looked at again
// by way of the table, whose File knows.

// scrubGroups is how many groups a part has: 3 MiB.
const scrubGroups = 8

// scrubbed is a file that is being proven.
type scrubbed struct {
	back    store.File
	backing string
	name    string
	ino     uint64
	bad     atomic.Bool // damage was found in it
}

// file proves one regular file, in parts. The walk has passed it once all of
// them are proven.
func (s *scrub) file(backing, name string) (err error) {
	if s.opts.Skip != nil && name != "" && s.opts.Skip(Path(name)) {
		return nil
	}
	visit := s.begin(backing)
	back, err := s.v.openBackingQuietly(backing)
	if err = ignoreGone(err); err != nil || back == nil {
		s.end(visit, err)
		return err
	}
	f := &scrubbed{back: back, backing: backing, name: name}
	parts := &countdown{last: func(err error) error {
		back.Close()
		if err == nil && !f.bad.Load() && s.opts.Sound != nil && name != "" {
			err = s.opts.Sound(Path(name))
		}
		s.end(visit, err)
		return err
	}}
	parts.add()
	defer func() { err = errors.Join(err, parts.done(err)) }()
	attr, err := back.Stat()
	if err != nil {
		return err
	}
	err = s.v.inside(func() error { return s.attributes(backing, name) })
	if err = ignoreGone(err); err != nil {
		return err
	}
	f.ino = attr.Ino
	size, _ := format.PlainSize(attr.Size)
	for first := int64(0); first >= 0; {
		begin := first
		parts.add()
		s.group.Go(func() error { return s.part(f, begin, parts.done) })
		if first, err = nextPart(back, first, format.LastGroup(size)); err != nil {
			return err
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// nextPart is where the next part begins that is not a hole from end to end;
// the last one never is. -1: there is none.
func nextPart(back store.File, first, last int64) (int64, error) {
	first += scrubGroups
	if first > last {
		return -1, nil
	}
	at, err := back.Seek(format.TagPageOffset(first), unix.SEEK_DATA)
	if errors.Is(err, syscall.ENXIO) {
		at, err = format.TagPageOffset(last), nil
	}
	group := (at/format.PageSize - 1) / (format.GroupBlocks + 1)
	group = min(max(group, first), last)
	return group - group%scrubGroups, err
}

// part proves a part of a file, the first with what belongs to no group, and
// says when that is done.
func (s *scrub) part(f *scrubbed, first int64, done func(error) error) error {
	n := 0
	err := s.ctx.Err()
	if err == nil {
		err = s.v.inside(func() (err error) {
			n, err = s.prove(f, first)
			return err
		})
	}
	if also := done(err); err != nil || also != nil {
		return cmp.Or(err, also)
	}
	return s.read(n)
}

// prove is part with the gate passed. It tells how many bytes it read.
func (s *scrub) prove(f *scrubbed, first int64) (int, error) {
	if e := s.v.table.hold(f.ino); e != nil {
		defer s.v.table.drop(e)
		return s.known(f, e.file, first)
	}
	found, n, err := s.alone(f, first)
	if err != nil || len(found) == 0 {
		return n, err
	}
	if !s.v.opts.ReadOnly {
		again, err := s.byTable(f, first)
		if again >= 0 || err != nil {
			return n + again, err
		}
		if found, _, err = s.alone(f, first); err != nil {
			return n, err
		}
	}
	for _, l := range found {
		s.v.damaged(l.IntegrityError)
		s.tell(f, l)
	}
	return n, nil
}

func (s *scrub) tell(f *scrubbed, l blockfile.Lost) {
	f.bad.Store(true)
	s.damage(Damage{Path(f.backing), Path(f.name), l.What, l.Offset, l.Length, l.Err})
}

// known proves a part by a File that counts damage by itself.
func (s *scrub) known(f *scrubbed, file *blockfile.File, first int64) (int, error) {
	return checkPart(file, first, func(l blockfile.Lost) { s.tell(f, l) })
}

// alone proves a part by a File that nobody else knows, and counts nothing.
func (s *scrub) alone(f *scrubbed, first int64) (found []blockfile.Lost, n int, err error) {
	env := &blockfile.Env{Volume: s.v.info.ID, Keys: s.v.env.Keys}
	file, err := blockfile.Inspect(env, f.back, f.backing)
	if d, ok := errors.AsType[*IntegrityError](err); ok {
		if first > 0 {
			return nil, 0, nil // told of with the first part
		}
		return []blockfile.Lost{{IntegrityError: d, Length: f.size()}}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer file.Leave()
	n, err = checkPart(file, first, func(l blockfile.Lost) { found = append(found, l) })
	return found, n, err
}

// size is the plaintext's, as the backing file has it.
func (f *scrubbed) size() int64 {
	attr, err := f.back.Stat()
	if err != nil {
		return 0
	}
	size, _ := format.PlainSize(attr.Size)
	return size
}

// byTable proves a part by the table's File, which it opens if need be. -1:
// nobody can open the file; 0: it is gone.
func (s *scrub) byTable(f *scrubbed, first int64) (int, error) {
	e, err := s.v.acquireToScrub(f)
	if _, ok := errors.AsType[*IntegrityError](err); ok {
		return -1, nil
	}
	if err != nil || e == nil {
		return 0, err
	}
	defer s.v.table.drop(e)
	return s.known(f, e.file, first)
}

// acquireToScrub opens a file by its name; nil if that is another's by now.
func (v *Volume) acquireToScrub(f *scrubbed) (*entry, error) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	back, err := v.st.OpenFile(f.backing, syscall.O_RDWR, 0)
	readOnly := errors.Is(err, syscall.EROFS)
	if readOnly {
		back, err = v.openBackingQuietly(f.backing)
	}
	if err != nil {
		return nil, ignoreGone(err)
	}
	if attr, err := back.Stat(); err != nil || attr.Ino != f.ino {
		return nil, errors.Join(err, back.Close())
	}
	return v.acquire(back, f.backing, readOnly)
}

// checkPart proves a part of an open file.
func checkPart(file *blockfile.File, first int64, tell func(blockfile.Lost)) (read int, err error) {
	if first == 0 {
		if err := file.CheckEnds(tell); err != nil {
			return 0, err
		}
	}
	for group := first; group >= 0 && group < first+scrubGroups; {
		n, next, err := file.CheckGroup(group, tell)
		if err != nil {
			return read, err
		}
		read, group = read+n, next
	}
	return read, nil
}

// countdown calls last when everything that was added is done, with the first
// of their errors; whoever is the last to be done is answered what that answers.
type countdown struct {
	mu   sync.Mutex
	n    int
	err  error
	last func(error) error
}

func (c *countdown) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *countdown) done(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	if c.n--; c.n == 0 {
		return c.last(c.err)
	}
	return nil
}

// openBackingQuietly opens a backing file for reading, without changing the
// time of its last access where that is permitted.
func (v *Volume) openBackingQuietly(backing string) (store.File, error) {
	back, err := v.st.OpenFile(backing, unix.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, syscall.EPERM) {
		back, err = v.st.OpenFile(backing, unix.O_RDONLY, 0)
	}
	return back, err
}

// Salvage reads what can be read of a damaged file, by its path in the backing
// directory: write is given each run of bytes that are proven, and lost each
// run that is not. It tells how large the file is.
func (v *Volume) Salvage(backing string, write func(off int64, p []byte) error, lost func(off, n int64)) (size int64, err error) {
	err = v.inside(func() (err error) {
		size, err = v.salvage(path.Clean(backing), write, lost)
		return err
	})
	return size, err
}

func (v *Volume) salvage(backing string, write func(off int64, p []byte) error, lost func(off, n int64)) (int64, error) {
	back, err := v.openBackingQuietly(backing)
	if err != nil {
		return 0, err
	}
	defer back.Close()
	file, err := blockfile.Inspect(&blockfile.Env{Volume: v.info.ID, Keys: v.env.Keys}, back, backing)
	if _, ok := errors.AsType[*IntegrityError](err); ok {
		size := (&scrubbed{back: back}).size()
		lost(0, size)
		return size, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Leave()
	return file.Size(), file.ReadProven(write, lost)
}

// StatBacking describes an object by its path in the backing directory, as the
// store has it.
func (v *Volume) StatBacking(backing string) (store.Attr, error) { return v.st.Stat(backing) }
