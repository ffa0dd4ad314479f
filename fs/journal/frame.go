package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
)

// A frame in a segment, at a multiple of 4 KiB:
//
//	0    magic "AKVFSJF1"
//	8    version (4 bytes)
//	12   flags (4), zero
//	16   number of this frame (8)
//	24   number of the oldest frame still needed (8)
//	32   length of the sealed descriptors, tag included (4)
//	36   number of data blocks (4)
//	40   CRC-32C of the data blocks (4)
//	44   zero (4)
//	48   opening: 16 random bytes, one value for each writable open of the volume
//	64   nonce (24)
//	88   zero
//	128  the records without their data, sealed; associated data: volume UUID, bytes 0..127
//	     zeros to the next multiple of 4 KiB
//	     data blocks
//
// The checksum tells a torn frame from a whole one without file keys; a data
// block that was tampered with fails its own entry's tag, which is sealed.
const (
	frameMagic      = "AKVFSJF1"
	frameVersion    = 1
	frameHeaderSize = 128
	nonceOffset     = 64
	reservedOffset  = nonceOffset + crypto.NonceSize
	page            = format.PageSize
)

type opening [16]byte

// header is a frame's first 128 bytes.
type header struct {
	number, tail uint64
	sealed       int // bytes
	blocks       int
	sum          uint32
	opening      opening
	nonce        [crypto.NonceSize]byte
}

var (
	errFrame = errors.New("no frame")
	// ErrNewerFormat says that a newer akvfs has written to the journal.
	ErrNewerFormat = errors.New("journal has a newer format version")
	castagnoli     = crc32.MakeTable(crc32.Castagnoli)
)

// descriptorBytes is the room that descriptors of n bytes take in a frame,
// header and padding included.
func descriptorBytes(n int) int {
	return (frameHeaderSize + n + crypto.TagSize + page - 1) / page * page
}

// length is the frame's whole length in bytes.
func (h *header) length() int {
	return descriptorBytes(h.sealed-crypto.TagSize) + h.blocks*page
}

func (h *header) encode(b []byte) {
	le := binary.LittleEndian
	clear(b[:frameHeaderSize])
	copy(b, frameMagic)
	le.PutUint32(b[8:], frameVersion)
	le.PutUint64(b[16:], h.number)
	le.PutUint64(b[24:], h.tail)
	le.PutUint32(b[32:], uint32(h.sealed))
	le.PutUint32(b[36:], uint32(h.blocks))
	le.PutUint32(b[40:], h.sum)
	copy(b[48:], h.opening[:])
	copy(b[nonceOffset:], h.nonce[:])
}

// parseHeader reads a frame's header. limit is the room, in bytes, between
// the frame's start and the end of its segment.
func parseHeader(b []byte, limit int) (*header, error) {
	if len(b) < frameHeaderSize || string(b[:8]) != frameMagic {
		return nil, errFrame
	}
	le := binary.LittleEndian
	if le.Uint32(b[8:]) > frameVersion {
		return nil, ErrNewerFormat
	}
	h := &header{
		number: le.Uint64(b[16:]), tail: le.Uint64(b[24:]),
		sealed: int(le.Uint32(b[32:])), blocks: int(le.Uint32(b[36:])), sum: le.Uint32(b[40:]),
		opening: opening(b[48:64]), nonce: [crypto.NonceSize]byte(b[nonceOffset:reservedOffset]),
	}
	bad := h.tail > h.number || h.number == 0 || h.sealed < crypto.TagSize || h.sealed > limit ||
		h.blocks > limit/page || !format.IsZero(b[reservedOffset:frameHeaderSize]) || h.length() > limit
	if bad {
		return nil, errFrame
	}
	return h, nil
}

// associated is a frame's associated data.
func associated(volume [16]byte, head []byte) []byte {
	return append(append(make([]byte, 0, 16+frameHeaderSize), volume[:]...), head[:frameHeaderSize]...)
}

// encodeFrame writes a whole frame into buf, which has room for it, and
// returns its length.
func encodeFrame(buf []byte, h header, records []*Record, cfg *Config) int {
	descr := make([]byte, 0, frameDescriptors(records))
	data := descriptorBytes(cap(descr))
	end := data
	for _, r := range records {
		descr = r.append(descr)
		end += copyData(buf[end:], r)
	}
	h.sealed, h.blocks = len(descr)+crypto.TagSize, (end-data)/page
	h.sum = crc32.Checksum(buf[data:end], castagnoli)
	cfg.Nonces.Next(&h.nonce)
	h.encode(buf)
	ad := associated(cfg.Volume, buf)
	crypto.Secretly(func() { cfg.Cipher.Seal(buf[frameHeaderSize:frameHeaderSize], h.nonce[:], descr, ad) })
	clear(buf[frameHeaderSize+h.sealed : data])
	return end
}

func frameDescriptors(records []*Record) (n int) {
	for _, r := range records {
		n += r.descriptor()
	}
	return n
}

func copyData(dst []byte, r *Record) (n int) {
	for _, g := range r.Groups {
		for _, b := range g.Blocks {
			n += copy(dst[n:], b.Data)
		}
	}
	return n
}

// openFrame checks a whole frame and returns its records, whose data points into b.
func openFrame(b []byte, h *header, cfg *Config) ([]Record, error) {
	if err := checkSum(b, h); err != nil {
		return nil, err
	}
	data := b[descriptorBytes(h.sealed-crypto.TagSize):h.length()]
	sealed := b[frameHeaderSize : frameHeaderSize+h.sealed]
	descr, err := cfg.Cipher.Open(nil, h.nonce[:], sealed, associated(cfg.Volume, b))
	if err != nil {
		return nil, errFrame
	}
	return decodeRecords(descr, data)
}

// checkSum tells a whole frame from a torn one, as far as its data goes.
func checkSum(b []byte, h *header) error {
	data := b[descriptorBytes(h.sealed-crypto.TagSize):h.length()]
	if crc32.Checksum(data, castagnoli) != h.sum {
		return errFrame
	}
	return nil
}
