package blockfile

import (
	"errors"
	"io"
	"sync"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
)

var emptyPage format.TagPage

// tagPage gives a group's tag page as of the last record, for reading only.
// Called with mu held, shared or not.
func (f *File) tagPage(group int64) (*format.TagPage, error) {
	if p := f.knownPage(group); p != nil {
		return p, nil
	}
	p := new(format.TagPage)
	if err := readFull(f.back, p[:], format.TagPageOffset(group)); err != nil {
		return nil, err
	}
	return f.learn(group, p)
}

// pageRead is tagPage for a page whose content at home is at hand.
func (f *File) pageRead(group int64, raw []byte) (*format.TagPage, error) {
	if p := f.knownPage(group); p != nil {
		return p, nil
	}
	p := format.TagPage(raw[:format.PageSize])
	return f.learn(group, &p)
}

// knownPage is a page that need not be read from home, or nil.
func (f *File) knownPage(group int64) *format.TagPage {
	if p := f.pages[group]; p != nil {
		return &p.page
	}
	if group > format.LastGroup(f.committed) {
		return &emptyPage
	}
	return f.env.cachedPage(pageKey{f.cached, group})
}

// learn verifies a page from home and remembers it.
func (f *File) learn(group int64, p *format.TagPage) (*format.TagPage, error) {
	if err := f.verifyPage(group, p); err != nil {
		return nil, err
	}
	f.env.pages.Add(pageKey{f.cached, group}, p)
	return p, nil
}

// forgetPages takes the file's pages from the cache, before it is closed or its
// committed end falls: a group that is gone may come again as a hole. Pages are
// added with mu held, none of a group past that end but empty ones. Called with
// mu held.
func (f *File) forgetPages() {
	groups := format.LastGroup(f.committed) + 1
	if groups > int64(f.env.pages.Len()) {
		for _, key := range f.env.pages.Keys() {
			if key.file == f.cached {
				f.env.pages.Remove(key)
			}
		}
		return
	}
	for group := range groups {
		f.env.pages.Remove(pageKey{f.cached, group})
	}
}

// readFull reads all of p; what lies past the end of the backing file is zeros.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return nil
	}
	return err
}

// verifyPage checks a tag page that was read from home. A page of zeros is a
// group of holes, which only the last group cannot be: it proves the size.
func (f *File) verifyPage(group int64, p *format.TagPage) error {
	if err := f.provePage(group, p); err != nil {
		return f.damage("tag page", group, err)
	}
	if !f.fitsSize(group, p) {
		return f.damage("size", -1, nil)
	}
	return nil
}

// provePage checks a tag page's own tag, whatever it says of the size.
func (f *File) provePage(group int64, p *format.TagPage) (err error) {
	if p.Empty() && group < format.LastGroup(f.committed) {
		return nil
	}
	var scratch [format.TagSize]byte
	copy(scratch[:], p.Tag())
	ad := f.pageAD(group, p)
	defer adPool.Put(ad)
	crypto.Secretly(func() { _, err = f.cipher.Open(scratch[:0], p.Nonce(), scratch[:], ad[:]) })
	return err
}

// fitsSize reports whether an authentic tag page is of a file of this size.
func (f *File) fitsSize(group int64, p *format.TagPage) bool {
	last := format.LastGroup(f.committed)
	if p.Empty() && group < last {
		return true
	}
	want := uint64(format.More)
	if group == last {
		want = uint64(f.committed)
	}
	return p.Size() == want && p.Flags() == 0
}

// sealPage gives a tag page its size and its tag. Called with mu held.
func (f *File) sealPage(group int64, p *format.TagPage) {
	p.SetSize(format.More)
	if group == format.LastGroup(f.size) {
		p.SetSize(uint64(f.size))
	}
	f.env.Nonces.Next((*[format.NonceSize]byte)(p.Nonce()))
	ad := f.pageAD(group, p)
	defer adPool.Put(ad)
	crypto.Secretly(func() { f.cipher.Seal(p.Tag()[:0], p.Nonce(), nil, ad[:]) })
}

// pageADBytes is the associated data of a tag page's tag: its place, then its body.
type pageADBytes [format.ADSize + format.PageSize - format.NonceSize - format.TagSize]byte

var adPool = sync.Pool{New: func() any { return new(pageADBytes) }}

func (f *File) pageAD(group int64, p *format.TagPage) *pageADBytes {
	ad := adPool.Get().(*pageADBytes)
	format.AD((*[format.ADSize]byte)(ad[:]), f.env.Volume, f.id, group, format.KindTagPage)
	copy(ad[format.ADSize:], p.Body())
	return ad
}

// pin gives a group's tag page for changing. Called with mu held.
func (f *File) pin(group int64) (*pinned, error) {
	if p := f.pages[group]; p != nil {
		return p, nil
	}
	page, err := f.tagPage(group)
	if err != nil {
		return nil, err
	}
	p := &pinned{page: *page}
	f.pages[group] = p
	return p, nil
}

// entry gives the entry of a block that is not dirty. Called with mu held,
// shared or not.
func (f *File) entry(b int64) (format.Entry, error) {
	if e, ok := f.direct[b]; ok {
		return e, nil
	}
	p, err := f.tagPage(format.Group(b))
	if err != nil {
		return format.Entry{}, err
	}
	return *p.Entry(int(b % format.GroupBlocks)), nil
}
