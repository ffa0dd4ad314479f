package keymgr

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
)

// unlocker unwraps the master keys of one keyring. It opens each key's
// provider once.
type unlocker struct {
	volume    uuid.UUID
	open      func(keyID string) (Provider, error)
	providers map[string]Provider // by AKI
	worked    string              // key ID that opened a master key, to be tried first
}

func newUnlocker(volume uuid.UUID, open func(keyID string) (Provider, error)) *unlocker {
	return &unlocker{volume: volume, open: open, providers: map[string]Provider{}}
}

// unlock tries m's wraps in their order until one opens. Each gets an equal
// share of what is left of ctx's time, so that a vault which does not answer
// leaves some for the next. All failures together are the error; see verdict.
func (u *unlocker) unlock(ctx context.Context, m MasterKey) (*crypto.Key, error) {
	var failed []*KeyError
	for i, w := range u.order(m.Wraps) {
		key, err := u.try(ctx, len(m.Wraps)-i, w, m)
		if err == nil {
			u.worked = w.KeyID
			return key, nil
		}
		ke, ok := errors.AsType[*KeyError](err)
		if !ok {
			return nil, err // ours, not the key's: no other wrap would help
		}
		dated := *ke
		dated.Since = w.Created
		failed = append(failed, &dated)
	}
	return nil, verdict(u.volume, failed)
}

// order puts the key that has worked first, and leaves the others in place.
func (u *unlocker) order(wraps []Wrap) []Wrap {
	first := slices.Clone(wraps)
	slices.SortStableFunc(first, func(a, b Wrap) int {
		switch {
		case a.KeyID == b.KeyID:
			return 0
		case a.KeyID == u.worked:
			return -1
		case b.KeyID == u.worked:
			return 1
		}
		return 0
	})
	return first
}

func (u *unlocker) try(ctx context.Context, left int, w Wrap, m MasterKey) (*crypto.Key, error) {
	p, err := u.provider(w)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	return unwrapMaster(ctx, p, w, u.volume, m)
}

func (u *unlocker) provider(w Wrap) (Provider, error) {
	if p := u.providers[w.AKI]; p != nil {
		return p, nil
	}
	p, err := u.open(w.AKI)
	if err != nil {
		return nil, asKeyError(err, Invalid, "open", w)
	}
	u.providers[w.AKI] = p
	return p, nil
}

// unwrapMaster asks p for the master key in w and believes nothing but the
// bytes that pass m's check value.
func unwrapMaster(ctx context.Context, p Provider, w Wrap, volume uuid.UUID, m MasterKey) (*crypto.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, asKeyError(err, Unreachable, "unwrap", w)
	}
	b, err := p.Unwrap(ctx, w.Wrapped())
	defer clear(b)
	if err != nil {
		return nil, asKeyError(err, Unreachable, "unwrap", w)
	}
	if len(b) != crypto.KeySize {
		return nil, mismatch(w, "WrongLength", fmt.Errorf("it gave back %d bytes instead of %d", len(b), crypto.KeySize))
	}
	key, err := crypto.KeyFromBytes(b)
	if err != nil {
		return nil, err
	}
	sum, err := checkValue(key, volume, m.ID)
	if err == nil && !hmac.Equal(sum, m.Check) {
		err = mismatch(w, "WrongKey", fmt.Errorf("it gave back other bytes than master key %s of volume %s", m.ID, volume))
	}
	if err != nil {
		key.Destroy()
		return nil, err
	}
	return key, nil
}

// wrapMaster wraps key under p and proves the wrap: what comes back from an
// unwrap must be the same key. Only such a wrap may go into a keyring.
func wrapMaster(ctx context.Context, p Provider, key *crypto.Key, volume uuid.UUID, m MasterKey, now time.Time) (Wrap, error) {
	// A copy, so that the provider's goroutines and waits are not inside View.
	plaintext := make([]byte, crypto.KeySize)
	defer clear(plaintext)
	key.View(func(b []byte) { copy(plaintext, b) })
	wrapped, err := p.Wrap(ctx, plaintext)
	w := Wrap{
		Provider: p.Name(), AKI: p.KeyID(), KeyID: wrapped.KeyID, Version: wrapped.Version,
		Operation: wrapped.Operation, Algorithm: wrapped.Algorithm, Created: stamp(now), Ciphertext: wrapped.Ciphertext,
	}
	if err != nil {
		return Wrap{}, asKeyError(err, Unreachable, "wrap", w)
	}
	if err := w.validate(); err != nil {
		return Wrap{}, &KeyError{Class: Invalid, KeyID: w.AKI, Op: OpWrap, Code: "BadWrap", Err: err}
	}
	again, err := unwrapMaster(ctx, p, w, volume, m)
	if err != nil {
		return Wrap{}, err
	}
	defer again.Destroy()
	if !again.Equal(key) {
		return Wrap{}, mismatch(w, "WrongKey", errors.New("a key that was wrapped to prove it came back as another"))
	}
	return w, nil
}

func mismatch(w Wrap, code string, err error) *KeyError {
	return &KeyError{Class: Mismatch, KeyID: w.AKI, Version: w.Version, Code: code, Op: "unwrap", Err: err}
}

// asKeyError finds the KeyError in a provider's error. Any other error (a
// context's, say) becomes one of the class given.
func asKeyError(err error, class Class, op string, w Wrap) *KeyError {
	if ke, ok := errors.AsType[*KeyError](err); ok {
		return ke
	}
	return &KeyError{Class: class, KeyID: w.AKI, Version: w.Version, Op: op, Err: err}
}

// rank orders failures by how telling they are; see UnopenedError.
var rank = map[Class]int{Unreachable: 1, Mismatch: 2, Revoked: 3, Credentials: 4, Invalid: 5}

// verdict makes one error of all failures. Unreachable beats all, because that
// key may open the volume later; a mismatch is the keyring's fault or the
// vault's, an *IntegrityError; else the first KeyError decides.
func verdict(volume uuid.UUID, failed []*KeyError) error {
	slices.SortStableFunc(failed, func(a, b *KeyError) int { return rank[a.Class] - rank[b.Class] })
	var err error = failed[0]
	if len(failed) > 1 {
		err = &UnopenedError{Volume: volume, Errors: failed}
	}
	if failed[0].Class == Mismatch {
		return &IntegrityError{File: KeyringFile, Volume: volume, Reason: "a wrapped master key is not what it should be", Err: err}
	}
	return err
}
