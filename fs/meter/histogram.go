package meter

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// firstBits: the first bucket ends at 2^13 ns, some 8 µs, and each further
	// one at twice that of the one before.
	firstBits = 13
	// Buckets is how many buckets have an upper bound; the last is 17 s.
	Buckets = 22
)

// Histogram counts durations by size. The zero value is ready. All methods are
// safe for concurrent use.
type Histogram struct {
	counts [Buckets + 1]atomic.Uint64 // the last is for what is longer
	nanos  atomic.Uint64
}

// Observe counts one duration. A negative one, of a clock that went back,
// counts as none.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(d)].Add(1)
	h.nanos.Add(uint64(d))
}

// bucket is the first whose bound is not below d.
func bucket(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return min(bits.Len64(uint64(d-1)>>firstBits), Buckets)
}

// Bound is the longest duration that a bucket below Buckets takes.
func Bound(bucket int) time.Duration { return 1 << (firstBits + bucket) }

// Distribution is what a Histogram holds.
type Distribution struct {
	Count      uint64
	Sum        time.Duration
	Cumulative [Buckets]uint64 // how many were no longer than each Bound
}

// Read gives what has been counted.
func (h *Histogram) Read() Distribution {
	d := Distribution{Sum: time.Duration(h.nanos.Load())}
	for i := range h.counts {
		d.Count += h.counts[i].Load()
		if i < Buckets {
			d.Cumulative[i] = d.Count
		}
	}
	return d
}
