package store

import (
	"io"
	"maps"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stat describes the object itself, never a link's target.
func (m *Mem) Stat(name string) (Attr, error) {
	var a Attr
	err := m.run(Op{Kind: OpStat, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.existing(name)
		if err == nil {
			a = at.node.attr()
		}
		return err
	})
	return a, err
}

// ReadDir lists a directory in the order of names.
func (m *Mem) ReadDir(name string) ([]DirEntry, error) {
	var entries []DirEntry
	err := m.run(Op{Kind: OpReadDir, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.existing(name)
		if err != nil {
			return err
		}
		if at.node.kind() == unix.S_IFLNK {
			return syscall.ELOOP
		}
		if !at.node.isDir() {
			return syscall.ENOTDIR
		}
		for _, base := range slices.Sorted(maps.Keys(at.node.entries)) {
			n := s.live.inodes[at.node.entries[base]]
			entries = append(entries, DirEntry{Name: base, Ino: n.ino, Type: n.kind()})
		}
		return nil
	})
	return entries, err
}

// Readlink returns a link's target as stored.
func (m *Mem) Readlink(name string) (string, error) {
	var target string
	err := m.run(Op{Kind: OpReadlink, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.existing(name)
		if err != nil {
			return err
		}
		if at.node.kind() != unix.S_IFLNK {
			return syscall.EINVAL
		}
		target = at.node.target
		return nil
	})
	return target, err
}

// Mkdir makes a directory with the permission bits of perm.
func (m *Mem) Mkdir(name string, perm uint32) error {
	return m.run(Op{Kind: OpMkdir, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.find(name)
		if err != nil {
			return err
		}
		return s.create(at, inode{mode: unix.S_IFDIR | perm&0o1777, nlink: 2})
	})
}

// Mknod makes a FIFO, socket, device or empty regular file.
func (m *Mem) Mknod(name string, mode uint32, dev uint64) error {
	return m.run(Op{Kind: OpMknod, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.find(name)
		if err != nil {
			return err
		}
		n := inode{mode: mode & (unix.S_IFMT | 0o7777)}
		switch mode & unix.S_IFMT {
		case unix.S_IFCHR, unix.S_IFBLK:
			n.rdev = dev
		case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
		case 0:
			n.mode |= unix.S_IFREG
		case unix.S_IFDIR:
			return syscall.EPERM
		default:
			return syscall.EINVAL
		}
		return s.create(at, n)
	})
}

// Symlink makes a symbolic link.
func (m *Mem) Symlink(target, name string) error {
	return m.run(Op{Kind: OpSymlink, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.find(name)
		switch {
		case err != nil:
			return err
		case target == "":
			return syscall.ENOENT
		case len(target) >= unix.PathMax:
			return syscall.ENAMETOOLONG
		}
		return s.create(at, inode{mode: unix.S_IFLNK | 0o777, target: target})
	})
}

// create gives a new object its first name.
func (s *state) create(at slot, proto inode) error {
	if err := at.taken(); err != nil {
		return err
	}
	_, err := s.make(at.dir, at.base, proto)
	return err
}

// make makes an object after a prototype, in a directory; without a name if
// base is empty.
func (s *state) make(dir *inode, base string, proto inode) (uint64, error) {
	if s.Inodes > 0 && len(s.live.inodes) >= s.Inodes {
		return 0, syscall.ENOSPC
	}
	ino, now := s.nextIno, s.now()
	s.nextIno++
	proto.ino, proto.atime, proto.mtime, proto.ctime, proto.btime = ino, now, now, now, now
	if dir.mode&unix.S_ISGID != 0 {
		proto.gid = dir.gid
		if proto.isDir() {
			proto.mode |= unix.S_ISGID
		}
	}
	touched := []uint64{ino}
	if base != "" {
		touched = append(touched, dir.ino)
	}
	above := dir.ino
	s.do(change{any: touched, data: touched[:1], apply: func(img *image) {
		img.inodes[ino] = proto.clone()
		if base != "" {
			img.enter(above, base, ino, now)
		}
	}})
	return ino, nil
}

// Link gives an object, a symbolic link itself too, one more name.
func (m *Mem) Link(oldName, newName string) error {
	return m.run(Op{Kind: OpLink, Name: oldName, To: newName}, func(s *state, _ bool) error {
		from, to, err := s.live.findBoth(oldName, newName)
		if err == nil {
			err = from.missing()
		}
		if err != nil {
			return err
		}
		return s.link(from.node, to)
	})
}

func (s *state) link(n *inode, to slot) error {
	switch {
	case to.taken() != nil:
		return to.taken()
	case n.isDir():
		return syscall.EPERM
	case n.nlink == 0 && !s.nameless[n.ino]:
		return syscall.ENOENT
	}
	delete(s.nameless, n.ino)
	ino, dir, base, now := n.ino, to.dir.ino, to.base, s.now()
	s.do(change{any: []uint64{ino, dir}, apply: func(img *image) { img.enter(dir, base, ino, now) }})
	return nil
}

// Unlink removes a name of anything but a directory.
func (m *Mem) Unlink(name string) error {
	return m.run(Op{Kind: OpUnlink, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.existing(name)
		if err != nil {
			return err
		}
		if at.node.isDir() {
			return syscall.EISDIR
		}
		s.remove(at)
		return nil
	})
}

// Rmdir removes an empty directory.
func (m *Mem) Rmdir(name string) error {
	return m.run(Op{Kind: OpRmdir, Name: name}, func(s *state, _ bool) error {
		at, err := s.live.existing(name)
		switch {
		case err != nil:
			return err
		case at.base == ".":
			return syscall.EINVAL
		case !at.node.isDir():
			return syscall.ENOTDIR
		case len(at.node.entries) > 0:
			return syscall.ENOTEMPTY
		}
		s.remove(at)
		return nil
	})
}

func (s *state) remove(at slot) {
	dir, base, now := at.dir.ino, at.base, s.now()
	s.do(change{any: []uint64{dir, at.node.ino}, apply: func(img *image) { img.leave(dir, base, now) }})
	s.drop(at.node.ino)
}

// Rename takes RENAME_NOREPLACE or RENAME_EXCHANGE.
func (m *Mem) Rename(oldName, newName string, flags uint) error {
	op := Op{Kind: OpRename, Name: oldName, To: newName, Flags: int(flags)}
	return m.run(op, func(s *state, _ bool) error {
		const all = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE
		if flags&^all != 0 {
			return syscall.EINVAL
		}
		from, to, err := s.live.findBoth(oldName, newName)
		if err != nil {
			return err
		}
		if flags == all {
			return syscall.EINVAL
		}
		if err := s.live.mayRename(from, to, flags); err != nil {
			return err
		}
		if from.node == to.node {
			return nil
		}
		s.rename(from, to, flags&unix.RENAME_EXCHANGE != 0)
		return nil
	})
}

// mayRename answers what renameat2(2) would, in its order.
func (img *image) mayRename(from, to slot, flags uint) error {
	exchange := flags&unix.RENAME_EXCHANGE != 0
	switch {
	case from.base == ".":
		return syscall.EBUSY
	case to.base == "." && flags&unix.RENAME_NOREPLACE != 0:
		return syscall.EEXIST
	case to.base == ".":
		return syscall.EBUSY
	case from.node == nil:
		return from.missing()
	case to.bad != nil:
		return to.bad
	case flags&unix.RENAME_NOREPLACE != 0 && to.node != nil:
		return syscall.EEXIST
	case exchange && to.node == nil:
		return syscall.ENOENT
	case from.node.isDir() && img.above(from.node, to.dir):
		return syscall.EINVAL
	case to.node == nil:
		return nil
	case to.node.isDir() && img.above(to.node, from.dir):
		if exchange {
			return syscall.EINVAL
		}
		return syscall.ENOTEMPTY
	case exchange || from.node == to.node:
		return nil
	case from.node.isDir() && !to.node.isDir():
		return syscall.ENOTDIR
	case !from.node.isDir() && to.node.isDir():
		return syscall.EISDIR
	case len(to.node.entries) > 0:
		return syscall.ENOTEMPTY
	}
	return nil
}

// rename does what may be done, as one change.
func (s *state) rename(from, to slot, exchange bool) {
	fromDir, fromBase, moved := from.dir.ino, from.base, from.node.ino
	toDir, toBase := to.dir.ino, to.base
	touched, replaced := []uint64{fromDir, toDir, moved}, uint64(0)
	if to.node != nil {
		replaced = to.node.ino
		touched = append(touched, replaced)
	}
	now := s.now()
	s.do(change{any: touched, apply: func(img *image) {
		img.leave(fromDir, fromBase, now)
		if replaced != 0 {
			img.leave(toDir, toBase, now)
		}
		img.enter(toDir, toBase, moved, now)
		if exchange {
			img.enter(fromDir, fromBase, replaced, now)
		}
	}})
	if replaced != 0 {
		s.drop(replaced)
	}
}

// TryLock locks a file; the lock goes with the Closer, Kill or Crash.
func (m *Mem) TryLock(name string) (io.Closer, error) {
	var lock *memLock
	err := m.run(Op{Kind: OpLock, Name: name}, func(s *state, torn bool) error {
		n, err := s.open(name, unix.O_CREAT, 0o600)
		if err != nil {
			return err
		}
		if s.locked[n.ino] {
			return ErrLocked
		}
		if torn {
			return nil
		}
		s.locked[n.ino] = true
		lock = &memLock{m: m, ino: n.ino}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lock, nil
}

// memLock is a lock on a file of a Mem.
type memLock struct {
	m    *Mem
	ino  uint64
	once bool
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.dead != nil || l.once {
		return nil
	}
	l.once = true
	delete(l.m.s.locked, l.ino)
	return nil
}

// stamp is a change of an inode's attributes, with its time of change.
func (s *state) stamp(ino uint64, f func(n *inode, now time.Time)) {
	now := s.now()
	s.do(change{any: []uint64{ino}, apply: func(img *image) {
		img.update(ino, func(n *inode) {
			n.ctime = now
			f(n, now)
		})
	}})
}
