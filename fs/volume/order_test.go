package volume

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// large is a file of 400 blocks: a hole but for the first one, at home, so that a
// large write into it goes home at once.
func (s *scene) large(name string) (*Handle, []byte) {
	s.t.Helper()
	h := s.open(name)
	s.put(h, blocksOf('a', 1))
	must(s.t, h.Truncate(400*4096))
	must(s.t, h.Sync(true))
	must(s.t, s.v.Checkpoint())
	return h, append(blocksOf('a', 1), blocksOf(0, 399)...)
}

// writeAt writes blocks, and into what the file is to be.
func (s *scene) writeAt(h *Handle, want []byte, block int, data []byte) {
	s.t.Helper()
	copy(want[block*4096:], data)
	_, err := h.WriteAt(data, int64(block)*4096)
	must(s.t, err)
}

// journaled counts the bytes that the journal gets meanwhile.
func (s *scene) journaled(do func()) uint64 {
	before := s.v.Stats().Journal.Bytes
	do()
	return s.v.Stats().Journal.Bytes - before
}

// TestOrderLargeWriteIntoHole: a large write into a hole goes home once, and
// outlives a cut when it was synced, although a needed record lists the hole; so
// does what is done to it afterwards.
func TestOrderLargeWriteIntoHole(t *testing.T) {
	for name, then := range map[string]func(s *scene, h *Handle, want []byte){
		"synced": func(*scene, *Handle, []byte) {},
		"written over": func(s *scene, h *Handle, want []byte) {
			s.writeAt(h, want, 150, blocksOf('d', 1))
			must(s.t, h.Sync(true))
		},
		"punched": func(s *scene, h *Handle, want []byte) {
			must(s.t, h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 120*4096, 100*4096))
			copy(want[120*4096:], blocksOf(0, 100))
		},
		"at home": func(s *scene, _ *Handle, _ []byte) { must(s.t, s.v.Checkpoint()) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			h, want := s.large("f")
			n := s.journaled(func() {
				s.writeAt(h, want, 100, blocksOf('b', 100))
				s.writeAt(h, want, 200, blocksOf('c', 100))
				must(t, h.Sync(true))
			})
			if n > 100*4096 {
				t.Errorf("200 blocks written into a hole took %d bytes of the journal", n)
			}
			then(s, h, want)
			must(t, readBack(s.v, "f", want))
			s.cut(func(v *Volume) { must(t, readBack(v, "f", want)) })
		})
	}
}

// TestOrderHoleNotSynced: of large writes into a hole that nobody has synced,
// each block is there or zeros.
func TestOrderHoleNotSynced(t *testing.T) {
	s := newScene(t)
	h, want := s.large("f")
	before := bytes.Clone(want)
	s.writeAt(h, want, 100, blocksOf('b', 70))
	s.writeAt(h, want, 300, blocksOf('c', 70))
	s.cut(func(v *Volume) { eachBlock(t, v, "f", before, want) })
}

// TestOrderNewNotSynced: of a large write into a new file that nobody has
// synced, each block is there or the file ends before it.
func TestOrderNewNotSynced(t *testing.T) {
	s := newScene(t)
	h := s.open("f")
	must(t, s.v.SyncDir("."))
	_, err := h.WriteAt(blocksOf('b', 100), 0)
	must(t, err)
	s.cut(func(v *Volume) {
		h, err := v.OpenFile("f", os.O_RDONLY, 0, Owner{})
		must(t, err)
		defer h.Close()
		got, err := io.ReadAll(io.NewSectionReader(h, 0, 1<<30))
		must(t, err)
		if !bytes.Equal(got, blocksOf('b', 100)[:len(got)]) {
			t.Fatalf("%d bytes of something else", len(got))
		}
	})
}

// TestOrderLargeWriteFails: a large write that fails at home, and has been done
// there all the same, leaves the hole one that it went into, now and at the next
// mount, and nothing behind the end.
func TestOrderLargeWriteFails(t *testing.T) {
	for name, size := range map[string]int{"into a hole": 400, "past the end": 1} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			h, want := s.large("f")
			must(t, h.Truncate(int64(size)*4096))
			must(t, s.v.Checkpoint())
			s.failWrite(h, blocksOf('b', 100), 101)
			must(t, h.Truncate(400*4096))
			must(t, readBack(s.v, "f", want))
			s.writeAt(h, want, 300, blocksOf('c', 1))
			must(t, h.Sync(true))
			must(t, readBack(s.v, "f", want))
			must(t, errors.Join(h.Close(), s.v.Close()))
			s.v = open(t, s.st, s.keys)
			must(t, readBack(s.v, "f", want))
			if n := s.v.Stats().IntegrityErrors; n > 0 {
				t.Errorf("%d integrity errors", n)
			}
		})
	}
}

