package devvolume

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// UnableError says why nothing can be mounted on this host, in words that end
// with what to do about it.
type UnableError struct{ Reason string }

func (e *UnableError) Error() string { return "cannot mount here: " + e.Reason }

// Able tells whether this process can mount, as far as that shows beforehand;
// nil if so, else an *UnableError.
func Able() error { return able("/dev/fuse", os.Geteuid(), exec.LookPath) }

func able(device string, uid int, lookPath func(string) (string, error)) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	switch {
	case err == nil:
		_ = f.Close() // nothing was written
	case errors.Is(err, syscall.ENOENT):
		return &UnableError{"there is no " + device + ": load the fuse module, or give the container --device " + device}
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return &UnableError{device + " may not be opened: give this user or container access to it"}
	default:
		return &UnableError{device + " does not work (" + err.Error() + "): load the fuse module"}
	}
	if _, err := lookPath("fusermount3"); uid != 0 && err != nil {
		return &UnableError{"a user other than root needs fusermount3: install the package fuse3"}
	}
	return nil
}
