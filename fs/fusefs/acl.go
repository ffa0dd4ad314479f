package fusefs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// POSIX ACLs: the kernel enforces them, from what we answer to GETXATTR. The
// volume keeps them in accord with the mode, and has new objects inherit a
// directory's default ACL. In a directory without one it is the umask that
// bounds a new object's permissions; the kernel leaves that to us, as only we
// know which of the two it is.

// umaskShift is where the umask of a request rides in its mode, since go-fuse
// hands on the mode alone: above the bits of the object's kind.
const umaskShift = 16

func withUmask(mode, umask uint32) uint32 { return mode | (umask&0o777)<<umaskShift }

// newMode is the mode of a new object in d, whose path is given.
func (d *dir) newMode(path string, mode uint32) uint32 {
	umask := mode >> umaskShift
	mode &= 1<<umaskShift - 1
	if _, err := d.xattr(path, store.ACLDefault); err == nil {
		return mode
	}
	return mode &^ umask
}

// member reports whether who asks is in a group. A process that is gone, or
// that this one does not see, is in none but its first.
func member(ctx context.Context, gid uint32) bool {
	caller, ok := fuse.FromContext(ctx)
	if !ok || caller.Uid == 0 || caller.Gid == gid {
		return true
	}
	return slices.Contains(groupsOf(caller.Pid), gid)
}

// groupsOf are the supplementary groups of a thread, which waits for us.
func groupsOf(thread uint32) (groups []uint32) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		list, ok := strings.CutPrefix(lines.Text(), "Groups:")
		if !ok {
			continue
		}
		for _, word := range strings.Fields(list) {
			if g, err := strconv.ParseUint(word, 10, 32); err == nil {
				groups = append(groups, uint32(g))
			}
		}
	}
	return groups
}

// dropForeignGroup takes set-group-ID from an object whose ACL, and with it
// mode, was changed by somebody who is not in its group.
func (n *node) dropForeignGroup(ctx context.Context) error {
	return n.with(func(o object) error {
		a, err := o.Stat()
		if err != nil || a.Mode&unix.S_ISGID == 0 || member(ctx, a.GID) {
			return err
		}
		return o.Chmod(a.Mode & 0o7777 &^ unix.S_ISGID)
	})
}

// keepACL keeps the ACL of an object that is about to lose a name, so that it
// still counts if that was the last.
func (n *node) keepACL(path string) {
	n.lastACL.Store(nil)
	if !n.shared.Load() {
		return
	}
	if value, err := n.xattr(path, store.ACLAccess); err == nil {
		n.lastACL.Store(&value)
	}
}
