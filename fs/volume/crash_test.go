package volume

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

var (
	crashSeeds = flag.Int("crash.seeds", usualSeeds, "how many random histories are cut at every operation")
	crashFirst = flag.Uint64("crash.first", 1, "seed of the first history")
)

// TestPowerCut runs random histories of a few files on the strict store, and
// cuts the power at every one of the store's operations in turn. After
// recovery, itself cut in half of the runs, the promise must hold: what was
// synced is there, every other block is one of its versions since, and
// nothing is an error.
func TestPowerCut(t *testing.T) {
	keys := newTestKeys(t, 3)
	bases := []*store.Mem{newCrashBase(t, keys), newCrashBaseOf(t, keys, 8<<20)}
	points := 0
	t.Logf("first seed %d", *crashFirst)
	for seed := *crashFirst; seed < *crashFirst+uint64(*crashSeeds); seed++ {
		if done := seed - *crashFirst; done > 0 && done%100 == 0 {
			t.Logf("%d of %d histories, %d crash points", done, *crashSeeds, points)
		}
		for cut := uint64(1); ; cut++ {
			h := &history{t: t, keys: keys, seed: seed, cut: cut, files: map[string]*versions{}}
			if finished := h.run(bases[seed%2]); finished {
				break
			}
			points++
		}
	}
	t.Logf("%d crash points", points)
}

// newCrashBase makes a volume, all of it durable; each Crash is a copy.
func newCrashBase(t *testing.T, keys Keys) *store.Mem { return newCrashBaseOf(t, keys, 1<<20) }

// newCrashBaseOf is one with a journal of another size: with a large one, large
// writes are grouped and looked ahead for.
func newCrashBaseOf(t *testing.T, keys Keys, journal int64) *store.Mem {
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, journal)
	v := open(t, st, keys)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.SyncAll(); err != nil {
		t.Fatal(err)
	}
	return st
}

// versions is what a file may be after a power cut now: the content at the
// last acknowledged sync, and every one since.
type versions struct {
	now   fileModel
	since [][]byte
	// may it be missing: made, and never synced
	unsynced bool
}

func (f *versions) changed() { f.since = append(f.since, bytes.Clone(f.now.data)) }

func (f *versions) synced() {
	f.since = [][]byte{bytes.Clone(f.now.data)}
	f.unsynced = false
}

// history is one random sequence of operations with one power cut.
type history struct {
	t         *testing.T
	keys      Keys
	seed, cut uint64
	v         *Volume
	open      map[string]*Handle
	files     map[string]*versions
	// renamed: the last rename, which a cut may undo
	from, to string
	locks    bool   // it locks the volume now and then
	prefix   string // of its files' names
	seen     uint64 // the newest frame of the journal that anybody can have seen
}

func (h *history) failf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("seed %d, cut at operation %d: %s", h.seed, h.cut, fmt.Sprintf(format, args...))
}

// run plays the history and reports whether it came to its end uncut.
func (h *history) run(base *store.Mem) bool {
	st := base.Crash(0)
	var n atomic.Uint64
	st.SetHook(func(op store.Op) error {
		if n.Add(1) >= h.cut {
			return store.ErrCut
		}
		return nil
	})
	finished := h.play(st)
	if h.v != nil {
		h.v.stopBackground()
		h.seen = h.v.JournalPosition()
	}
	for again := uint64(0); ; again++ {
		st = st.Crash(h.seed + again)
		st.SetHook(nil)
		if again == 0 && h.cut%2 == 0 && h.cutRecovery(st) {
			continue
		}
		break
	}
	if h.cut%4 == 1 { // what is recovered in memory is the same
		st.SetReadOnly(true)
		h.check(st, Options{ReadOnly: true})
		st.SetReadOnly(false)
	}
	h.check(st, Options{})
	return finished
}

