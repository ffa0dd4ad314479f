package store

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// allocate is fallocate over [off, end).
func (s *state) allocate(n *inode, mode uint32, off, end int64) error {
	if mode&unix.FALLOC_FL_PUNCH_HOLE != 0 {
		s.clearRange(n, off, end, func(c *content, from, to int64) { c.free(from, to) })
		return nil
	}
	size := n.content.size
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		size = max(size, end)
	}
	first, last := off/memPage, pageUp(end)
	if s.Capacity > 0 && n.content.missing(first, last) > s.Capacity/memPage-s.used {
		return syscall.ENOSPC
	}
	if mode&unix.FALLOC_FL_ZERO_RANGE != 0 {
		s.clearRange(n, off, end, func(c *content, from, to int64) {
			c.free(from, to)
			c.reserve(first, last)
		})
	} else {
		s.reshape(n, nil, func(c *content) { c.reserve(first, last) })
	}
	if size > n.content.size {
		s.reshape(n, &freed{ino: n.ino, from: size, to: size, sizes: true}, func(c *content) { c.size = max(c.size, size) })
	}
	return nil
}

// clearRange makes [off, end) zeros: the bytes of pages that are not wholly in
// it by writing, which is data and not ordered, and whole pages by f.
func (s *state) clearRange(n *inode, off, end int64, f func(c *content, from, to int64)) {
	first, last := pageUp(off), end/memPage
	if first > last { // all in one page
		s.clearBytes(n, off, end)
		first, last = 0, 0
	} else {
		s.clearBytes(n, off, first*memPage)
		s.clearBytes(n, last*memPage, end)
	}
	s.reshape(n, &freed{ino: n.ino, from: first * memPage, to: last * memPage}, func(c *content) { f(c, first, last) })
}

// clearBytes writes zeros to a part of one page, if it was ever written.
func (s *state) clearBytes(n *inode, from, to int64) {
	to = min(to, n.content.size)
	if from >= to || n.content.pages[from/memPage] == nil {
		return
	}
	n.content.zero(from, to)
	s.record(n, from, to-from, 0, false)
}
