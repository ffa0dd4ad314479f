package store

import (
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// openFlags are the flags that OpenFile takes in any store.
const openFlags = os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC | unix.O_DIRECT | unix.O_SYNC | unix.O_DSYNC |
	unix.O_TMPFILE | unix.O_NOATIME

// checkFlags answers EINVAL for flags that no store takes: O_WRONLY and
// O_APPEND, other than those named, and truncation by a reader.
func checkFlags(flag int) error {
	if flag&^openFlags != 0 || flag&os.O_TRUNC != 0 && flag&os.O_RDWR == 0 {
		return unix.EINVAL
	}
	return nil
}

// OpenFile opens a regular file: see FS. With O_TMPFILE, name is a directory,
// and the new file in it has no name yet. What is no regular file answers
// EISDIR, ELOOP, or ENXIO for a FIFO, socket or device; none is waited for.
func (d *Disk) OpenFile(name string, flag int, perm uint32) (File, error) {
	f, err := d.openFile(name, flag, perm&0o7777)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

func (d *Disk) openFile(name string, flag int, perm uint32) (*diskFile, error) {
	if err := checkFlags(flag); err != nil {
		return nil, err
	}
	p, err := d.shorten(name)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	fd, created, err := openOrCreate(p.dir, p.base, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, perm)
	if err != nil {
		return nil, err
	}
	home := name
	if flag&tempFlag == 0 {
		home = path.Dir(name)
	}
	handed := func() bool { _, err := d.Getxattr(home, ACLDefault); return err == nil }
	if err := settle(fd, created, perm, handed); err != nil {
		closeFD(fd)
		return nil, err
	}
	return &diskFile{descriptor: descriptor{fd: fd}, name: name, disk: d, direct: flag&unix.O_DIRECT != 0}, nil
}

// tempFlag is what tells O_TMPFILE from O_DIRECTORY.
const tempFlag = unix.O_TMPFILE &^ unix.O_DIRECTORY

// openOrCreate tells whether it made the file, which O_CREATE alone would not.
func openOrCreate(dir int, name string, flag int, perm uint32) (fd int, created bool, err error) {
	if flag&tempFlag != 0 {
		fd, err = openat2(dir, name, flag, perm)
		return fd, true, err
	}
	for {
		if flag&(os.O_CREATE|os.O_EXCL) != os.O_CREATE|os.O_EXCL {
			fd, err = openat2(dir, name, flag&^(os.O_CREATE|os.O_EXCL), 0)
			if err != unix.ENOENT || flag&os.O_CREATE == 0 {
				return fd, false, err
			}
		}
		fd, err = openat2(dir, name, flag|os.O_EXCL, perm)
		if err != unix.EEXIST || flag&os.O_EXCL != 0 {
			return fd, true, err
		}
	}
}

// settle refuses what is no regular file, and gives a new file the permission
// bits it was asked with, where the process's umask left it fewer, but not
// where they were handed down to it.
func settle(fd int, created bool, perm uint32, handed func() bool) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return unix.EISDIR
	default:
		return unix.ENXIO
	}
	if !created || st.Mode&0o7777 == perm || handed() {
		return nil
	}
	return retry(func() error { return unix.Fchmod(fd, perm) })
}
