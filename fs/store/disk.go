package store

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Disk is the store over a real directory. It holds one descriptor, of the
// root, and keeps no other state: every call resolves its name anew through
// openat2, so that renames and mounts by others cannot lead it astray.
type Disk struct {
	root descriptor // O_PATH
	// noStreams: the kernel, or the file system, has refused to stream.
	noStreams atomic.Bool
}

var (
	_ FS     = (*Disk)(nil)
	_ Locker = (*Disk)(nil)
)

// resolve is how every name is followed: nothing climbs out of the root, and
// no symbolic link is followed, whether it was there or put there meanwhile.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// OpenDisk opens the directory of that path, which itself may be reached
// through symbolic links. It answers ErrNoOpenat2 where the kernel is too old.
func OpenDisk(path string) (*Disk, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, pathError("open", path, err)
	}
	d, err := newDisk(fd)
	return d, pathError("open", path, err)
}

// OpenDiskFD opens the directory that fd is open on, which may since have
// been covered by a mount. fd stays the caller's to close.
func OpenDiskFD(fd int) (*Disk, error) {
	own, err := openat2(fd, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, pathError("open", fmt.Sprintf("descriptor %d", fd), withoutOpenat2(err))
	}
	return newDisk(own)
}

// newDisk takes fd over.
func newDisk(fd int) (*Disk, error) {
	probe, err := openat2(fd, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		closeFD(fd)
		return nil, withoutOpenat2(err)
	}
	closeFD(probe)
	return &Disk{root: descriptor{fd: fd}}, nil
}

// withoutOpenat2 turns what a kernel without the call, or a sandbox that
// forbids it, answers into ErrNoOpenat2.
func withoutOpenat2(err error) error {
	if err == unix.ENOSYS || err == unix.EPERM {
		return ErrNoOpenat2
	}
	return err
}

// Close releases the root; files already open stay usable.
func (d *Disk) Close() error { return pathError("close", ".", d.root.close()) }

// openat2 opens name below dir, under the rules of resolve.
func openat2(dir int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: resolve}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// pathLimit is the longest name, in bytes, that is given to the kernel at
// once; it takes 4095, and a tree may be deeper than that.
const pathLimit = 3500

// place is where an object's name is: a directory, and the name in it. It
// must be left.
type place struct {
	disk *Disk
	dir  int
	base string
}

// locate finds the directory of a name. The last component is not looked at;
// it has no slash and is not "..", so that calls which do not follow it keep
// to the root.
func (d *Disk) locate(name string) (place, error) {
	if err := checkName(name); err != nil {
		return place{}, err
	}
	if err := d.root.use(); err != nil {
		return place{}, err
	}
	dir, base := split(name)
	p := place{disk: d, dir: d.root.fd, base: base}
	if dir == "." {
		return p, nil
	}
	if err := p.descend(dir); err != nil {
		p.leave()
		return place{}, err
	}
	return p, nil
}

// shorten is locate for a name that is then resolved as a whole: only so much
// of it is walked that what is left is not too long.
func (d *Disk) shorten(name string) (place, error) {
	if len(name) > pathLimit {
		return d.locate(name)
	}
	if err := checkName(name); err != nil {
		return place{}, err
	}
	return place{disk: d, dir: d.root.fd, base: name}, d.root.use()
}

// descend moves the place into a directory below it.
func (p *place) descend(dir string) error {
	for dir != "" {
		step := dir
		if len(step) > pathLimit {
			step = step[:strings.LastIndexByte(step[:pathLimit], '/')+1]
			if step == "" {
				return syscall.ENAMETOOLONG
			}
		}
		fd, err := openat2(p.dir, step, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		p.forget()
		p.dir, dir = fd, dir[len(step):]
	}
	return nil
}

// forget closes the directory unless it is the root.
func (p *place) forget() {
	if p.dir != p.disk.root.fd {
		closeFD(p.dir)
	}
}

// leave must be called once, when the place is no longer used.
func (p *place) leave() {
	p.forget()
	p.disk.root.release()
}

// at calls f with the directory and the last component of a name, and adds
// operation and name to its error.
func (d *Disk) at(op, name string, f func(dir int, base string) error) error {
	p, err := d.locate(name)
	if err != nil {
		return pathError(op, name, err)
	}
	defer p.leave()
	return pathError(op, name, retry(func() error { return f(p.dir, p.base) }))
}

// atBoth is at for two names.
func (d *Disk) atBoth(op, oldName, newName string, f func(oldDir int, oldBase string, newDir int, newBase string) error) error {
	from, err := d.locate(oldName)
	if err != nil {
		return linkError(op, oldName, newName, err)
	}
	defer from.leave()
	to, err := d.locate(newName)
	if err != nil {
		return linkError(op, oldName, newName, err)
	}
	defer to.leave()
	return linkError(op, oldName, newName, retry(func() error {
		return f(from.dir, from.base, to.dir, to.base)
	}))
}
