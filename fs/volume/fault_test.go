package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
)

// TestFaults makes each operation of the store in turn fail once, with EIO or
// ENOSPC, and goes on. Whatever was acknowledged as synced must be there when
// the volume is opened again after a power cut, and nothing may be damaged.
func TestFaults(t *testing.T) {
	keys := newTestKeys(t, 41)
	base := newCrashBase(t, keys)
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		points := 0
		for at := uint64(1); ; at += everyNth {
			f := &faultRun{t: t, keys: keys, at: at, errno: errno, seed: at % 7}
			if !f.run(base) {
				break
			}
			points++
		}
		t.Logf("%d operations failed with %v", points, errno)
	}
}

type faultRun struct {
	t        *testing.T
	keys     Keys
	at, seed uint64
	errno    syscall.Errno
	acked    [2][]byte // content at the last acknowledged sync
	now      [2]fileModel
	dirty    [2]bool // a write failed, or was not synced: acked may be older
}

func (f *faultRun) run(base *store.Mem) (reached bool) {
	st := base.Crash(0)
	var n atomic.Uint64
	st.SetHook(func(op store.Op) error {
		if n.Add(1) == f.at && op.Kind != store.OpClose {
			return f.errno
		}
		return nil
	})
	f.play(st)
	st = st.Crash(f.at)
	f.verify(st)
	return n.Load() >= f.at
}

// play writes and syncs two files, taking errors as a program would: what
// failed is not acknowledged, and is tried again later.
func (f *faultRun) play(st store.FS) {
	v, err := Open(st, f.keys, Options{})
	if err != nil {
		return
	}
	defer v.stopBackground()
	r := rand.New(rand.NewPCG(f.seed, 9))
	for range 12 {
		i := r.IntN(2)
		h, err := v.OpenFile("ab"[i:i+1], os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		if err != nil {
			continue
		}
		f.writeSome(r, i, h)
		if r.IntN(4) == 0 {
			_ = v.Checkpoint()
		}
		_ = h.Close()
	}
}

func (f *faultRun) writeSome(r *rand.Rand, i int, h *Handle) {
	sizes := []int{100, 5000, 1200000}
	p := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, sizes[r.IntN(3)])
	off := r.IntN(5) * 3000
	if _, err := h.WriteAt(p, int64(off)); err != nil {
		f.dirty[i] = true // some of it may have been written
		return
	}
	f.now[i].write(p, off)
	if err := eitherSync(r, h); err != nil {
		f.dirty[i] = true
		return
	}
	f.acked[i] = bytes.Clone(f.now[i].data)
}

// verify wants every file whose every write succeeded to be as last synced,
// or newer, and no damage anywhere.
func (f *faultRun) verify(st store.FS) {
	v, err := Open(st, f.keys, Options{})
	if err != nil {
		f.t.Fatalf("%v at operation %d: open: %v", f.errno, f.at, err)
	}
	defer v.Close()
	for i, want := range f.acked {
		if want == nil || f.dirty[i] {
			continue
		}
		if err := readBack(v, "ab"[i:i+1], want); err != nil {
			f.t.Fatalf("%v at operation %d: %v", f.errno, f.at, err)
		}
	}
	if s := v.Stats(); s.IntegrityErrors > 0 || s.Recovery.Damaged > 0 {
		f.t.Fatalf("%v at operation %d: %+v", f.errno, f.at, s)
	}
}

// TestFullDisk fills a store to the brim, and goes on when there is room
// again: the errors reach the writers, what was synced stays, and no remount
// is needed.
func TestFullDisk(t *testing.T) {
	keys := newTestKeys(t, 42)
	st := store.NewMem(store.Options{Capacity: 6 << 20})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	must(t, err)
	chunk := bytes.Repeat([]byte{7}, 50_000)
	var model fileModel
	for {
		if _, err = h.WriteAt(chunk, int64(len(model.data))); err != nil {
			break
		}
		model.write(chunk, len(model.data))
		must(t, h.Sync(true))
	}
	if !errors.Is(err, syscall.ENOSPC) || len(model.data) < 3<<20 {
		t.Fatalf("after %d bytes: %v", len(model.data), err)
	}
	must(t, v.Checkpoint())
	st.SetCapacity(20 << 20)
	for range 10 {
		if _, err := h.WriteAt(chunk, int64(len(model.data))); err != nil {
			t.Fatal("with room again:", err)
		}
		model.write(chunk, len(model.data))
	}
	must(t, h.Sync(true))
	v.stopBackground()
	v = open(t, st.Crash(3), keys)
	must(t, readBack(v, "f", model.data))
	must(t, v.Close())
}
