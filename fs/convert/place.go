package convert

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// create makes the volume. One that was not finished holds nothing yet.
func (c *conversion) create() error {
	if err := c.fence(); err != nil {
		return err
	}
	if err := c.wantEmpty(); err != nil {
		return errors.Join(err, c.giveUp())
	}
	if err := store.RemoveAll(c.st, volumeDir); err != nil {
		return err
	}
	if err := c.st.Mkdir(volumeDir, 0o700); err != nil {
		return err
	}
	if err := c.cfg.Create(c.ctx, store.NewSub(c.st, volumeDir)); err != nil {
		return errors.Join(err, c.giveUp()) // the directory is as it was
	}
	if err := syncAll(c.st); err != nil {
		return err
	}
	return c.enter(phaseFiles)
}

// wantEmpty finds what was put into a directory before the fence was there, if
// only an empty one is to be encrypted.
func (c *conversion) wantEmpty() error {
	if !c.cfg.OnlyEmpty {
		return nil
	}
	entries, err := c.st.ReadDir(".")
	for _, e := range entries {
		if e.Name != stateDir && e.Name != lostFound {
			return foreign(e.Name)
		}
	}
	return err
}

// foreign is the error for what is in a directory that was to be empty.
func foreign(name string) error {
	return &ProblemsError{[]Problem{{name, "is in a directory that was to be empty"}}}
}

// giveUp ends a conversion that has encrypted nothing yet.
func (c *conversion) giveUp() error {
	if err := store.RemoveAll(c.st, volumeDir); err != nil {
		return err
	}
	return c.end()
}

