package volume

import (
	"bytes"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
)

// The scenes of this file are those that random histories meet too seldom, one
// for each rule of the write path that only they would see broken.

// scene is a volume on the strict store.
type scene struct {
	t    *testing.T
	keys *testKeys
	st   *store.Mem
	v    *Volume
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, keys: newTestKeys(t, 51)}
	s.st = newCrashBase(t, s.keys)
	s.v = open(t, s.st, s.keys)
	t.Cleanup(func() { s.v.Close() })
	return s
}

func (s *scene) open(name string) *Handle {
	s.t.Helper()
	h, err := s.v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	must(s.t, err)
	return h
}

// put writes at the start and syncs.
func (s *scene) put(h *Handle, data []byte) {
	s.t.Helper()
	_, err := h.WriteAt(data, 0)
	must(s.t, err)
	must(s.t, h.Sync(true))
}

// cut cuts the power: with nothing kept that was not synced, and with some.
func (s *scene) cut(check func(v *Volume)) {
	s.t.Helper()
	s.v.stopBackground()
	for seed := range uint64(24) {
		v := open(s.t, s.st.Crash(seed), s.keys)
		check(v)
		if n := v.Stats().IntegrityErrors; n > 0 {
			s.t.Errorf("seed %d: %d integrity errors", seed, n)
		}
		must(s.t, v.Close())
	}
}

func blocksOf(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n*4096) }

// TestOrderCommitDuringCheckpoint: what is committed while a checkpoint is
// under way is not freed by it.
func TestOrderCommitDuringCheckpoint(t *testing.T) {
	s := newScene(t)
	first, second := s.open("first"), s.open("second")
	s.put(first, []byte("old"))
	s.put(second, []byte("old"))
	must(t, s.v.Checkpoint())
	s.put(first, []byte("new"))
	var once atomic.Bool
	s.st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpDatasync && once.CompareAndSwap(false, true) {
			_, err := second.WriteAt([]byte("new"), 0)
			must(t, err)
			must(t, second.Sync(true))
		}
		return nil
	})
	must(t, s.v.Checkpoint())
	s.st.SetHook(nil)
	if !once.Load() {
		t.Fatal("the checkpoint has synced nothing")
	}
	s.cut(func(v *Volume) {
		must(t, readBack(v, "first", []byte("new")))
		must(t, readBack(v, "second", []byte("new")))
	})
}

// TestOrderLargeWriteAfterCut: a large write where a file was cut short before
// outlives a recovery that repeats the cut.
func TestOrderLargeWriteAfterCut(t *testing.T) {
	s := newScene(t)
	h := s.open("f")
	s.put(h, blocksOf('a', 100))
	must(t, s.v.Checkpoint())
	must(t, h.Truncate(0))
	s.put(h, blocksOf('b', 100))
	s.cut(func(v *Volume) { must(t, readBack(v, "f", blocksOf('b', 100))) })
}

// TestOrderLargeOverwrite: a large write over what is durable, and not synced,
// leaves every block old or new.
func TestOrderLargeOverwrite(t *testing.T) {
	s := newScene(t)
	h := s.open("f")
	s.put(h, blocksOf('a', 100))
	must(t, s.v.Checkpoint())
	_, err := h.WriteAt(blocksOf('b', 100), 0)
	must(t, err)
	s.cut(func(v *Volume) {
		h, err := v.OpenFile("f", os.O_RDONLY, 0, Owner{})
		must(t, err)
		defer h.Close()
		got := make([]byte, 100*4096)
		_, err = h.ReadAt(got, 0)
		must(t, err)
		for off := 0; off < len(got); off += 4096 {
			if b := got[off : off+4096]; !bytes.Equal(b, blocksOf('a', 1)) && !bytes.Equal(b, blocksOf('b', 1)) {
				t.Fatalf("block %d is neither", off/4096)
			}
		}
	})
}

// TestOrderRenameThenSync: a sync after a rename makes the new name durable.
func TestOrderRenameThenSync(t *testing.T) {
	s := newScene(t)
	h := s.open("old")
	s.put(h, []byte("one"))
	must(t, s.v.Checkpoint())
	must(t, s.v.Rename("old", "new", 0))
	s.put(h, []byte("two"))
	s.cut(func(v *Volume) { must(t, readBack(v, "new", []byte("two"))) })
}

// TestOrderCutThenGrow: what a truncate took away does not come back as the
// content of a hole when the file grows again: not at once, and not by a recovery.
func TestOrderCutThenGrow(t *testing.T) {
	s := newScene(t)
	h := s.open("f")
	s.put(h, blocksOf('a', 300))
	must(t, s.v.Checkpoint())
	must(t, readBack(s.v, "f", blocksOf('a', 300))) // its tag pages are in memory now
	must(t, h.Truncate(4096))
	must(t, h.Truncate(300*4096))
	must(t, h.Sync(true))
	want := append(blocksOf('a', 1), blocksOf(0, 299)...)
	must(t, readBack(s.v, "f", want))
	s.cut(func(v *Volume) { must(t, readBack(v, "f", want)) })
}

// syncWithin has the whole store synced in the middle of what act does: when a
// file in the tree is about to be changed in a way.
func (s *scene) syncWithin(kind store.OpKind, act func() error) {
	s.t.Helper()
	var once atomic.Bool
	s.st.SetHook(func(op store.Op) error {
		if op.Kind == kind && !strings.HasPrefix(op.Name, MetaDir) && once.CompareAndSwap(false, true) {
			return s.v.syncStore()
		}
		return nil
	})
	must(s.t, act())
	s.st.SetHook(nil)
	if !once.Load() {
		s.t.Fatalf("there was no %v", kind)
	}
}

// TestOrderStoreSynced: a sync of the whole store, which waits for nobody, does
// not count for what is only being written home while it begins.
func TestOrderStoreSynced(t *testing.T) {
	three := blocksOf('b', 3)
	for name, play := range map[string]func(s *scene, h *Handle) (want []byte){
		"blocks": func(s *scene, h *Handle) []byte {
			s.put(h, three)
			s.syncWithin(store.OpWrite, s.v.Checkpoint)
			return three
		},
		"header": func(s *scene, h *Handle) []byte {
			s.syncWithin(store.OpWrite, func() error { _, err := h.WriteAt(three, 0); return err })
			must(s.t, h.Sync(true))
			return three
		},
		"cut": func(s *scene, h *Handle) []byte {
			s.put(h, three)
			must(s.t, s.v.Checkpoint())
			s.syncWithin(store.OpTruncate, func() error { return h.Truncate(0) })
			must(s.t, s.v.Checkpoint())
			return nil
		},
		"cut that was owed": func(s *scene, h *Handle) []byte {
			s.put(h, three)
			must(s.t, s.v.Checkpoint())
			s.st.SetHook(func(op store.Op) error {
				if op.Kind == store.OpTruncate {
					return syscall.EIO
				}
				return nil
			})
			must(s.t, h.Truncate(0))
			s.syncWithin(store.OpTruncate, s.v.Checkpoint)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.v.stopBackground()
			want := play(s, s.open("f"))
			s.cut(func(v *Volume) { must(t, readBack(v, "f", want)) })
		})
	}
}
