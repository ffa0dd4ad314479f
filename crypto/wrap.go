package crypto

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
)

// A wrapped key is nonce ‖ commitment ‖ ciphertext ‖ tag. Both the encryption
// key and the commitment come from one HKDF-SHA256 (RFC 5869) extraction of
// the wrapping key, salted with the nonce, by expansions that differ in info:
//
//	prk        = Extract(salt: nonce, key: kek)
//	encryption = Expand(prk, "akvfs/wrap/v1/encryption")
//	commitment = Expand(prk, "akvfs/wrap/v1/commitment" ‖ ad)
//	ciphertext ‖ tag = XAES-256-GCM(encryption, nonce, key, ad)
//
// The commitment is there because AES-GCM has none, nor has XAES: whoever
// chooses keys can make one ciphertext that opens under two of them, to two
// plaintexts (Albertini et al., "How to Abuse and Fix Authenticated Encryption
// Without Key Commitment", USENIX Security 2022). A volume has several wrapping
// keys, and a wrapped key is tried with them, so it must open under one alone.
// SHA-256 makes the commitment collision resistant in key, nonce and associated
// data, all of fixed length or last in their input. That is context commitment
// (CMTD-3 of Bellare and Hoang, "Efficient Schemes for Committing Authenticated
// Encryption", EUROCRYPT 2022; by their result the plaintext is bound as well).
// The encryption key is no input of the commitment and does not follow from it.
const (
	commitmentSize = sha256.Size
	sealedAt       = NonceSize + commitmentSize

	// WrappedKeySize is the length of a wrapped key in bytes.
	WrappedKeySize = sealedAt + KeySize + TagSize

	// These cannot be an info of Derive, which differs in its seventh byte: a
	// forged nonce of zeros is the same salt as none.
	wrapInfo   = "akvfs/wrap/v1/encryption"
	commitInfo = "akvfs/wrap/v1/commitment"
)

// WrapKey encrypts k under kek, bound to ad, with a random nonce: any number
// of keys may be wrapped under one kek. The result has WrappedKeySize bytes,
// and opens under kek and with ad alone. The error is [ErrDestroyed] or a
// [*LockError].
func WrapKey(kek, k *Key, ad []byte) ([]byte, error) {
	wrapped := make([]byte, sealedAt, WrappedKeySize)
	if _, err := rand.Read(wrapped[:NonceSize]); err != nil {
		return nil, err
	}
	return wrapWith(wrapped, kek, k, ad)
}

// wrapWith completes a wrapped key that so far is a nonce.
func wrapWith(wrapped []byte, kek, k *Key, ad []byte) ([]byte, error) {
	nonce := wrapped[:NonceSize]
	c, err := wrapCipher(wrapped[NonceSize:sealedAt], kek, nonce, ad)
	if err != nil {
		return nil, err
	}
	defer c.Destroy()
	err = k.use(func(b []byte) error {
		secretly(func() { wrapped = c.Seal(wrapped, nonce, b, ad) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return wrapped, nil
}

// UnwrapKey is the inverse of WrapKey. The error is [ErrAuth] if wrapped is
// not a key that was wrapped under kek and bound to ad; a [*SizeError],
// [ErrDestroyed] or a [*LockError].
func UnwrapKey(kek *Key, wrapped, ad []byte) (*Key, error) {
	if len(wrapped) != WrappedKeySize {
		return nil, &SizeError{What: "wrapped key", Got: len(wrapped), Want: WrappedKeySize}
	}
	nonce := wrapped[:NonceSize]
	var commitment [commitmentSize]byte
	c, err := wrapCipher(commitment[:], kek, nonce, ad)
	if err != nil {
		return nil, err
	}
	defer c.Destroy()
	if subtle.ConstantTimeCompare(commitment[:], wrapped[NonceSize:sealedAt]) != 1 {
		return nil, ErrAuth
	}
	return makeKey(func(b []byte) (err error) {
		secretly(func() { _, err = c.Open(b[:0], nonce, wrapped[sealedAt:], ad) })
		return err
	})
}

// wrapCipher returns the cipher for one wrapped key, and writes the commitment
// to kek, nonce and ad.
func wrapCipher(commitment []byte, kek *Key, nonce, ad []byte) (*BlockCipher, error) {
	key, err := makeKey(func(b []byte) error {
		return kek.use(func(kek []byte) (err error) {
			secretly(func() { err = expandWrap(b, commitment, kek, nonce, ad) })
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return NewBlockCipher(key)
}

func expandWrap(encryption, commitment, kek, nonce, ad []byte) error {
	prk, err := hkdf.Extract(sha256.New, kek, nonce)
	if err != nil {
		return err
	}
	defer clear(prk)
	if err := expandInto(encryption, prk, wrapInfo); err != nil {
		return err
	}
	return expandInto(commitment, prk, commitInfo+string(ad))
}

func expandInto(out, prk []byte, info string) error {
	b, err := hkdf.Expand(sha256.New, prk, info, len(out))
	copy(out, b)
	clear(b)
	return err
}
