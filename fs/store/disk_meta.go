package store

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Stat describes the object itself, never a link's target.
func (d *Disk) Stat(name string) (Attr, error) {
	var stx unix.Statx_t
	p, err := d.locate(name)
	if err != nil {
		return Attr{}, pathError("stat", name, err)
	}
	defer p.leave()
	if err := statx(p.dir, p.base, &stx); err != nil {
		return Attr{}, pathError("stat", name, err)
	}
	return attrOf(&stx), nil
}

// statx fills stx of an object in a directory, or of dir itself if base is empty.
func statx(dir int, base string, stx *unix.Statx_t) error {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_EMPTY_PATH
	for {
		err := unix.Statx(dir, base, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, stx)
		if err != unix.EINTR {
			return err
		}
	}
}

func attrOf(stx *unix.Statx_t) Attr {
	a := Attr{
		Ino:     stx.Ino,
		Dev:     unix.Mkdev(stx.Dev_major, stx.Dev_minor),
		Mode:    uint32(stx.Mode),
		Nlink:   stx.Nlink,
		UID:     stx.Uid,
		GID:     stx.Gid,
		Rdev:    unix.Mkdev(stx.Rdev_major, stx.Rdev_minor),
		Size:    int64(stx.Size),
		Blocks:  int64(stx.Blocks),
		Blksize: int64(stx.Blksize),
		Atime:   timeOf(stx.Atime),
		Mtime:   timeOf(stx.Mtime),
		Ctime:   timeOf(stx.Ctime),
	}
	if stx.Mask&unix.STATX_BTIME != 0 {
		a.Btime = timeOf(stx.Btime)
	}
	return a
}

func timeOf(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// Statfs describes the file system below.
func (d *Disk) Statfs() (Statfs, error) {
	if err := d.root.use(); err != nil {
		return Statfs{}, pathError("statfs", ".", err)
	}
	defer d.root.release()
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(d.root.fd, &s) }); err != nil {
		return Statfs{}, pathError("statfs", ".", err)
	}
	return Statfs{
		Type: s.Type, Bsize: s.Bsize, Frsize: s.Frsize,
		Blocks: s.Blocks, Bfree: s.Bfree, Bavail: s.Bavail,
		Files: s.Files, Ffree: s.Ffree,
		NameMax: s.Namelen, Flags: s.Flags, Fsid: s.Fsid.Val,
	}, nil
}

// Chmod sets the permission bits. A symbolic link answers EOPNOTSUPP.
func (d *Disk) Chmod(name string, mode uint32) error {
	return d.at("chmod", name, func(dir int, base string) error {
		return chmodAt(dir, base, mode&0o7777)
	})
}

// chmodAt never follows a link: fchmodat2 where the kernel has it (6.6), else
// through the magic link of a descriptor that stands for the object itself.
func chmodAt(dir int, base string, mode uint32) error {
	err := unix.Fchmodat(dir, base, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP {
		return err
	}
	return chmodByDescriptor(dir, base, mode)
}

func chmodByDescriptor(dir int, base string, mode uint32) error {
	fd, err := openat2(dir, base, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return unix.Chmod(procFD(fd), mode)
}

// procFD is a path that leads to what fd is open on.
func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// Chown changes the object itself; -1 leaves an ID as it is.
func (d *Disk) Chown(name string, uid, gid int) error {
	return d.at("chown", name, func(dir int, base string) error {
		return unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chtimes sets times of the object itself; nil leaves one as it is.
func (d *Disk) Chtimes(name string, atime, mtime *time.Time) error {
	ts, err := timespecs(atime, mtime)
	if err != nil {
		return pathError("chtimes", name, err)
	}
	return d.at("chtimes", name, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

func timespecs(atime, mtime *time.Time) (ts [2]unix.Timespec, err error) {
	for i, t := range []*time.Time{atime, mtime} {
		if t == nil {
			ts[i].Nsec = unix.UTIME_OMIT
			continue
		}
		if ts[i], err = unix.TimeToTimespec(*t); err != nil {
			return ts, err
		}
	}
	return ts, nil
}
