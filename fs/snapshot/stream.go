package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// A stream carries a snapshot as it lies, still encrypted:
//
//	magic, then sections: kind (1) ‖ length (4) ‖ payload ‖ CRC-32C of all three
//
// Integers are little-endian. The sections are a header, for each file its
// name and size and then what of it there is, and an end with the SHA-256 of
// everything before it.
const (
	streamMagic = "AKVFSSN1"

	sectionHeader = 1 // JSON, a streamHeader
	sectionFile   = 2 // JSON, a streamFile: the sections after it are of this file
	sectionData   = 3 // offset (8) ‖ bytes
	sectionHole   = 4 // offset (8) ‖ length (8)
	sectionEnd    = 5 // SHA-256 of the stream before this section

	// chunk is how many bytes of a file a section holds at most.
	chunk = 1 << 20
	// maxSection bounds a section's payload, in bytes.
	maxSection = chunk + 8
)

// streamHeader says which snapshot a stream carries.
type streamHeader struct {
	Name   string `json:"name"`
	Volume string `json:"volume"`
	// Base is the snapshot that the stream tells the difference from; nil: none.
	Base *streamBase `json:"base,omitempty"`
	// Root are the owner and mode that the tree's root has apart from the
	// directory's; nil: none.
	Root *streamRoot `json:"root,omitempty"`
}

type streamBase struct {
	Name string `json:"name"`
	MAC  []byte `json:"mac"` // of its manifest
}

type streamRoot struct {
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// streamFile begins a file.
type streamFile struct {
	Path string `json:"path"` // percent-encoded
	Size int64  `json:"size"`
	// Base is the path of the file in the base snapshot that it is made of; "":
	// what is not in the stream is a hole.
	Base string `json:"base,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// StreamError says that a stream is not what was exported.
type StreamError struct {
	Offset int64 // in the stream, in bytes
	What   string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("the stream is damaged at byte %d: %s", e.Offset, e.What)
}

// streamWriter writes sections.
type streamWriter struct {
	w       io.Writer
	sum     hash.Hash
	written int64
}

func newStreamWriter(w io.Writer) (*streamWriter, error) {
	s := &streamWriter{w: w, sum: sha256.New()}
	return s, s.raw([]byte(streamMagic))
}

func (s *streamWriter) raw(p []byte) error {
	s.sum.Write(p)
	n, err := s.w.Write(p)
	s.written += int64(n)
	return err
}

func (s *streamWriter) section(kind byte, payload []byte) error {
	head := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	crc := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
	return errors.Join(s.raw(head), s.raw(payload), s.raw(binary.LittleEndian.AppendUint32(nil, crc)))
}

func (s *streamWriter) json(kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.section(kind, payload)
}

func (s *streamWriter) data(off int64, p []byte) error {
	return s.section(sectionData, append(binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(p)), uint64(off)), p...))
}

func (s *streamWriter) hole(off, n int64) error {
	payload := binary.LittleEndian.AppendUint64(nil, uint64(off))
	return s.section(sectionHole, binary.LittleEndian.AppendUint64(payload, uint64(n)))
}

func (s *streamWriter) end() error { return s.section(sectionEnd, s.sum.Sum(nil)) }

// streamReader reads sections.
type streamReader struct {
	r    io.Reader
	sum  hash.Hash
	read int64
	buf  [maxSection]byte
}

func newStreamReader(r io.Reader) (*streamReader, error) {
	s := &streamReader{r: r, sum: sha256.New()}
	magic, err := s.raw(len(streamMagic))
	if err != nil {
		return nil, err
	}
	if string(magic) != streamMagic {
		return nil, &StreamError{0, "it is no stream of a snapshot, or of a newer akvfs"}
	}
	return s, nil
}

// raw reads the next n bytes, which are valid until the next call.
func (s *streamReader) raw(n int) ([]byte, error) {
	p := s.buf[:n]
	m, err := io.ReadFull(s.r, p)
	s.read += int64(m)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &StreamError{s.read, "it ends too early"}
	}
	s.sum.Write(p)
	return p, err
}

// next is the next section. The payload is valid until the next call. At the
// end it has checked the sum.
func (s *streamReader) next() (kind byte, payload []byte, err error) {
	at, before := s.read, s.sum.Sum(nil)
	head, err := s.raw(5)
	if err != nil {
		return 0, nil, err
	}
	kind, length := head[0], binary.LittleEndian.Uint32(head[1:])
	crc := crc32.Checksum(head, castagnoli)
	if kind < sectionHeader || kind > sectionEnd || length > maxSection {
		return 0, nil, &StreamError{at, "it has a section that does not exist"}
	}
	if payload, err = s.raw(int(length)); err != nil {
		return 0, nil, err
	}
	payload = append([]byte(nil), payload...)
	crc = crc32.Update(crc, castagnoli, payload)
	tail, err := s.raw(4)
	if err != nil {
		return 0, nil, err
	}
	if binary.LittleEndian.Uint32(tail) != crc {
		return 0, nil, &StreamError{at, "a section's checksum is wrong"}
	}
	if kind == sectionEnd && string(payload) != string(before) {
		return 0, nil, &StreamError{at, "the sum of the whole is wrong"}
	}
	return kind, payload, nil
}
