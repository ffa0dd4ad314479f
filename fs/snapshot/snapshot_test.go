package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/volume"
)

// TestCreate: a snapshot shows what the volume did, is sound, and so is what is
// restored from it, which is a volume to write to.
func TestCreate(t *testing.T) {
	// One name is too long to be encrypted in its place: it takes a file more.
	for names, objects := range map[string]int{volume.NamesEncrypted: 16, volume.NamesPlain: 15} {
		t.Run(names, func(t *testing.T) {
			s := newScene(t, names)
			s.fill()
			want := s.picture()
			m := s.create("one")
			s.sound("one")
			snap, err := s.c.Get("one")
			must(t, err)
			if got := s.contents(snap.Dir); got != want {
				t.Errorf("the snapshot shows\n%s\nand not\n%s", got, want)
			}
			if m.Held <= 0 || m.Took < m.Held || m.Objects != objects || m.Journal != 4<<20 || len(m.MasterKeys) != 1 {
				t.Errorf("%+v", m)
			}
			dir := filepath.Join(s.dir, "restored")
			s.restore("one", dir)
			if got := s.contents(dir); got != want {
				t.Errorf("restored is\n%s\nand not\n%s", got, want)
			}
			st, keys, v := s.openAt(dir)
			if v.JournalSize() != 4<<20 {
				t.Errorf("the restored volume's journal has %d bytes", v.JournalSize())
			}
			writeTo(t, v, "d/f1", []byte("further"), 0)
			must(t, v.Close())
			keys.Destroy()
			must(t, st.Close())
			s.sound("one")
		})
	}
}

// TestOnePointInTime: writers count up in several files, in turn, each synced.
// What a snapshot shows is one moment of each writer's, not before what was
// acknowledged when it began, nor after what had begun when it ended.
func TestOnePointInTime(t *testing.T) { onDisks(t, volume.NamesEncrypted, onePointInTime) }

// counter is a writer that counts up in several files, at several places of
// each, in turn.
type counter struct {
	t                   *testing.T
	id                  int
	handles             [counterFiles]*volume.Handle
	begun, acknowledged atomic.Int64
}

const counterFiles = 4

var counterPlaces = []int64{0, 150_001, 299_990}

func (c *counter) name(i int) string { return fmt.Sprintf("w%d-%d", c.id, i) }

func newCounter(t *testing.T, s *scene, id int) *counter {
	c := &counter{t: t, id: id}
	for i := range c.handles {
		s.write(c.name(i), make([]byte, 300_000), 0)
		h, err := s.v.OpenFile(c.name(i), os.O_RDWR, 0, volume.Owner{})
		must(t, err)
		c.handles[i] = h
	}
	return c
}

// run counts until stop is closed.
func (c *counter) run(stop <-chan struct{}) {
	for n := int64(1); ; n++ {
		select {
		case <-stop:
			for _, h := range c.handles {
				if err := h.Close(); err != nil {
					c.t.Error(err)
				}
			}
			return
		default:
		}
		c.begun.Store(n)
		if err := c.write(n); err != nil {
			c.t.Error(err)
			return
		}
		c.acknowledged.Store(n)
	}
}

func (c *counter) write(n int64) error {
	for _, h := range c.handles {
		for _, off := range counterPlaces {
			if _, err := h.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(n)), off); err != nil {
				return err
			}
		}
		if n%3 == 0 {
			if err := h.Sync(true); err != nil {
				return err
			}
		}
	}
	return nil
}

// check wants one moment between two counts in a snapshot: places are written in
// turn, so that along them the count falls by one at most.
func (c *counter) check(v *volume.Volume, before, after int64) {
	c.t.Helper()
	last, first := uint64(after), true
	for i := range c.handles {
		data := readAll(c.t, v, c.name(i))
		for _, off := range counterPlaces {
			n := binary.LittleEndian.Uint64(data[off:])
			if n < uint64(before) || n > last || !first && n+1 < last {
				c.t.Fatalf("writer %d, file %d at %d: %d, the place before it has %d; %d were acknowledged before and %d begun after",
					c.id, i, off, n, last, before, after)
			}
			last, first = n, false
		}
	}
}

