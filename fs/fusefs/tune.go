package fusefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tunables are what the kernel does for a mount beyond what FUSE itself can
// ask for, by the names in /sys/class/bdi.
var tunables = map[string]string{
	// How far it reads ahead of a sequential reader, in KiB: several requests
	// of the largest size, which the disk and both of two cores answer side by
	// side, where FUSE's 128 would be one small one.
	"read_ahead_kb": "4096",
	// How many per cent of the memory for dirty pages the mount may use. At
	// FUSE's 1 every writer soon waits for the daemon, and random writes never
	// meet in the cache: they run at a fifth.
	"max_ratio": "20",
}

// tune sets the mount's tunables. Only root may.
func tune(mountpoint string) error {
	var st unix.Stat_t
	if err := unix.Stat(mountpoint, &st); err != nil {
		return err
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	var errs []error
	for name, value := range tunables {
		errs = append(errs, os.WriteFile(filepath.Join("/sys/class/bdi", device, name), []byte(value), 0))
	}
	return errors.Join(errs...)
}
