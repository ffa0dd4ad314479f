package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

const (
	partialSuffix = ".partial"
	// stagingName is where files wait for their names, in a snapshot that is
	// being made.
	stagingName = volume.MetaDir + "/staging"
	lockName    = volume.MetaDir + "/lock"
	// markName is a file that a collection is known by, and that is locked
	// while something in it is begun or removed.
	markName = ".akvfs-snapshots"
	maxName  = 200 // bytes
)

// NameError says that a snapshot cannot have a name.
type NameError struct{ Name string }

func (e *NameError) Error() string {
	return fmt.Sprintf("a snapshot cannot be named %q: letters, digits and . _ - +, at most %d of them, and not a dot first", e.Name, maxName)
}

// CheckName answers a *NameError for what is no name of a snapshot.
func CheckName(name string) error {
	const others = "._-+:@"
	bad := func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune(others, r)
	}
	if name == "" || len(name) > maxName || name[0] == '.' || name[0] == '-' || strings.IndexFunc(name, bad) >= 0 {
		return &NameError{name}
	}
	return nil
}

// disk is a directory that a collection, a snapshot or a restored volume is.
type disk interface {
	store.FS
	store.Locker
	store.Syncer
}

func openDisk(dir string) (disk, error) {
	st, err := store.OpenDisk(dir)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// Collection is a directory of snapshots.
type Collection struct {
	Dir string // absolute
	st  disk
	sub func(name string) (disk, error) // opens a directory in it
}

// OpenCollection opens a directory of snapshots; create makes it, and what
// leads there, if it is missing.
func OpenCollection(dir string, create bool) (*Collection, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	st, err := openDisk(dir)
	if err != nil {
		return nil, err
	}
	return &Collection{dir, st, func(name string) (disk, error) { return openDisk(filepath.Join(dir, name)) }}, nil
}

// Close lets go of the directory.
func (c *Collection) Close() error { return c.st.Close() }

// Marked says whether the directory was a collection before, though there may
// be nothing in it now.
func (c *Collection) Marked() bool {
	_, err := c.st.Stat(markName)
	return err == nil
}

// holdPatience is how long hold waits for others, who remove a snapshot at the
// most.
const holdPatience = 2 * time.Minute

// hold keeps all others from beginning or removing anything in the collection
// until the lock is closed. What cannot be had is volume.ErrInUse.
func (c *Collection) hold() (io.Closer, error) {
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		lock, err := c.st.TryLock(markName)
		if !errors.Is(err, store.ErrLocked) {
			return lock, err
		}
		if time.Since(begun) > holdPatience {
			return nil, volume.ErrInUse
		}
	}
}

// Snapshot is one of a collection.
type Snapshot struct {
	Dir      string // absolute: a volume's backing directory
	Manifest *Manifest
	open     func() (disk, error)
}

// List lists the collection's snapshots, the oldest first. What is no snapshot
// is left out; one that cannot be read is in damaged.
func (c *Collection) List() (all []Snapshot, damaged []error, err error) {
	entries, err := c.st.ReadDir(".")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if e.Type&unix.S_IFMT != unix.S_IFDIR || CheckName(e.Name) != nil {
			continue
		}
		s, err := c.Get(e.Name)
		switch {
		case err == nil:
			all = append(all, *s)
		case !errors.Is(err, errNoManifest):
			damaged = append(damaged, fmt.Errorf("%s: %w", filepath.Join(c.Dir, e.Name), err))
		}
	}
	slices.SortFunc(all, func(a, b Snapshot) int {
		if d := a.Manifest.Created.Compare(b.Manifest.Created); d != 0 {
			return d
		}
		return strings.Compare(a.Manifest.Name, b.Manifest.Name)
	})
	return all, damaged, nil
}

// errNoManifest is ErrNotSnapshot of a directory without a manifest.
var errNoManifest = fmt.Errorf("%w: it has no %s", ErrNotSnapshot, manifestName)

