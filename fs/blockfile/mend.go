package blockfile

import (
	"errors"
	"io"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// A repair writes only what is proven: bytes that authenticate under the
// file's key, or that the format has no choice about. It may be cut off at any
// point and begun again. Nobody else may use the file meanwhile.

// MendHeader repairs a backing file's header, as far as one slot of it is left
// that opens under the ID that is there, and tells whether it wrote anything.
// A slot that is damaged gets the file's key wrapped anew, by the active master
// key. A file of no more than a page that has no header left is empty to every
// reader, and becomes so. Errors are an *IntegrityError where nothing is left,
// or wrap the keys' or the store's.
func MendHeader(keys Keys, back store.File, path string) (bool, error) {
	attr, err := back.Stat()
	if err != nil || attr.Size == 0 {
		return false, err
	}
	page := make([]byte, format.PageSize)
	if n, err := back.ReadAt(page, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	} else if n < len(page) {
		return true, errors.Join(back.Truncate(0), back.Sync())
	}
	var newer *format.VersionError
	if _, err := format.ParseHeader(page); errors.As(err, &newer) {
		return false, &IntegrityError{Path: path, What: "header", Number: -1, Err: err}
	}
	h, err := mendedHeader(keys, page)
	if err != nil && attr.Size <= format.PageSize {
		return true, errors.Join(back.Truncate(0), back.Sync())
	}
	if err != nil {
		return false, &IntegrityError{Path: path, What: "header", Number: -1, Err: err}
	}
	if encoded := h.Encode(); string(encoded[:]) == string(page) {
		return false, nil
	} else if _, err := back.WriteAt(encoded[:], 0); err != nil {
		return false, err
	}
	return true, errors.Join(back.Chtimes(nil, &attr.Mtime), back.Sync())
}

// mendedHeader is the header that a damaged page was, or one as good.
func mendedHeader(keys Keys, page []byte) (*format.Header, error) {
	h := format.Rebuild(page)
	err := error(format.ErrHeader)
	for range format.Slots {
		slot, ok := h.Current()
		if !ok {
			return nil, err
		}
		key, openErr := keys.UnwrapFileKey(h.ID, slot.MasterKey, slot.Wrapped[:])
		if openErr == nil {
			key.Destroy()
			return renewSlots(keys, h, page)
		}
		err = openErr
		for i := range h.Slots { // it has a right checksum and is of no use
			if h.Slots[i] == slot {
				h.Slots[i] = format.Slot{}
			}
		}
	}
	return nil, err
}

// renewSlots puts a wrap anew in the place of a slot that is damaged.
func renewSlots(keys Keys, h *format.Header, page []byte) (*format.Header, error) {
	damaged := false
	for i := range format.Slots {
		damaged = damaged || format.SlotDamaged(page, i)
	}
	if !damaged {
		return h, nil
	}
	old, _ := h.Current()
	wrapped, by, err := rewrapped(keys, h.ID, old)
	if err == nil {
		h.Replace(by, wrapped)
	}
	return h, err
}

// Mended tells what a repair has written to a file.
type Mended struct {
	TagPages, Blocks int // blocks: given back their content, or their zeros
	Size, Tail       bool
}

// Any reports whether it has written anything.
func (m Mended) Any() bool { return m.TagPages+m.Blocks > 0 || m.Size || m.Tail }

// Mend repairs what it can of a file that Inspect opened for writing: the size,
// from the tag page that has it; tag pages and blocks, from what the journal
// still has of them; holes and the tail, which are zeros. past gives the parts
// of the file's records about a group, the oldest first. What it writes is
// durable when it returns.
func (f *File) Mend(past func(group int64) []journal.Group) (m Mended, err error) {
	if f.cipher == nil {
		return m, nil
	}
	attr, err := f.back.Stat()
	if err != nil {
		return m, err
	}
	if m.Size, err = f.mendSize(past); err != nil {
		return m, err
	}
	for group := int64(0); group >= 0; {
		if group, err = f.mendGroup(group, past, &m); err != nil {
			return m, err
		}
	}
	if m.Tail, err = f.mendTail(); err != nil || !m.Any() {
		return m, err
	}
	return m, errors.Join(f.back.Chtimes(nil, &attr.Mtime), f.back.Sync())
}

// mendSize gives the backing file the length that stands for the size in the
// last authentic tag page. Where the page that tells the size is gone with what
// was cut off, there is nothing to go by.
func (f *File) mendSize(past func(group int64) []journal.Group) (bool, error) {
	attr, err := f.back.Stat()
	if err != nil || f.size == 0 {
		return false, err
	}
	for group := format.LastGroup(f.size); group >= 0; group-- {
		p := new(format.TagPage)
		if err := readFull(f.back, p[:], format.TagPageOffset(group)); err != nil {
			return false, err
		}
		if p.Empty() {
			continue
		}
		if f.proven(group, p) == nil && f.rebuilt(group, p, past(group)) == nil {
			return false, nil
		}
		size := int64(p.Size())
		if p.Size() == format.More || size <= 0 || format.LastGroup(size) != group {
			return false, nil
		}
		f.size, f.committed = size, size
		if attr.Size == format.BackingSize(size) {
			return false, nil
		}
		return true, f.back.Truncate(format.BackingSize(size))
	}
	return false, nil
}

// proven is the page if it is authentic, whatever the size, else nil.
func (f *File) proven(group int64, p *format.TagPage) *format.TagPage {
	if p.Empty() || f.provePage(group, p) != nil {
		return nil
	}
	return p
}

// rebuilt turns a damaged page into what it was, if the records have all of it
// that is damaged, and gives nil if not. The page's own tag is the judge.
func (f *File) rebuilt(group int64, p *format.TagPage, past []journal.Group) *format.TagPage {
	if len(past) == 0 {
		return nil
	}
	for _, base := range []format.TagPage{*p, {}} {
		for i := range past {
			for j := range past[i].Blocks {
				b := &past[i].Blocks[j]
				*base.Entry(b.Index) = b.Entry
			}
		}
		*base.Trailer() = past[len(past)-1].Trailer
		if f.proven(group, &base) != nil {
			*p = base
			return p
		}
	}
	return nil
}

// mendGroup repairs one group, and tells which is next; -1 after the last.
func (f *File) mendGroup(group int64, past func(int64) []journal.Group, m *Mended) (next int64, err error) {
	if group > format.LastGroup(f.size) {
		return -1, nil
	}
	next, err = f.nextWritten(group)
	if err != nil || next != group {
		return next, err
	}
	records := past(group)
	p := new(format.TagPage)
	if err := readFull(f.back, p[:], format.TagPageOffset(group)); err != nil {
		return 0, err
	}
	mended, err := f.mendPage(group, p, records)
	if err != nil || p.Empty() {
		return group + 1, err
	}
	if mended {
		m.TagPages++
	} else if f.provePage(group, p) != nil {
		return group + 1, nil
	}
	first := group * format.GroupBlocks
	for number := first; number < min(first+format.GroupBlocks, format.Blocks(f.size)); number++ {
		mended, err := f.mendBlock(number, p.Entry(int(number-first)), records)
		if err != nil {
			return 0, err
		}
		if mended {
			m.Blocks++
		}
	}
	return group + 1, nil
}

// mendPage puts a damaged tag page right at home and in p. A page of zeros
// proves nothing: what lies behind it is left alone, unless a record has a page
// under which all of it verifies.
func (f *File) mendPage(group int64, p *format.TagPage, past []journal.Group) (bool, error) {
	wiped := p.Empty()
	if !wiped && f.provePage(group, p) == nil {
		return false, nil
	}
	page := *p
	if f.rebuilt(group, &page, past) == nil || !f.fitsSize(group, &page) {
		return false, nil
	}
	if wiped {
		if ok, err := f.allVerify(group, &page); err != nil || !ok {
			return false, err
		}
	}
	*p = page
	_, err := f.back.WriteAt(p[:], format.TagPageOffset(group))
	return true, err
}

// allVerify reports whether every block of a group is at home what a tag page
// says.
func (f *File) allVerify(group int64, p *format.TagPage) (bool, error) {
	first := group * format.GroupBlocks
	ct := make([]byte, format.PageSize+format.TagSize)
	for number := first; number < min(first+format.GroupBlocks, format.Blocks(f.size)); number++ {
		if err := readFull(f.back, ct[:format.PageSize], format.BlockOffset(number)); err != nil {
			return false, err
		}
		if !f.verifies(ct, p.Entry(int(number-first)), number) {
			return false, nil
		}
	}
	return true, nil
}

// mendBlock gives a block that does not verify its zeros back, if it is a hole,
// or its content, if a record has it.
func (f *File) mendBlock(number int64, e *format.Entry, past []journal.Group) (bool, error) {
	off := format.BlockOffset(number)
	ct := make([]byte, format.PageSize+format.TagSize)
	if err := readFull(f.back, ct[:format.PageSize], off); err != nil {
		return false, err
	}
	if f.verifies(ct, e, number) {
		return false, nil
	}
	if e.Hole() {
		return true, PunchHome(f.back, off, format.BlockSize)
	}
	for i := range past {
		for j := range past[i].Blocks {
			b := &past[i].Blocks[j]
			if b.Data == nil || b.Entry != *e || b.Index != int(number%format.GroupBlocks) {
				continue
			}
			if copy(ct, b.Data); f.verifies(ct, e, number) {
				_, err := f.back.WriteAt(b.Data, off)
				return true, err
			}
		}
	}
	return false, nil
}

// verifies is openBlock for one who only wants to know.
func (f *File) verifies(ct []byte, e *format.Entry, number int64) (ok bool) {
	if e.Hole() {
		return format.IsZero(ct[:format.BlockSize])
	}
	b := blockPool.Get().(*block)
	defer b.free()
	crypto.Secretly(func() { ok = f.openQuietly(b.data(), ct, e, number) == nil })
	return ok
}

// mendTail writes the zeros behind the last page.
func (f *File) mendTail() (bool, error) {
	attr, err := f.back.Stat()
	end := format.PagesEnd(f.size)
	if err != nil || attr.Size <= end || attr.Size != format.BackingSize(f.size) {
		return false, err
	}
	tail := make([]byte, attr.Size-end)
	if err := readFull(f.back, tail, end); err != nil || format.IsZero(tail) {
		return false, err
	}
	clear(tail)
	_, err = f.back.WriteAt(tail, end)
	return true, err
}
