package fusefs

import (
	"math"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

const (
	// entryTimeout is how long the kernel may rely on a name, and on its
	// absence. Nobody else changes the volume, so that it could be for ever.
	entryTimeout = time.Hour
	// fileAttrTimeout is that of a regular file's attributes. Size and times
	// are the kernel's own; what it does not keep is how much room the file
	// takes, which changes as it writes back.
	fileAttrTimeout = time.Second
)

func attrTimeout(a *store.Attr) time.Duration {
	if a.Mode&unix.S_IFMT == unix.S_IFREG {
		return fileAttrTimeout
	}
	return entryTimeout
}

const setIDs = unix.S_ISUID | unix.S_ISGID

// sawMode remembers what of a mode is asked for later.
func (n *node) sawMode(mode uint32) {
	n.setID.Store(mode&setIDs != 0)
	n.shared.Store(mode&unix.S_IRWXG != 0)
}

// fill turns an object's attributes into the kernel's.
func (n *node) fill(a *store.Attr, out *fuse.Attr) {
	n.sawMode(a.Mode)
	*out = fuse.Attr{
		Ino:     a.Ino,
		Size:    uint64(a.Size),
		Blocks:  uint64(a.Blocks),
		Mode:    a.Mode,
		Nlink:   a.Nlink,
		Owner:   fuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev:    uint32(a.Rdev), // the kernel's encoding is the low half of glibc's
		Blksize: uint32(a.Blksize),
	}
	out.Atime, out.Atimensec = stamp(a.Atime)
	out.Mtime, out.Mtimensec = stamp(a.Mtime)
	out.Ctime, out.Ctimensec = stamp(a.Ctime)
}

// fillStatx is fill for statx(2).
func (n *node) fillStatx(a *store.Attr, out *fuse.Statx) {
	n.sawMode(a.Mode)
	*out = fuse.Statx{
		Mask:      unix.STATX_BASIC_STATS,
		Ino:       a.Ino,
		Size:      uint64(a.Size),
		Blocks:    uint64(a.Blocks),
		Mode:      uint16(a.Mode),
		Nlink:     a.Nlink,
		Uid:       a.UID,
		Gid:       a.GID,
		Blksize:   uint32(a.Blksize),
		RdevMajor: unix.Major(a.Rdev),
		RdevMinor: unix.Minor(a.Rdev),
	}
	out.Atime.Sec, out.Atime.Nsec = stamp(a.Atime)
	out.Mtime.Sec, out.Mtime.Nsec = stamp(a.Mtime)
	out.Ctime.Sec, out.Ctime.Nsec = stamp(a.Ctime)
	if !a.Btime.IsZero() {
		out.Mask |= unix.STATX_BTIME
		out.Btime.Sec, out.Btime.Nsec = stamp(a.Btime)
	}
}

// stamp is a time as the protocol has it: seconds before 1970 wrap around.
func stamp(t time.Time) (sec uint64, nsec uint32) {
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

// onlyKills reports whether a SETATTR asks for nothing but to clear
// set-user-ID and set-group-ID.
func onlyKills(valid uint32) bool {
	return valid&^fuse.FATTR_FH == fuse.FATTR_KILL_SUIDGID
}

// change does what a SETATTR asks for. The mode comes after the owner, whose
// change clears bits of it; the times come last, as all else changes them.
func change(o object, in *fuse.SetAttrIn) error {
	group, err := groupBefore(o, in)
	if err != nil {
		return err
	}
	kill := func(o object, in *fuse.SetAttrIn) error { return killSetID(o, in, group) }
	for _, step := range []func(object, *fuse.SetAttrIn) error{changeOwner, changeMode, changeSize, kill, changeTimes} {
		if err := step(o, in); err != nil {
			return err
		}
	}
	return nil
}

// groupBefore is the group that an object had before its group is changed, by
// whose members a chown is judged; nil where it is not changed.
func groupBefore(o object, in *fuse.SetAttrIn) (*uint32, error) {
	if _, ok := in.GetGID(); !ok {
		return nil, nil
	}
	a, err := o.Stat()
	return &a.GID, err
}

func changeOwner(o object, in *fuse.SetAttrIn) error {
	uid, gid := -1, -1
	if u, ok := in.GetUID(); ok {
		uid = int(u)
	}
	if g, ok := in.GetGID(); ok {
		gid = int(g)
	}
	if uid == -1 && gid == -1 {
		return nil
	}
	return o.Chown(uid, gid)
}

func changeMode(o object, in *fuse.SetAttrIn) error {
	mode, ok := in.GetMode()
	if !ok {
		return nil
	}
	return o.Chmod(mode)
}

func changeSize(o object, in *fuse.SetAttrIn) error {
	size, ok := in.GetSize()
	if !ok {
		return nil
	}
	if size > math.MaxInt64 {
		return syscall.EFBIG
	}
	return o.Truncate(int64(size))
}

// killSetID clears set-user-ID and set-group-ID as the kernel's own file
// systems do at a write, truncate or chown.
//
// A request that says nothing at all is chown(path, -1, -1), or comes before a
// write that says the same by itself. Anybody may send it, but it is the
// owner's and root's alone to clear the bits so.
func killSetID(o object, in *fuse.SetAttrIn, group *uint32) error {
	silent := in.Valid&^(fuse.FATTR_FH|fuse.FATTR_CTIME) == 0
	chown := silent || in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0
	if !silent && in.Valid&fuse.FATTR_KILL_SUIDGID == 0 {
		return nil
	}
	caller := Owner{UID: in.Caller.Uid, GID: in.Caller.Gid}
	return dropSetID(o, caller, chown, group, func(a *store.Attr) bool {
		return !silent || caller.UID == 0 || caller.UID == a.UID
	})
}

// dropSetID clears both bits, of anything but a directory, if the caller may.
// Where the group may not execute, set-group-ID is no privilege: members of
// the group keep it, and root at a chown, at which the kernel does not say
// whether the caller may. Whether the caller is a member by a supplementary
// group we are not told.
//
// group is the one that counts, nil for the object's.
func dropSetID(o object, caller Owner, chown bool, group *uint32, may func(*store.Attr) bool) error {
	a, err := o.Stat()
	if err != nil || a.Mode&unix.S_IFMT == unix.S_IFDIR || !may(&a) {
		return err
	}
	if group != nil {
		a.GID = *group
	}
	kill := uint32(unix.S_ISUID)
	keeps := caller.GID == a.GID || (chown && caller.UID == 0)
	if a.Mode&unix.S_IXGRP != 0 || !keeps {
		kill |= unix.S_ISGID
	}
	if a.Mode&kill == 0 {
		return nil
	}
	return o.Chmod(a.Mode & 0o7777 &^ kill)
}

func changeTimes(o object, in *fuse.SetAttrIn) error {
	var atime, mtime *time.Time
	if t, ok := in.GetATime(); ok {
		atime = &t
	}
	if t, ok := in.GetMTime(); ok {
		mtime = &t
	}
	if atime == nil && mtime == nil {
		return nil
	}
	return o.Chtimes(atime, mtime)
}
