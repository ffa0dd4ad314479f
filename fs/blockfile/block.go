package blockfile

import (
	"sync"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
)

// block is the memory of one block: of its plaintext while it is dirty, and of
// its ciphertext once it is sealed, in place. The room behind it is for the tag
// that the cipher writes there.
type block [format.BlockSize + format.TagSize]byte

var (
	blockPool = sync.Pool{New: func() any { return new(block) }}
	// Associated data of blocks: the ciphers' interface makes it escape, and an
	// allocation is dear where what is allocated is erased.
	blockADPool = sync.Pool{New: func() any { return new([format.ADSize]byte) }}
)

func (b *block) data() []byte { return b[:format.BlockSize] }

// free zeroes plaintext that nobody needs any more.
func (b *block) free() {
	clear(b.data())
	blockPool.Put(b)
}

// forgetDirty drops a block that is dirty, if it is. Called with mu held.
func (f *File) forgetDirty(b int64) {
	if d := f.dirty[b]; d != nil {
		d.free()
		delete(f.dirty, b)
		f.env.pending.Add(-format.BlockSize)
	}
}

// dropDirty drops what is dirty from block first on. Called with mu held.
func (f *File) dropDirty(first int64) {
	for b := range f.dirty {
		if b >= first {
			f.forgetDirty(b)
		}
	}
}

// sealDirty seals dirty blocks in place, and enters them in their pages, which
// are pinned. Called with mu held.
func (f *File) sealDirty(numbers []int64) {
	for _, b := range numbers {
		d := f.dirty[b]
		e := f.pages[format.Group(b)].page.Entry(int(b % format.GroupBlocks))
		crypto.Secretly(func() { f.seal(d[:], e, d.data(), b) })
	}
}

// seal, within crypto.Secretly, encrypts a block into dst, which has room for
// the tag behind it and may begin where plain does, and makes its entry.
func (f *File) seal(dst []byte, e *format.Entry, plain []byte, number int64) {
	ad := blockADPool.Get().(*[format.ADSize]byte)
	defer blockADPool.Put(ad)
	format.AD(ad, f.env.Volume, f.id, number, format.KindBlock)
	f.env.Nonces.Next((*[format.NonceSize]byte)(e[:format.NonceSize]))
	f.cipher.Seal(dst[:0], e[:format.NonceSize], plain, ad[:])
	copy(e[format.NonceSize:], dst[format.BlockSize:format.BlockSize+format.TagSize])
}