// TestOrderOverdue: while what a failed write has left in a hole cannot be taken
// away, the hole reads as one, and the file takes no change.
func TestOrderOverdue(t *testing.T) {
	s := newScene(t)
	h, want := s.large("f")
	s.v.stopBackground()
	s.failWrite(h, blocksOf('b', 100), 101)
	s.st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpAllocate {
			return unix.EIO
		}
		return nil
	})
	must(t, readBack(s.v, "f", want))
	if _, err := h.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EIO) {
		t.Errorf("a write while something is overdue: %v", err)
	}
	if err := h.Truncate(4096); !errors.Is(err, unix.EIO) {
		t.Errorf("a truncate while something is overdue: %v", err)
	}
	s.st.SetHook(nil)
	s.writeAt(h, want, 0, []byte("x"))
	must(t, readBack(s.v, "f", want))
}

// TestOrderNewAtHome: what comes home into a new file comes under a header.
func TestOrderNewAtHome(t *testing.T) {
	s := newScene(t)
	s.v.stopBackground()
	h := s.open("f")
	must(t, s.v.SyncDir("."))
	_, err := h.WriteAt(blocksOf('b', 3), 0)
	must(t, err)
	must(t, h.e.file.Commit()) // as the background does: nobody was promised anything
	must(t, h.e.file.Writeback())
	s.cut(func(v *Volume) { must(t, readBack(v, "f", blocksOf('b', 3))) })
}

// failWrite has a large write fail at home after it has been done there.
func (s *scene) failWrite(h *Handle, data []byte, block int64) {
	s.t.Helper()
	var once atomic.Bool
	s.st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpWrite && op.Len >= 64<<10 && once.CompareAndSwap(false, true) {
			return store.Late(unix.EIO)
		}
		return nil
	})
	defer s.st.SetHook(nil)
	if _, err := h.WriteAt(data, block*4096); !errors.Is(err, unix.EIO) || !once.Load() {
		s.t.Fatalf("a write that failed at home: %v", err)
	}
}

// eachBlock wants each block of a file as in one of two contents.
func eachBlock(t *testing.T, v *Volume, name string, one, other []byte) {
	t.Helper()
	h, err := v.OpenFile(name, os.O_RDONLY, 0, Owner{})
	must(t, err)
	defer h.Close()
	got := make([]byte, len(one))
	_, err = h.ReadAt(got, 0)
	must(t, err)
	for off := 0; off < len(got); off += 4096 {
		if b := got[off : off+4096]; !bytes.Equal(b, one[off:off+4096]) && !bytes.Equal(b, other[off:off+4096]) {
			t.Fatalf("block %d is neither", off/4096)
		}
	}
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
	s.cut(func(v *Volume) { eachBlock(t, v, "f", blocksOf('a', 100), blocksOf('b', 100)) })
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

// within has another goroutine write and sync when the store is about to do an
// operation of a kind, and waits for it for a moment: it may have to wait for
// what that is part of.
func (s *scene) within(kind store.OpKind, write func() error) (finish func()) {
	s.t.Helper()
	var once atomic.Bool
	done := make(chan error, 1)
	s.st.SetHook(func(op store.Op) error {
		if op.Kind == kind && once.CompareAndSwap(false, true) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				done <- write()
			}()
			select {
			case <-ended:
			case <-time.After(50 * time.Millisecond):
			}
		}
		return nil
	})
	return func() {
		s.t.Helper()
		must(s.t, <-done)
		s.st.SetHook(nil)
	}
}

// TestOrderWriteDuringRename: what is written and synced just while a file gets
// another name, or loses one of two, is found under the name that it has then.
func TestOrderWriteDuringRename(t *testing.T) {
	for name, change := range map[string]struct {
		prepare func(v *Volume) error
		kind    store.OpKind
		do      func(v *Volume) error
		left    string
	}{
		"renamed": {
			func(*Volume) error { return nil }, store.OpRename,
			func(v *Volume) error { return v.Rename("f", "g", 0) }, "g",
		},
		"exchanged": {
			func(v *Volume) error { return touch(v, "g") }, store.OpRename,
			func(v *Volume) error { return v.Rename("g", "f", unix.RENAME_EXCHANGE) }, "g",
		},
		"one name removed": {
			func(v *Volume) error { return v.Link("f", "g") }, store.OpUnlink,
			func(v *Volume) error { return v.Unlink("f") }, "g",
		},
		"one name replaced": {
			func(v *Volume) error { return errors.Join(v.Link("f", "g"), touch(v, "h")) }, store.OpRename,
			func(v *Volume) error { return v.Rename("h", "f", 0) }, "g",
		},
	} {
		for kind, write := range map[string]struct {
			blocks int
			sync   bool
		}{"small": {1, true}, "large, into a hole": {70, true}, "large, not synced": {70, false}} {
			t.Run(name+", "+kind, func(t *testing.T) {
				s := newScene(t)
				h, want := s.large("f")
				must(t, change.prepare(s.v))
				must(t, s.v.SyncDir("."))
				before := bytes.Clone(want)
				finish := s.within(change.kind, func() error {
					copy(want[100*4096:], blocksOf('b', write.blocks))
					_, err := h.WriteAt(blocksOf('b', write.blocks), 100*4096)
					if write.sync {
						err = errors.Join(err, h.Sync(true))
					}
					return err
				})
				must(t, change.do(s.v))
				finish()
				must(t, s.v.SyncDir("."))
				must(t, readBack(s.v, change.left, want))
				if write.sync {
					before = want
				}
				s.cut(func(v *Volume) { eachBlock(t, v, change.left, before, want) })
			})
		}
	}
}

