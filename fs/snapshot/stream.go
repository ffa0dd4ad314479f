package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/akvfs/akvfs/fs/format"
)

// A stream carries a snapshot as it lies, still encrypted:
//
//	magic, then sections: kind (1) ‖ length (4) ‖ payload ‖ SHA-256 of all three
//
// Integers are little-endian. The sections are a header, for each file its
// name and size and then what of it there is, in the order of its places, and
// an end with the SHA-256 of all sections' digests before it. So sections can
// be made and checked beside each other, and none is missing, twice or
// elsewhere.
const (
	streamMagic = "AKVFSSN1"

	sectionHeader = 1 // JSON, a streamHeader
	sectionFile   = 2 // JSON, a streamFile: the sections after it are of this file
	sectionData   = 3 // offset (8) ‖ bytes
	sectionHole   = 4 // offset (8) ‖ length (8)
	sectionEnd    = 5 // SHA-256 of the digests of all sections before this one

	// A piece of a file is what a section holds at most: as much as a tag page
	// with its blocks.
	piecePages = 1 + format.GroupBlocks
	pieceBytes = piecePages * format.PageSize

	headBytes  = 5           // kind and length
	placeBytes = 8           // the offset in a section of data
	sumBytes   = sha256.Size // behind the payload
	// maxSection bounds a section's payload, in bytes.
	maxSection = placeBytes + pieceBytes
)

// streamHeader says which snapshot a stream carries.
type streamHeader struct {
	Name   string `json:"name"`
	Volume string `json:"volume"`
	// Manifest is the MAC of the snapshot's manifest, and Keyring the SHA-256
	// of its keyring, in hexadecimal: two exports with one header are the same.
	Manifest []byte `json:"manifest"`
	Keyring  string `json:"keyring"`
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

// StreamError says that a stream is not what was exported.
type StreamError struct {
	Offset int64 // in the stream, in bytes
	What   string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("the stream is damaged at byte %d: %s", e.Offset, e.What)
}

// seal makes a section of b, which has room before and behind the payload:
// head, payload, sum.
func seal(kind byte, b []byte) {
	body := b[:len(b)-sumBytes]
	b[0] = kind
	binary.LittleEndian.PutUint32(b[1:], uint32(len(body)-headBytes))
	sum := sha256.Sum256(body)
	copy(b[len(body):], sum[:])
}

// section makes a section of a payload.
func section(kind byte, payload []byte) []byte {
	b := make([]byte, headBytes+len(payload)+sumBytes)
	copy(b[headBytes:], payload)
	seal(kind, b)
	return b
}

func jsonSection(kind byte, v any) ([]byte, error) {
	payload, err := json.Marshal(v)
	return section(kind, payload), err
}

func holeSection(off, n int64) []byte {
	return section(sectionHole, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(off)), uint64(n)))
}

// streamWriter writes sections.
type streamWriter struct {
	w       io.Writer
	sums    hash.Hash // of the sections' digests
	written int64
}

func newStreamWriter(w io.Writer) (*streamWriter, error) {
	s := &streamWriter{w: w, sums: sha256.New()}
	return s, s.raw([]byte(streamMagic))
}

func (s *streamWriter) raw(p []byte) error {
	n, err := s.w.Write(p)
	s.written += int64(n)
	return err
}

// put writes a section as section makes it.
func (s *streamWriter) put(b []byte) error {
	s.sums.Write(b[len(b)-sumBytes:])
	return s.raw(b)
}

func (s *streamWriter) json(kind byte, v any) error {
	b, err := jsonSection(kind, v)
	if err != nil {
		return err
	}
	return s.put(b)
}

func (s *streamWriter) end() error { return s.put(section(sectionEnd, s.sums.Sum(nil))) }

// streamReader reads sections.
type streamReader struct {
	r    io.Reader
	sums hash.Hash
	read int64
}

func newStreamReader(r io.Reader) (*streamReader, error) {
	s := &streamReader{r: r, sums: sha256.New()}
	magic := make([]byte, len(streamMagic))
	if err := s.raw(magic); err != nil {
		return nil, err
	}
	if string(magic) != streamMagic {
		return nil, &StreamError{0, "it is no stream of a snapshot, or of a newer akvfs"}
	}
	return s, nil
}

// raw reads all of p.
func (s *streamReader) raw(p []byte) error {
	n, err := io.ReadFull(s.r, p)
	s.read += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &StreamError{s.read, "it ends too early"}
	}
	return err
}

// sectionBuffer has room for any section.
type sectionBuffer [headBytes + maxSection + sumBytes]byte

// next reads a section into buf, of which the payload is a part. At the end it
// has checked that no section is missing.
func (s *streamReader) next(buf *sectionBuffer) (kind byte, payload []byte, err error) {
	at := s.read
	if err := s.raw(buf[:headBytes]); err != nil {
		return 0, nil, err
	}
	kind, length := buf[0], binary.LittleEndian.Uint32(buf[1:])
	if kind < sectionHeader || kind > sectionEnd || length > maxSection {
		return 0, nil, &StreamError{at, "it has a section that does not exist"}
	}
	end := headBytes + int(length)
	if err := s.raw(buf[headBytes : end+sumBytes]); err != nil {
		return 0, nil, err
	}
	if sum := sha256.Sum256(buf[:end]); !bytes.Equal(sum[:], buf[end:end+sumBytes]) {
		return 0, nil, &StreamError{at, "a section's checksum is wrong"}
	}
	payload = buf[headBytes:end:end]
	if kind != sectionEnd {
		s.sums.Write(buf[end : end+sumBytes])
	} else if !bytes.Equal(payload, s.sums.Sum(nil)) {
		return 0, nil, &StreamError{at, "a section before it is missing, or another stream's"}
	}
	return kind, payload, nil
}

// place is the part of a file that a section of data, or a hole, is.
func place(kind byte, payload []byte) (off, n int64, ok bool) {
	if len(payload) < placeBytes || kind == sectionHole && len(payload) != 2*placeBytes {
		return 0, 0, false
	}
	off, n = int64(binary.LittleEndian.Uint64(payload)), int64(len(payload)-placeBytes)
	if kind == sectionHole {
		n = int64(binary.LittleEndian.Uint64(payload[placeBytes:]))
	}
	return off, n, off >= 0 && n >= 0
}

// header reads the first section.
func (s *streamReader) header(buf *sectionBuffer) (*streamHeader, error) {
	kind, payload, err := s.next(buf)
	if err != nil {
		return nil, err
	}
	h := &streamHeader{}
	if kind != sectionHeader || json.Unmarshal(payload, h) != nil || CheckName(h.Name) != nil {
		return nil, &StreamError{s.read, "it has no header"}
	}
	return h, nil
}
