package volume

import (
	"errors"
	"fmt"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// Owner is who asks for a new object: its owner, unless the directory hands
// down its group.
type Owner struct{ UID, GID uint32 }

// Paths are plaintext, relative to the root, separated by slashes; "." is the
// root. No call follows a symbolic link.

// Stat describes an object; Size is the plaintext's.
func (v *Volume) Stat(name string) (store.Attr, error) {
	if err := v.gate.look(); err != nil {
		return store.Attr{}, err
	}
	defer v.gate.looked()
	backing, err := v.names.backing(name)
	if err != nil {
		return store.Attr{}, err
	}
	attr, err := v.statBacking(backing)
	if err != nil {
		return attr, err
	}
	return v.plainAttr(attr), nil
}

// plainAttr turns the backing object's attributes into the tree's.
func (v *Volume) plainAttr(attr store.Attr) store.Attr {
	switch attr.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if e := v.table.get(attr.Ino); e != nil {
			e.file.Overlay(&attr)
		} else {
			attr.Size, _ = format.PlainSize(attr.Size)
		}
	case unix.S_IFLNK:
		attr.Size = v.targetSize(attr.Size)
	}
	return attr
}

// ReadDir lists a directory. An entry whose name does not decrypt is no entry
// of the tree; it is logged and left out.
func (v *Volume) ReadDir(name string) ([]store.DirEntry, error) {
	if err := v.gate.look(); err != nil {
		return nil, err
	}
	defer v.gate.looked()
	backing, err := v.names.backing(name)
	if err != nil {
		return nil, err
	}
	entries, err := v.st.ReadDir(backing)
	if err != nil {
		return nil, err
	}
	return v.plainEntries(backing, entries), nil
}

// create runs make on the backing path of a new object, and sees to its
// owner, its group, and the note that a name has changed.
func (v *Volume) create(name string, mode uint32, owner Owner, make func(backing string) error) error {
	backing, err := v.names.backing(name)
	if err != nil {
		return err
	}
	if backing == "." {
		return syscall.EEXIST
	}
	if v.opts.ReadOnly {
		return syscall.EROFS
	}
	if err := v.names.prepare(name, backing); err != nil {
		return err
	}
	if err := v.changes.do(func() error { return make(backing) }); err != nil {
		v.names.release(backing)
		return err
	}
	return v.own(backing, mode, owner)
}

// heirGroup is the group of a new object in a directory; -1 where a setgid
// directory has handed its own down already.
func (v *Volume) heirGroup(dir string, parent *store.Attr, owner Owner) int {
	switch {
	case parent.Mode&unix.S_ISGID == 0:
		return int(owner.GID)
	case v.guarded(dir) == rootName: // which hands down nothing
		return int(parent.GID)
	}
	return -1
}

// own gives a new object its owner and group.
func (v *Volume) own(backing string, mode uint32, owner Owner) error {
	dir := path.Dir(backing)
	parent, err := v.statBacking(dir)
	if err != nil {
		return err
	}
	gid := v.heirGroup(dir, &parent, owner)
	attr, err := v.st.Stat(backing)
	if err == nil && parent.Mode&unix.S_ISGID != 0 && gid != -1 && attr.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = v.st.Chmod(backing, attr.Mode&0o7777|unix.S_ISGID)
		attr.Mode |= unix.S_ISGID
		mode |= unix.S_ISGID
	}
	if err != nil || (attr.UID == owner.UID && (gid == -1 || attr.GID == owner.GID)) {
		return err
	}
	if err := v.st.Chown(backing, int(owner.UID), gid); err != nil {
		return err
	}
	if mode&(unix.S_ISUID|unix.S_ISGID) != 0 && mode&unix.S_IFMT != unix.S_IFLNK {
		return v.st.Chmod(backing, attr.Mode&0o7777)
	}
	return nil
}

// Mkdir makes a directory.
func (v *Volume) Mkdir(name string, mode uint32, owner Owner) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	v.tree.RLock()
	defer v.tree.RUnlock()
	return v.create(name, mode, owner, func(b string) error { return v.st.Mkdir(b, mode) })
}

// Mknod makes a FIFO, socket, device or empty regular file.
func (v *Volume) Mknod(name string, mode uint32, dev uint64, owner Owner) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	v.tree.RLock()
	defer v.tree.RUnlock()
	return v.create(name, mode, owner, func(b string) error { return v.st.Mknod(b, mode, dev) })
}

// Symlink makes a symbolic link.
func (v *Volume) Symlink(target, name string, owner Owner) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	sealed, err := v.sealTarget(target)
	if err != nil {
		return err
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	return v.create(name, unix.S_IFLNK, owner, func(b string) error { return v.st.Symlink(sealed, b) })
}

// Link gives an object one more name.
func (v *Volume) Link(oldName, newName string) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	v.tree.Lock()
	defer v.tree.Unlock()
	from, to, err := v.two(oldName, newName)
	if err != nil {
		return err
	}
	if err := v.names.prepare(newName, to); err != nil {
		return err
	}
	if err := v.changes.do(func() error { return v.st.Link(from, to) }); err != nil {
		v.names.release(to)
		return err
	}
	v.named(to)
	v.table.linked(from, to)
	return nil
}

