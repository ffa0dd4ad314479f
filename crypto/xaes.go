package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// prefixSize is how many bytes of an XAES nonce select the subkey; the rest is
// the AES-GCM nonce.
const prefixSize = 12

// prefix is the first half of a nonce.
type prefix [prefixSize]byte

// xaesAEAD returns AES-256-GCM under the subkey of key for p: the first five
// steps of https://c2sp.org/XAES-256-GCM. The AEAD is in the Go heap, and so
// are temporaries; see Secretly.
func xaesAEAD(key []byte, p prefix) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	sub := xaesSubkey(block, p)
	defer clear(sub)
	inner, err := aes.NewCipher(sub)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(inner)
}

// xaesSubkey is the KDF: NIST SP 800-108r1 in counter mode with CMAC-AES256,
// label "X", context p and a 16-bit counter. Each input is one AES block, so
// that a CMAC is one call of the block cipher.
func xaesSubkey(block cipher.Block, p prefix) []byte {
	var k1 [aes.BlockSize]byte
	defer clear(k1[:])
	block.Encrypt(k1[:], k1[:])
	double(&k1)
	sub := make([]byte, KeySize)
	for i := range 2 {
		m := sub[i*aes.BlockSize:][:aes.BlockSize]
		m[1], m[2] = byte(i+1), 'X'
		copy(m[4:], p[:])
		subtle.XORBytes(m, m, k1[:])
		block.Encrypt(m, m)
	}
	return sub
}

// double multiplies b by x in GF(2^128), in constant time: the generation of a
// CMAC subkey, NIST SP 800-38B section 6.1.
func double(b *[aes.BlockSize]byte) {
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ carry*0x87
}
