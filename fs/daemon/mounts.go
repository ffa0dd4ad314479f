package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// fsType is how our mounts show in the mount table.
const fsType = "fuse.akvfs"

// canonical makes a path absolute and free of symbolic links, also where its
// last component is the mount of a dead daemon, or of a locked volume, of which
// nothing can be asked.
func canonical(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if !isDead(err) && !errors.Is(err, syscall.ENOKEY) {
		return real, err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	return filepath.Join(parent, filepath.Base(abs)), err
}

// topMount is the mount that lies uppermost at a canonical path; nil if the
// path is no mount point.
func topMount(path string) (*mountinfo.Info, error) {
	mounts, err := mountsAt(path)
	if err != nil || len(mounts) == 0 {
		return nil, err
	}
	return mounts[len(mounts)-1], nil
}

// mountsAt lists the mounts at a canonical path, uppermost last.
func mountsAt(path string) ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
}

// mountDevices are the devices ("major:minor") of the mounts at a canonical
// path, uppermost last.
func mountDevices(path string) ([]string, error) {
	mounts, err := mountsAt(path)
	devices := make([]string, len(mounts))
	for i, m := range mounts {
		devices[i] = device(m)
	}
	return devices, err
}

func device(m *mountinfo.Info) string { return fmt.Sprintf("%d:%d", m.Major, m.Minor) }

// submounts lists the mount points below a canonical path, without itself.
func submounts(path string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(path))
	if err != nil {
		return nil, err
	}
	var below []string
	for _, m := range mounts {
		if m.Mountpoint != path {
			below = append(below, m.Mountpoint)
		}
	}
	return below, nil
}

// ours reports whether the uppermost mount at a canonical path is an akvfs.
func ours(path string) (bool, error) {
	m, err := topMount(path)
	return m != nil && m.FSType == fsType, err
}

// MountedAt reports whether an akvfs is mounted at a path, be it that its
// daemon was killed.
func MountedAt(path string) (bool, error) {
	path, err := canonical(path)
	if err != nil {
		return false, err
	}
	return ours(path)
}

// dead reports whether the akvfs at a canonical path has lost its daemon.
func dead(path string) bool {
	var st unix.Statfs_t
	return isDead(unix.Statfs(path, &st))
}

// isDead reports whether an error is what a mount without its daemon answers:
// the second, to whoever was waiting for an answer when the daemon was killed.
func isDead(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
}

// clearDead unmounts what killed daemons left at a canonical path, and tells
// how many mounts that were. Living mounts and other file systems stay.
func clearDead(ctx context.Context, path string) (int, error) {
	for n := 0; ; n++ {
		mine, err := ours(path)
		if err != nil || !mine || !dead(path) {
			return n, err
		}
		// Lazily: whoever still has a file of it open holds nothing but
		// a descriptor that answers ENOTCONN.
		if err := unmountPath(ctx, path, true); err != nil {
			return n, fmt.Errorf("cannot clean up the mount that a killed daemon left at %s: %w", path, err)
		}
	}
}

// unmountPath takes away the uppermost mount at a path. A mount in use is EBUSY.
func unmountPath(ctx context.Context, path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(path, flags)
	if !errors.Is(err, unix.EPERM) || os.Geteuid() == 0 {
		return err
	}
	return fusermount(ctx, path, lazy)
}

// fusermount unmounts by way of the set-uid helper, for users without
// CAP_SYS_ADMIN.
func fusermount(ctx context.Context, path string, lazy bool) error {
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		if bin, err = exec.LookPath("fusermount"); err != nil {
			return fmt.Errorf("unmounting needs root, or fusermount3 from the package fuse3: %w", unix.EPERM)
		}
	}
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	out, err := exec.CommandContext(ctx, bin, append(args, "--", path)...).CombinedOutput()
	switch {
	case err == nil:
		return nil
	case bytes.Contains(bytes.ToLower(out), []byte("busy")):
		return unix.EBUSY
	}
	return fmt.Errorf("%s: %w: %s", filepath.Base(bin), err, strings.TrimSpace(string(out)))
}

// insideVolume reports whether a canonical path lies in the tree of a mounted
// akvfs, its root included. The innermost mount around the path decides.
func insideVolume(path string) (bool, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return false, err
	}
	var inner *mountinfo.Info
	for _, m := range mounts {
		if inner == nil || len(m.Mountpoint) >= len(inner.Mountpoint) {
			inner = m
		}
	}
	return inner != nil && inner.FSType == fsType, nil
}
