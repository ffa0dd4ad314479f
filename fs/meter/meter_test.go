package meter

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := rapid.SliceOf(rapid.Int64Range(-1e9, 1e11)).Draw(t, "took")
		var h Histogram
		var sum time.Duration
		for _, d := range took {
			h.Observe(time.Duration(d))
			sum += max(0, time.Duration(d))
		}
		got := h.Read()
		if got.Count != uint64(len(took)) || got.Sum != sum {
			t.Fatalf("%d in %v, want %d in %v", got.Count, got.Sum, len(took), sum)
		}
		for i, n := range got.Cumulative {
			want := uint64(0)
			for _, d := range took {
				if time.Duration(d) <= Bound(i) {
					want++
				}
			}
			if n != want {
				t.Fatalf("%d are at most %v, want %d", n, Bound(i), want)
			}
		}
	})
}

func TestOperations(t *testing.T) {
	var o Operations
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for _, k := range Kinds() {
				o.Done(k, Clock(), k == Write)
				o.AddRead(2)
				o.AddWritten(3)
			}
		})
	}
	all.Wait()
	n := uint64(4 * len(Kinds()))
	if r, w := o.Bytes(); r != 2*n || w != 3*n {
		t.Errorf("%d read, %d written", r, w)
	}
	for _, k := range Kinds() {
		failed := uint64(0)
		if k == Write {
			failed = 4
		}
		if o.Latency(k).Count != 4 || o.Failed(k) != failed || k.String() == "" {
			t.Errorf("%v: %+v, %d failed", k, o.Latency(k), o.Failed(k))
		}
	}
}

func BenchmarkDone(b *testing.B) {
	var o Operations
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			began := Clock()
			o.AddRead(1)
			o.Done(Read, began, false)
		}
	})
}
