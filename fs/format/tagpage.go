package format

import (
	"encoding/binary"
	"math"
)

const (
	// NonceSize and TagSize are those of XAES-256-GCM, in bytes.
	NonceSize = 24
	TagSize   = 16
	// EntrySize is a block's entry in a tag page: its nonce, then its tag.
	EntrySize = NonceSize + TagSize
	// TrailerSize is the end of a tag page, after the entries.
	TrailerSize = PageSize - GroupBlocks*EntrySize

	trailerOffset = GroupBlocks * EntrySize
	flagsOffset   = trailerOffset + 8
	nonceOffset   = flagsOffset + 8
	tagOffset     = nonceOffset + NonceSize

	// More stands in a tag page for the size when the file goes on after this group.
	More = math.MaxUint64
)

// Entry is a block's nonce and tag. All zeros means a hole: a block that was
// never written, or given back, and reads as zeros.
type Entry [EntrySize]byte

// Hole reports whether the block reads as zeros.
func (e *Entry) Hole() bool { return *e == Entry{} }

// TagPage describes the blocks of one group:
//
//	0     101 entries of 40 bytes
//	4040  size: the file's plaintext size if it ends in this group, else More
//	4048  flags, zero in this version
//	4056  nonce
//	4080  tag, over everything before the nonce
//
// A page of zeros alone is a group of holes that needs no page.
type TagPage [PageSize]byte

// Entry points at the entry of the i-th block of the group.
func (p *TagPage) Entry(i int) *Entry {
	return (*Entry)(p[i*EntrySize : (i+1)*EntrySize])
}

// Size is the size field: plaintext bytes, or More.
func (p *TagPage) Size() uint64 { return binary.LittleEndian.Uint64(p[trailerOffset:]) }

// SetSize sets the size field.
func (p *TagPage) SetSize(size uint64) { binary.LittleEndian.PutUint64(p[trailerOffset:], size) }

// Flags is the flags field.
func (p *TagPage) Flags() uint64 { return binary.LittleEndian.Uint64(p[flagsOffset:]) }

// Body is what the tag authenticates.
func (p *TagPage) Body() []byte { return p[:nonceOffset] }

// Nonce is the nonce of the page's own tag.
func (p *TagPage) Nonce() []byte { return p[nonceOffset:tagOffset] }

// Tag is the page's own tag.
func (p *TagPage) Tag() []byte { return p[tagOffset:] }

// Trailer is everything after the entries.
func (p *TagPage) Trailer() *[TrailerSize]byte {
	return (*[TrailerSize]byte)(p[trailerOffset:])
}

// TrailerNonce is the nonce in a trailer.
func TrailerNonce(t *[TrailerSize]byte) []byte {
	return t[nonceOffset-trailerOffset : tagOffset-trailerOffset]
}

// Empty reports whether the page is all zeros: a group of holes without a page.
func (p *TagPage) Empty() bool { return zero(p[:]) }

// Kinds of associated data: what a tag may authenticate.
const (
	KindBlock   = 1
	KindTagPage = 2
)

// ADSize is the size of what AD writes, in bytes.
const ADSize = 48

// AD writes the associated data that binds a block or a tag page to its
// volume, file and place: volume UUID, file ID, number, kind.
func AD(dst *[ADSize]byte, volume [16]byte, id FileID, number int64, kind uint64) {
	copy(dst[0:], volume[:])
	copy(dst[16:], id[:])
	binary.LittleEndian.PutUint64(dst[32:], uint64(number))
	binary.LittleEndian.PutUint64(dst[40:], kind)
}
