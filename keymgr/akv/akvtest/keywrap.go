package akvtest

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// errCiphertext is what every unwrap says that fails.
var errCiphertext = errors.New("the ciphertext is not this key's")

// seal and open are the vault's cryptography for one version.
func (v *version) seal(alg string, plaintext []byte) ([]byte, error) {
	switch {
	case alg == "RSA-OAEP-256" && v.rsa != nil:
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, &v.rsa.PublicKey, plaintext, nil)
	case alg == "A256KW" && v.aes != nil:
		return wrapAES(v.aes, plaintext)
	}
	return nil, errors.New("the key has no algorithm " + alg)
}

func (v *version) open(alg string, ciphertext []byte) ([]byte, error) {
	switch {
	case alg == "RSA-OAEP-256" && v.rsa != nil:
		plaintext, err := rsa.DecryptOAEP(sha256.New(), nil, v.rsa, ciphertext, nil)
		if err != nil {
			return nil, errCiphertext
		}
		return plaintext, nil
	case alg == "A256KW" && v.aes != nil:
		return unwrapAES(v.aes, ciphertext)
	}
	return nil, errors.New("the key has no algorithm " + alg)
}

// keyWrapIV is the initial value of RFC 3394 section 2.2.3.1.
const keyWrapIV = 0xA6A6A6A6A6A6A6A6

// wrapAES is the key wrap of RFC 3394 section 2.2.1.
func wrapAES(kek, plaintext []byte) ([]byte, error) {
	if len(plaintext) < 16 || len(plaintext)%8 != 0 {
		return nil, errors.New("only multiples of 8 bytes, at least 16, can be wrapped")
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(plaintext) / 8
	out := make([]byte, 8+len(plaintext))
	copy(out[8:], plaintext)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], keyWrapIV)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			copy(out[8*i:], b[8:])
			a := binary.BigEndian.Uint64(b[:8]) ^ uint64(n*j+i)
			binary.BigEndian.PutUint64(b[:8], a)
		}
	}
	copy(out, b[:8])
	return out, nil
}

// unwrapAES is the key unwrap of RFC 3394 section 2.2.2.
func unwrapAES(kek, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < 24 || len(ciphertext)%8 != 0 {
		return nil, errCiphertext
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(ciphertext)/8 - 1
	out := append([]byte(nil), ciphertext[8:]...)
	var b [16]byte
	copy(b[:8], ciphertext)
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			a := binary.BigEndian.Uint64(b[:8]) ^ uint64(n*j+i)
			binary.BigEndian.PutUint64(b[:8], a)
			copy(b[8:], out[8*(i-1):])
			block.Decrypt(b[:], b[:])
			copy(out[8*(i-1):], b[8:])
		}
	}
	var iv [8]byte
	binary.BigEndian.PutUint64(iv[:], keyWrapIV)
	if subtle.ConstantTimeCompare(b[:8], iv[:]) != 1 {
		return nil, errCiphertext
	}
	return out, nil
}
