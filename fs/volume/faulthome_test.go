package volume

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

var faultSeeds = flag.Int("fault.seeds", 1, "how many random histories see a failure at every operation")

// TestFaultsAtHome makes operations of the store fail in turn, one or some in a
// row, done or not done, as a disk does that stutters or a file system that is
// remounted read-only for a while. Everything goes on on the same mount, which
// is then closed. Nothing may be damaged, and what nobody was told of is there.
func TestFaultsAtHome(t *testing.T) {
	keys := newTestKeys(t, 43)
	base := newCrashBase(t, keys)
	kinds := []outage{
		{syscall.EIO, 1, false}, {syscall.EIO, 5, true}, {syscall.EROFS, 7, false},
		{syscall.EIO, 1, true}, {syscall.ENOSPC, 2, false}, // for those who have time
	}
	if *faultSeeds == 1 {
		kinds = kinds[:3]
	}
	for _, kind := range kinds {
		points := 0
		for seed := range uint64(*faultSeeds) {
			for at := uint64(1); ; at++ {
				f := &homeRun{t: t, keys: keys, outage: kind, at: at, seed: seed}
				if !f.run(base) {
					break
				}
				points++
			}
		}
		t.Logf("%+v: %d points", kind, points)
	}
}

// outage is how the store fails: so many changes and syncs of it in a row.
type outage struct {
	errno syscall.Errno
	long  uint64
	late  bool // they are done all the same
}

type homeRun struct {
	t    *testing.T
	keys Keys
	outage
	at, seed uint64
	failed   atomic.Pointer[store.Op] // the first that did
	now      [2]fileModel
	unsure   [2]bool // something failed: what it left is not known
	synced   [2]bool // nothing was changed since the last sync
}

func (f *homeRun) failf(format string, a ...any) {
	f.t.Helper()
	f.t.Fatalf("%+v from %v on: "+format, append([]any{f.outage, f.failed.Load()}, a...)...)
}

func (f *homeRun) run(base *store.Mem) (reached bool) {
	st := base.Crash(0)
	v, err := Open(st, f.keys, Options{})
	must(f.t, err)
	var n atomic.Uint64
	st.SetHook(func(op store.Op) error {
		if !op.Mutates() && !op.Kind.Syncs() {
			return nil
		}
		i := n.Add(1)
		if i < f.at || i >= f.at+f.long {
			return nil
		}
		if i == f.at {
			f.failed.Store(&op)
		}
		if f.late {
			return store.Late(f.errno)
		}
		return f.errno
	})
	f.play(v)
	reached = n.Load() >= f.at
	st.SetHook(nil)
	f.close(v)
	f.verify(st)
	return reached
}

// close closes the volume. If that fails, what was not synced may be lost, and
// the next mount recovers what was.
func (f *homeRun) close(v *Volume) {
	if err := v.Close(); err == nil {
		return
	}
	for i, synced := range f.synced {
		f.unsure[i] = f.unsure[i] || !synced
	}
}

func (f *homeRun) play(v *Volume) {
	r := rand.New(rand.NewPCG(f.seed, 17))
	for range 14 {
		i := r.IntN(2)
		h, err := v.OpenFile("ab"[i:i+1], os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		if err != nil {
			continue
		}
		if err := f.step(r, v, h, i); err != nil {
			f.unsure[i] = true
		}
		if r.IntN(3) == 0 {
			_ = v.Checkpoint()
		}
		_ = h.Close()
	}
}

func (f *homeRun) step(r *rand.Rand, v *Volume, h *Handle, i int) error {
	m, was := &f.now[i], f.synced[i]
	f.synced[i] = false
	switch r.IntN(9) {
	case 8:
		return f.fill(r, v, h, m)
	case 7:
		f.synced[i] = was
		f.read(h, i)
		return nil
	case 0:
		n := r.IntN(8) * 50_000
		m.resize(n)
		return h.Truncate(int64(n))
	case 1:
		off, n := r.IntN(20)*30_000, 1+r.IntN(500_000)
		m.punch(off, n)
		return h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
	case 2:
		err := eitherSync(r, h)
		f.synced[i] = err == nil
		return err
	case 3:
		f.synced[i] = was
		from, to := "ab"[i:i+1], "ab"[i:i+1]+"x"
		return errors.Join(v.Rename(from, to, 0), v.Rename(to, from, 0))
	}
	off := r.IntN(5) * 3000
	if r.IntN(2) == 0 { // large ones past the end go home at once
		off = (len(m.data) + 4095) / 4096 * 4096
	}
	p := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, []int{100, 5000, 300_000, 1_200_000}[r.IntN(4)])
	m.write(p, off)
	_, err := h.WriteAt(p, int64(off))
	return err
}

// fill grows a file by a hole, and writes into that what goes home at once.
func (f *homeRun) fill(r *rand.Rand, v *Volume, h *Handle, m *fileModel) error {
	const piece = 70 * 4096
	first := (len(m.data) + 4095) / 4096
	m.resize(first*4096 + 4*piece)
	if err := errors.Join(h.Truncate(int64(len(m.data))), h.Sync(true), v.Checkpoint()); err != nil {
		return err
	}
	for range 1 + r.IntN(3) {
		p := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, piece)
		off := first*4096 + r.IntN(4)*piece
		m.write(p, off)
		if _, err := h.WriteAt(p, int64(off)); err != nil {
			return err
		}
	}
	return nil
}

// verify wants every byte of every file to be readable, and to be as the model
// says where nothing failed.
func (f *homeRun) verify(st store.FS) {
	v, err := Open(st, f.keys, Options{})
	if err != nil {
		f.failf("open: %v", err)
	}
	defer v.Close()
	for i := range f.now {
		f.verifyFile(v, i)
	}
	if s := v.Stats(); s.IntegrityErrors > 0 || s.Recovery.Damaged > 0 {
		f.failf("%+v", s)
	}
}

func (f *homeRun) verifyFile(v *Volume, i int) {
	name := "ab"[i : i+1]
	h, err := v.OpenFile(name, os.O_RDONLY, 0, Owner{})
	if errors.Is(err, syscall.ENOENT) {
		h, err = v.OpenFile(name+"x", os.O_RDONLY, 0, Owner{})
	}
	if errors.Is(err, syscall.ENOENT) && (f.unsure[i] || len(f.now[i].data) == 0) {
		return
	}
	if err != nil {
		f.failf("%s: %v", name, err)
	}
	defer h.Close()
	f.read(h, i)
}

func (f *homeRun) read(h *Handle, i int) {
	attr, err := h.Stat()
	must(f.t, err)
	got := make([]byte, attr.Size)
	if n, err := h.ReadAt(got, 0); n != len(got) || err != nil && !errors.Is(err, io.EOF) {
		f.failf("file %d: read %d of %d bytes: %v", i, n, len(got), err)
	}
	if !f.unsure[i] && !bytes.Equal(got, f.now[i].data) {
		f.failf("file %d: %d bytes differ from the %d written", i, len(got), len(f.now[i].data))
	}
}
