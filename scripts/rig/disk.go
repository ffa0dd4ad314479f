package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Disk is a file system of its own on a loop device.
type Disk struct {
	Dir    string // where it is mounted
	Device string
	Type   string // ext4 or xfs
	image  string
}

// NewDisk makes a sparse image of size bytes under base, and mounts a new file
// system of the given type from it at base/TYPE.
func NewDisk(ctx context.Context, base, fsType string, size int64) (d *Disk, err error) {
	d = &Disk{Dir: filepath.Join(base, fsType), Type: fsType, image: filepath.Join(base, fsType+".img")}
	if err := os.Mkdir(d.Dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := makeImage(d.image, size); err != nil {
		return d, err
	}
	args := []string{"-q", d.image}
	if fsType == "ext4" { // smaller ones are for small disks, and loop devices drop no less
		args = append([]string{"-b", "4096"}, args...)
	}
	if _, err := (Command{Path: "mkfs." + fsType, Args: args}).Run(ctx); err != nil {
		return d, err
	}
	return d, d.mount(ctx)
}

// mount attaches the image and mounts what is in it.
func (d *Disk) mount(ctx context.Context) (err error) {
	if d.Device, err = attach(ctx, d.image); err != nil {
		return err
	}
	if err := unix.Mount(d.Device, d.Dir, d.Type, unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", d.Device, err)
	}
	return os.Chmod(d.Dir, 0o755)
}

// Clone takes a snapshot of the disk as it is at one moment, mounted or not, as
// a cloud does, and mounts that at base/TYPE. The image must lie on a file
// system that can share blocks, and the disk must not be XFS, which refuses two
// of one UUID.
func (d *Disk) Clone(ctx context.Context, base string) (c *Disk, err error) {
	c = &Disk{Dir: filepath.Join(base, d.Type), Type: d.Type, image: filepath.Join(base, d.Type+".img")}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if _, err := (Command{Path: "cp", Args: []string{"--reflink=always", d.image, c.image}}).Run(ctx); err != nil {
		return c, err
	}
	return c, c.mount(ctx)
}

func makeImage(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// attach makes a loop device, with direct I/O where the file system of the
// image has it: one page cache is enough.
func attach(ctx context.Context, image string) (string, error) {
	out, err := Command{Path: "losetup", Args: []string{"--find", "--show", "--direct-io=on", image}}.Run(ctx)
	if err != nil {
		out, err = Command{Path: "losetup", Args: []string{"--find", "--show", image}}.Run(ctx)
	}
	return strings.TrimSpace(out), err
}

// Ways to cut a file system off.
const (
	CutLogFlushed = 1 // its own journal is written first
	CutAtOnce     = 2 // nothing is: what a power cut leaves of it
)

// ioctlShutdown is EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, which are one.
const ioctlShutdown = 0x8004587d

// Cut cuts the file system off from its device: every later write fails, and
// what was not written never will be.
func (d *Disk) Cut(how int) error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, how); err != nil {
		return fmt.Errorf("shutting %s down: %w", d.Dir, err)
	}
	return nil
}

// Again unmounts the file system, with all that is mounted in it, and mounts
// it anew, so that it recovers.
func (d *Disk) Again() error {
	inside, err := mountinfo.GetMounts(mountinfo.PrefixFilter(d.Dir))
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(inside) {
		if m.Mountpoint == d.Dir {
			continue
		}
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			return wrapUnmount(m.Mountpoint, err)
		}
	}
	// A daemon that was just killed may still be letting go.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Unmount(d.Dir, 0)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return wrapUnmount(d.Dir, err)
		}
	}
	if err := unix.Mount(d.Device, d.Dir, d.Type, unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", d.Device, err)
	}
	return nil
}

// Close unmounts, by force where it must, and frees the device, the image and
// the directory.
func (d *Disk) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := detach(d.Dir)
	if d.Device != "" {
		_, errLoop := Command{Path: "losetup", Args: []string{"--detach", d.Device}}.Run(ctx)
		err = errors.Join(err, errLoop)
		d.Device = ""
	}
	for _, name := range []string{d.image, d.Dir} {
		if errRemove := os.Remove(name); !errors.Is(errRemove, os.ErrNotExist) {
			err = errors.Join(err, errRemove)
		}
	}
	return err
}
