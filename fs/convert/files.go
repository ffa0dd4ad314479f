package convert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

const maxFailed = 100

// withVolume calls do with the volume open and both sides set.
func (c *conversion) withVolume(do func(v *volume.Volume) error) (err error) {
	v, drop, err := c.cfg.Open(c.ctx, quiet{store.NewSub(c.st, volumeDir)})
	if err != nil {
		return err
	}
	defer drop()
	defer func() { err = errors.Join(err, v.Close()) }()
	c.from, c.to = plain{c.st}, sealed{v}
	if c.state.Direction == Decrypting {
		c.from, c.to = c.to, c.from
	}
	return do(v)
}

// files is the phase in which files go from one side to the other.
func (c *conversion) files() error {
	if err := c.fence(); err != nil {
		return err
	}
	if err := c.withVolume(c.convertAll); err != nil {
		return err
	}
	next := phaseOut
	if c.state.Direction == Decrypting {
		next = phaseRemove
	}
	if err := c.vacant(next); err != nil {
		return err
	}
	return c.enter(next)
}

func (c *conversion) enter(p phase) error {
	s := *c.state
	s.Phase = p
	if err := saveState(c.st, &s); err != nil {
		return err
	}
	c.state = &s
	return nil
}

func (c *conversion) convertAll(v *volume.Volume) error {
	if err := c.finishDone(); err != nil {
		return err
	}
	for _, dir := range c.dirs() {
		if err := c.to.mkdir(dir); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	damages := v.Stats().IntegrityErrors
	found, err := look(c.ctx, c.from)
	if err != nil {
		return err
	}
	if n := v.Stats().IntegrityErrors - damages; n > 0 {
		found.problem(".", fmt.Sprintf("holds %d entries that do not decrypt; see akvfs fsck", n))
	}
	if err := c.unexpected(found); err != nil {
		return err
	}
	c.progress.TotalFiles, c.progress.TotalBytes = int64(len(found.units)), found.bytes
	if err := c.batches(found); err != nil {
		return err
	}
	return c.finishDirs()
}

// unexpected refuses what was not there when the conversion began.
func (c *conversion) unexpected(found *scan) error {
	for _, dir := range found.dirs {
		if _, known := c.state.Dirs[dir]; !known {
			found.problem(dir, "is a directory that was made during the conversion")
		}
	}
	if len(found.problems) > 0 {
		return &ProblemsError{found.problems}
	}
	return nil
}

// dirs are all directories, one before what is in it.
func (c *conversion) dirs() []string { return slices.Sorted(maps.Keys(c.state.Dirs)) }

// batches converts all files, several at a time.
func (c *conversion) batches(found *scan) error {
	for rest := found.units; len(rest) > 0; {
		limit, err := c.batchLimit(found)
		if err != nil {
			return err
		}
		n, bytes := 0, int64(0)
		for n < len(rest) && n < batchUnits && (n == 0 || bytes+rest[n].bytes() <= limit) {
			bytes += rest[n].bytes()
			n++
		}
		if err := c.batch(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if len(c.failed) > 0 {
		return &FilesError{c.failed}
	}
	return nil
}

// batchLimit bounds the bytes of a batch: where space is short, no more than
// the largest file needs in any case.
func (c *conversion) batchLimit(found *scan) (int64, error) {
	limit := c.cfg.BatchBytes
	free, err := freeSpace(c.st)
	if err == nil && free < 4*limit {
		limit = min(limit, max(found.largest.bytes(), chunkSize))
	}
	return limit, err
}

// batch converts some files, in the order that the package comment tells.
func (c *conversion) batch(units []*unit) error {
	units, err := c.each(units, func(u *unit) error {
		if err := c.room(u, 0); err != nil {
			return err
		}
		return c.copyUnit(u)
	})
	if err != nil {
		return err
	}
	if err := c.to.home(); err != nil {
		return err
	}
	units, err = c.each(units, func(u *unit) error {
		if err := c.compare(u); err != nil {
			return err
		}
		return c.dress(u)
	})
	if err != nil {
		return err
	}
	if err := c.to.home(); err != nil {
		return err
	}
	if units, err = c.each(units, c.compareAttr); err != nil {
		return err
	}
	return c.swap(units)
}

// each calls do with every file. One that fails stays as it is, and the
// others go on; a full disk or an interruption ends the run.
func (c *conversion) each(units []*unit, do func(*unit) error) (good []*unit, err error) {
	for _, u := range units {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		err := do(u)
		if err == nil {
			good = append(good, u)
			continue
		}
		if c.ctx.Err() != nil {
			return nil, err
		}
		for _, name := range u.names {
			_ = c.to.Unlink(name) // else the next run does
		}
		c.failed = append(c.failed, &FileError{u.names[0], err})
		var space *SpaceError
		full := errors.As(err, &space) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		if full || len(c.failed) >= maxFailed {
			return nil, &FilesError{c.failed}
		}
	}
	return good, nil
}

// swap puts on record that files are complete on the new side, and removes
// them from the old one. That side's home has made all of it durable, and the
// removals before: their record goes now.
func (c *conversion) swap(units []*unit) error {
	list := []done{}
	for _, u := range units {
		list = append(list, u.done()...)
	}
	if err := save(c.st, doneName, list); err != nil {
		return err
	}
	for _, u := range units {
		for _, name := range u.names {
			if err := c.from.Unlink(name); err != nil {
				return err
			}
		}
		c.progress.Files++
		c.tell()
	}
	return nil
}

// finishDone removes what the last run put on record as complete. What was
// changed since counts again.
func (c *conversion) finishDone() error {
	list, err := loadDone(c.st)
	if err != nil {
		return err
	}
	for _, d := range list {
		name := string(d.Name)
		attr, err := c.from.Stat(name)
		if errors.Is(err, syscall.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := c.to.Stat(name); err != nil {
			return fmt.Errorf("%w: %q is on record as complete, and is not there: %w", ErrState, name, err)
		}
		if attr.Ino == d.Ino && attr.Size == d.Size && attr.Mtime.Equal(d.Mtime) {
			if err := c.from.Unlink(name); err != nil {
				return err
			}
		}
	}
	if err := syncAll(c.st); err != nil {
		return err
	}
	return save(c.st, doneName, []done{})
}

// finishDirs gives the directories their attributes, and removes them from
// the old side.
func (c *conversion) finishDirs() error {
	dirs := c.dirs()
	slices.Reverse(dirs)
	for _, dir := range dirs {
		if err := dress(c.to, dir, c.state.Dirs[dir], false); err != nil {
			return &FileError{dir, err}
		}
	}
	if err := c.sealRoot(); err != nil {
		return err
	}
	if err := c.to.home(); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := c.compareDir(dir); err != nil {
			return &FileError{dir, err}
		}
	}
	if err := syncAll(c.st); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := c.from.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			return &FileError{dir, err}
		}
	}
	return syncAll(c.st)
}

// sealRoot gives the volume's root its extended attributes. Its ACLs it gets
// with its mode: see moveOut.
func (c *conversion) sealRoot() error {
	if c.state.Direction == Decrypting {
		return nil
	}
	for attr, value := range c.state.Root.Xattrs {
		if store.IsACL(attr) {
			continue
		}
		if err := c.to.Setxattr(".", attr, value, 0); err != nil {
			return &FileError{".", err}
		}
	}
	return nil
}

func (c *conversion) compareDir(dir string) error {
	got, err := c.to.Stat(dir)
	if err != nil {
		return err
	}
	w := c.state.Dirs[dir]
	if got.Mode&0o7777 != w.Mode || got.UID != w.UID || got.GID != w.GID || !got.Mtime.Equal(w.Mtime) {
		return fmt.Errorf("%w: attributes", ErrReadBack)
	}
	return nil
}

// turn makes a conversion go the other way: what is a copy that was not
// finished goes first, since it would count then.
func (c *conversion) turn() error {
	if err := c.fence(); err != nil {
		return err
	}
	if err := c.withVolume(c.discardCopies); err != nil {
		return err
	}
	if err := syncAll(c.st); err != nil {
		return err
	}
	s := *c.state
	s.Direction = Encrypting
	if c.state.Direction == Encrypting {
		s.Direction = Decrypting
	}
	if err := saveState(c.st, &s); err != nil {
		return err
	}
	c.state = &s
	return nil
}

// discardCopies removes every copy of a file that is still where it came from.
func (c *conversion) discardCopies(*volume.Volume) error {
	if err := c.finishDone(); err != nil {
		return err
	}
	found, err := look(c.ctx, c.from)
	if err != nil {
		return err
	}
	for _, u := range found.units {
		for _, name := range u.names {
			err := c.to.Unlink(name)
			if err != nil && !errors.Is(err, syscall.ENOENT) {
				return err
			}
		}
	}
	return c.to.home()
}
