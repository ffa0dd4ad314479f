package store

import (
	"strings"

	"golang.org/x/sys/unix"
)

// xattrMax is the largest value, or list of names, that Linux knows, in bytes.
const xattrMax = 65536

// atPath calls f with a path that leads to the object itself if its last
// component is not followed. The kernel has had extended attributes relative
// to a directory only since 6.13, so the way is over /proc.
func (d *Disk) atPath(op, name string, f func(path string) error) error {
	return d.at(op, name, func(dir int, base string) error {
		return f(procFD(dir) + "/" + base)
	})
}

// Getxattr returns one attribute's value; ENODATA if there is none.
func (d *Disk) Getxattr(name, attr string) (value []byte, err error) {
	err = d.atPath("getxattr", name, func(path string) error {
		value, err = sized(func(buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) })
		return err
	})
	return value, err
}

// Setxattr takes setxattr's flags: XATTR_CREATE, XATTR_REPLACE.
func (d *Disk) Setxattr(name, attr string, value []byte, flags int) error {
	return d.atPath("setxattr", name, func(path string) error {
		return unix.Lsetxattr(path, attr, value, flags)
	})
}

// Listxattr returns the names of all attributes that the process may see.
func (d *Disk) Listxattr(name string) (attrs []string, err error) {
	err = d.atPath("listxattr", name, func(path string) error {
		list, err := sized(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
		if s := strings.TrimSuffix(string(list), "\x00"); s != "" {
			attrs = strings.Split(s, "\x00")
		}
		return err
	})
	return attrs, err
}

// Removexattr removes an attribute; ENODATA if there is none.
func (d *Disk) Removexattr(name, attr string) error {
	return d.atPath("removexattr", name, func(path string) error {
		return unix.Lremovexattr(path, attr)
	})
}

// sized calls f with a small buffer, and with the largest if that is short.
func sized(f func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := f(buf)
	if err == unix.ERANGE {
		buf = make([]byte, xattrMax)
		n, err = f(buf)
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
