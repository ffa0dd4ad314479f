package fuseloop

import (
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/crypto"
)

const (
	headerSize   = int(unsafe.Sizeof(fuse.InHeader{}))
	answerHeader = int(unsafe.Sizeof(fuse.OutHeader{}))

	// brief is how long a request may be that does not keep the buffer that it
	// was read into, which is as large as the largest request.
	brief = 512
	// small is how long an answer may be that is made in the reader itself: 4 KiB
	// of data, and what any answer has beside the data whose size is named,
	// such as the target of a link.
	small = 5 << 10
)

// reader is one goroutine that takes requests. Between them it holds nothing
// that a request brought or an answer took along, except headers.
type reader struct {
	cancel    chan struct{} // never closed: it tells whose a request is
	request   []byte        // that is being served, in copy or in large
	large     []byte        // nil, or the buffer that the request was read into
	copy      [brief]byte
	out       [small]byte // the answer, if it is small
	vector    [1][]byte
	postponed *postponed // the request that is being served
}

func newReader() *reader { return &reader{cancel: make(chan struct{})} }

// name is what a handler knows a reader by.
func (r *reader) name() <-chan struct{} { return r.cancel }

func (r *reader) header() *fuse.InHeader { return (*fuse.InHeader)(unsafe.Pointer(&r.request[0])) }

// take takes over a request of n bytes. One that is brief and brings no data
// does not keep its buffer: hundreds of them may wait for a disk at a time.
func (r *reader) take(buf []byte, n int, from *buffers) {
	r.request, r.large = buf[:n], buf
	if opcode := r.header().Opcode; n > brief || opcode == opWrite || opcode == opSetxattr {
		return
	}
	r.request = r.copy[:copy(r.copy[:], r.request)]
	clear(buf[:n])
	r.large = nil
	from.put(buf)
}

// letGo ends a request: it gives back its buffer, which has been wiped, or
// clears its copy.
func (r *reader) letGo(to *buffers) {
	if r.large == nil {
		clear(r.request[headerSize:])
		return
	}
	to.put(r.large)
	r.large = nil
}

// as is the request as one of go-fuse's types, and what follows that, if it is
// long enough.
func as[T any](r *reader) (in *T, rest []byte, ok bool) {
	size := int(unsafe.Sizeof(*in))
	if len(r.request) < size {
		return nil, nil, false
	}
	return (*T)(unsafe.Pointer(&r.request[0])), r.request[size:], true
}

// wipe zeroes what a request brought or its answer took along. It is done in
// crypto.Secretly, which clears the registers that have copied it, too: a
// thread may wait for its next request for a long time.
func wipe(data ...[]byte) {
	crypto.Secretly(func() {
		for _, d := range data {
			clear(d)
		}
	})
}
