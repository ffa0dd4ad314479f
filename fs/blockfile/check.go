package blockfile

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// A check reads the backing file anew, past every cache of this package, and
// goes on where a reader would stop. What it finds is told to Env.Damage as
// well, as if a reader had met it.

// Lost is what a check tells of damage: the error, and the plaintext that does
// not read because of it. Length 0: none of the content is lost.
type Lost struct {
	*IntegrityError
	Offset, Length int64 // bytes
}

// Inspect opens a backing file that a reader may not be able to open, because
// its size or its last tag page is damaged: as much of it as can be is there
// to be checked and read. Without a header there is nothing to read, and the
// error is an *IntegrityError. The File must not be written to.
func Inspect(env *Env, back store.File, path string) (*File, error) {
	f := newFile(env, back, path)
	attr, err := back.Stat()
	if err != nil || attr.Size == 0 {
		return f, err
	}
	if f.id, f.cipher, err = f.readHeader(attr.Size); err != nil {
		if errors.Is(err, unix.EIO) && asIntegrity(err) == nil { // the disk does not give it
			err = f.damage("header", -1, err)
		}
		return nil, err
	}
	if f.cipher != nil {
		f.size, _ = format.PlainSize(attr.Size)
		f.committed = f.size
	}
	return f, nil
}

// ID is the file's, and false while it has no header.
func (f *File) ID() (format.FileID, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.id, f.cipher != nil
}

// CheckEnds proves what is neither tag page nor block: the header with both
// its slots, the size, and that there is nothing behind the last page.
func (f *File) CheckEnds(found func(Lost)) error {
	f.home.Lock()
	defer f.home.Unlock()
	f.mu.RLock()
	defer f.mu.RUnlock()
	attr, err := f.back.Stat()
	if err != nil || attr.Size == 0 || f.closed {
		return err
	}
	if f.cipher == nil {
		found(Lost{IntegrityError: f.newDamage("unfinished header", nil)})
		return nil
	}
	if err := f.checkHeader(found); err != nil {
		return err
	}
	settled := len(f.direct)+len(f.flight)+len(f.pages) == 0 && f.size == f.committed
	if !settled {
		return nil // home is on its way to another size
	}
	if attr.Size != format.BackingSize(f.committed) {
		found(Lost{IntegrityError: f.newDamage("size", nil)})
	}
	return f.checkTail(attr.Size, found)
}

// checkHeader reads the header anew: a slot that is damaged costs nothing yet,
// as long as the other one holds.
func (f *File) checkHeader(found func(Lost)) error {
	page := make([]byte, format.PageSize)
	if err := f.readRaw(page, 0); err != nil {
		return err
	}
	h, err := format.ParseHeader(page)
	if err == nil && h.ID != f.id {
		err = errors.New("it is another file's")
	}
	if err == nil {
		err = f.opens(h)
	}
	if err != nil {
		found(Lost{f.newDamage("header", err), 0, f.size})
		return nil
	}
	for i := range format.Slots {
		if format.SlotDamaged(page, i) {
			found(Lost{IntegrityError: f.newDamage("header slot", nil)})
		}
	}
	return nil
}

// opens tries whether the key in a header opens.
func (f *File) opens(h *format.Header) error {
	slot, _ := h.Current()
	key, err := f.env.Keys.UnwrapFileKey(h.ID, slot.MasterKey, slot.Wrapped[:])
	if err == nil {
		key.Destroy()
	}
	return err
}

// checkTail wants nothing but zeros from the last page's end to the backing
// file's.
func (f *File) checkTail(backing int64, found func(Lost)) error {
	end := format.PagesEnd(f.committed)
	if backing <= end || backing > end+format.PageSize {
		return nil
	}
	tail := make([]byte, backing-end)
	if err := readFull(f.back, tail, end); err != nil {
		return err
	}
	if !format.IsZero(tail) {
		found(Lost{IntegrityError: f.newDamage("tail", nil)})
	}
	return nil
}

// newDamage is damage that costs no content.
func (f *File) newDamage(what string, cause error) *IntegrityError {
	var err *IntegrityError
	errors.As(f.damage(what, -1, cause), &err)
	return err
}