// Get is one snapshot. Errors are ErrNotSnapshot, a *NewerError, fs.ErrNotExist
// or the store's.
func (c *Collection) Get(name string) (*Snapshot, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	open := func() (disk, error) { return c.sub(name) }
	st, err := open()
	if err != nil {
		return nil, err
	}
	defer st.Close()
	m, err := ReadManifest(st)
	if err == ErrNotSnapshot {
		err = errNoManifest
	}
	if err != nil {
		return nil, err
	}
	return &Snapshot{filepath.Join(c.Dir, name), m, open}, nil
}

// partial is a snapshot that is being made. Its lock tells it from one that
// was given up.
type partial struct {
	c    *Collection
	name string
	dir  string // in the collection
	st   disk
	lock io.Closer
}

// begin makes a partial snapshot and locks it, before anybody else may look
// whether it is locked.
func (c *Collection) begin(name string) (*partial, error) {
	held, err := c.hold()
	if err != nil {
		return nil, err
	}
	defer held.Close()
	p := &partial{c: c, name: name, dir: "." + name + partialSuffix}
	if err := c.st.Mkdir(p.dir, 0o700); err != nil {
		return nil, err
	}
	if p.st, err = c.sub(p.dir); err != nil {
		return nil, err
	}
	// What the collection hands down is nothing that the volume has.
	err = store.Disinherit(p.st, ".", nil)
	err = errors.Join(err, p.st.Mkdir(volume.MetaDir, 0o700), p.st.Mkdir(stagingName, 0o700), touch(p.st, lockName))
	if err == nil {
		p.lock, err = p.st.TryLock(lockName)
	}
	if err != nil {
		p.st.Close()
		_ = store.RemoveAll(c.st, p.dir) // else Clear does
		return nil, err
	}
	return p, nil
}

func touch(st store.FS, name string) error {
	f, err := st.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// publish makes the snapshot durable, and then gives it its name.
func (p *partial) publish() error {
	if err := store.RemoveAll(p.st, stagingName); err != nil {
		return err
	}
	if err := p.st.SyncAll(); err != nil {
		return err
	}
	err := p.c.st.Rename(p.dir, p.name, unix.RENAME_NOREPLACE)
	if errors.Is(err, fs.ErrExist) {
		return &ExistsError{p.name}
	}
	if err != nil {
		return err
	}
	p.dir = ""
	return p.c.st.SyncDir(".")
}

// end lets go of it, and removes it if it was not published.
func (p *partial) end() {
	if p.dir != "" {
		if held, err := p.c.hold(); err == nil { // else Clear does it
			_ = store.RemoveAll(p.c.st, p.dir)
			held.Close()
		}
	}
	p.lock.Close()
	p.st.Close()
}

// Clear removes what interrupted work has left.
func (c *Collection) Clear() error {
	held, err := c.hold()
	if err != nil {
		return err
	}
	defer held.Close()
	return c.clear()
}

// clear is Clear, with the collection held.
func (c *Collection) clear() error {
	entries, err := c.st.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, ".") || !strings.HasSuffix(e.Name, partialSuffix) {
			continue
		}
		lock, err := c.st.TryLock(path.Join(e.Name, lockName))
		if errors.Is(err, store.ErrLocked) {
			continue
		}
		if err == nil {
			lock.Close()
		}
		if err := store.RemoveAll(c.st, e.Name); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes a snapshot: first its name, at once and durably, then what
// there was of it. One that was interrupted in between is finished by Clear.
// One that is mounted, or read, is volume.ErrInUse.
func (c *Collection) Delete(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	away := "." + name + partialSuffix
	held, err := c.hold()
	if err != nil {
		return err
	}
	defer held.Close()
	if err := c.clear(); err != nil {
		return err
	}
	lock, err := c.st.TryLock(path.Join(name, lockName))
	if errors.Is(err, store.ErrLocked) {
		return volume.ErrInUse
	}
	if err == nil {
		defer lock.Close()
	}
	if err := c.st.Rename(name, away, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	if err := c.st.SyncDir("."); err != nil {
		return err
	}
	return store.RemoveAll(c.st, away)
}
