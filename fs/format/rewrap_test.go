package format

import (
	"testing"

	"pgregory.net/rapid"
)

// TestReplace: however often a header is re-wrapped, the newest slot counts,
// the sector is just what changes, and a torn one leaves the key before it.
func TestReplace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &Header{ID: FileID{1}, Slots: [Slots]Slot{{Sequence: 1, MasterKey: [16]byte{0, 1}}}}
		page := *h.Encode()
		for n := range rapid.IntRange(1, 9).Draw(t, "rewraps") {
			before, _ := h.Current()
			master, wrapped := [16]byte{byte(n), 2}, [WrappedKeySize]byte{byte(n), 3}
			sector, off := h.Replace(master, wrapped)
			torn := page
			copy(torn[off:], sector[:rapid.IntRange(1, sectorSize-1).Draw(t, "torn at")])
			copy(page[off:], sector[:])
			if page != *h.Encode() {
				t.Fatal("the sector is not all that changed")
			}
			read, err := ParseHeader(page[:])
			if err != nil {
				t.Fatal(err)
			}
			if now, _ := read.Current(); now != (Slot{before.Sequence + 1, master, wrapped}) {
				t.Fatalf("%+v counts", now)
			}
			if read, err = ParseHeader(torn[:]); err != nil {
				t.Fatal(err)
			}
			if now, _ := read.Current(); now != before && now.MasterKey != master {
				t.Fatalf("torn, %+v counts, not %+v", now, before)
			}
		}
	})
}
