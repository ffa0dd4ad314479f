package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// content is what a directory holds.
type content int

const (
	missing content = iota
	empty
	plain
	encrypted  // a volume
	converting // half a volume
)

// look finds out what a directory holds. The path is canonical but for its
// last component.
func look(role daemon.Role, path string) (content, error) {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing, nil
	case err != nil:
		return 0, err
	case fi.Mode()&os.ModeSymlink != 0:
		return 0, &daemon.PathError{Role: role, Path: path, Problem: daemon.ProblemSymlink}
	case !fi.IsDir():
		return 0, &daemon.PathError{Role: role, Path: path, Problem: daemon.ProblemNotDirectory}
	}
	if mounted, err := daemon.MountedAt(path); err != nil {
		return 0, err
	} else if mounted {
		return 0, &daemon.InUseError{Backing: path, Mountpoint: path}
	}
	st, err := store.OpenDisk(path)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	return contentOf(st)
}

func contentOf(st store.FS) (content, error) {
	if direction, err := convert.Unfinished(st); err != nil {
		return 0, err
	} else if direction != "" {
		return converting, nil
	}
	switch _, err := volume.ReadInfo(st); {
	case err == nil:
		return encrypted, nil
	case errors.Is(err, volume.ErrConverting):
		return converting, nil
	case !errors.Is(err, volume.ErrNotVolume):
		return 0, err
	}
	entries, err := st.ReadDir(".")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.Name != "lost+found" {
			return plain, nil
		}
	}
	return empty, nil
}

// canRename finds out whether a directory can become another by a rename.
func canRename(from, to string) error {
	if root, err := isMountRoot(from); err != nil {
		return err
	} else if root {
		return &daemon.PathError{Role: daemon.RoleData, Path: from, Problem: daemon.ProblemMounted}
	}
	same, err := sameDisk(from, to)
	if err == nil && !same {
		err = &daemon.PathError{Role: daemon.RoleBacking, Path: to, Problem: daemon.ProblemOtherDisk}
	}
	return err
}

// sameDisk reports whether a directory lies on the file system of the place
// where another is or would be.
func sameDisk(dir, place string) (bool, error) {
	var a, b unix.Stat_t
	if err := unix.Lstat(dir, &a); err != nil {
		return false, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	for _, path := range []string{place, filepath.Dir(place)} {
		err := unix.Lstat(path, &b)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return false, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		if a.Dev != b.Dev {
			return false, nil
		}
	}
	return true, nil
}

// isMountRoot reports whether a directory is the root of a file system of its own.
func isMountRoot(dir string) (bool, error) {
	same, err := sameDisk(dir, filepath.Dir(dir))
	return !same, err
}

// rename moves a directory over an empty one or to a free name, durably.
func rename(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(from)), syncDir(filepath.Dir(to)))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// immutable is FS_IMMUTABLE_FL: not even root makes a file in such a directory.
const immutable = 0x10

// shut makes an empty directory one that nobody can write to, as a bare mount
// point. Where the file system or the container does not know immutable
// directories, root still can.
func shut(path string) error {
	if os.Geteuid() == 0 {
		_ = setImmutable(path, false) // else the rest fails, and says so
		if err := os.Lchown(path, 0, 0); err != nil {
			return err
		}
	}
	if err := os.Chmod(path, 0); err != nil {
		return err
	}
	_ = setImmutable(path, true)
	return nil
}

// unshut undoes what keeps a directory from being removed or changed.
func unshut(path string) error {
	err := setImmutable(path, false)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // this file system never had it so
	}
	return err
}

func setImmutable(path string, to bool) error {
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable != 0 == to {
		return err
	}
	return unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags^immutable)
}

// guard closes a volume's backing directory to everybody but its owner, and
// gives the tree's root the owner and mode that the directory had.
func guard(backing string) error {
	st, err := store.OpenDisk(backing)
	if err != nil {
		return err
	}
	defer st.Close()
	_, _, _, own, err := volume.Root(st)
	if err != nil {
		return err
	}
	if !own {
		attr, err := st.Stat(".")
		if err != nil {
			return err
		}
		if err := volume.SetRoot(st, attr.Mode&0o7777, int(attr.UID), int(attr.GID)); err != nil {
			return err
		}
		if err := syncDir(backing); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(backing, 0, 0); err != nil {
			return err
		}
	}
	return os.Chmod(backing, 0o700)
}

// dress gives a directory the owner and mode of another.
func dress(path string, fi fs.FileInfo) error {
	st := fi.Sys().(*syscall.Stat_t)
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return unix.Chmod(path, st.Mode&0o7777)
}