func onePointInTime(t *testing.T, s *scene) {
	const writers, rounds = 3, 12
	var counters [writers]*counter
	stop := make(chan struct{})
	var all sync.WaitGroup
	for w := range counters {
		counters[w] = newCounter(t, s, w)
		all.Go(func() { counters[w].run(stop) })
	}
	for round := range rounds {
		wait(t, func() bool { return counters[round%writers].acknowledged.Load() > int64(5*round) })
		var before, after [writers]int64
		for w, c := range counters {
			before[w] = c.acknowledged.Load()
		}
		snapshot := fmt.Sprint("s", round)
		s.create(snapshot)
		for w, c := range counters {
			after[w] = c.begun.Load()
		}
		snap, err := s.c.Get(snapshot)
		must(t, err)
		st, keys, v := s.openAt(snap.Dir)
		for w, c := range counters {
			c.check(v, before[w], after[w])
		}
		must(t, v.Close())
		keys.Destroy()
		must(t, st.Close())
		must(t, s.c.Delete(snapshot))
	}
	close(stop)
	all.Wait()
}

// TestTracked: whatever is done to files between two rounds of a copy is in the
// snapshot.
func TestTracked(t *testing.T) { onDisks(t, volume.NamesPlain, tracked) }

func tracked(t *testing.T, s *scene) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(rt, "seed")))
		change := func() {
			name := fmt.Sprint("f", r.IntN(6))
			switch r.IntN(8) {
			case 0:
				if err := s.v.Unlink(name); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			case 1:
				if err := s.v.Rename(name, fmt.Sprint("f", r.IntN(6)), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			case 2, 3:
				h, err := s.v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, volume.Owner{})
				must(t, err)
				must(t, errors.Join(h.Truncate(int64(r.IntN(900_000))), h.Close()))
			default:
				data := make([]byte, 1+r.IntN(200_000))
				for i := range data {
					data[i] = byte(r.Uint32())
				}
				s.write(name, data, int64(r.IntN(800_000)))
			}
		}
		for range 4 {
			change()
		}
		steps := 0
		n++
		name := fmt.Sprint("s", n)
		_, err := Create(t.Context(), s.source(), s.c, Options{Name: name, Progress: func(p Progress) {
			// The copier's goroutine: so that a change comes between two files.
			if steps++; steps < 6 && p.Phase == "copy" {
				change()
			}
		}})
		must(t, err)
		want := s.picture()
		snap, err := s.c.Get(name)
		must(t, err)
		if got := s.contents(snap.Dir); got != want {
			rt.Fatalf("the snapshot shows\n%s\nand the volume\n%s", got, want)
		}
		must(t, s.c.Delete(name))
	})
}

// TestInterrupted: a snapshot that is not finished leaves nothing that the
// next does not clear, and one of its name can be made.
func TestInterrupted(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	s.fill()
	for after := 1; ; after++ {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		_, err := Create(ctx, s.source(), s.c, Options{Name: "one", Progress: func(Progress) {
			if seen++; seen == after {
				cancel()
			}
		}})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if left := leftIn(t, s.c.Dir); len(left) > 0 {
			t.Fatalf("after %d steps: %v", after, left)
		}
	}
	s.sound("one")
	if _, err := Create(t.Context(), s.source(), s.c, Options{Name: "one"}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second of that name: %v", err)
	}
}

// TestClear: what a killed process left goes, what is being made stays.
func TestClear(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	must(t, os.MkdirAll(filepath.Join(s.c.Dir, ".dead.partial", ".akvfs", "staging"), 0o700))
	must(t, os.MkdirAll(filepath.Join(s.c.Dir, ".bare.partial"), 0o700))
	p, err := s.c.begin("alive")
	must(t, err)
	must(t, s.c.Clear())
	if left := leftIn(t, s.c.Dir); !slices.Equal(left, []string{".alive.partial"}) {
		t.Errorf("%v", left)
	}
	p.end()
	if left := leftIn(t, s.c.Dir); len(left) > 0 || !s.c.Marked() {
		t.Errorf("%v, or it is not known any more", left)
	}
}
