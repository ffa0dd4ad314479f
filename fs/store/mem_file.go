package store

import (
	"io"
	"math"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OpenFile opens a regular file: see FS and Disk.OpenFile.
func (m *Mem) OpenFile(name string, flag int, perm uint32) (File, error) {
	var file *memFile
	err := m.run(Op{Kind: OpOpen, Name: name, Flags: flag}, func(s *state, torn bool) error {
		if err := checkFlags(flag); err != nil {
			return err
		}
		if flag&unix.O_DIRECT != 0 && s.NoDirect {
			return syscall.EINVAL
		}
		n, err := s.open(name, flag, perm&0o7777)
		if err != nil {
			return err
		}
		if flag&os.O_TRUNC != 0 {
			s.truncate(n, 0)
		}
		if torn {
			s.drop(n.ino)
			return nil
		}
		s.opens[n.ino]++
		file = &memFile{m: m, ino: n.ino, name: name, flag: flag}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// open finds or makes the file that OpenFile is for.
func (s *state) open(name string, flag int, perm uint32) (*inode, error) {
	if s.readOnly && flag&os.O_RDWR != 0 {
		return nil, syscall.EROFS
	}
	const temp = unix.O_TMPFILE &^ unix.O_DIRECTORY
	if flag&temp != 0 {
		return s.openTemp(name, flag, perm)
	}
	at, err := s.live.find(name)
	if err != nil {
		return nil, err
	}
	if at.node != nil {
		return at.node, at.mayOpen(flag)
	}
	if flag&os.O_CREATE == 0 || at.bad != nil {
		return nil, at.missing()
	}
	if s.readOnly {
		return nil, syscall.EROFS
	}
	ino, err := s.make(at.dir, at.base, inode{mode: unix.S_IFREG | perm})
	if err != nil {
		return nil, err
	}
	return s.live.inodes[ino], nil
}

func (at *slot) mayOpen(flag int) error {
	exclusive := flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL
	switch kind := at.node.kind(); {
	case exclusive:
		return syscall.EEXIST
	case kind == unix.S_IFDIR:
		return syscall.EISDIR
	case kind == unix.S_IFLNK:
		return syscall.ELOOP
	case kind != unix.S_IFREG:
		return syscall.ENXIO
	}
	return nil
}

// openTemp makes a file without a name; with O_EXCL it will never get one.
func (s *state) openTemp(name string, flag int, perm uint32) (*inode, error) {
	if flag&os.O_RDWR == 0 || flag&os.O_CREATE != 0 {
		return nil, syscall.EINVAL
	}
	at, err := s.live.existing(name)
	switch {
	case err != nil:
		return nil, err
	case !at.node.isDir():
		return nil, syscall.ENOTDIR
	}
	ino, err := s.make(at.node, "", inode{mode: unix.S_IFREG | perm})
	if err != nil {
		return nil, err
	}
	s.nameless[ino] = flag&os.O_EXCL == 0
	return s.live.inodes[ino], nil
}

// memFile is an open file of a Mem.
type memFile struct {
	m      *Mem
	ino    uint64
	name   string // as it was opened
	flag   int
	closed bool // guarded by m.mu
}

func (f *memFile) writable() bool { return f.flag&os.O_RDWR != 0 }

func (f *memFile) run(op Op, g func(s *state, n *inode, torn bool) error) error {
	op.Name, op.File = f.name, true
	return f.m.run(op, func(s *state, torn bool) error {
		if f.closed {
			return syscall.EBADF
		}
		return g(s, s.live.inodes[f.ino], torn)
	})
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.run(Op{Kind: OpRead, Off: off, Len: int64(len(p))}, func(_ *state, node *inode, _ bool) error {
		if len(p) == 0 {
			return nil
		}
		if off < 0 || f.flag&unix.O_DIRECT != 0 && !aligned(p, off) {
			return syscall.EINVAL
		}
		n = int(min(int64(len(p)), max(0, node.content.size-off)))
		node.content.read(p[:n], off)
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.run(Op{Kind: OpWrite, Off: off, Len: int64(len(p))}, func(s *state, node *inode, torn bool) error {
		switch {
		case len(p) == 0:
			return nil
		case !f.writable():
			return syscall.EBADF
		case off < 0, f.flag&unix.O_DIRECT != 0 && !aligned(p, off):
			return syscall.EINVAL
		}
		dsync := f.flag&unix.O_DSYNC != 0
		n, err = s.write(node, p, off, dsync && !torn)
		if n > 0 && dsync && torn { // no later sync makes up for it
			waiting := s.pending[node.ino]
			waiting[len(waiting)-1].lost = true
		}
		return err
	})
	if err != nil && n == len(p) {
		n = 0 // done late: how much is not known
	}
	return n, err
}

// write writes as much as there is room for, page by page, like the kernel.
func (s *state) write(n *inode, p []byte, off int64, durable bool) (int, error) {
	fits, err := s.room(n, p, off)
	if fits == 0 {
		return 0, err
	}
	before := n.content.blocks()
	n.content.write(p[:fits], off)
	s.used += n.content.blocks() - before
	end := int64(0)
	if off+int64(fits) > n.content.size {
		end = off + int64(fits)
		n.content.size = end
	}
	n.mtime = s.now()
	n.ctime = n.mtime
	s.record(n, off, int64(fits), end, durable)
	return fits, err
}

// room tells how many bytes of p fit at off, and why not all of them.
func (s *state) room(n *inode, p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	var err error
	if off > memMaxSize-int64(len(p)) {
		end, err = max(off, memMaxSize), syscall.EFBIG
		if off >= memMaxSize {
			return 0, err
		}
	}
	if s.Capacity == 0 {
		return int(end - off), err
	}
	left := s.Capacity/memPage - s.used
	for i := off / memPage; i*memPage < end; i++ {
		if n.content.has(i) {
			continue
		}
		if left--; left < 0 {
			return int(max(0, i*memPage-off)), syscall.ENOSPC
		}
	}
	return int(end - off), err
}

func (f *memFile) Truncate(size int64) error {
	return f.run(Op{Kind: OpTruncate, Len: size}, func(s *state, n *inode, _ bool) error {
		switch {
		case size < 0, !f.writable():
			return syscall.EINVAL
		case size > memMaxSize:
			return syscall.EFBIG
		}
		s.truncate(n, size)
		return nil
	})
}

func (s *state) truncate(n *inode, size int64) {
	frees := &freed{ino: n.ino, from: size, to: size, sizes: true}
	if size < n.content.size {
		frees.to = math.MaxInt64
	}
	s.reshape(n, frees, func(c *content) { c.truncate(size) })
	if frees.to > size && size%sector != 0 && n.content.pages[size/memPage] != nil {
		frees.tail = s.sectorsOf(n, size, 1)
	}
}

// reshape changes a file's size or space.
func (s *state) reshape(n *inode, frees *freed, f func(c *content)) {
	ino, now := n.ino, s.now()
	before := n.content.blocks()
	touched := []uint64{ino}
	s.do(change{any: touched, data: touched, frees: frees, apply: func(img *image) {
		img.update(ino, func(n *inode) {
			n.mtime, n.ctime = now, now
			f(&n.content)
		})
	}})
	s.used += n.content.blocks() - before
}

func (f *memFile) Stat() (a Attr, err error) {
	err = f.run(Op{Kind: OpStat}, func(_ *state, n *inode, _ bool) error {
		a = n.attr()
		return nil
	})
	return a, err
}

func (f *memFile) Sync() error { return f.sync(OpSync, false) }

func (f *memFile) Datasync() error { return f.sync(OpDatasync, true) }

func (f *memFile) sync(kind OpKind, dataOnly bool) error {
	return f.run(Op{Kind: kind}, func(s *state, n *inode, torn bool) error {
		if torn {
			s.lose(n.ino)
			return nil
		}
		return s.syncOrRefuse(n.ino, dataOnly)
	})
}

func (f *memFile) Allocate(mode uint32, off, length int64) error {
	op := Op{Kind: OpAllocate, Off: off, Len: length, Flags: int(mode)}
	return f.run(op, func(s *state, n *inode, _ bool) error {
		switch {
		case off < 0 || length <= 0:
			return syscall.EINVAL
		case mode&^(unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0,
			mode&unix.FALLOC_FL_PUNCH_HOLE != 0 && mode != unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE:
			return syscall.EOPNOTSUPP
		case !f.writable():
			return syscall.EBADF
		case off > memMaxSize-length:
			return syscall.EFBIG
		}
		return s.allocate(n, mode, off, off+length)
	})
}

func (f *memFile) Seek(off int64, whence int) (pos int64, err error) {
	err = f.run(Op{Kind: OpSeek, Off: off, Flags: whence}, func(_ *state, n *inode, _ bool) error {
		if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
			return syscall.EINVAL
		}
		if off < 0 || off >= n.content.size {
			return syscall.ENXIO
		}
		if whence == unix.SEEK_HOLE {
			pos = n.content.nextHole(off)
		} else if pos = n.content.nextData(off); pos < 0 {
			pos = 0
			return syscall.ENXIO
		}
		return nil
	})
	return pos, err
}

func (f *memFile) Chmod(mode uint32) error {
	return f.run(Op{Kind: OpChmod}, func(s *state, n *inode, _ bool) error { return s.chmod(n, mode) })
}

func (f *memFile) Chown(uid, gid int) error {
	return f.run(Op{Kind: OpChown}, func(s *state, n *inode, _ bool) error { return s.chown(n, uid, gid) })
}

func (f *memFile) Chtimes(atime, mtime *time.Time) error {
	return f.run(Op{Kind: OpChtimes}, func(s *state, n *inode, _ bool) error { return s.chtimes(n, atime, mtime) })
}

func (f *memFile) LinkTo(newName string) error {
	return f.run(Op{Kind: OpLink, To: newName}, func(s *state, n *inode, _ bool) error {
		to, err := s.live.find(newName)
		if err != nil {
			return err
		}
		return s.link(n, to)
	})
}

func (f *memFile) Close() error {
	return f.run(Op{Kind: OpClose}, func(s *state, n *inode, _ bool) error {
		f.closed = true
		if s.opens[f.ino]--; s.opens[f.ino] == 0 {
			delete(s.opens, f.ino)
			s.drop(f.ino)
		}
		return nil
	})
}
