package crypto

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

// derivePrefix begins the HKDF info of all keys that [Key.Derive] makes.
const derivePrefix = "akvfs/v1/"

// Derive returns the key for one purpose: HKDF-SHA256 (RFC 5869) of k without
// salt, with info "akvfs/v1/" + purpose. Keys for different purposes tell
// nothing of each other or of k. The error is [ErrDestroyed] or a [*LockError].
func (k *Key) Derive(purpose string) (*Key, error) {
	return makeKey(func(b []byte) error { return k.expand(b, purpose) })
}

// expand fills out with bytes for a purpose, for keys of any length.
func (k *Key) expand(out []byte, purpose string) error {
	return k.use(func(key []byte) (err error) {
		secretly(func() {
			var b []byte
			b, err = hkdf.Key(sha256.New, key, nil, derivePrefix+purpose, len(out))
			copy(out, b)
			clear(b)
		})
		return err
	})
}

// MAC returns HMAC-SHA256 (RFC 2104) of data under k, 32 bytes. A key for MACs
// should be derived for that purpose. Compare with [hmac.Equal]. The error is
// [ErrDestroyed].
func (k *Key) MAC(data []byte) ([]byte, error) {
	mac := make([]byte, 0, sha256.Size)
	err := k.use(func(key []byte) error {
		secretly(func() {
			h := hmac.New(sha256.New, key)
			h.Write(data) // never fails
			mac = h.Sum(mac)
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return mac, nil
}
