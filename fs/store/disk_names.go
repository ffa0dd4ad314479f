package store

import (
	"golang.org/x/sys/unix"
)

// Readlink returns a link's target as stored.
func (d *Disk) Readlink(name string) (string, error) {
	var target string
	err := d.at("readlink", name, func(dir int, base string) error {
		var buf [unix.PathMax]byte
		n, err := unix.Readlinkat(dir, base, buf[:])
		if err == nil {
			target = string(buf[:n])
		}
		return err
	})
	return target, err
}

// Mkdir makes a directory with exactly the permission bits of perm (a
// directory in a set-group-ID one gets that bit as well).
func (d *Disk) Mkdir(name string, perm uint32) error {
	return d.at("mkdir", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, perm&0o1777); err != nil {
			return err
		}
		return setCreated(dir, base, perm&0o1777)
	})
}

// Mknod makes a FIFO, socket, device or empty regular file.
func (d *Disk) Mknod(name string, mode uint32, dev uint64) error {
	return d.at("mknod", name, func(dir int, base string) error {
		if err := unix.Mknodat(dir, base, mode, int(dev)); err != nil {
			return err
		}
		return setCreated(dir, base, mode&0o7777)
	})
}

// setCreated gives a new object the permission bits that it was asked with,
// where the process's umask left it others.
func setCreated(dir int, base string, perm uint32) error {
	var stx unix.Statx_t
	if err := statx(dir, base, &stx); err != nil {
		return err
	}
	is := uint32(stx.Mode)
	if is&unix.S_IFMT == unix.S_IFDIR {
		perm |= is & (unix.S_ISUID | unix.S_ISGID)
	}
	if is&0o7777 == perm || handsDown(dir) {
		return nil
	}
	return retry(func() error { return chmodAt(dir, base, perm) })
}

// Symlink makes a symbolic link; target is stored as it is, never followed.
func (d *Disk) Symlink(target, name string) error {
	return d.at("symlink", name, func(dir int, base string) error {
		return unix.Symlinkat(target, dir, base)
	})
}

// Link gives an object, a symbolic link itself too, one more name.
func (d *Disk) Link(oldName, newName string) error {
	return d.atBoth("link", oldName, newName, func(oldDir int, oldBase string, newDir int, newBase string) error {
		return unix.Linkat(oldDir, oldBase, newDir, newBase, 0)
	})
}

// Unlink removes a name of anything but a directory.
func (d *Disk) Unlink(name string) error {
	return d.at("unlink", name, func(dir int, base string) error {
		return unix.Unlinkat(dir, base, 0)
	})
}

// Rmdir removes an empty directory.
func (d *Disk) Rmdir(name string) error {
	return d.at("rmdir", name, func(dir int, base string) error {
		return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
	})
}

// Rename takes RENAME_NOREPLACE or RENAME_EXCHANGE, and EINVAL answers any
// other flag.
func (d *Disk) Rename(oldName, newName string, flags uint) error {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return linkError("rename", oldName, newName, unix.EINVAL)
	}
	return d.atBoth("rename", oldName, newName, func(oldDir int, oldBase string, newDir int, newBase string) error {
		return unix.Renameat2(oldDir, oldBase, newDir, newBase, flags)
	})
}

// handsDown reports whether a directory has a default ACL. What is made in it
// has the permissions that this leaves, whatever the umask.
func handsDown(dir int) bool {
	_, err := unix.Getxattr(procFD(dir), ACLDefault, nil)
	return err == nil
}
