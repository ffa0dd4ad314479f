package crypto

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
)

// maxNonces is where a NonceSource ends: far beyond what a machine can do, and
// far enough below 2^64 that concurrent calls cannot carry the counter round.
const maxNonces = 1 << 63

// A NonceSource gives out XAES-256-GCM nonces of which no two are ever equal:
// 12 bytes drawn at random once a source, then a 96-bit big-endian counter
// from zero. With 2^32 sources in the life of a key, the odds that two of them
// share a prefix are 2^-33; nothing has to be kept on disk, so restoring an
// old backup repeats nothing. Methods may be called concurrently; none locks.
type NonceSource struct {
	prefix prefix
	count  atomic.Uint64
}

// NewNonceSource returns a source with a prefix of its own.
func NewNonceSource() (*NonceSource, error) {
	s := &NonceSource{}
	if _, err := rand.Read(s.prefix[:]); err != nil {
		return nil, err
	}
	return s, nil
}

// Next writes the next nonce. It panics rather than repeat one, after 2^63.
func (s *NonceSource) Next(nonce *[NonceSize]byte) {
	n := s.count.Add(1) - 1
	if n >= maxNonces {
		panic("crypto: all nonces of this source are used")
	}
	copy(nonce[:prefixSize], s.prefix[:])
	clear(nonce[prefixSize : NonceSize-8])
	binary.BigEndian.PutUint64(nonce[NonceSize-8:], n)
}
