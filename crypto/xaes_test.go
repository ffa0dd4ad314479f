package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/sha3"
	"encoding/hex"
	"fmt"
	"testing"
)

// TestXAESVectors are the test vectors of https://c2sp.org/XAES-256-GCM. In the
// first MSB(L) is 0, in the second 1.
func TestXAESVectors(t *testing.T) {
	for _, v := range []struct {
		key              byte
		l, k1, subkey    string
		ad, want, plain  string
		nonce, lastNonce string
	}{{
		key: 1, l: "7298caa565031eadc6ce23d23ea66378", k1: "e531954aca063d5b8d9c47a47d4cc6f0",
		subkey: "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
		nonce:  "ABCDEFGHIJKLMNOPQRSTUVWX", lastNonce: "4d4e4f505152535455565758",
		plain: "XAES-256-GCM", want: "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
	}, {
		key: 3, l: "91c08762876dccf9ba204a33768fa5fe", k1: "23810ec50edb99f374409466ed1f4b7b",
		subkey: "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
		nonce:  "ABCDEFGHIJKLMNOPQRSTUVWX", lastNonce: "4d4e4f505152535455565758",
		plain: "XAES-256-GCM", ad: "c2sp.org/XAES-256-GCM",
		want: "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
	}} {
		t.Run(fmt.Sprint(v.key), func(t *testing.T) {
			block, err := aes.NewCipher(bytes.Repeat([]byte{v.key}, KeySize))
			check(t, err)
			var b [aes.BlockSize]byte
			block.Encrypt(b[:], b[:])
			wantHex(t, "L", b[:], v.l)
			double(&b)
			wantHex(t, "K1", b[:], v.k1)
			wantHex(t, "subkey", xaesSubkey(block, prefix([]byte(v.nonce)[:prefixSize])), v.subkey)
			wantHex(t, "inner nonce", []byte(v.nonce)[prefixSize:], v.lastNonce)

			c := blockCipher(t, testKey(t, v.key))
			sealed := c.Seal(nil, []byte(v.nonce), []byte(v.plain), []byte(v.ad))
			wantHex(t, "ciphertext", sealed, v.want)
			plain, err := c.Open(nil, []byte(v.nonce), sealed, []byte(v.ad))
			check(t, err)
			if string(plain) != v.plain {
				t.Errorf("plaintext is %q", plain)
			}
		})
	}
}

func wantHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s is %x instead of %s", what, got, want)
	}
}

// TestXAESAccumulated are the specification's accumulated tests: inputs from
// one SHAKE128, the ciphertexts into another.
func TestXAESAccumulated(t *testing.T) {
	for _, v := range []struct {
		rounds int
		want   string
	}{
		{10_000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"},
		{1_000_000, "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"},
	} {
		t.Run(fmt.Sprint(v.rounds), func(t *testing.T) {
			source, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
			for range v.rounds {
				sum.Write(accumulate(t, source))
			}
			got := make([]byte, 32)
			sum.Read(got)
			wantHex(t, "the hash of all ciphertexts", got, v.want)
		})
	}
}

// accumulate reads one test from source, seals, opens, and returns the
// ciphertext.
func accumulate(t *testing.T, source *sha3.SHAKE) []byte {
	read := func(n int) []byte {
		b := make([]byte, n)
		source.Read(b)
		return b
	}
	readVector := func() []byte { return read(int(read(1)[0])) }
	key, err := KeyFromBytes(read(KeySize))
	check(t, err)
	nonce, plain, ad := read(NonceSize), readVector(), readVector()
	c, err := NewBlockCipher(key)
	check(t, err)
	defer c.Destroy()
	sealed := c.Seal(nil, nonce, plain, ad)
	opened, err := c.Open(nil, nonce, sealed, ad)
	if err != nil || !bytes.Equal(opened, plain) {
		t.Fatalf("opened %x instead of %x: %v", opened, plain, err)
	}
	return sealed
}
