package meter

import (
	"sync/atomic"
	"time"
)

// Kind is a kind of request to a mount.
type Kind int

// The kinds of requests.
const (
	Read Kind = iota
	Write
	Fsync
	Open
	Release
	Lookup
	Getattr
	Setattr
	Readdir
	Names // what makes, moves or removes a name
	Xattr
	Other
	kinds
)

var kindNames = [kinds]string{
	"read", "write", "fsync", "open", "release", "lookup", "getattr", "setattr", "readdir", "names", "xattr", "other",
}

// String is the kind as metrics label it.
func (k Kind) String() string { return kindNames[k] }

// Kinds lists all kinds.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Operations counts requests by kind. The zero value is ready, and its methods
// are safe for concurrent use.
type Operations struct {
	byKind  [kinds]counters
	read    atomic.Uint64
	written atomic.Uint64
}

type counters struct {
	latency Histogram
	failed  atomic.Uint64
	_       [64]byte // kinds share no cache line
}

// start is what Clock counts from.
var start = time.Now()

// Clock is a monotonic time: half the price of time.Now.
func Clock() time.Duration { return time.Since(start) }

// Done counts a request that began at a Clock's time and has ended now. failed
// says that the volume could not serve it, not merely that the answer was no.
func (o *Operations) Done(k Kind, began time.Duration, failed bool) {
	c := &o.byKind[k]
	c.latency.Observe(Clock() - began)
	if failed {
		c.failed.Add(1)
	}
}

// AddRead counts bytes that a reader was given.
func (o *Operations) AddRead(n int) { o.read.Add(uint64(n)) }

// AddWritten counts bytes that were taken from a writer.
func (o *Operations) AddWritten(n int) { o.written.Add(uint64(n)) }

// Bytes tells how much was read and written.
func (o *Operations) Bytes() (read, written uint64) { return o.read.Load(), o.written.Load() }

// Latency tells how long the requests of a kind took.
func (o *Operations) Latency(k Kind) Distribution { return o.byKind[k].latency.Read() }

// Failed tells how many requests of a kind failed.
func (o *Operations) Failed(k Kind) uint64 { return o.byKind[k].failed.Load() }