// two translates both paths of a change of names.
func (v *Volume) two(oldName, newName string) (from, to string, err error) {
	if v.opts.ReadOnly {
		return "", "", syscall.EROFS
	}
	if from, err = v.names.backing(oldName); err != nil {
		return "", "", err
	}
	if to, err = v.names.backing(newName); err != nil {
		return "", "", err
	}
	if from == "." || to == "." {
		return "", "", syscall.EBUSY
	}
	return from, to, nil
}

// Unlink removes a name. A file that is open lives on without one.
func (v *Volume) Unlink(name string) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	v.tree.Lock()
	defer v.tree.Unlock()
	backing, err := v.changing(name)
	if err != nil {
		return err
	}
	attr, err := v.st.Stat(backing)
	if err != nil {
		return err
	}
	e := v.table.get(attr.Ino)
	if e != nil && attr.Nlink > 1 {
		end, err := beginRename([]*entry{e})
		if err != nil {
			return err
		}
		defer end()
	}
	if err := v.changes.do(func() error { return v.st.Unlink(backing) }); err != nil {
		return err
	}
	v.names.release(backing)
	if e != nil {
		v.table.unlinked(e, backing, attr.Nlink <= 1)
		v.table.evictOne(e)
	}
	return nil
}

// changing translates the path of an object that is to be changed.
func (v *Volume) changing(name string) (string, error) {
	if v.opts.ReadOnly {
		return "", syscall.EROFS
	}
	return v.names.backing(name)
}

// Rmdir removes an empty directory.
func (v *Volume) Rmdir(name string) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	v.tree.Lock()
	defer v.tree.Unlock()
	backing, err := v.changing(name)
	if err != nil {
		return err
	}
	if backing == "." {
		return syscall.EBUSY
	}
	rmdir := func() error { return v.st.Rmdir(backing) }
	err = v.changes.do(rmdir)
	if errors.Is(err, syscall.ENOTEMPTY) && v.names.sweep(backing) {
		err = v.changes.do(rmdir)
	}
	if err != nil {
		return err
	}
	v.names.release(backing)
	return nil
}

// Rename takes renameat2's flags RENAME_NOREPLACE and RENAME_EXCHANGE. A file
// that is renamed is at home first, so that no journal record is needed under
// its old name.
func (v *Volume) Rename(oldName, newName string, flags uint) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	if flags&^uint(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return syscall.EINVAL
	}
	v.tree.Lock()
	defer v.tree.Unlock()
	from, to, err := v.two(oldName, newName)
	if err != nil {
		return err
	}
	source, err := v.st.Stat(from)
	if err != nil {
		return err
	}
	target, err := v.st.Stat(to)
	replaces := err == nil
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	exchange := flags&unix.RENAME_EXCHANGE != 0
	entries := v.table.below(from)
	if exchange || replaces && target.Nlink > 1 {
		entries = append(entries, v.table.below(to)...)
	}
	end, err := beginRename(entries)
	if err != nil {
		return err
	}
	defer end()
	if err := v.names.prepare(newName, to); err != nil {
		return err
	}
	if err := v.changes.do(func() error { return v.st.Rename(from, to, flags) }); err != nil {
		v.names.release(to)
		return err
	}
	v.named(from, to)
	if replaces && target.Ino == source.Ino && !exchange {
		return nil // two names of one object: nothing happened
	}
	v.moved(from, to, target, replaces, exchange)
	if source.Mode&unix.S_IFMT == unix.S_IFDIR || (exchange && target.Mode&unix.S_IFMT == unix.S_IFDIR) {
		return v.syncParents(from, to)
	}
	return nil
}

// moved tells the table of a rename.
func (v *Volume) moved(from, to string, target store.Attr, replaces, exchange bool) {
	const aside = "\x00" // no path
	switch {
	case exchange:
		v.table.renamed(to, aside)
		v.table.renamed(from, to)
		v.table.renamed(aside, from)
		return
	case replaces:
		if e := v.table.get(target.Ino); e != nil && target.Mode&unix.S_IFMT == unix.S_IFREG {
			v.table.unlinked(e, to, target.Nlink <= 1)
			v.table.evictOne(e)
		}
	}
	v.table.renamed(from, to)
	v.names.release(from)
}

// syncParents makes a directory's rename durable: no later sync of a file
// below it would.
func (v *Volume) syncParents(from, to string) error {
	err := v.st.SyncDir(path.Dir(to))
	if path.Dir(from) != path.Dir(to) {
		err = errors.Join(err, v.st.SyncDir(path.Dir(from)))
	}
	return err
}

// beginRename makes files ready for another path, until end is called. All are
// settled first, one after the other: as long as one is kept from being
// committed, nobody makes room in the journal.
func beginRename(entries []*entry) (end func(), err error) {
	for _, e := range entries {
		if err := e.file.Commit(); err != nil {
			return nil, fmt.Errorf("settling before a change of names: %w", err)
		}
		if err := e.file.Settle(); err != nil {
			return nil, err
		}
	}
	begun := 0
	end = func() {
		for _, e := range entries[:begun] {
			e.file.EndRename()
		}
	}
	for _, e := range entries {
		if err := e.file.BeginRename(); err != nil {
			end()
			return nil, err
		}
		begun++
	}
	return end, nil
}