// cutRecovery opens the volume and cuts that too.
func (h *history) cutRecovery(st *store.Mem) bool {
	var n atomic.Uint64
	at := h.cut % 97
	st.SetHook(func(store.Op) error {
		if n.Add(1) >= at {
			return store.ErrCut
		}
		return nil
	})
	v, err := Open(st, h.keys, Options{})
	if err == nil {
		v.Close()
	}
	return true
}

func (h *history) play(st store.FS) bool {
	r := rand.New(rand.NewPCG(h.seed, 1))
	var err error
	if h.v, err = Open(st, h.keys, Options{}); err != nil {
		h.interrupted("open", err)
		return false
	}
	h.open = map[string]*Handle{}
	for range 25 {
		if err := h.step(r); err != nil {
			h.interrupted("step", err)
			return false
		}
		if h.locks && r.IntN(4) == 0 {
			if err := h.lock(); err != nil {
				h.interrupted("lock", err)
				return false
			}
		}
	}
	return h.v.Close() == nil
}

// interrupted checks that nothing but the power cut makes an operation fail.
func (h *history) interrupted(what string, err error) {
	if !errors.Is(err, store.ErrCut) {
		h.failf("%s: %v", what, err)
	}
}

func (h *history) step(r *rand.Rand) error {
	name := h.prefix + string("ab"[r.IntN(2)])
	f, file, err := h.get(name)
	if err != nil {
		return err
	}
	switch r.IntN(13) {
	case 12:
		return h.fill(r, f, file)
	case 0, 1, 2, 3:
		return h.write(r, f, file)
	case 4, 5, 6:
		if err := eitherSync(r, file); err != nil {
			return err
		}
		f.synced()
	case 7:
		return h.resize(r, f, file)
	case 8:
		off, n := r.IntN(20)*3000, 1+r.IntN(50000)
		f.now.punch(off, n)
		f.changed()
		return file.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
	case 9:
		return h.v.Checkpoint()
	case 10:
		return h.rename(name)
	case 11:
		delete(h.open, name)
		return file.Close()
	}
	return nil
}

// eitherSync syncs, and waits for it or is told.
func eitherSync(r *rand.Rand, file *Handle) error {
	dataOnly := r.IntN(2) == 0
	if r.IntN(2) == 0 {
		return file.Sync(dataOnly)
	}
	return syncThen(file, dataOnly)
}

// syncThen is SyncThen for one who waits.
func syncThen(file *Handle, dataOnly bool) error {
	told := make(chan error, 1)
	file.SyncThen(dataOnly, func(err error) { told <- err })
	return <-told
}

func (h *history) get(name string) (*versions, *Handle, error) {
	f := h.files[name]
	if f == nil {
		f = &versions{unsynced: true}
		f.changed()
		h.files[name] = f
	}
	if file := h.open[name]; file != nil {
		return f, file, nil
	}
	file, err := h.v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	h.open[name] = file
	return f, file, err
}

func (h *history) write(r *rand.Rand, f *versions, file *Handle) error {
	sizes := []int{1, 700, 4096, 9000, 300000}
	off := r.IntN(12) * 2048
	if r.IntN(3) == 0 {
		off = len(f.now.data)
	}
	p := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, sizes[r.IntN(len(sizes))])
	f.now.write(p, off)
	f.changed()
	_, err := file.WriteAt(p, int64(off))
	return err
}

func (h *history) resize(r *rand.Rand, f *versions, file *Handle) error {
	n := r.IntN(8) * 5000
	f.now.resize(n)
	f.changed()
	return file.Truncate(int64(n))
}

