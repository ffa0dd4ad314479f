package fsck

import (
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// TestUnreadable: what the disk does not give is as lost as what is damaged,
// and no reason to stop.
func TestUnreadable(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	big, small := s.backing("big"), s.backing("d/small")
	st := store.NewFaulty(s.st, func(op store.Op) error {
		bad := op.Name == big && op.Off <= format.BlockOffset(3) && op.Off+op.Len > format.BlockOffset(3)
		if op.Kind == store.OpRead && (bad || op.Name == small && op.Off == 0) {
			return syscall.EIO
		}
		return nil
	})
	salvage := &Salvage{Dir: t.TempDir()}
	r, err := Run(t.Context(), st, Options{Keys: openKeys, Salvage: salvage})
	must(t, err)
	got := map[Kind]int{}
	for _, f := range r.Findings {
		got[f.Kind]++
	}
	if len(r.Findings) != 2 || got[Block] != 1 || got[Header] != 1 || len(salvage.Files) != 2 {
		t.Fatalf("%+v, salvaged %+v", r.Findings, salvage.Files)
	}
	for _, file := range salvage.Files {
		if file.File == "big" && (len(file.Missing) != 1 || file.Missing[0] != (Range{3 * format.BlockSize, format.BlockSize})) {
			t.Errorf("%+v", file)
		}
	}
}
