package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// TestScrubWhileWriting: what is under way in a volume that is used is never
// taken for damage.
func TestScrubWhileWriting(t *testing.T) {
	st := store.NewMem(store.Options{})
	keys := newTestKeys(t, 41)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 2))
			for ctx.Err() == nil {
				if err := disturb(v, r, fmt.Sprint("f", w)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 60 {
		_, err := v.Scrub(t.Context(), ScrubOptions{Jobs: 4, Found: func(d Damage) { t.Errorf("%+v", d) }})
		must(t, err)
	}
	cancel()
	writers.Wait()
	must(t, v.Close())
	if n := v.Stats().IntegrityErrors; n > 0 {
		t.Errorf("%d integrity errors", n)
	}
}

// disturb does one of what programs do to a file of theirs.
func disturb(v *Volume, r *rand.Rand, name string) error {
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		return err
	}
	off := int64(r.IntN(150)) * 3000
	switch r.IntN(8) {
	case 0:
		err = h.Truncate(off)
	case 1:
		err = h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, 100_000)
	case 2:
		err = errors.Join(v.Rename(name, name+strings.Repeat("x", 190), 0), v.Rename(name+strings.Repeat("x", 190), name, 0))
	case 3:
		err = v.Unlink(name)
	case 4:
		_, err = h.WriteAt(make([]byte, 500_000), off)
	default:
		_, err = h.WriteAt(bytes.Repeat([]byte{byte(off)}, 1+r.IntN(20_000)), off)
	}
	if err == nil && r.IntN(2) == 0 {
		err = h.Sync(true)
	}
	return errors.Join(err, h.Close())
}

// TestScrubReadsAnew: damage is found although everything is open, and its tag
// pages are in memory.
func TestScrubReadsAnew(t *testing.T) {
	w := newVictim(t)
	v := open(t, w.st, w.keys)
	defer v.Close()
	h, err := v.OpenFile("a", os.O_RDWR, 0, Owner{})
	must(t, err)
	defer h.Close()
	must(t, readBack(v, "a", victimContent("a")))
	a := w.file(w.a)
	w.flip(a, format.TagPageOffset(1)+500)
	w.flip(a, format.BlockOffset(7))
	w.flip(a, 1024+5)
	var found []string
	_, err = v.Scrub(t.Context(), ScrubOptions{Found: func(d Damage) {
		found = append(found, fmt.Sprintf("%s of %s: %d at %d", d.What, d.Name, d.Length, d.Offset))
	}})
	must(t, err)
	for _, want := range []string{"header slot of a: 0 at 0", "block of a: 4096 at 28672", "tag page of a: 413696 at 413696"} {
		if !strings.Contains(strings.Join(found, "\n")+"\n", want+"\n") {
			t.Errorf("%q lacks %q", found, want)
		}
	}
	if len(found) != 3 || v.Stats().IntegrityErrors != 3 {
		t.Errorf("%q, %d integrity errors", found, v.Stats().IntegrityErrors)
	}
}

// TestScrubGoesOn: a scrub that is interrupted anywhere, and goes on where it
// stopped, misses nothing.
func TestScrubGoesOn(t *testing.T) {
	st := store.NewMem(store.Options{})
	keys := newTestKeys(t, 42)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	want := map[Path]bool{}
	for i := range 12 {
		name := fmt.Sprintf("d%d/f%d", i%3, i)
		if i < 3 {
			must(t, v.Mkdir(fmt.Sprint("d", i), 0o700, Owner{}))
		}
		put(t, v, name, strings.Repeat("x", 5000*i+1))
		want[Path(name)] = true
	}
	must(t, errors.Join(v.Close(), st.SyncAll()))
	damageAll(t, st, ".")
	v = open(t, st, keys)
	defer v.Close()
	enough := errors.New("enough")
	for limit := 1; limit <= 12; limit++ {
		got := map[Path]bool{}
		var next Path
		for round := 0; ; round++ {
			var parts atomic.Int64
			p, err := v.Scrub(t.Context(), ScrubOptions{From: next, Jobs: 3, Found: func(d Damage) { got[d.Name] = true }, Pace: func(context.Context, int) error {
				if parts.Add(1) > int64(limit) {
					return enough
				}
				return nil
			}})
			if err == nil && p.Next == "" {
				break
			}
			if !errors.Is(err, enough) || p.Next == "" || round > 100 {
				t.Fatalf("%+v, %v", p, err)
			}
			if limit == 1 { // one at a time does not come past a part
				limit++
			}
			next = p.Next
		}
		if len(got) != len(want) {
			t.Errorf("with %d parts at a time: %d of %d damaged files were found", limit, len(got), len(want))
		}
	}
}

// damageAll flips a byte in the first block of every file of the tree.
func damageAll(t *testing.T, st *store.Mem, dir string) {
	entries, err := st.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		switch name := dir + "/" + e.Name; {
		case e.Name == MetaDir:
		case e.Type == unix.S_IFDIR:
			damageAll(t, st, strings.TrimPrefix(name, "./"))
		default:
			f, err := st.OpenFile(strings.TrimPrefix(name, "./"), os.O_RDWR, 0)
			must(t, err)
			wipe(t, f, format.BlockOffset(0), 1)
			must(t, f.Close())
		}
	}
}

// TestScrubLocked: a lock ends a scrub.
func TestScrubLocked(t *testing.T) {
	w := newVictim(t)
	v := open(t, w.st, w.keys)
	defer v.Close()
	_, err := v.Scrub(t.Context(), ScrubOptions{Jobs: 1, Found: func(d Damage) { t.Errorf("%+v", d) }, Pace: func(context.Context, int) error {
		return v.Lock("a test")
	}})
	if !errors.Is(err, ErrLocked) || Errno(err) != syscall.ENOKEY {
		t.Errorf("it ended with %v", err)
	}
}
