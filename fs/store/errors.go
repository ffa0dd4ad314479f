package store

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

var (
	// ErrLocked says that somebody else holds a lock. It wraps EWOULDBLOCK.
	ErrLocked = fmt.Errorf("locked by another holder: %w", syscall.EWOULDBLOCK)
	// ErrNoOpenat2 says that the kernel, or a sandbox around this process,
	// offers no openat2 call, without which a store cannot keep to its root.
	ErrNoOpenat2 = fmt.Errorf("openat2 is not available (Linux 5.8 or later is needed, and a sandbox must allow it): %w", syscall.ENOSYS)
	// ErrCut is what every call answers once the power of a Mem is cut; a
	// Hook returns it to cut the power in the middle of an operation. It
	// wraps EIO.
	ErrCut = fmt.Errorf("the power was cut: %w", syscall.EIO)
	// ErrKilled is what every call answers after Mem.Kill. It wraps EIO.
	ErrKilled = fmt.Errorf("the process was killed: %w", syscall.EIO)
)

// pathError adds an operation and a name to an error; nil stays nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// linkError is pathError for an operation on two names.
func linkError(op, oldName, newName string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: oldName, New: newName, Err: err}
}