// CheckGroup reads a group's tag page and its blocks from home and proves
// every one, except what is about to be replaced there. It tells how many
// bytes it read, and which group to check next: -1 after the last. Groups that
// are holes from end to end are passed over unread.
func (f *File) CheckGroup(group int64, found func(Lost)) (read int, next int64, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed || f.cipher == nil || group > format.LastGroup(f.size) {
		return 0, -1, nil
	}
	next, err = f.nextWritten(group)
	if err != nil || next != group {
		return 0, next, err
	}
	if next = group + 1; next > format.LastGroup(f.size) {
		next = -1
	}
	first := group * format.GroupBlocks
	n := min(format.GroupBlocks, format.Blocks(f.size)-first)
	run := runPool.Get().(*runBytes)
	defer runPool.Put(run)
	raw := run[:(1+n)*format.PageSize]
	if err := f.readRaw(raw, format.TagPageOffset(group)); err != nil {
		return 0, next, err
	}
	page, err := f.pageToCheck(group, raw)
	if err != nil {
		found(Lost{asIntegrity(err), first * format.BlockSize, f.bytesOf(first, n)})
		return len(raw), next, nil
	}
	if p := f.pages[group]; p == nil && group <= format.LastGroup(f.committed) && !f.fitsSize(group, page) {
		found(Lost{IntegrityError: f.newDamage("size", nil)})
	}
	crypto.Secretly(func() { f.checkBlocks(run, page, first, n, found) })
	return len(raw), next, nil
}

// readRaw reads a group from home. Pages that the disk does not give are filled
// with what never verifies, be it a tag page, a block or a hole: they are as
// lost as if they were damaged.
func (f *File) readRaw(raw []byte, off int64) error {
	err := readFull(f.readerOf(len(raw)/format.PageSize), raw, off)
	if !errors.Is(err, unix.EIO) {
		return err
	}
	for page := range slices.Chunk(raw, format.PageSize) {
		err := readFull(f.back, page, off)
		if errors.Is(err, unix.EIO) {
			copy(page, unreadable[:])
		} else if err != nil {
			return err
		}
		off += format.PageSize
	}
	return nil
}

var unreadable = [format.PageSize]byte([]byte(strings.Repeat("\xff", format.PageSize)))

// nextWritten is the first group from this one on that is not a hole from end
// to end; the last group never is.
func (f *File) nextWritten(group int64) (int64, error) {
	last := format.LastGroup(f.size)
	if f.pages[group] != nil || group == last {
		return group, nil
	}
	at, err := f.back.Seek(format.TagPageOffset(group), unix.SEEK_DATA)
	if isNoData(err) {
		return last, nil
	}
	if err != nil {
		return group, err
	}
	next := min(max((at/format.PageSize-1)/(format.GroupBlocks+1), group), last)
	for g := range f.pages {
		if g > group {
			next = min(next, g)
		}
	}
	return next, nil
}

// pageToCheck is a group's tag page: what is newer than home, else home's, proven.
func (f *File) pageToCheck(group int64, raw []byte) (*format.TagPage, error) {
	if p := f.pages[group]; p != nil {
		return &p.page, nil
	}
	if group > format.LastGroup(f.committed) {
		return &emptyPage, nil
	}
	p := format.TagPage(raw[:format.PageSize])
	if err := f.provePage(group, &p); err != nil {
		return nil, f.damage("tag page", group, err)
	}
	return &p, nil
}

// PageNonce is the nonce of a group's tag page, and false if there is none that
// verifies.
func (f *File) PageNonce(group int64) (nonce [format.NonceSize]byte, ok bool, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed || f.cipher == nil || group > format.LastGroup(f.size) {
		return nonce, false, nil
	}
	page, err := f.tagPage(group)
	if asIntegrity(err) != nil {
		return nonce, false, nil
	}
	if err != nil || page.Empty() {
		return nonce, false, err
	}
	return [format.NonceSize]byte(page.Nonce()), true, nil
}

