package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderVersion is the version of a file's header that this code writes.
	HeaderVersion = 1
	// WrappedKeySize is the size of a wrapped file key in bytes.
	WrappedKeySize = 104
	// Slots is how many wrapped file keys a header has room for.
	Slots = 2

	sectorSize  = 512
	sectorSum   = sectorSize - 4 // CRC-32C of what comes before it
	headerMagic = "AKVFSBF1"
	// FileIDOffset is where a file's ID lies in its header, in bytes.
	FileIDOffset = 16
	slotMaster   = 8
	slotWrapped  = 24
)

// FileID names a file for ever: 16 random bytes, made with the file's key.
type FileID [16]byte

func (id FileID) String() string { return fmt.Sprintf("%x", id[:]) }

// ErrHeader says that a page is no header of this format.
var ErrHeader = errors.New("file header is damaged")

// VersionError says that a header was written by a newer akvfs.
type VersionError struct{ Version uint16 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("file header has format version %d, newer than %d", e.Version, HeaderVersion)
}

// Slot is a file key wrapped by a master key.
type Slot struct {
	// Sequence orders the slots: the higher one counts. 0 is an empty slot.
	Sequence uint64
	// MasterKey is the ID of the master key that wraps.
	MasterKey [16]byte
	Wrapped   [WrappedKeySize]byte
}

// Header is page 0 of a file. Each slot lies in a 512-byte sector of its own,
// so that a re-wrap, which writes the other slot, is atomic on any disk.
type Header struct {
	ID    FileID
	Slots [Slots]Slot
}

// Current is the slot in force, and false when none is readable.
func (h *Header) Current() (Slot, bool) {
	cur := h.Slots[0]
	if h.Slots[1].Sequence > cur.Sequence {
		cur = h.Slots[1]
	}
	return cur, cur.Sequence > 0
}

// Encode gives the header as a page.
func (h *Header) Encode() *[PageSize]byte {
	page := new([PageSize]byte)
	copy(page[:], headerMagic)
	binary.LittleEndian.PutUint16(page[8:], HeaderVersion)
	copy(page[FileIDOffset:], h.ID[:])
	sum(page[:sectorSize])
	for i, s := range h.Slots {
		if s.Sequence == 0 {
			continue
		}
		sector := page[(1+i)*sectorSize : (2+i)*sectorSize]
		binary.LittleEndian.PutUint64(sector, s.Sequence)
		copy(sector[slotMaster:], s.MasterKey[:])
		copy(sector[slotWrapped:], s.Wrapped[:])
		sum(sector)
	}
	return page
}

// ParseHeader reads page 0. A slot whose sector is torn counts as empty: the
// other one holds. Errors are ErrHeader, or a *VersionError.
func ParseHeader(page []byte) (*Header, error) {
	if len(page) != PageSize || string(page[:8]) != headerMagic || !sumOK(page[:sectorSize]) {
		return nil, ErrHeader
	}
	if v := binary.LittleEndian.Uint16(page[8:]); v != HeaderVersion {
		return nil, &VersionError{v}
	}
	if !zero(page[10:FileIDOffset]) || !zero(page[FileIDOffset+16:sectorSum]) || !zero(page[(1+Slots)*sectorSize:]) {
		return nil, ErrHeader
	}
	h := &Header{ID: FileID(page[FileIDOffset : FileIDOffset+16])}
	for i := range h.Slots {
		h.Slots[i] = parseSlot(page[(1+i)*sectorSize : (2+i)*sectorSize])
	}
	if _, ok := h.Current(); !ok {
		return nil, ErrHeader
	}
	return h, nil
}

func parseSlot(sector []byte) Slot {
	const end = slotWrapped + WrappedKeySize
	if !sumOK(sector) || !zero(sector[end:sectorSum]) {
		return Slot{}
	}
	return Slot{
		Sequence:  binary.LittleEndian.Uint64(sector),
		MasterKey: [16]byte(sector[slotMaster:slotWrapped]),
		Wrapped:   [WrappedKeySize]byte(sector[slotWrapped:end]),
	}
}

// SlotDamaged reports whether slot i of a header's page holds something that no
// slot is: neither one that counts nor the zeros of an empty one.
func SlotDamaged(page []byte, i int) bool {
	sector := page[(1+i)*sectorSize : (2+i)*sectorSize]
	return !zero(sector) && parseSlot(sector).Sequence == 0
}

// Rebuild makes a header of what is left of a damaged page: the file ID and
// the slots as they lie there, with everything around them as it must be. That
// the ID is the file's is for the caller to prove, by a slot that opens with it.
func Rebuild(page []byte) *Header {
	h := &Header{ID: FileID(page[FileIDOffset : FileIDOffset+16])}
	for i := range h.Slots {
		h.Slots[i] = parseSlot(page[(1+i)*sectorSize : (2+i)*sectorSize])
	}
	return h
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(sector []byte) {
	binary.LittleEndian.PutUint32(sector[sectorSum:], crc32.Checksum(sector[:sectorSum], castagnoli))
}

func sumOK(sector []byte) bool {
	return binary.LittleEndian.Uint32(sector[sectorSum:]) == crc32.Checksum(sector[:sectorSum], castagnoli)
}

var zeros [PageSize]byte

// zero reports whether b, of at most a page, holds zeros only.
func zero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// IsZero reports whether b holds zeros only.
func IsZero(b []byte) bool {
	for len(b) > PageSize {
		if !zero(b[:PageSize]) {
			return false
		}
		b = b[PageSize:]
	}
	return zero(b)
}
