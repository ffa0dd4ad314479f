package crypto

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
)

// KeySize is the length of every key in bytes.
const KeySize = 32

// ErrDestroyed is the error of, or the panic by, an operation with a key that
// was destroyed.
var ErrDestroyed = errors.New("the key was destroyed")

// A SizeError is about input of a wrong length, in bytes.
type SizeError struct {
	What      string
	Got, Want int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s has %d bytes instead of %d", e.What, e.Got, e.Want)
}

// A Key is 32 secret bytes in locked memory outside the Go heap. All methods
// may be called concurrently. Its owner calls Destroy; formatted, it shows
// nothing of its bytes.
type Key struct {
	state   atomic.Int64 // number of users now; plus destroyed
	slot    slot
	cleanup runtime.Cleanup // frees the slot of a key that was dropped
}

// destroyed is the bit in Key.state that lets no new user in.
const destroyed = 1 << 62

// NewKey returns a random key. The error is a [*LockError] when there is no
// locked memory.
func NewKey() (*Key, error) {
	return makeKey(func(b []byte) error {
		_, err := rand.Read(b)
		return err
	})
}

// KeyFromBytes moves the KeySize bytes of b into a key: b is zeroed, also if
// there is an error, which is a [*SizeError] or a [*LockError].
func KeyFromBytes(b []byte) (*Key, error) {
	defer clear(b)
	if len(b) != KeySize {
		return nil, &SizeError{What: "key", Got: len(b), Want: KeySize}
	}
	return makeKey(func(k []byte) error {
		copy(k, b)
		return nil
	})
}

// makeKey returns a key whose bytes fill wrote, into locked memory from the
// start.
func makeKey(fill func(b []byte) error) (*Key, error) {
	s, err := keys.take()
	if err != nil {
		return nil, err
	}
	b := s.bytes()
	if err := fill(b[:]); err != nil {
		keys.put(s)
		return nil, err
	}
	k := &Key{slot: s}
	k.cleanup = runtime.AddCleanup(k, keys.put, s)
	return k, nil
}

// use calls f with the key's bytes, which are valid until f returns.
func (k *Key) use(f func(b []byte) error) error {
	if !k.enter() {
		return ErrDestroyed
	}
	defer k.leave()
	b := k.slot.bytes()
	return f(b[:])
}

func (k *Key) enter() bool {
	for {
		n := k.state.Load()
		if n&destroyed != 0 {
			return false
		}
		if k.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (k *Key) leave() {
	if k.state.Add(-1) == destroyed {
		k.release()
	}
}

// release runs once: by Destroy, or by the last user to leave after it.
func (k *Key) release() {
	k.cleanup.Stop()
	keys.put(k.slot)
	runtime.KeepAlive(k) // else the cleanup could come between the two
}

// Destroy zeroes the key: at once, or as the last operation leaves that uses
// it now. No operation that begins later gets its bytes. Idempotent.
func (k *Key) Destroy() {
	for {
		n := k.state.Load()
		if n&destroyed != 0 {
			return
		}
		if k.state.CompareAndSwap(n, n|destroyed) {
			if n == 0 {
				k.release()
			}
			return
		}
	}
}

// View calls f with the key's bytes. They are valid, and must not be changed,
// until f returns; what f copies, or lets others copy, is the caller's to
// erase. View panics with [ErrDestroyed] if the key was destroyed.
func (k *Key) View(f func(b []byte)) {
	err := k.use(func(b []byte) error {
		f(b)
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// Equal reports whether both keys have the same bytes, in constant time. It
// panics with [ErrDestroyed] if one of them was destroyed.
func (k *Key) Equal(o *Key) bool {
	equal := false
	k.View(func(a []byte) {
		o.View(func(b []byte) { equal = subtle.ConstantTimeCompare(a, b) == 1 })
	})
	return equal
}

// Clone returns a key with the same bytes and a life of its own. The error is
// [ErrDestroyed] or a [*LockError].
func (k *Key) Clone() (*Key, error) {
	return makeKey(func(b []byte) error {
		return k.use(func(own []byte) error {
			copy(b, own)
			return nil
		})
	})
}

// Format writes the same words for every verb, so that no log or error shows
// more of a key.
func (k *Key) Format(f fmt.State, _ rune) {
	fmt.Fprint(f, "crypto.Key(secret)") // a failing write shows in f itself
}
