package volume

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
)

// TestPowerCutUnderMany cuts the power while several goroutines change files of
// their own, which share the journal, its frames and its checkpoints. Where in
// each of them the cut falls is chance; the promise holds for all.
func TestPowerCutUnderMany(t *testing.T) {
	keys := newTestKeys(t, 4)
	base := newCrashBase(t, keys)
	points := 0
	for seed := *crashFirst; seed < *crashFirst+10*uint64(*crashSeeds); seed++ {
		points += cutUnderMany(t, keys, base, seed)
	}
	t.Logf("%d crash points", points)
}

func cutUnderMany(t *testing.T, keys Keys, base *store.Mem, seed uint64) (points int) {
	const workers = 4
	r := rand.New(rand.NewPCG(seed, 2))
	st, left := base.Crash(0), int64(40+r.IntN(600))
	var n atomic.Int64
	st.SetHook(func(store.Op) error {
		if n.Add(1) >= left {
			return store.ErrCut
		}
		return nil
	})
	v, err := Open(st, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	histories := make([]*history, workers)
	failures := make([]error, workers)
	var wg sync.WaitGroup
	for i := range histories {
		h := &history{t: t, keys: keys, seed: seed, cut: uint64(left), files: map[string]*versions{}, prefix: strconv.Itoa(i), v: v, open: map[string]*Handle{}}
		histories[i] = h
		wg.Go(func() {
			own := rand.New(rand.NewPCG(seed, uint64(10+i)))
			for range 25 {
				if failures[i] = h.step(own); failures[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	v.stopBackground()
	after := st.Crash(seed)
	for i, h := range histories {
		if failures[i] != nil {
			h.interrupted("step", failures[i])
			points = 1
		}
		h.check(after, Options{})
	}
	return points
}