// checkBlocks proves the n blocks behind a tag page in run, and tells of
// those side by side that do not verify as one.
func (f *File) checkBlocks(run *runBytes, page *format.TagPage, first, n int64, found func(Lost)) {
	b := blockPool.Get().(*block)
	defer b.free()
	var lost Lost
	tell := func() {
		if lost.IntegrityError != nil {
			found(lost)
		}
		lost = Lost{}
	}
	for number := first; number < first+n; number++ {
		at := (1 + number - first) * format.PageSize
		err := f.checkBlock(b, run[at:at+format.PageSize+format.TagSize], page, number)
		if err == nil {
			tell()
			continue
		}
		if lost.IntegrityError == nil {
			lost = Lost{asIntegrity(err), number * format.BlockSize, 0}
		}
		lost.Length += f.bytesOf(number, 1)
	}
	tell()
}

// checkBlock proves one block that was read from home, if home is where it is.
func (f *File) checkBlock(dst *block, ct []byte, page *format.TagPage, number int64) error {
	e := page.Entry(int(number % format.GroupBlocks))
	d, direct := f.direct[number]
	switch {
	case direct:
		e = &d
	case f.flight[number] != nil, number >= format.Blocks(f.committed):
		return nil
	}
	return f.openBlock(dst.data(), ct, e, number)
}

// bytesOf is how many bytes of plaintext n blocks hold.
func (f *File) bytesOf(first, n int64) int64 {
	return max(min((first+n)*format.BlockSize, f.size)-first*format.BlockSize, 0)
}

func asIntegrity(err error) *IntegrityError {
	var integrity *IntegrityError
	errors.As(err, &integrity)
	return integrity
}

func isNoData(err error) bool { return errors.Is(err, unix.ENXIO) }

// ReadProven reads a file that Inspect opened from end to end, and goes on
// where it is damaged: write is given what verifies, lost is told of what does
// not. Holes are neither: nothing need be written for them.
func (f *File) ReadProven(write func(off int64, p []byte) error, lost func(off, n int64)) error {
	buf := make([]byte, format.BlockSize)
	defer clear(buf)
	for group := int64(0); group >= 0; {
		next, err := f.readGroup(group, buf, write, lost)
		if err != nil {
			return err
		}
		group = next
	}
	return nil
}

// readGroup is ReadProven of one group. It tells which is next.
func (f *File) readGroup(group int64, buf []byte, write func(off int64, p []byte) error, lost func(off, n int64)) (next int64, err error) {
	bad := map[int64]bool{}
	_, next, err = f.CheckGroup(group, func(l Lost) {
		if l.Length > 0 {
			lost(l.Offset, l.Length)
		}
		for at := l.Offset; at < l.Offset+l.Length; at += format.BlockSize {
			bad[at/format.BlockSize] = true
		}
	})
	if err != nil || next > group+1 {
		return next, err
	}
	first := group * format.GroupBlocks
	for b := first; b < min(first+format.GroupBlocks, format.Blocks(f.size)); b++ {
		if bad[b] {
			continue
		}
		n, err := f.readProven(b, buf)
		if err == nil && n > 0 {
			err = write(b*format.BlockSize, buf[:n])
		}
		if err != nil {
			return next, err
		}
	}
	return next, nil
}

// readProven reads a block of which the check found nothing bad: 0 bytes of a
// hole. Its tag page may say another size than the file has, and counts all the
// same.
func (f *File) readProven(number int64, dst []byte) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	group := format.Group(number)
	page := new(format.TagPage)
	if err := readFull(f.back, page[:], format.TagPageOffset(group)); err != nil {
		return 0, err
	}
	e := page.Entry(int(number % format.GroupBlocks))
	if e.Hole() {
		return 0, nil
	}
	ct := make([]byte, format.PageSize+format.TagSize)
	if err := readFull(f.back, ct[:format.PageSize], format.BlockOffset(number)); err != nil {
		return 0, err
	}
	var err error
	crypto.Secretly(func() { err = f.openBlock(dst[:format.BlockSize], ct, e, number) })
	return int(f.bytesOf(number, 1)), err
}
