package volume

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// spare answers ENFILE if one more open file would take the descriptors with
// which the others are brought home. A file may have two: half of them all is
// for files.
func (v *Volume) spare() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if uint64(v.table.len()) < limit.Cur/2 {
		return nil
	}
	// What is closed, and not at home, is let go of.
	if err := v.runCheckpoint(); err != nil {
		return err
	}
	if uint64(v.table.len()) < limit.Cur/2 {
		return nil
	}
	return syscall.ENFILE
}
