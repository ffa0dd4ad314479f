package format

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestGeometryByHand(t *testing.T) {
	for _, c := range []struct{ size, backing int64 }{
		{0, PageSize},
		{1, 3*PageSize + 1},
		{PageSize, 4 * PageSize},
		{PageSize + 1, 4*PageSize + 1},
		{101 * PageSize, 104 * PageSize},
		{101*PageSize + 1, 105*PageSize + 1},
		{102 * PageSize, 106 * PageSize},
	} {
		if got := BackingSize(c.size); got != c.backing {
			t.Errorf("BackingSize(%d) = %d, want %d", c.size, got, c.backing)
		}
	}
	if BlockOffset(0) != 2*PageSize || BlockOffset(100) != 102*PageSize || BlockOffset(101) != 104*PageSize {
		t.Error("block offsets differ from the specification")
	}
	if TagPageOffset(0) != PageSize || TagPageOffset(1) != 103*PageSize {
		t.Error("tag page offsets differ from the specification")
	}
}

func TestSizeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, MaxSize).Draw(t, "size")
		got, ok := PlainSize(BackingSize(size))
		if !ok || got != size {
			t.Fatalf("size %d came back as %d, %v", size, got, ok)
		}
		if BackingSize(size+1) <= BackingSize(size) {
			t.Fatalf("a file that grows from %d bytes shrinks in the backing directory", size)
		}
	})
}

// Every backing size means one plaintext size or is refused: no two mean the same.
func TestEveryBackingSize(t *testing.T) {
	for backing := int64(0); backing < 320*PageSize; backing++ {
		size, ok := PlainSize(backing)
		if size < 0 {
			t.Fatalf("backing size %d: negative size %d", backing, size)
		}
		if ok && backing > 0 && BackingSize(size) != backing {
			t.Fatalf("backing size %d is taken for %d, whose backing size is %d", backing, size, BackingSize(size))
		}
	}
}

func TestLayoutDoesNotOverlap(t *testing.T) {
	used := map[int64]string{0: "header"}
	claim := func(off int64, what string) {
		if off%PageSize != 0 || used[off] != "" {
			t.Fatalf("%s at %d: unaligned or taken by %q", what, off, used[off])
		}
		used[off] = what
	}
	for g := int64(0); g < 5; g++ {
		claim(TagPageOffset(g), "tag page")
	}
	for b := int64(0); b < 5*GroupBlocks; b++ {
		claim(BlockOffset(b), "block")
		if Group(b) != b/101 {
			t.Fatal("group of block", b)
		}
	}
}

func sample() *Header {
	h := &Header{ID: FileID{1, 2, 3}}
	h.Slots[0] = Slot{Sequence: 7, MasterKey: [16]byte{9}}
	h.Slots[1] = Slot{Sequence: 8, MasterKey: [16]byte{10}}
	for i := range h.Slots[0].Wrapped {
		h.Slots[0].Wrapped[i], h.Slots[1].Wrapped[i] = byte(i), byte(200-i)
	}
	return h
}

func TestHeaderRoundTrip(t *testing.T) {
	h := sample()
	got, err := ParseHeader(h.Encode()[:])
	if err != nil || *got != *h {
		t.Fatalf("got %+v, %v", got, err)
	}
	if cur, ok := got.Current(); !ok || cur.Sequence != 8 {
		t.Fatalf("current slot is %d", cur.Sequence)
	}
}

// Any one changed byte is an error, or costs one slot and leaves the other.
func TestHeaderDamage(t *testing.T) {
	h := sample()
	for i := range PageSize {
		page := h.Encode()
		page[i] ^= 0x40
		got, err := ParseHeader(page[:])
		slot := i/sectorSize - 1
		if slot != 0 && slot != 1 {
			if err == nil {
				t.Fatalf("changed byte %d went unnoticed", i)
			}
			continue
		}
		if err != nil || got.Slots[slot].Sequence != 0 || got.Slots[1-slot] != h.Slots[1-slot] {
			t.Fatalf("changed byte %d: %+v, %v", i, got, err)
		}
	}
}

func TestHeaderVersion(t *testing.T) {
	page := sample().Encode()
	page[8] = 2
	sum(page[:sectorSize])
	var newer *VersionError
	if _, err := ParseHeader(page[:]); !errors.As(err, &newer) || newer.Version != 2 {
		t.Fatalf("newer version: %v", err)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(sample().Encode()[:])
	f.Add(make([]byte, PageSize))
	f.Fuzz(func(t *testing.T, page []byte) {
		h, err := ParseHeader(page)
		if err != nil {
			return
		}
		if again := h.Encode(); !bytes.Equal(again[:sectorSize], page[:sectorSize]) {
			t.Fatal("a header was accepted that encodes otherwise")
		}
	})
}

func TestTagPageFields(t *testing.T) {
	var p TagPage
	if !p.Empty() || !p.Entry(100).Hole() {
		t.Fatal("a zero page is not empty")
	}
	for i := range GroupBlocks {
		p.Entry(i)[0], p.Entry(i)[EntrySize-1] = byte(i+1), 1
	}
	p.SetSize(More)
	if p.Size() != More || p.Flags() != 0 {
		t.Fatal("fields overlap")
	}
	copy(p.Nonce(), bytes.Repeat([]byte{0xee}, NonceSize))
	copy(p.Tag(), bytes.Repeat([]byte{0xdd}, TagSize))
	if p.Size() != More || p.Entry(100)[EntrySize-1] != 1 || len(p.Body()) != 4056 || len(p.Nonce()) != 24 || len(p.Tag()) != 16 {
		t.Fatal("trailer fields overlap or have other sizes than specified")
	}
}

func TestADBindsEverything(t *testing.T) {
	seen := map[[ADSize]byte]bool{}
	for _, v := range [][16]byte{{1}, {2}} {
		for _, id := range []FileID{{1}, {2}} {
			for _, n := range []int64{0, 1, 1 << 40} {
				for _, k := range []uint64{KindBlock, KindTagPage} {
					var ad [ADSize]byte
					AD(&ad, v, id, n, k)
					if seen[ad] {
						t.Fatal("two places share associated data")
					}
					seen[ad] = true
				}
			}
		}
	}
}

// FuzzRebuild: whatever a page holds, what is made of it is a header that is
// read back as it is, and an undamaged one stays what it was.
func FuzzRebuild(f *testing.F) {
	f.Add(sample().Encode()[:])
	f.Add(make([]byte, PageSize))
	f.Fuzz(func(t *testing.T, page []byte) {
		if len(page) != PageSize {
			return
		}
		h := Rebuild(page)
		if _, ok := h.Current(); !ok {
			return
		}
		again, err := ParseHeader(h.Encode()[:])
		if err != nil || *again != *h {
			t.Fatalf("%+v, %v", again, err)
		}
		if was, err := ParseHeader(page); err == nil && *was != *h {
			t.Fatalf("%+v became %+v", was, h)
		}
	})
}
