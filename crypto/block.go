package crypto

import (
	"crypto/cipher"
	"errors"
	"sync"
	"sync/atomic"
)

// NonceSize and TagSize are XAES-256-GCM's, in bytes.
const (
	NonceSize = 24
	TagSize   = 16
)

// maxSubkeys bounds a cipher's cache. A volume draws a nonce prefix a mount,
// so that the blocks of a file have as many as there were mounts that wrote
// it, and most of its blocks have few. A subkey costs about 800 bytes.
const maxSubkeys = 16

// ErrAuth says that a ciphertext is not what was made under this key with this
// nonce and associated data: it was changed, moved or made under another key.
var ErrAuth = errors.New("authentication failed")

// A BlockCipher is XAES-256-GCM (https://c2sp.org/XAES-256-GCM) under one key.
// All methods may be called concurrently. It keeps the AES-GCM instances of
// the last prefixes (first 12 bytes of a nonce) it saw, up to 16; with those
// it takes no lock and allocates nothing. It is a [cipher.AEAD].
//
// The arguments escape to the heap, as with every cipher.AEAD: who calls it
// without allocating keeps nonce and associated data in memory of his own.
type BlockCipher struct {
	key    *Key
	cached atomic.Pointer[[]subkey] // what it points to is never changed
	mu     sync.Mutex               // held to replace cached
}

// subkey is the AES-GCM instance for one prefix.
type subkey struct {
	prefix prefix
	aead   cipher.AEAD
}

var _ cipher.AEAD = (*BlockCipher)(nil)

// NewBlockCipher returns a cipher under k, which belongs to the cipher from
// then on, also if there is an error. The error is [ErrDestroyed].
func NewBlockCipher(k *Key) (*BlockCipher, error) {
	if err := k.use(func([]byte) error { return nil }); err != nil {
		return nil, err
	}
	return &BlockCipher{key: k}, nil
}

// NonceSize is the length of a nonce in bytes.
func (c *BlockCipher) NonceSize() int { return NonceSize }

// Overhead is how many bytes a ciphertext is longer than its plaintext.
func (c *BlockCipher) Overhead() int { return TagSize }

// Seal appends the ciphertext and tag of plaintext to dst, which may begin
// where plaintext begins but must not overlap it otherwise. No nonce may be
// used twice under one key: see [NonceSource]. It panics if nonce is not
// NonceSize bytes, and with [ErrDestroyed] after Destroy.
func (c *BlockCipher) Seal(dst, nonce, plaintext, ad []byte) []byte {
	aead, err := c.under(nonce)
	if err != nil {
		panic(err)
	}
	return aead.Seal(dst, nonce[prefixSize:], plaintext, ad)
}

// Open appends the plaintext of ciphertext to dst, which may begin where
// ciphertext begins but must not overlap it otherwise. The error is [ErrAuth],
// with dst's spare room zeroed, or [ErrDestroyed]. It panics if nonce is not
// NonceSize bytes.
func (c *BlockCipher) Open(dst, nonce, ciphertext, ad []byte) ([]byte, error) {
	aead, err := c.under(nonce)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(dst, nonce[prefixSize:], ciphertext, ad)
	if err != nil {
		return nil, ErrAuth
	}
	return plain, nil
}

// Destroy zeroes the key and lets go of all that was derived from it; see
// [Scrub] for when that is erased. An operation under way finishes; later ones
// fail. Idempotent.
func (c *BlockCipher) Destroy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key.Destroy()
	c.cached.Store(nil)
}

// under returns the AES-GCM instance for a nonce.
func (c *BlockCipher) under(nonce []byte) (cipher.AEAD, error) {
	if len(nonce) != NonceSize {
		panic("crypto: incorrect nonce length given to XAES-256-GCM")
	}
	p := prefix(nonce[:prefixSize])
	if aead := c.lookup(p); aead != nil {
		return aead, nil
	}
	return c.add(p)
}

func (c *BlockCipher) lookup(p prefix) cipher.AEAD {
	cached := c.cached.Load()
	if cached == nil {
		return nil
	}
	for i := range *cached {
		if s := &(*cached)[i]; s.prefix == p {
			return s.aead
		}
	}
	return nil
}

// add derives the instance for p, unless another goroutine just did, and
// publishes a list that begins with it and lacks the oldest if it were too
// long.
func (c *BlockCipher) add(p prefix) (cipher.AEAD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if aead := c.lookup(p); aead != nil {
		return aead, nil
	}
	s := subkey{prefix: p}
	err := c.key.use(func(key []byte) (err error) {
		secretly(func() { s.aead, err = xaesAEAD(key, p) })
		return err
	})
	if err != nil {
		return nil, err
	}
	list := append(make([]subkey, 0, maxSubkeys), s)
	if old := c.cached.Load(); old != nil {
		list = append(list, (*old)[:min(len(*old), maxSubkeys-1)]...)
	}
	c.cached.Store(&list)
	return s.aead, nil
}
