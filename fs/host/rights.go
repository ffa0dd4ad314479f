package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/control"
)

// DirectoryError says that a directory is not one with which root does what
// somebody else asks for.
type DirectoryError struct{ Path, Why string }

func (e *DirectoryError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Why) }

// Stable refuses an absolute path that could come to mean something else
// without root's doing: one with a symbolic link, or with a directory on the
// way, the last component left out, in which others than root can put anything.
// In a sticky directory they can put nothing in the place of what is root's. The
// directory itself may be missing.
// Errors are a *DirectoryError.
func Stable(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return &DirectoryError{path, "is not the absolute path of a directory"}
	}
	var above unix.Stat_t
	at, fd := "", unix.AT_FDCWD
	defer func() { closeDir(fd) }()
	for _, name := range append([]string{"/"}, strings.Split(path[1:], "/")...) {
		at = filepath.Join(at, name)
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) && at == path && above.Mode&0o022 == 0 {
			return nil // and only root can make it
		}
		if err != nil {
			return &DirectoryError{at, "cannot be opened as a directory: " + err.Error()}
		}
		closeDir(fd)
		fd = next
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return &DirectoryError{at, err.Error()}
		}
		if above.Mode&0o022 != 0 && (above.Mode&unix.S_ISVTX == 0 || st.Uid != 0) {
			return &DirectoryError{at, "lies where others than root can put something else in its place"}
		}
		if at != path && st.Uid != 0 {
			return &DirectoryError{at, fmt.Sprintf("is user %d's, who can put something else on the way", st.Uid)}
		}
		above = st
	}
	return nil
}

func closeDir(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// ownEmpty refuses a directory that is not stable, not the user's own, not
// empty, or not reached with the user's rights. Errors are a *DirectoryError.
func ownEmpty(p control.Peer, path string) error {
	return withRights(p, func() error {
		if err := Stable(path); err != nil {
			return err
		}
		fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
			Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			return &DirectoryError{path, fmt.Sprintf("cannot be opened by user %d: %v", p.UID, err)}
		}
		dir := os.NewFile(uintptr(fd), path)
		defer dir.Close()
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return &DirectoryError{path, err.Error()}
		}
		if st.Uid != p.UID {
			return &DirectoryError{path, fmt.Sprintf("is not user %d's own", p.UID)}
		}
		return empty(dir)
	})
}

func empty(dir *os.File) error {
	for {
		names, err := dir.Readdirnames(16)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &DirectoryError{dir.Name(), err.Error()}
		}
		for _, name := range names {
			if name != "lost+found" {
				return &DirectoryError{dir.Name(), "is not empty"}
			}
		}
	}
}

// take makes a directory root's alone, so that nobody else puts anything into it.
func take(path string) error {
	if err := os.Lchown(path, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	return os.Chmod(path, 0o700)
}

// taken reports whether a stable directory is root's alone.
func taken(path string) bool {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return err == nil && st.Uid == uint32(os.Geteuid()) && st.Mode&(unix.S_IFMT|0o077) == unix.S_IFDIR
}

// withRights does something with the rights of a user in file systems, on a
// thread of its own that ends with it.
func withRights(p control.Peer, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread is fit for nothing else
		if err := become(p); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	return <-done
}

// become gives the calling thread alone a user's rights in file systems. With
// root's it loses root's capabilities there.
func become(p control.Peer) error {
	var first unsafe.Pointer
	if len(p.Groups) > 0 {
		first = unsafe.Pointer(&p.Groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(first), 0); errno != 0 {
		return os.NewSyscallError("setgroups", errno)
	}
	for _, set := range []struct {
		call uintptr
		name string
		id   uint32
	}{{unix.SYS_SETFSGID, "setfsgid", p.GID}, {unix.SYS_SETFSUID, "setfsuid", p.UID}} {
		unix.RawSyscall(set.call, uintptr(set.id), 0, 0)
		// The call tells nothing but what was before.
		if now, _, _ := unix.RawSyscall(set.call, ^uintptr(0), 0, 0); uint32(now) != set.id {
			return os.NewSyscallError(set.name, unix.EPERM)
		}
	}
	return nil
}
