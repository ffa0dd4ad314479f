package confdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/internal/replace"
)

// maxFile bounds a file, in bytes.
const maxFile = 1 << 20

var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// Dir is the directory of the entries of one kind. It may be missing.
type Dir struct {
	path string
	noun string // for errors: "project"
}

// In is the directory of a kind of entries, such as "projects" of "project".
func In(config, kind, noun string) Dir { return Dir{filepath.Join(config, kind), noun} }

// NameError says that a name cannot be an entry's.
type NameError struct{ Noun, Name string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%q is no name for a %s", e.Name, e.Noun)
}

// UnsafeError says that a file or directory is not to be trusted, or holds a
// secret that others can read.
type UnsafeError struct{ Path, Why string }

func (e *UnsafeError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Why) }

// BusyError says that another process changes an entry.
type BusyError struct{ Noun, Name string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%s %s is being changed by another command", e.Noun, e.Name)
}

// NoEntryError says that there is no entry of a name.
type NoEntryError struct{ Noun, Name string }

func (e *NoEntryError) Error() string { return fmt.Sprintf("there is no %s %s", e.Noun, e.Name) }

// CheckName refuses what cannot be a name. Errors are a *NameError.
func (d Dir) CheckName(name string) error {
	if !goodName.MatchString(name) {
		return &NameError{d.noun, name}
	}
	return nil
}

// Path is where a file of an entry lies.
func (d Dir) Path(name, file string) string { return filepath.Join(d.path, name, file) }

// Names lists the entries that have a file, in order.
func (d Dir) Names(file string) ([]string, error) {
	all, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range all {
		if _, err := os.Lstat(d.Path(e.Name(), file)); err == nil && goodName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Lock keeps others from changing an entry, and with shared from removing it.
// It does not wait: errors are a *BusyError if somebody else does.
func (d Dir) Lock(name string, shared bool) (unlock func(), err error) {
	if err := d.CheckName(name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, err
	}
	if err := checkDir(d.path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.path, "."+name+".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &BusyError{d.noun, name}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		// A child that is being started may have the descriptor for a moment.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}, nil
}

// Read reads a file of an entry. Errors are a *NameError, a *NoEntryError if
// the file is missing, or an *UnsafeError.
func (d Dir) Read(name, file string) ([]byte, error) {
	if err := d.CheckName(name); err != nil {
		return nil, err
	}
	err := checkDir(filepath.Dir(d.Path(name, file)))
	if err == nil {
		var data []byte
		if data, err = readFile(d.Path(name, file), 0o022); err == nil {
			return data, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoEntryError{d.noun, name}
	}
	return nil, err
}

// Write makes or replaces a file of an entry, atomically and durably.
func (d Dir) Write(name, file string, data []byte) error {
	if err := d.CheckName(name); err != nil {
		return err
	}
	dir := filepath.Join(d.path, name)
	if err := replace.Dir(dir); err != nil {
		return err
	}
	if err := checkDir(dir); err != nil {
		return err
	}
	if err := replace.File(filepath.Join(dir, file), data, 0o600); err != nil {
		return err
	}
	return replace.SyncDir(d.path)
}

// RemoveFile removes a file of an entry; it may be missing.
func (d Dir) RemoveFile(name, file string) error {
	if err := d.CheckName(name); err != nil {
		return err
	}
	return replace.Remove(d.Path(name, file))
}

// Remove removes an entry: the file that makes it one first.
func (d Dir) Remove(name, file string) error {
	if err := d.RemoveFile(name, file); err != nil {
		return err
	}
	dir := filepath.Join(d.path, name)
	if err := replace.SyncDir(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), replace.SyncDir(d.path))
}

// ReadPrivate reads a secret of this host that the operator names. Errors are
// an *UnsafeError if anybody but its owner can read it.
func ReadPrivate(path string) ([]byte, error) { return readFile(path, 0o077) }

// CheckPrivate is ReadPrivate without the reading.
func CheckPrivate(path string) error {
	f, err := openFile(path, 0o077)
	if err != nil {
		return err
	}
	return f.Close()
}

func readFile(path string, forbidden os.FileMode) ([]byte, error) {
	f, err := openFile(path, forbidden)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = &UnsafeError{path, "is too large"}
	}
	return data, err
}

// openFile opens a regular file, if root or this user owns it and none of the
// forbidden permission bits are set.
func openFile(path string, forbidden os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, &UnsafeError{path, "is a symbolic link"}
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = judge(path, fi, forbidden)
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = &UnsafeError{path, "is not a regular file"}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func checkDir(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return &UnsafeError{path, "is a symbolic link"}
	}
	if !fi.IsDir() {
		return &UnsafeError{path, "is not a directory"}
	}
	return judge(path, fi, 0o022)
}

// judge refuses what others than root and this user own, or may touch.
func judge(path string, fi os.FileInfo, forbidden os.FileMode) error {
	uid := fi.Sys().(*syscall.Stat_t).Uid
	switch mode := fi.Mode().Perm(); {
	case uid != 0 && uid != uint32(os.Geteuid()):
		return &UnsafeError{path, fmt.Sprintf("belongs to user %d", uid)}
	case mode&forbidden&0o022 != 0:
		return &UnsafeError{path, fmt.Sprintf("can be written by others (mode %04o)", mode)}
	case mode&forbidden != 0:
		return &UnsafeError{path, fmt.Sprintf("holds a secret and can be read by others (mode %04o)", mode)}
	}
	return nil
}
