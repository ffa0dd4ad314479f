package volume

import (
	"errors"
	"os"
	"time"

	"github.com/akvfs/akvfs/fs/store"
)

// SyncDir makes a directory's entries durable.
func (v *Volume) SyncDir(name string) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	backing, err := v.names.backing(name)
	if err != nil || v.opts.ReadOnly {
		return err
	}
	if own := v.guarded(backing); own != backing {
		if err := v.st.SyncDir(own); err != nil {
			return err
		}
	}
	return v.st.SyncDir(backing)
}

// Chmod sets an object's permission bits.
func (v *Volume) Chmod(name string, mode uint32) error {
	return v.change(name, func(b string) error { return v.st.Chmod(v.guarded(b), mode) })
}

// Chown sets an object's owner; -1 leaves an ID as it is.
func (v *Volume) Chown(name string, uid, gid int) error {
	return v.change(name, func(b string) error { return v.st.Chown(v.guarded(b), uid, gid) })
}

func (v *Volume) change(name string, do func(backing string) error) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	v.tree.RLock()
	defer v.tree.RUnlock()
	backing, err := v.changing(name)
	if err != nil {
		return err
	}
	return do(backing)
}

// Chtimes sets times; nil leaves one as it is.
func (v *Volume) Chtimes(name string, atime, mtime *time.Time) error {
	return v.change(name, func(b string) error {
		attr, err := v.st.Stat(b)
		if err != nil {
			return err
		}
		if e := v.table.hold(attr.Ino); e != nil { // else it may be closed meanwhile
			defer v.table.drop(e)
			if !e.readOnly {
				return e.file.Chtimes(atime, mtime)
			}
		}
		return v.st.Chtimes(b, atime, mtime)
	})
}

// Truncate sets a file's plaintext size.
func (v *Volume) Truncate(name string, size int64) error {
	h, err := v.OpenFile(name, os.O_RDWR, 0, Owner{})
	if err != nil {
		return err
	}
	return errors.Join(h.Truncate(size), h.Close())
}

// Statfs describes the file system below.
func (v *Volume) Statfs() (store.Statfs, error) {
	if err := v.gate.look(); err != nil {
		return store.Statfs{}, err
	}
	defer v.gate.looked()
	s, err := v.st.Statfs()
	s.NameMax = nameMax
	return s, err
}
