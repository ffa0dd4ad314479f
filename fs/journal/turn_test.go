package journal

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
)

// held is a journal whose next write waits for let.
func held(t *testing.T, fail error) (j *Journal, let func()) {
	t.Helper()
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, 8<<20)
	j, _ = start(t, st, cfg)
	gate := make(chan struct{})
	st.SetHook(func(op store.Op) error {
		if op.Kind != store.OpWrite {
			return nil
		}
		<-gate
		return fail
	})
	return j, sync.OnceFunc(func() { close(gate) })
}

// waitFor starts a caller that waits for a record of its own, and tells what it
// was told.
func waitFor(t *testing.T, j *Journal, n uint64) <-chan error {
	t.Helper()
	if ok, err := j.TryReserve(Room(1)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ticket, told := j.Submit(sample(n, 1), Room(1)), make(chan error, 1)
	go func() { told <- j.Wait(ticket) }()
	return told
}

// until waits for a state of the journal.
func until(j *Journal, state func() bool) {
	for {
		j.mu.Lock()
		ok := state()
		j.mu.Unlock()
		if ok {
			return
		}
		runtime.Gosched()
	}
}

// TestTurnGoesOn: those who wait while a frame is written are served by the
// frames after it, whoever wants the turn beside them.
func TestTurnGoesOn(t *testing.T) {
	j, let := held(t, nil)
	defer let()
	told := []<-chan error{waitFor(t, j, 1)}
	until(j, func() bool { return j.writing })
	released := make(chan error, 2)
	for _, through := range []uint64{0, j.Position()} { // the first has nothing to release
		go func() { released <- j.Release(through) }()
	}
	until(j, func() bool { return len(j.waiting) == 2 })
	for n := uint64(2); n <= 6; n++ {
		told = append(told, waitFor(t, j, n))
	}
	until(j, func() bool { return len(j.waiting) == 7 })
	let()
	for i, c := range told {
		if err := <-c; err != nil {
			t.Fatalf("record %d: %v", i+1, err)
		}
	}
	for range 2 {
		if err := <-released; err != nil {
			t.Fatal(err)
		}
	}
	if j.Durable() != 6 || len(j.waiting) != 0 {
		t.Fatalf("durable up to %d of 6, %d wait", j.Durable(), len(j.waiting))
	}
}

// TestFailureReachesWaiting: a frame that fails fails all who wait, also those
// whose record was not in it.
func TestFailureReachesWaiting(t *testing.T) {
	broken := errors.New("broken")
	j, let := held(t, broken)
	defer let()
	told := []<-chan error{waitFor(t, j, 1)}
	until(j, func() bool { return j.writing })
	for n := uint64(2); n <= 5; n++ {
		told = append(told, waitFor(t, j, n))
	}
	until(j, func() bool { return len(j.waiting) == 4 })
	let()
	for i, c := range told {
		if err := <-c; !errors.Is(err, broken) {
			t.Fatalf("record %d: %v", i+1, err)
		}
	}
}

// TestNoTurnIsLost: many who commit and release at once all come to an end.
func TestNoTurnIsLost(t *testing.T) {
	cfg := testConfig(t)
	st := store.NewMem(store.Options{})
	newJournalOn(t, st, cfg, 8<<20)
	j, _ := start(t, st, cfg)
	var all sync.WaitGroup
	for w := range uint64(8) {
		all.Go(func() {
			for n := range uint64(150) {
				commit(t, j, sample(w*1000+n, 1))
			}
		})
	}
	all.Go(func() {
		for range 300 {
			if err := errors.Join(j.Release(0), j.Release(j.Position())); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if j.Durable() != 8*150 {
		t.Fatalf("durable up to %d of %d", j.Durable(), 8*150)
	}
}
