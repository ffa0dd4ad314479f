package daemon

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// directory resolves the path of a directory that must exist.
func directory(role Role, path string) (string, error) {
	real, err := canonical(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &PathError{role, path, ProblemMissing}
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return "", &PathError{role, path, ProblemNotDirectory}
	}
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !fi.IsDir() {
		return "", &PathError{role, path, ProblemNotDirectory}
	}
	return real, nil
}

// inside reports whether a canonical path lies below another.
func inside(path, dir string) bool {
	return path != dir && strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// checkPair refuses a mount point that lies in the backing directory or has
// it inside. Both may be the same directory: the mount then covers it.
func checkPair(backing, mountpoint string) error {
	switch {
	case inside(mountpoint, backing):
		return &PathError{RoleMountpoint, mountpoint, ProblemInsideBacking}
	case inside(backing, mountpoint):
		return &PathError{RoleBacking, backing, ProblemInsideMount}
	case backing != mountpoint:
		return checkEmpty(mountpoint)
	}
	return nil
}

// checkEmpty refuses a mount point that would hide files.
func checkEmpty(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(16)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if name != "lost+found" {
				return &PathError{RoleMountpoint, path, ProblemNotEmpty}
			}
		}
	}
}

// RunDir is where the control sockets of this user's mounts lie:
// AKVFS_RUN_DIR, else /run/akvfs for root, else akvfs in XDG_RUNTIME_DIR or,
// without one, a directory of the user's own in the temporary directory.
func RunDir(getenv func(string) string, uid int) string {
	if dir := getenv("AKVFS_RUN_DIR"); dir != "" {
		return dir
	}
	if uid == 0 {
		return "/run/akvfs"
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "akvfs")
	}
	return filepath.Join(os.TempDir(), "akvfs-run-"+strconv.Itoa(uid))
}

// StateDir is where this user's audit logs lie: AKVFS_STATE_DIR, else
// /var/lib/akvfs for root, else akvfs in XDG_STATE_HOME or .local/state of the
// home directory; "" for a user without one.
func StateDir(getenv func(string) string, uid int) string {
	if dir := getenv("AKVFS_STATE_DIR"); dir != "" {
		return dir
	}
	if uid == 0 {
		return "/var/lib/akvfs"
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "akvfs")
	}
	if dir := getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".local", "state", "akvfs")
	}
	return ""
}

// ConfigDir is where this user's projects and clusters are configured:
// AKVFS_CONFIG_DIR, else /etc/akvfs for root, else akvfs in XDG_CONFIG_HOME or
// .config of the home directory; "" for a user without one.
func ConfigDir(getenv func(string) string, uid int) string {
	if dir := getenv("AKVFS_CONFIG_DIR"); dir != "" {
		return dir
	}
	if uid == 0 {
		return "/etc/akvfs"
	}
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "akvfs")
	}
	if dir := getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".config", "akvfs")
	}
	return ""
}
