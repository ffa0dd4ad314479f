package journal

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/akvfs/akvfs/fs/format"
)

// Record is what one commit of one file changes. Applying a record twice, or
// after a later one followed by that later one again, gives the same file.
type Record struct {
	File format.FileID
	// Path is the file's name in the backing directory, as it was at the commit.
	Path string
	// Modified is the time of modification; zero: none is known.
	Modified time.Time
	// Cut is the smallest plaintext size that the file had since its last
	// record, in bytes, and NoCut where it never shrank: the file is cut to
	// this size before anything else.
	Cut int64
	// Size is the plaintext size after the record, in bytes.
	Size   int64
	Groups []Group
}

// NoCut is the value of Record.Cut for a file that never shrank.
const NoCut = math.MaxInt64

// Group is what a record changes in one group of blocks.
type Group struct {
	Number int64
	// Trailer is the tag page's trailer after the change: its tag covers
	// all entries of the group, those not in the record too.
	Trailer [format.TrailerSize]byte
	Blocks  []Block
}

// Block is a block's new entry, with its ciphertext, unless it became a hole
// or the ciphertext is durable at home already.
type Block struct {
	Index  int // within the group
	Entry  format.Entry
	Data   []byte // a whole block, or nil
	AtHome bool   // there is ciphertext, and it is at home
}

const (
	recordFixed = 16 + 8 + 4 + 8 + 8 + 2 + 4
	groupFixed  = 8 + format.TrailerSize + 2
	blockFixed  = 1 + 1 + format.EntrySize

	isHole  = 0
	hasData = 1
	atHome  = 2
)

var errRecord = errors.New("journal record is malformed")

// blocks counts the record's blocks that carry data.
func (r *Record) blocks() (n int) {
	for _, g := range r.Groups {
		for _, b := range g.Blocks {
			if b.Data != nil {
				n++
			}
		}
	}
	return n
}

// descriptor is the size of the record's encoding without data, in bytes.
func (r *Record) descriptor() int {
	n := recordFixed + len(r.Path)
	for _, g := range r.Groups {
		n += groupFixed + blockFixed*len(g.Blocks)
	}
	return n
}

// append encodes the record without its data.
func (r *Record) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, r.File[:]...)
	b = le.AppendUint64(b, uint64(r.Modified.Unix()))
	b = le.AppendUint32(b, uint32(r.Modified.Nanosecond()))
	b = le.AppendUint64(b, uint64(r.Cut))
	b = le.AppendUint64(b, uint64(r.Size))
	b = le.AppendUint16(b, uint16(len(r.Path)))
	b = append(b, r.Path...)
	b = le.AppendUint32(b, uint32(len(r.Groups)))
	for _, g := range r.Groups {
		b = le.AppendUint64(b, uint64(g.Number))
		b = append(b, g.Trailer[:]...)
		b = le.AppendUint16(b, uint16(len(g.Blocks)))
		for i := range g.Blocks {
			b = g.Blocks[i].append(b)
		}
	}
	return b
}

func (blk *Block) append(b []byte) []byte {
	kind := byte(isHole)
	switch {
	case blk.Data != nil:
		kind = hasData
	case blk.AtHome:
		kind = atHome
	}
	b = append(b, byte(blk.Index), kind)
	return append(b, blk.Entry[:]...)
}

// decoder walks a frame's descriptors; data is consumed block by block.
type decoder struct {
	b, data []byte
	bad     bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return make([]byte, n)
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u16() int     { return int(binary.LittleEndian.Uint16(d.take(2))) }
func (d *decoder) u32() int     { return int(binary.LittleEndian.Uint32(d.take(4))) }
func (d *decoder) int64() int64 { return int64(binary.LittleEndian.Uint64(d.take(8))) }

func (d *decoder) time() time.Time {
	sec, nsec := d.int64(), d.u32()
	if nsec >= int(time.Second) {
		d.bad = true
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// decodeRecords reads all records of a frame. The data slices of the result
// point into data.
func decodeRecords(b, data []byte) ([]Record, error) {
	d := &decoder{b: b, data: data}
	var records []Record
	for len(d.b) > 0 && !d.bad {
		records = append(records, d.record())
	}
	if d.bad || len(d.data) > 0 {
		return nil, errRecord
	}
	return records, nil
}

func (d *decoder) record() Record {
	r := Record{File: format.FileID(d.take(16)), Modified: d.time(), Cut: d.int64(), Size: d.int64()}
	r.Path = string(d.take(d.u16()))
	groups := d.u32()
	for i := 0; i < groups && !d.bad; i++ {
		r.Groups = append(r.Groups, d.group())
	}
	if r.Cut < 0 || r.Size < 0 || r.Size > format.MaxSize {
		d.bad = true
	}
	return r
}

func (d *decoder) group() Group {
	g := Group{Number: d.int64(), Trailer: [format.TrailerSize]byte(d.take(format.TrailerSize))}
	blocks := d.u16()
	for i := 0; i < blocks && !d.bad; i++ {
		g.Blocks = append(g.Blocks, d.block())
	}
	if g.Number < 0 || g.Number > format.LastGroup(format.MaxSize) {
		d.bad = true
	}
	return g
}

func (d *decoder) block() Block {
	head := d.take(2)
	kind := head[1]
	b := Block{Index: int(head[0]), Entry: format.Entry(d.take(format.EntrySize)), AtHome: kind == atHome}
	if b.Index >= format.GroupBlocks || kind > atHome || (kind == isHole) != b.Entry.Hole() {
		d.bad = true
	}
	if kind == hasData && !d.bad {
		if len(d.data) < format.BlockSize {
			d.bad = true
			return b
		}
		b.Data, d.data = d.data[:format.BlockSize:format.BlockSize], d.data[format.BlockSize:]
	}
	return b
}
