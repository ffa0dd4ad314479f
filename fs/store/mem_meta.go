package store

import (
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// onNode does an operation on the object of a name.
func (m *Mem) onNode(kind OpKind, name string, f func(s *state, n *inode) error) error {
	return m.run(Op{Kind: kind, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.existing(name)
		if err != nil {
			return err
		}
		return f(s, at.node)
	})
}

// Chmod sets the permission bits.
func (m *Mem) Chmod(name string, mode uint32) error {
	return m.onNode(OpChmod, name, func(s *state, n *inode) error { return s.chmod(n, mode) })
}

func (s *state) chmod(n *inode, mode uint32) error {
	if n.kind() == unix.S_IFLNK {
		return syscall.EOPNOTSUPP
	}
	s.stamp(n.ino, func(n *inode, _ time.Time) { n.mode = n.kind() | mode&0o7777 })
	return nil
}

// Chown changes the object itself; -1 leaves an ID as it is. It takes set-ID
// bits away as Linux does, also from root's.
func (m *Mem) Chown(name string, uid, gid int) error {
	return m.onNode(OpChown, name, func(s *state, n *inode) error { return s.chown(n, uid, gid) })
}

func (s *state) chown(n *inode, uid, gid int) error {
	s.stamp(n.ino, func(n *inode, _ time.Time) {
		if uid != -1 {
			n.uid = uint32(uid)
		}
		if gid != -1 {
			n.gid = uint32(gid)
		}
		if n.isDir() {
			return
		}
		n.mode &^= unix.S_ISUID
		if n.mode&unix.S_IXGRP != 0 {
			n.mode &^= unix.S_ISGID
		}
	})
	return nil
}

// Chtimes sets times of the object itself; nil leaves one as it is.
func (m *Mem) Chtimes(name string, atime, mtime *time.Time) error {
	return m.run(Op{Kind: OpChtimes, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.find(name)
		if err == nil && (atime != nil || mtime != nil) { // Linux looks for nothing if there is nothing to set
			err = at.missing()
		}
		if err != nil {
			return err
		}
		return s.chtimes(at.node, atime, mtime)
	})
}

func (s *state) chtimes(n *inode, atime, mtime *time.Time) error {
	if atime == nil && mtime == nil {
		return nil
	}
	set := func(to *time.Time, t *time.Time) {
		if t != nil {
			*to = time.Unix(t.Unix(), int64(t.Nanosecond()))
		}
	}
	s.stamp(n.ino, func(n *inode, _ time.Time) {
		set(&n.atime, atime)
		set(&n.mtime, mtime)
	})
	return nil
}

// onXattr does an operation on an attribute of the object of a name. What is
// wrong with the operation itself is told before whether there is an object.
func (m *Mem) onXattr(kind OpKind, name, attr string, wrong error, f func(s *state, n *inode) error) error {
	if wrong == nil && (attr == "" || len(attr) > 255) {
		wrong = syscall.ERANGE
	}
	return m.run(Op{Kind: kind, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.find(name)
		switch {
		case err != nil:
			return err
		case wrong != nil:
			return wrong
		case at.node == nil:
			return at.missing()
		}
		if err := mayXattr(at.node, attr, kind != OpGetxattr); err != nil {
			return err
		}
		return f(s, at.node)
	})
}

// mayXattr answers what Linux would for an attribute's name: user attributes
// are for files and directories alone, and system ones are not kept here.
func mayXattr(n *inode, attr string, write bool) error {
	space, rest, _ := strings.Cut(attr, ".")
	switch {
	case space != "user" && space != "trusted" && space != "security":
		return syscall.EOPNOTSUPP
	case space == "user" && n.kind() != unix.S_IFREG && !n.isDir():
		if write {
			return syscall.EPERM
		}
		return syscall.ENODATA
	case rest == "":
		return syscall.EINVAL
	}
	return nil
}

// Getxattr returns one attribute's value; ENODATA if there is none.
func (m *Mem) Getxattr(name, attr string) ([]byte, error) {
	var value []byte
	err := m.onXattr(OpGetxattr, name, attr, nil, func(s *state, n *inode) error {
		v, ok := n.xattrs[attr]
		if !ok {
			return syscall.ENODATA
		}
		value = []byte(v)
		return nil
	})
	return value, err
}

// Setxattr takes setxattr's flags: XATTR_CREATE, XATTR_REPLACE.
func (m *Mem) Setxattr(name, attr string, value []byte, flags int) error {
	var wrong error
	if len(value) > xattrMax && attr != "" && len(attr) <= 255 {
		wrong = syscall.E2BIG
	}
	if flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		wrong = syscall.EINVAL
	}
	return m.onXattr(OpSetxattr, name, attr, wrong, func(s *state, n *inode) error {
		_, there := n.xattrs[attr]
		if there && flags&unix.XATTR_CREATE != 0 {
			return syscall.EEXIST
		}
		if !there && flags&unix.XATTR_REPLACE != 0 {
			return syscall.ENODATA
		}
		v := string(value)
		s.stamp(n.ino, func(n *inode, _ time.Time) {
			if n.xattrs == nil {
				n.xattrs = map[string]string{}
			}
			n.xattrs[attr] = v
		})
		return nil
	})
}

// Listxattr returns the attributes' names in order.
func (m *Mem) Listxattr(name string) ([]string, error) {
	var attrs []string
	err := m.onNode(OpListxattr, name, func(s *state, n *inode) error {
		attrs = slices.Sorted(maps.Keys(n.xattrs))
		return nil
	})
	return attrs, err
}

// Removexattr removes an attribute; ENODATA if there is none.
func (m *Mem) Removexattr(name, attr string) error {
	return m.onXattr(OpRemovexattr, name, attr, nil, func(s *state, n *inode) error {
		if _, there := n.xattrs[attr]; !there {
			return syscall.ENODATA
		}
		s.stamp(n.ino, func(n *inode, _ time.Time) { delete(n.xattrs, attr) })
		return nil
	})
}