// fill grows a file by a hole, and writes into that what is large enough to go
// home at once: pieces side by side or apart, synced now and then.
func (h *history) fill(r *rand.Rand, f *versions, file *Handle) error {
	const piece = 70 * 4096
	first := (len(f.now.data) + 4095) / 4096
	f.now.resize(first*4096 + 4*piece + r.IntN(5000))
	f.changed()
	if err := file.Truncate(int64(len(f.now.data))); err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		if err := h.v.Checkpoint(); err != nil {
			return err
		}
	}
	for range 1 + r.IntN(4) {
		if err := eitherSync(r, file); err != nil {
			return err
		}
		f.synced()
		for range 1 + r.IntN(2) {
			p := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, piece)
			off := first*4096 + r.IntN(4)*piece
			f.now.write(p, off)
			f.changed()
			if _, err := file.WriteAt(p, int64(off)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rename swaps a file's name with a second one of its own, "a" and "a2".
func (h *history) rename(name string) error {
	h.from, h.to = name, name+"2"
	if err := h.v.Rename(h.from, h.to, 0); err != nil {
		return err
	}
	if err := h.v.SyncDir("."); err != nil {
		return err
	}
	h.from, h.to = h.to, h.from
	if err := h.v.Rename(h.from, h.to, 0); err != nil {
		return err
	}
	if err := h.v.SyncDir("."); err != nil {
		return err
	}
	h.from, h.to = "", ""
	h.files[name].unsynced = false
	return nil
}

// check opens the volume after the cut and holds it against the promise.
func (h *history) check(st store.FS, opts Options) {
	opts.Admit = func(frame uint64) error {
		if frame < h.seen {
			return fmt.Errorf("the journal was seen at frame %d, and is at %d", h.seen, frame)
		}
		return nil
	}
	v, err := Open(st, h.keys, opts)
	if err != nil {
		h.failf("open after the cut: %v", err)
	}
	for name, f := range h.files {
		h.checkFile(v, name, f)
	}
	if s := v.Stats(); s.IntegrityErrors > 0 || s.Recovery.Damaged > 0 {
		h.failf("integrity errors: %+v", s)
	}
	if err := v.Close(); err != nil {
		h.failf("close: %v", err)
	}
}

func (h *history) checkFile(v *Volume, name string, f *versions) {
	file, err := v.OpenFile(name, os.O_RDONLY, 0, Owner{})
	if errors.Is(err, syscall.ENOENT) {
		file, err = v.OpenFile(name+"2", os.O_RDONLY, 0, Owner{})
		if errors.Is(err, syscall.ENOENT) && f.unsynced {
			return
		}
	}
	if err != nil {
		h.failf("%s: %v", name, err)
	}
	defer file.Close()
	attr, err := file.Stat()
	if err != nil {
		h.failf("%s: %v", name, err)
	}
	got := make([]byte, attr.Size)
	if n, err := file.ReadAt(got, 0); n != len(got) || (err != nil && !errors.Is(err, io.EOF)) {
		h.failf("%s: read %d of %d: %v", name, n, len(got), err)
	}
	h.checkSize(name, f, len(got))
	for off := 0; off < len(got); off += 4096 {
		h.checkBlock(name, f, got, off)
	}
}

func (h *history) checkSize(name string, f *versions, size int) {
	for _, v := range f.since {
		if len(v) == size {
			return
		}
	}
	// A large write may be cut at any of its blocks.
	longest, shortest := 0, 1<<30
	for _, v := range f.since {
		longest, shortest = max(longest, len(v)), min(shortest, len(v))
	}
	if size%4096 != 0 || size < shortest || size > longest {
		h.failf("%s has %d bytes, which it never had since its last sync (%d to %d)", name, size, shortest, longest)
	}
}

func (h *history) checkBlock(name string, f *versions, got []byte, off int) {
	end := min(off+4096, len(got))
	zero := false
	for _, v := range f.since {
		want := make([]byte, 4096)
		if off < len(v) {
			copy(want, v[off:])
		} else {
			zero = true
		}
		if bytes.Equal(got[off:end], want[:end-off]) {
			return
		}
	}
	if zero && bytes.Equal(got[off:end], make([]byte, end-off)) {
		return
	}
	h.failf("%s: block %d is none of its %d versions since the last sync", name, off/4096, len(f.since))
}
