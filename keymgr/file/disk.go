package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/internal/replace"
	"github.com/akvfs/akvfs/keymgr"
)

// failure is a KeyError about the file itself.
func failure(op, file string, class keymgr.Class, code string, err error) *keymgr.KeyError {
	return &keymgr.KeyError{Class: class, KeyID: KeyID(file), Vault: file, Code: code, Op: op, Err: err}
}

// read is the file's content; the caller wipes it. Errors are
// *keymgr.KeyError.
func read(op, file string) (*document, error) {
	data, err := readSafe(file)
	if err != nil {
		return nil, readFailure(op, file, err)
	}
	defer clear(data)
	d, err := parse(data)
	if err != nil {
		return nil, failure(op, file, keymgr.Invalid, "DamagedFile", err)
	}
	return d, nil
}

func readFailure(op, file string, err error) *keymgr.KeyError {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failure(op, file, keymgr.Unreachable, "FileNotFound", errors.New("there is no such file"))
	case errors.Is(err, fs.ErrPermission):
		return failure(op, file, keymgr.Credentials, "AccessDenied", err)
	case errors.Is(err, errUnsafe):
		return failure(op, file, keymgr.Invalid, "UnsafeFile", err)
	}
	return failure(op, file, keymgr.Unreachable, "ReadFailed", err)
}

var errUnsafe = errors.New("a key store must be a regular file of the user who uses it, mode 0600")

// readSafe reads a file that only we can have written and only we can read.
func readSafe(file string) ([]byte, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w; it is a symbolic link", errUnsafe)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "fstat", Path: file, Err: err}
	}
	if err := safe(&st, os.Geteuid()); err != nil {
		return nil, err
	}
	// One byte more than the size tells whether the file grew.
	data := make([]byte, min(st.Size, maxFileSize)+1)
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(data)
		return nil, err
	}
	return data[:n], nil
}

// safe judges what a store may be read from.
func safe(st *unix.Stat_t, euid int) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w; it is no regular file", errUnsafe)
	case int(st.Uid) != euid:
		return fmt.Errorf("%w; it belongs to user %d, and this is user %d", errUnsafe, st.Uid, euid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%w; its mode is %04o", errUnsafe, st.Mode&0o7777)
	}
	return nil
}

// write replaces the file durably.
func write(file string, d *document) error {
	if err := d.validate(); err != nil {
		return err
	}
	data, err := d.encode()
	if err != nil {
		return err
	}
	defer clear(data)
	if len(data) > maxFileSize {
		return fmt.Errorf("it would have more than %d bytes", maxFileSize)
	}
	dir := filepath.Dir(file)
	tmp, err := renameio.NewPendingFile(file, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer tmp.Cleanup() // nothing is left of it after the replacement
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return replace.SyncDir(dir)
}

// lock keeps other editors of files in the same directory out until unlock. It
// locks the directory, since the file itself is replaced.
func lock(file string) (unlock func(), err error) {
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		d.Close()
		return nil, &fs.PathError{Op: "flock", Path: d.Name(), Err: err}
	}
	return func() { d.Close() }, nil
}
