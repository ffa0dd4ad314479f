package journal

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
)

// then submits a record and goes on.
func then(t *testing.T, j *Journal, n uint64, done func(error)) {
	t.Helper()
	if ok, err := j.TryReserve(Room(1)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	j.Then(j.Submit(sample(n, 1), Room(1)), done)
}

// TestThenWrites: who calls Then when nobody writes, writes; what is durable is
// told at once.
func TestThenWrites(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, 8<<20)
	j, _ := start(t, st, cfg)
	told := 0
	tell := func(err error) {
		if err != nil || j.Durable() != 1 {
			t.Errorf("durable up to %d: %v", j.Durable(), err)
		}
		told++
	}
	then(t, j, 1, tell)
	j.Then(1, tell)
	j.Then(0, tell)
	if told != 3 || len(j.pledged) != 0 {
		t.Fatalf("told %d times of 3", told)
	}
}

// TestThenDoesNotWait: while another one writes, Then returns, and whoever
// writes tells, after one frame more, also if it wanted no more than its own.
func TestThenDoesNotWait(t *testing.T) {
	j, let := held(t, nil)
	defer let()
	first := waitFor(t, j, 1)
	until(j, func() bool { return j.writing })
	told := make(chan error, 20)
	for n := uint64(2); n <= 21; n++ {
		then(t, j, n, func(err error) { told <- err })
	}
	let()
	for range 20 {
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if frames := j.Stats().Frames; frames > 3 {
		t.Fatalf("%d frames", frames)
	}
}

// TestThenFails: all who went on hear of the failure of the frame before theirs.
func TestThenFails(t *testing.T) {
	broken := errors.New("broken")
	j, let := held(t, broken)
	defer let()
	first := waitFor(t, j, 1)
	until(j, func() bool { return j.writing })
	told := make(chan error, 1)
	then(t, j, 2, func(err error) { told <- err })
	let()
	if err := <-told; !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if err := <-first; !errors.Is(err, broken) {
		t.Fatal(err)
	}
	later := error(nil)
	j.Then(2, func(err error) { later = err })
	if !errors.Is(later, broken) {
		t.Fatalf("after the failure: %v", later)
	}
}

// TestNobodyIsForgotten: those who wait, those who go on and those who release
// are all told once, whoever has the turn.
func TestNobodyIsForgotten(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, 8<<20)
	j, _ := start(t, st, cfg)
	const each, workers = 200, 4
	var told atomic.Int64
	var all, promised sync.WaitGroup
	for w := range uint64(workers) {
		all.Go(func() {
			for n := range uint64(each) {
				commit(t, j, sample(w*1000+n, 1))
			}
		})
		all.Go(func() {
			for n := range uint64(each) {
				for {
					if ok, err := j.TryReserve(Room(1)); err != nil {
						t.Error(err)
						return
					} else if ok {
						break
					}
					if err := j.Release(j.Position()); err != nil {
						t.Error(err)
					}
				}
				promised.Add(1)
				ticket := j.Submit(sample(w*5000+n, 1), Room(1))
				j.Then(ticket, func(err error) {
					if durable := j.Durable(); err != nil || durable < ticket {
						t.Errorf("ticket %d, durable up to %d: %v", ticket, durable, err)
					}
					told.Add(1)
					promised.Done()
				})
			}
		})
	}
	all.Go(func() {
		for range each {
			if err := errors.Join(j.Release(0), j.Release(j.Position())); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	promised.Wait()
	until(j, func() bool { return !j.writing })
	if told.Load() != each*workers || j.Durable() != 2*each*workers || j.turns != 0 || len(j.pledged)+len(j.waiting) != 0 {
		t.Fatalf("%d told, durable up to %d, %d turns, %d promises, %d wait", told.Load(), j.Durable(), j.turns, len(j.pledged), len(j.waiting))
	}
}
