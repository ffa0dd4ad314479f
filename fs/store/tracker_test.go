package store

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestParts: the parts of what was changed are the pieces of it that lie in the
// file, each once, in order and as few as can be.
func TestParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := NewTracker(nil)
		tr.Track(true)
		const pieces = 20
		changed := [pieces]bool{}
		size := rapid.Int64Range(0, pieces*ChangedPiece).Draw(t, "size")
		id, all := ObjectID{1, 1}, Changes{}
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			off := rapid.Int64Range(0, pieces*ChangedPiece-1).Draw(t, "off")
			n := rapid.Int64Range(-1, pieces*ChangedPiece-off).Draw(t, "n")
			tr.note(id, off, n)
			if rapid.Bool().Draw(t, "take") {
				all.Add(tr.Take())
			}
			if n < 0 {
				n = pieces*ChangedPiece - off
			}
			for at := off; at < off+n; at++ {
				changed[at/ChangedPiece] = true
				at = max(at, (at/ChangedPiece+1)*ChangedPiece-1)
			}
		}
		all.Add(tr.Take())
		c := all[id]
		if c == nil {
			return
		}
		last := int64(-1)
		covered := [pieces]bool{}
		for _, p := range c.Parts(size) {
			if p.Off <= last || p.End <= p.Off || p.End > size || p.Off%ChangedPiece != 0 || p.End%ChangedPiece != 0 && p.End != size {
				t.Fatalf("part %+v behind %d of %d", p, last, size)
			}
			for piece := p.Off / ChangedPiece; piece*ChangedPiece < p.End; piece++ {
				covered[piece] = true
			}
			last = p.End
		}
		for piece := range int64(pieces) {
			if want := changed[piece] && piece*ChangedPiece < size; covered[piece] != want {
				t.Errorf("piece %d of %d bytes: %v, want %v", piece, size, covered[piece], want)
			}
		}
	})
	if parts := (&Changed{From: math.MaxInt64}).Parts(1 << 20); len(parts) > 0 {
		t.Errorf("nothing was changed: %v", parts)
	}
}
