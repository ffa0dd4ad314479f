package fuseloop

import (
	"math/bits"
	"sync"
	"unsafe"
)

const (
	// overhead is what a request or an answer may have beside the data whose
	// size is named: header, fixed part, and names or the target of a link. The
	// kernel refuses to write a request into less.
	overhead = 8 << 10
	// leastData is how much data the smallest buffers take.
	leastData = 4 << 10
)

// buffers are pools of buffers for requests and answers, one for each power of
// two of data that they take beside the overhead. What lies in them has been
// wiped.
type buffers struct {
	pools [64]sync.Pool // of *byte, a buffer's first
}

func newBuffers() *buffers {
	b := &buffers{}
	for class := range b.pools {
		b.pools[class].New = func() any { return unsafe.SliceData(make([]byte, 1<<class+overhead)) }
	}
	return b
}

// classOf is the binary logarithm of how much data a buffer takes that takes
// this much.
func classOf(data int) int { return bits.Len(uint(max(data, leastData) - 1)) }

// get is a buffer for so much data and the overhead, or more.
func (b *buffers) get(data int) []byte {
	class := classOf(data)
	return unsafe.Slice(b.pools[class].Get().(*byte), 1<<class+overhead)
}

// put gives a buffer back.
func (b *buffers) put(buf []byte) { b.pools[classOf(len(buf)-overhead)].Put(unsafe.SliceData(buf)) }
