package convert

import (
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fitrim is FITRIM of linux/fs.h, _IOWR('X', 121, struct fstrim_range).
const fitrim = 0xc0185879

// Trim has a file system tell its device to drop the blocks that are free, as
// fstrim(8) does. It takes the path of any directory of it. Which blocks a file
// system tells of, and what the device makes of it, is their affair.
// EOPNOTSUPP where one of them cannot.
func Trim(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil { // what was removed is free only then
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	span := struct{ start, length, least uint64 }{length: math.MaxUint64}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fitrim, uintptr(unsafe.Pointer(&span))); errno != 0 {
		return &os.PathError{Op: "fstrim", Path: dir, Err: errno}
	}
	return nil
}
