package crypto

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// A nonce is a prefix, which selects the subkey; then bytes drawn for this
// nonce alone; then a big-endian counter.
const (
	freshSize   = 8
	freshEnd    = prefixSize + freshSize
	counterSize = NonceSize - freshEnd
	// seriesLength is how many nonces have one prefix.
	seriesLength = 1 << (8 * counterSize)
)

// A NonceSource gives out XAES-256-GCM nonces of which no two are ever equal.
// Methods may be called concurrently.
//
// Within a source the counter sees to it: a prefix of 12 random bytes serves
// 2^32 nonces, and then there is another. Between sources, such as those of
// two mounts, the prefix does: with 2^32 of them in the life of a key, the odds
// that two are equal are 2^-33. Nothing has to be kept on disk, so restoring
// an old backup repeats nothing.
//
// Between a source and its own copy, in a virtual machine that was resumed
// twice from one snapshot of its memory, prefix and counter are the same. So
// each nonce gets 8 bytes from the kernel's generator as well, drawn when it
// is needed: Linux seeds that anew, before a copied machine goes on, where
// the hypervisor tells it of the copy (VM generation ID). The odds that the
// same nonce of two copies is equal are 2^-64 then.
type NonceSource struct {
	current atomic.Pointer[series]
	random  func([]byte)
	mu      sync.Mutex // held to begin a series
}

// series are the nonces with one prefix.
type series struct {
	prefix prefix
	count  atomic.Uint64 // of nonces that were given out, or asked for after the last
}

// NewNonceSource returns a source with a prefix of its own.
func NewNonceSource() (*NonceSource, error) {
	if _, err := rand.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	return newNonceSource(fromKernel), nil
}

// fromKernel does not return without its bytes: crypto/rand ends the program
// if the system has none.
func fromKernel(b []byte) { _, _ = rand.Read(b) }

func newNonceSource(random func([]byte)) *NonceSource {
	n := &NonceSource{random: random}
	n.begin(nil)
	return n
}

// begin begins a new series, unless another caller did so after old.
func (n *NonceSource) begin(old *series) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current.Load() != old {
		return
	}
	s := &series{}
	n.random(s.prefix[:])
	n.current.Store(s)
}

// Next writes the next nonce.
func (n *NonceSource) Next(nonce *[NonceSize]byte) {
	for {
		s := n.current.Load()
		if i := s.count.Add(1) - 1; i < seriesLength {
			copy(nonce[:prefixSize], s.prefix[:])
			n.random(nonce[prefixSize:freshEnd])
			binary.BigEndian.PutUint32(nonce[freshEnd:], uint32(i))
			return
		}
		n.begin(s)
	}
}

// NonceAfter reports whether a source gave out nonce a after nonce b. Of nonces
// of different series, and so of different sources, that is not known, and the
// answer is false.
func NonceAfter(a, b []byte) bool {
	return bytes.Equal(a[:prefixSize], b[:prefixSize]) &&
		binary.BigEndian.Uint32(a[freshEnd:]) > binary.BigEndian.Uint32(b[freshEnd:])
}
