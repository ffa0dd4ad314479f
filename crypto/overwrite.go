package crypto

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// OverwriteFree overwrites what freed objects have left in Go's heap, as far as
// byte slices and strings are concerned: libraries copy secrets into buffers
// that nobody can erase, and the collector frees them as they are. It collects
// twice, so that pools are emptied too, gives free memory back to the kernel,
// and fills with zeros what the runtime keeps: the free slots between objects
// in use, and some free pages for each processor. It takes some milliseconds,
// and some megabytes for as long; what others allocate meanwhile may keep a
// slot from it. Like [Scrub] it is for the moment when a volume is locked.
func OverwriteFree() {
	overwriting.Lock()
	defer overwriting.Unlock()
	var filled sync.WaitGroup
	filled.Go(func() { onDeepStack(overwriteFree) })
	filled.Wait()
	debug.FreeOSMemory() // those stacks, too
}

var overwriting sync.Mutex

func overwriteFree() {
	sizes := slotSizes()
	fill := together(func() {
		for _, size := range sizes {
			fillBytes(size)
		}
	})
	runtime.GC()
	debug.FreeOSMemory()
	percent := debug.SetGCPercent(-1) // what is filled stays so until the end
	for _, size := range sizes {
		fillSlots(size)
	}
	fill()
	debug.SetGCPercent(percent)
}

// together gives a function that runs f once for each processor, on all of them
// at a time: slots and pages that a processor has at hand are given to nobody
// else. Where some are not to be had soon, f runs on those that are.
func together(f func()) (run func()) {
	const patience = 100 * time.Millisecond
	var here atomic.Int64
	var running sync.WaitGroup
	begin, all := make(chan struct{}), int64(runtime.GOMAXPROCS(0))
	for range all {
		running.Go(func() {
			onDeepStack(func() {
				<-begin
				here.Add(1)
				for start := time.Now(); here.Load() < all && time.Since(start) < patience; {
				}
				f()
			})
		})
	}
	return func() {
		close(begin)
		running.Wait()
	}
}

// onDeepStack runs f on a stack of 64 KiB, of which it finds half free and
// zeroed: what a stack grows into may be pages that were just freed, and only
// what is used of them is written over. A collection shrinks no stack of which
// more than a quarter is in use.
//
//go:noinline
func onDeepStack(f func()) {
	var used [32 << 10]byte
	belowStack()
	f()
	keep(used[:])
}

//go:noinline
func belowStack() {
	var free [28 << 10]byte
	keep(free[:])
}

// keep is not inlined, so that what it is given is not left out.
//
//go:noinline
func keep([]byte) {}

// slotSizes are the sizes that Go rounds small objects up to. The smallest, 8
// bytes, is left out: smaller ones are packed in another way.
func slotSizes() (sizes []int) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	for _, class := range m.BySize {
		if class.Size >= 16 {
			sizes = append(sizes, int(class.Size))
		}
	}
	for size := sizes[len(sizes)-1] + 1; size <= largestSlot; {
		made := cap(append([]byte(nil), make([]byte, size)...)) // rounded up
		sizes = append(sizes, made)
		size = made + 1
	}
	return sizes
}

const (
	largestSlot = 32 << 10 // bytes; larger objects have pages of their own
	// fillBatch is at least as much as the largest run of slots of one size, in
	// bytes, and all sizes' batches are more than the free pages that a
	// processor keeps.
	fillBatch = 64 << 10
)

// fillSlots allocates zeros of one size until that takes new memory: then all
// slots of that size are full.
func fillSlots(size int) {
	held := heapInSpans()
	for {
		fillBytes(size)
		now := heapInSpans()
		if now >= held+fillBatch/2 {
			return
		}
		held = now
	}
}

// fillBytes allocates a batch of zeros in pieces of one size.
func fillBytes(size int) {
	for n := 0; n < fillBatch; {
		n += cap(zeros(size))
	}
}

// zeros is not inlined, so that what it makes is on the heap.
//
//go:noinline
func zeros(size int) []byte { return make([]byte, size) }

// heapInSpans is how much memory holds objects or the slots for them, in bytes.
func heapInSpans() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
