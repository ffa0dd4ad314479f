package store

import (
	"maps"
	"math"
)

const (
	// memPage is what a Mem allocates space in, in bytes, and so the grain of
	// its holes.
	memPage = 4096
	// memMaxSize is the largest size of a file, as on ext4 with 4 KiB blocks.
	memMaxSize = 1<<44 - memPage
)

// page is a page of a file. Once shared by two contents it never changes.
type page struct {
	b      [memPage]byte
	shared bool
}

// content is the bytes of a regular file. Pages that were never written are
// not there, and read as zeros. In a live image all bytes from size on are
// zero; in a durable one, bytes may be there before the size that covers them.
type content struct {
	size  int64
	pages map[int64]*page
	// reserved are pages allocated and not written; none is in pages.
	reserved ranges
}

func pageUp(off int64) int64 {
	if off > math.MaxInt64-memPage {
		return math.MaxInt64 / memPage
	}
	return (off + memPage - 1) / memPage
}

// blocks is the number of pages that take space.
func (c *content) blocks() int64 { return int64(len(c.pages)) + c.reserved.count }

// clone copies the content without copying pages.
func (c *content) clone() content {
	for _, p := range c.pages {
		if !p.shared { // else another clone may be reading it just now
			p.shared = true
		}
	}
	return content{size: c.size, pages: maps.Clone(c.pages), reserved: c.reserved.clone()}
}

// own gives a page that may be written.
func (c *content) own(i int64) *page {
	p := c.pages[i]
	if p != nil && !p.shared {
		return p
	}
	own := new(page)
	if p != nil {
		own.b = p.b
	} else {
		c.reserved.remove(i, i+1)
	}
	if c.pages == nil {
		c.pages = map[int64]*page{}
	}
	c.pages[i] = own
	return own
}

// has tells whether a page takes space.
func (c *content) has(i int64) bool { return c.pages[i] != nil || c.reserved.has(i) }

// read fills p, with zeros for what is not there or behind the end.
func (c *content) read(p []byte, off int64) {
	for len(p) > 0 {
		in := off % memPage
		n := min(int64(len(p)), memPage-in)
		if pg := c.pages[off/memPage]; pg != nil {
			copy(p[:n], pg.b[in:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
}

// write puts p at off, whatever the size; the caller sets the size.
func (c *content) write(p []byte, off int64) {
	for len(p) > 0 {
		n := copy(c.own(off / memPage).b[off%memPage:], p)
		p, off = p[n:], off+int64(n)
	}
}

// zero clears the bytes of [from, to) that lie in one page, if it is there.
func (c *content) zero(from, to int64) {
	if i := from / memPage; from < to && c.pages[i] != nil {
		clear(c.own(i).b[from%memPage : to-i*memPage])
	}
}

// free gives back whole pages, from up to but not including to.
func (c *content) free(from, to int64) {
	c.reserved.remove(from, to)
	c.freePages(from, to)
}

func (c *content) freePages(from, to int64) {
	if to-from < int64(len(c.pages)) {
		for i := from; i < to; i++ {
			delete(c.pages, i)
		}
		return
	}
	for i := range c.pages {
		if i >= from && i < to {
			delete(c.pages, i)
		}
	}
}

// truncate sets the size. Space reserved behind the end outlives growth only.
func (c *content) truncate(size int64) {
	if size <= c.size {
		c.reserved.remove(pageUp(size), math.MaxInt64)
	}
	c.trim(size)
	c.size = size
}

// trim makes the bytes from size on zeros.
func (c *content) trim(size int64) {
	c.zero(size, pageUp(size)*memPage)
	c.freePages(pageUp(size), math.MaxInt64)
}

// reserve allocates the pages of [from, to) that are not there.
func (c *content) reserve(from, to int64) {
	c.reserved.add(from, to)
	for i := range c.pages {
		if i >= from && i < to {
			c.reserved.remove(i, i+1)
		}
	}
}

// missing counts the pages of [from, to) that take no space yet.
func (c *content) missing(from, to int64) int64 {
	n := to - from - c.reserved.within(from, to)
	for i := range c.pages {
		if i >= from && i < to {
			n--
		}
	}
	return n
}

// nextData finds the first written byte at or after off, below the size; -1
// if there is none.
func (c *content) nextData(off int64) int64 {
	next := int64(-1)
	for i := range c.pages {
		if i >= off/memPage && (next < 0 || i < next) {
			next = i
		}
	}
	if next < 0 {
		return -1
	}
	return max(off, next*memPage)
}

// nextHole finds the first byte at or after off that was never written, or
// the size.
func (c *content) nextHole(off int64) int64 {
	for i := off / memPage; ; i++ {
		if c.pages[i] == nil {
			return min(c.size, max(off, i*memPage))
		}
	}
}