// moveIn takes the volume's entries out of the way of the plain files. The
// metadata goes first: from then on the directory does not look like a volume.
func (c *conversion) moveIn() error {
	if err := c.fence(); err != nil {
		return err
	}
	if err := c.st.Mkdir(volumeDir, 0o700); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	if err := c.moveEntry(metaDir, ".", volumeDir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := c.moveEntries(".", volumeDir); err != nil {
		return err
	}
	return c.enter(phaseFiles)
}

// moveOut puts the volume's entries where the plain files were, the metadata
// last, and ends the conversion.
//
// The directory stays closed to all but root, and the tree's root gets an owner
// and a mode of its own: a database that is started while nothing is mounted
// could else write plaintext beside the ciphertext.
func (c *conversion) moveOut() error {
	if _, err := c.st.Stat(path.Join(volumeDir, metaDir)); err == nil {
		root := c.state.Root
		st := store.NewSub(c.st, volumeDir)
		if err := volume.SetRoot(st, root.Mode, int(root.UID), int(root.GID)); err != nil {
			return err
		}
		if acl, ok := root.Xattrs[store.ACLAccess]; ok {
			if err := volume.SetRootACL(st, acl); err != nil {
				return err
			}
		}
	} else if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := c.moveEntries(volumeDir, "."); err != nil {
		return err
	}
	if err := c.moveEntry(metaDir, volumeDir, "."); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := syncAll(c.st); err != nil {
		return err
	}
	return c.end()
}

// dressRoot gives the directory its attributes back, except that a volume's
// backing directory stays root's. Extended ones are plain in a plain directory
// and sealed in a volume, whose root it then is.
func (c *conversion) dressRoot() error {
	root := c.state.Root
	if c.state.Direction == Encrypting && c.state.Phase == phaseOut {
		for attr := range root.Xattrs {
			// A default ACL stays: it counts for the tree's root, too.
			if strings.HasPrefix(attr, "user.") || strings.HasPrefix(attr, "trusted.") || attr == store.ACLAccess {
				if err := c.st.Removexattr(".", attr); err != nil && !errors.Is(err, syscall.ENODATA) {
					return err
				}
			}
		}
		if err := c.eachSealed(volumeDir, func(attr string, value []byte) error {
			return c.st.Setxattr(".", attr, value, 0)
		}); err != nil {
			return err
		}
		return c.st.Chtimes(".", &root.Atime, &root.Mtime)
	} else if err := c.eachSealed(".", func(attr string, _ []byte) error {
		return c.st.Removexattr(".", attr)
	}); err != nil {
		return err
	}
	return dress(plain{c.st}, ".", root, false)
}

// eachSealed calls do with a backing directory's sealed attributes.
func (c *conversion) eachSealed(dir string, do func(attr string, value []byte) error) error {
	attrs, err := c.st.Listxattr(dir)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, attr := range attrs {
		if !strings.HasPrefix(attr, volume.SealedPrefix) {
			continue
		}
		value, err := c.st.Getxattr(dir, attr)
		if err == nil {
			err = do(attr, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moveEntries moves everything but metadata, durably.
func (c *conversion) moveEntries(from, to string) error {
	entries, err := c.st.ReadDir(from)
	if errors.Is(err, syscall.ENOENT) && from == volumeDir {
		return nil // an earlier run removed it when it was empty
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name == metaDir || from == "." && (e.Name == stateDir || e.Name == lostFound) {
			continue
		}
		if err := c.moveEntry(e.Name, from, to); err != nil {
			return err
		}
	}
	return syncAll(c.st)
}

func (c *conversion) moveEntry(name, from, to string) error {
	return c.st.Rename(path.Join(from, name), path.Join(to, name), unix.RENAME_NOREPLACE)
}

// removeVolume removes a volume without files, and with it the wrapped keys,
// and ends the conversion.
func (c *conversion) removeVolume() error {
	if err := store.RemoveAll(c.st, volumeDir); err != nil {
		return err
	}
	return c.end()
}

// nameSuffix ends the name of a backing file that holds the long name of another.
const nameSuffix = ".name"

// vacant makes sure that nothing is left on the side that files came from.
func (c *conversion) vacant(next phase) error {
	dir := "."
	if next == phaseRemove {
		dir = volumeDir
	}
	entries, err := c.st.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if dir == "." && (e.Name == stateDir || e.Name == lostFound) || dir == volumeDir && e.Name == metaDir {
			continue
		}
		if _, err := c.st.Stat(path.Join(dir, strings.TrimSuffix(e.Name, nameSuffix))); dir == volumeDir &&
			strings.HasSuffix(e.Name, nameSuffix) && errors.Is(err, syscall.ENOENT) {
			continue // a long name of what is there no more
		}
		return &FileError{path.Join(dir, e.Name), fmt.Errorf("it is left over: %w", syscall.ENOTEMPTY)}
	}
	return nil
}

// end gives the root its attributes and removes the state.
func (c *conversion) end() error {
	if err := syncAll(c.st); err != nil {
		return err
	}
	if err := c.dressRoot(); err != nil {
		return err
	}
	if err := syncAll(c.st); err != nil {
		return err
	}
	if err := c.removeState(); err != nil {
		return err
	}
	root := c.state.Root
	c.state = nil
	if err := c.st.Chtimes(".", &root.Atime, &root.Mtime); err != nil {
		return err
	}
	return syncAll(c.st)
}

// removeState removes the state directory, state.json as the last in it.
func (c *conversion) removeState() error {
	for _, name := range []string{doneName, doneName + ".new", stateName + ".new", lockName} {
		if err := c.st.Unlink(name); err != nil && !errors.Is(err, syscall.ENOENT) {
			return err
		}
	}
	if err := c.st.Rmdir(volumeDir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := store.RemoveAll(c.st, probeDir); err != nil {
		return err
	}
	if err := c.st.SyncDir(stateDir); err != nil {
		return err
	}
	if err := c.st.Unlink(stateName); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := c.st.Rmdir(stateDir); err != nil {
		return err
	}
	err := errors.Join(c.lock.Close(), c.st.SyncDir("."))
	c.lock = nil
	return err
}
