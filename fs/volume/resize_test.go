package volume

import (
	"bytes"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// TestResizeJournal gives a journal that holds what is not at home another
// size, and cuts the power at every operation of the store in turn. The volume
// opens with the old size or the new, what was synced is there, and the new
// journal's frames are numbered on.
func TestResizeJournal(t *testing.T) {
	keys := newTestKeys(t, 3)
	base := newCrashBase(t, keys)
	want := bytes.Repeat([]byte("journal"), 3000)
	v := open(t, base, keys)
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.Sync(true); err != nil {
		t.Fatal(err)
	}
	seen := v.JournalPosition()
	base = base.Crash(1)

	const size = 2 << 20
	sizes := map[int64]int{}
	for cut := uint64(1); ; cut++ {
		st := base.Crash(cut)
		var n atomic.Uint64
		st.SetHook(func(store.Op) error {
			if n.Add(1) >= cut {
				return store.ErrCut
			}
			return nil
		})
		v, err := Open(st, keys, Options{JournalSize: size})
		if err == nil {
			if got := v.journal.Size(); got != size {
				t.Fatalf("the journal has %d bytes", got)
			}
			v.stopBackground()
		}
		for seed := range uint64(12) {
			sizes[checkResized(t, st.Crash(seed), keys, want, seen)]++
		}
		if err == nil && n.Load() < cut {
			break
		}
	}
	if sizes[1<<20] == 0 || sizes[size] == 0 || len(sizes) != 2 {
		t.Errorf("sizes after a power cut, and how often: %v", sizes)
	}
}

// checkResized opens the volume and tells the size of its journal.
func checkResized(t *testing.T, st *store.Mem, keys Keys, want []byte, seen uint64) int64 {
	v, err := Open(st, keys, Options{Admit: func(frame uint64) error {
		if frame < seen {
			t.Errorf("the journal was at frame %d, and is at %d", seen, frame)
		}
		return nil
	}})
	if err != nil {
		t.Fatal("open:", err)
	}
	defer v.Close()
	h, err := v.OpenFile("f", os.O_RDONLY, 0, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	got := make([]byte, len(want))
	if _, err := h.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("what was synced is not there: %v", err)
	}
	if _, err := st.Stat(newJournalDir); err == nil {
		t.Fatal("the other journal is still there")
	}
	return v.journal.Size()
}

// TestResizeJournalRefused: a size that cannot be had leaves the volume as it was.
func TestResizeJournalRefused(t *testing.T) {
	keys := newTestKeys(t, 3)
	base := newCrashBase(t, keys)
	if _, err := Open(base.Crash(0), keys, Options{JournalSize: journal.MinSize / 2}); err == nil {
		t.Error("a journal that is too small")
	}
	st := base.Crash(0)
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpWrite && op.Len >= 1<<19 {
			return syscall.ENOSPC
		}
		return nil
	})
	if _, err := Open(st, keys, Options{JournalSize: 8 << 20}); err == nil {
		t.Error("a journal for which there is no room")
	}
	st.SetHook(nil)
	v := open(t, st, keys)
	defer v.Close()
	if got := v.journal.Size(); got != 1<<20 {
		t.Errorf("the journal has %d bytes", got)
	}
}