// contentOf is the first three bytes of a file; "" if it is not there.
func contentOf(t *testing.T, v *Volume, name string) string {
	t.Helper()
	h, err := v.OpenFile(name, os.O_RDONLY, 0, Owner{})
	if errors.Is(err, unix.ENOENT) {
		return ""
	}
	must(t, err)
	defer h.Close()
	b := make([]byte, 3)
	if _, err := h.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(b)
}

// TestOrderSyncDuringRename: what is synced just while a file is renamed is
// found although nobody has made the rename durable.
func TestOrderSyncDuringRename(t *testing.T) {
	s := newScene(t)
	h := s.open("f")
	s.put(h, []byte("one"))
	must(t, s.v.SyncDir("."))
	must(t, s.v.Checkpoint())
	finish := s.within(store.OpRename, func() error {
		_, err := h.WriteAt([]byte("two"), 0)
		return errors.Join(err, h.Sync(true))
	})
	must(t, s.v.Rename("f", "g", 0))
	finish()
	s.cut(func(v *Volume) {
		if f, g := contentOf(t, v, "f"), contentOf(t, v, "g"); f != "two" && g != "two" {
			t.Errorf("lost: f is %q, g is %q", f, g)
		}
	})
}

// TestOrderNameOfEarlierSession: what is synced is found although the file's
// name was changed before the volume was opened, and nobody has synced that.
func TestOrderNameOfEarlierSession(t *testing.T) {
	for name, end := range map[string]func(s *scene) error{
		"closed": func(s *scene) error { return s.v.Close() },
		"killed": func(s *scene) error {
			s.v.stopBackground()
			s.st = s.st.Kill()
			_ = s.v.Close() // its store is gone
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			h := s.open("f")
			s.put(h, []byte("one"))
			must(t, h.Close())
			must(t, s.v.Checkpoint())
			must(t, s.v.Rename("f", "g", 0))
			must(t, end(s))
			s.v = open(t, s.st, s.keys)
			s.put(s.open("g"), []byte("two"))
			s.cut(func(v *Volume) { must(t, readBack(v, "g", []byte("two"))) })
		})
	}
}

// TestOrderNameGoneNotSynced: a file that a power cut brings back, since nobody
// has synced its removal, or its replacement, has what was synced in it.
func TestOrderNameGoneNotSynced(t *testing.T) {
	for name, remove := range map[string]func(s *scene) error{
		"removed":  func(s *scene) error { return s.v.Unlink("f") },
		"replaced": func(s *scene) error { return s.v.Rename("g", "f", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.put(s.open("g"), []byte("new"))
			h := s.open("f")
			s.put(h, []byte("one"))
			must(t, s.v.SyncDir("."))
			must(t, s.v.Checkpoint())
			s.put(h, []byte("two"))
			must(t, h.Close())
			must(t, remove(s))
			must(t, s.v.Checkpoint())
			s.cut(func(v *Volume) {
				if f := contentOf(t, v, "f"); f != "two" && f != "new" && (f != "" || name == "replaced") {
					t.Errorf("f is %q", f)
				}
			})
		})
	}
}

// touch makes an empty file.
func touch(v *Volume, name string) error {
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		return err
	}
	return h.Close()
}

// TestOrderFullDiskInHole: a stream of large writes into a hole takes room for
// all that comes home of it, so that a disk that others fill meanwhile keeps
// neither a checkpoint nor a recovery from their work.
func TestOrderFullDiskInHole(t *testing.T) {
	s := newScene(t)
	must(t, s.v.Close())
	v, err := Open(s.st, s.keys, Options{JournalSize: 64 << 20})
	must(t, err)
	s.v = v
	h := s.open("f")
	s.put(h, blocksOf('a', 1))
	must(t, h.Truncate(20000*4096))
	must(t, h.Sync(true))
	must(t, s.v.Checkpoint())
	s.v.stopBackground()
	for b := 256; b < 2048; b += 256 {
		_, err := h.WriteAt(blocksOf('b', 256), int64(b)*4096)
		must(t, err)
	}
	s.st.SetCapacity(1)
	must(t, h.Sync(true))
	crash := s.st.Crash(3)
	crash.SetCapacity(1)
	again := open(t, crash, s.keys)
	must(t, again.Close())
}

// TestOrderFullDiskAfterFailure: room that was given back with what a failed
// write had left is not taken for there.
func TestOrderFullDiskAfterFailure(t *testing.T) {
	s := newScene(t)
	h, _ := s.large("f")
	s.v.stopBackground()
	s.failWrite(h, blocksOf('b', 100), 101)
	must(t, h.Truncate(400*4096)) // which catches up
	s.st.SetCapacity(1)
	if _, err := h.WriteAt([]byte("x"), 150*4096); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a write into a hole of a full disk: %v", err)
	}
	must(t, h.Sync(true))
	must(t, s.v.Checkpoint())
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
