package volume

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// rootName is a directory whose owner and mode are those of the tree's root,
// if it is there. The backing directory itself can then be closed to everybody
// but the daemon's user: whoever comes while nothing is mounted over it finds
// no directory to write plaintext into.
const rootName = MetaDir + "/root"

// SetRoot gives the tree's root an owner and permission bits of its own, apart
// from the backing directory's. It may be repeated. The caller makes it
// durable, and has the volume closed.
func SetRoot(st store.FS, mode uint32, uid, gid int) error {
	if err := st.Mkdir(rootName, 0o700); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	if err := st.Chown(rootName, uid, gid); err != nil {
		return err
	}
	return st.Chmod(rootName, mode)
}

// CopyRoot gives the tree's root in to, a copy of the volume in from, the owner
// and mode that it has there apart from the backing directory's, if it has any.
func CopyRoot(to, from store.FS) error {
	mode, uid, gid, ok, err := Root(from)
	if err != nil || !ok {
		return err
	}
	if err := SetRoot(to, mode, uid, gid); err != nil {
		return err
	}
	acl, err := from.Getxattr(rootName, store.ACLAccess)
	if errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	return SetRootACL(to, acl)
}

// SetRootACL gives the tree's root an ACL, after SetRoot.
func SetRootACL(st store.FS, acl []byte) error {
	return st.Setxattr(rootName, store.ACLAccess, acl, 0)
}

// Root is the owner and mode that SetRoot gave; ok is false if it did not.
func Root(st store.FS) (mode uint32, uid, gid int, ok bool, err error) {
	attr, err := st.Stat(rootName)
	if errors.Is(err, syscall.ENOENT) {
		return 0, 0, 0, false, nil
	}
	return attr.Mode & 0o7777, int(attr.UID), int(attr.GID), err == nil, err
}

// findRoot looks whether the tree's root has attributes of its own.
func (v *Volume) findRoot() error {
	attr, err := v.st.Stat(rootName)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	v.ownRoot = err == nil && attr.Mode&unix.S_IFMT == unix.S_IFDIR
	return err
}

// guarded is the object that has a backing object's owner and mode.
func (v *Volume) guarded(backing string) string {
	if backing == "." && v.ownRoot {
		return rootName
	}
	return backing
}

// statBacking is the store's Stat with the owner and mode that the tree shows.
func (v *Volume) statBacking(backing string) (store.Attr, error) {
	if v.guarded(backing) == backing {
		return v.st.Stat(backing)
	}
	return StatRoot(v.st)
}

// StatRoot describes the root of a volume's tree, open or not, as the tree shows it.
func StatRoot(st store.FS) (store.Attr, error) {
	attr, err := st.Stat(".")
	if err != nil {
		return attr, err
	}
	root, err := st.Stat(rootName)
	if errors.Is(err, syscall.ENOENT) {
		return attr, nil
	}
	attr.Mode, attr.UID, attr.GID = root.Mode, root.UID, root.GID
	if root.Ctime.After(attr.Ctime) {
		attr.Ctime = root.Ctime
	}
	return attr, err
}
