package snapshot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// piece is a part of a file on its way into a stream. If it is the difference
// from another file it is the header, or a tag page with its blocks. What of it
// is sent follows from content alone, so that the same snapshots make the same
// stream.
type piece struct {
	*source
	off, end int64  // in the file
	after    int64  // sections that end up to here are not wanted
	first    []byte // the section that begins the file, and all of it then

	buf      *pieceBuffer
	sections []placed
	err      error
	done     chan struct{} // closed when the above is there
}

// source is a file that pieces are read from. The last user closes it.
type source struct {
	file  store.File
	old   store.File // what it is the difference from; nil: all is sent
	size  int64
	users atomic.Int32
}

// bulkBytes is from which size on a file is read past the page cache.
const bulkBytes = 4 << 20

func (s *source) letGo() {
	if s.users.Add(-1) > 0 {
		return
	}
	s.file.Close()
	if s.old != nil {
		s.old.Close()
	}
}

// each calls do with the bounds of each piece that may have something to send:
// those that are holes now, and were in no other file, are left out.
func (s *source) each(do func(off, end int64) error) error {
	step := int64(pieceBytes)
	for off := int64(0); off < s.size; off += step {
		step = pieceBytes
		if s.old != nil && off == 0 {
			step = format.PageSize // the header
		}
		if s.old == nil {
			data, err := s.file.Seek(off, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				return nil
			}
			if err != nil {
				return err
			}
			off += (data - off) / step * step
		}
		if err := do(off, min(s.size, off+step)); err != nil {
			return err
		}
	}
	return nil
}

// placed is a section, and where in the file what it holds ends.
type placed struct {
	bytes []byte
	end   int64
	data  int // how many bytes of the file it holds
}

// pieceBuffer has room for a piece, at an address for direct reads, and before
// and behind it for what a section has around its payload.
type pieceBuffer struct{ all []byte }

func newPieceBuffer() any {
	return &pieceBuffer{store.AlignedBuffer(format.PageSize + pieceBytes + format.PageSize)}
}

// page is a page of the piece, and what follows it.
func (b *pieceBuffer) page(i int) []byte {
	return b.all[(1+i)*format.PageSize : format.PageSize+pieceBytes]
}

// fill reads the piece and makes its sections.
func (p *piece) fill() error {
	if p.first != nil {
		p.sections = []placed{{bytes: p.first}}
		return nil
	}
	pages := int((p.end - p.off + format.PageSize - 1) / format.PageSize)
	var send [piecePages]bool
	if p.old == nil || p.off == 0 {
		if err := p.read(0, pages); err != nil {
			return err
		}
		for i := range pages {
			send[i] = !format.IsZero(p.buf.page(i)[:format.PageSize])
		}
		p.cut(&send, pages)
		return nil
	}
	return p.difference(pages)
}

// read reads n pages from the i-th on; what is beyond the file's end is zeros.
func (p *piece) read(i, n int) error {
	to := p.buf.page(i)[:n*format.PageSize]
	read := p.file.ReadAt
	if b, ok := p.file.(store.BulkReader); ok && p.size >= bulkBytes {
		read = b.ReadBulk
	}
	got, err := read(to, p.off+int64(i)*format.PageSize)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	clear(to[got:])
	return err
}

// difference reads the tag page, if it is another than the old one, and the
// blocks whose entries are.
func (p *piece) difference(pages int) error {
	if err := p.read(0, 1); err != nil {
		return err
	}
	is := (*format.TagPage)(p.buf.page(0))
	var was format.TagPage
	if n, err := p.old.ReadAt(was[:], p.off); errors.Is(err, io.EOF) {
		clear(was[n:])
	} else if err != nil {
		return err
	}
	if *is == was {
		return nil
	}
	var send, hole [piecePages]bool
	send[0] = true
	for i := range pages - 1 {
		now := is.Entry(i)
		changed := !bytes.Equal(now[:], was.Entry(i)[:])
		send[1+i], hole[1+i] = changed && !now.Hole(), changed && now.Hole()
	}
	for i, n := range runs(&send, pages) {
		if i == 0 { // the tag page is there
			i, n = 1, n-1
		}
		if n == 0 {
			continue
		}
		if err := p.read(i, n); err != nil {
			return err
		}
	}
	p.cut(&send, pages)
	for i, n := range runs(&hole, pages) {
		off := p.off + int64(i)*format.PageSize
		end := min(p.end, off+int64(n)*format.PageSize)
		p.sections = append(p.sections, placed{holeSection(off, end-off), end, 0})
	}
	slices.SortFunc(p.sections, func(a, b placed) int { return cmp.Compare(a.end, b.end) })
	return nil
}

// runs are the pages that are marked, side by side ones at once: from, how many.
func runs(marked *[piecePages]bool, pages int) func(yield func(i, n int) bool) {
	return func(yield func(i, n int) bool) {
		for i := 0; i < pages; {
			n := 0
			for i+n < pages && marked[i+n] {
				n++
			}
			if n > 0 && !yield(i, n) {
				return
			}
			i += n + 1
		}
	}
}

// cut makes sections of the pages to send, where they lie: between two of them
// is a page that is not sent, with room for what is around a payload.
func (p *piece) cut(send *[piecePages]bool, pages int) {
	for i, n := range runs(send, pages) {
		off := p.off + int64(i)*format.PageSize
		length := int(min(p.end-off, int64(n)*format.PageSize))
		from := (1+i)*format.PageSize - headBytes - placeBytes
		b := p.buf.all[from : from+headBytes+placeBytes+length+sumBytes]
		binary.LittleEndian.PutUint64(b[headBytes:], uint64(off))
		seal(sectionData, b)
		p.sections = append(p.sections, placed{b, off + int64(length), length})
	}
}
