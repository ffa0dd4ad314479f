package blockfile

import (
	"io"
	"sync"
	"syscall"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// spanBlocks is how many blocks one read from home takes at most: what the
// kernel asks for at a time.
const spanBlocks = 256

// bulkBlocks is from how many blocks on a read is one of bulk data: as many as
// only a sequential reader asks for.
const bulkBlocks = 64

// runBytes holds the pages of one read from home, tag pages between groups
// included, and room for the tag that the cipher wants right behind a block.
type runBytes [(spanBlocks+spanBlocks/format.GroupBlocks+1)*format.PageSize + format.TagSize]byte

var runPool = sync.Pool{New: func() any { return new(runBytes) }}

// ReadAt reads plaintext, like io.ReaderAt. Errors are an *IntegrityError or
// the store's.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return 0, syscall.EBADF
	}
	if off >= f.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.size-off))
	for done := 0; done < n; {
		m, err := f.readRun(p[done:n], off+int64(done))
		if err != nil {
			return done, err
		}
		done += m
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readRun reads from one source: one block in memory, or as many blocks side
// by side at home as p wants. Called with mu held, shared or not.
func (f *File) readRun(p []byte, off int64) (int, error) {
	first := off / format.BlockSize
	skip := int(off % format.BlockSize)
	if d := f.dirty[first]; d != nil {
		return copy(p, d.data()[skip:]), nil
	}
	if f.flight[first] != nil {
		var b block
		defer clear(b[:])
		if err := f.openFlight(&b, first); err != nil {
			return 0, err
		}
		return copy(p, b.data()[skip:]), nil
	}
	return f.readHome(p, first, f.homeRun(first, skip+len(p)), skip)
}

// homeRun counts the blocks from first on that lie side by side at home and
// nowhere else, as far as bytes reach.
func (f *File) homeRun(first int64, bytes int) int {
	most := min(spanBlocks, (bytes+format.BlockSize-1)/format.BlockSize)
	n := 1
	for n < most && f.dirty[first+int64(n)] == nil && f.flight[first+int64(n)] == nil {
		n++
	}
	return n
}

// readHome reads n blocks from home at once, with the tag pages between them,
// and copies what p wants of them, skipping the first bytes.
func (f *File) readHome(p []byte, first int64, n, skip int) (int, error) {
	start := format.BlockOffset(first)
	page, err := f.pageBefore(first, n)
	if err != nil {
		return 0, err
	}
	run := runPool.Get().(*runBytes)
	defer runPool.Put(run)
	raw := run[:format.BlockOffset(first+int64(n)-1)+format.PageSize-start]
	if err := readFull(f.readerOf(n), raw, start); err != nil {
		return 0, err
	}
	done := 0
	crypto.Secretly(func() { done, err = f.openRun(p, run, page, first, n, skip) })
	return done, err
}

// openRun decrypts what readHome has read. page is that of the first block.
func (f *File) openRun(p []byte, run *runBytes, page *format.TagPage, first int64, n, skip int) (done int, err error) {
	start := format.BlockOffset(first)
	for number := first; number < first+int64(n); number++ {
		if number%format.GroupBlocks == 0 && number > first {
			group := format.Group(number)
			if page, err = f.pageRead(group, run[format.TagPageOffset(group)-start:]); err != nil {
				return 0, err
			}
		}
		e := page.Entry(int(number % format.GroupBlocks))
		if d, ok := f.direct[number]; ok {
			own := d // d would be allocated for every block
			e = &own
		}
		at := format.BlockOffset(number) - start
		m, err := f.openInto(p[done:], run[at:at+format.PageSize+format.TagSize], e, number, skip)
		if err != nil {
			return 0, err
		}
		done, skip = done+m, 0
	}
	return done, nil
}

// openInto decrypts a block and copies to p what it wants of it, skipping the
// first bytes.
func (f *File) openInto(p, ct []byte, e *format.Entry, number int64, skip int) (int, error) {
	if skip == 0 && len(p) >= format.BlockSize {
		return format.BlockSize, f.openBlock(p[:format.BlockSize], ct, e, number)
	}
	b := blockPool.Get().(*block)
	defer b.free()
	if err := f.openBlock(b.data(), ct, e, number); err != nil {
		return 0, err
	}
	return copy(p, b.data()[skip:]), nil
}

// pageBefore gives the tag page of the first of n blocks, which will be read
// next: if it comes from home, the store fetches the blocks meanwhile, and a
// cold random read waits for one device read, not for two in turn.
func (f *File) pageBefore(first int64, n int) (*format.TagPage, error) {
	group := format.Group(first)
	if p := f.knownPage(group); p != nil {
		return p, nil
	}
	if a, ok := f.back.(store.Advisor); ok && n < bulkBlocks {
		a.WillNeed(format.BlockOffset(first), int64(n)*format.PageSize)
	}
	return f.tagPage(group)
}

// readerOf is how n blocks side by side are read from home: many of them past
// the page cache, which the kernel fills with the plaintext.
func (f *File) readerOf(n int) io.ReaderAt {
	if b, ok := f.back.(store.BulkReader); ok && n >= bulkBlocks {
		return readerAtFunc(b.ReadBulk)
	}
	return f.back
}

type readerAtFunc func(p []byte, off int64) (int, error)

func (f readerAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// openBlock decrypts the ciphertext at the start of ct into dst. ct has room
// behind it for a tag, which is used and put back.
func (f *File) openBlock(dst, ct []byte, e *format.Entry, number int64) error {
	if e.Hole() {
		if err := f.holeAt(ct, number); err != nil {
			return err
		}
		clear(dst)
		return nil
	}
	if err := f.openQuietly(dst, ct, e, number); err != nil {
		return f.damage("block", number, err)
	}
	return nil
}

// openQuietly is openBlock of a block that is no hole, and tells nobody else of damage.
func (f *File) openQuietly(dst, ct []byte, e *format.Entry, number int64) error {
	ad := blockADPool.Get().(*[format.ADSize]byte)
	defer blockADPool.Put(ad)
	format.AD(ad, f.env.Volume, f.id, number, format.KindBlock)
	var behind [format.TagSize]byte
	copy(behind[:], ct[format.BlockSize:])
	copy(ct[format.BlockSize:], e[format.NonceSize:])
	_, err := f.cipher.Open(dst[:0], e[:format.NonceSize], ct, ad[:])
	copy(ct[format.BlockSize:], behind[:])
	return err
}

// openFlight decrypts a block in flight. Its ciphertext stays as it is, as
// others may be reading it.
func (f *File) openFlight(dst *block, number int64) error {
	e, err := f.entry(number)
	if err != nil {
		return err
	}
	ct := *f.flight[number]
	crypto.Secretly(func() { err = f.openBlock(dst.data(), ct[:], &e, number) })
	return err
}

// load gives a block's plaintext, wherever it is. Called with mu held.
func (f *File) load(dst *block, number int64) error {
	if number >= format.Blocks(f.size) {
		clear(dst.data())
		return nil
	}
	_, err := f.readRun(dst.data(), number*format.BlockSize)
	return err
}
