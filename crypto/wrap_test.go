package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestWrapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), KeySize, KeySize)
		kek, err := KeyFromBytes(raw.Draw(t, "kek"))
		if err != nil {
			t.Fatal(err)
		}
		defer kek.Destroy()
		k, err := KeyFromBytes(raw.Draw(t, "key"))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Destroy()
		ad := rapid.SliceOf(rapid.Byte()).Draw(t, "ad")
		wrapped, err := WrapKey(kek, k, ad)
		if err != nil || len(wrapped) != WrappedKeySize {
			t.Fatalf("%d bytes, error %v", len(wrapped), err)
		}
		again, err := UnwrapKey(kek, wrapped, ad)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Destroy()
		if !again.Equal(k) {
			t.Fatal("another key came back")
		}
	})
}

// TestWrapIsStable: the keys of volumes on disks are wrapped like this. The
// value comes from a separate implementation.
func TestWrapIsStable(t *testing.T) {
	kek, k, ad := testKey(t, 1), testKey(t, 2), []byte("volume and file")
	nonce := make([]byte, NonceSize)
	for i := range nonce {
		nonce[i] = byte(i)
	}
	wrapped, err := wrapWith(append(nonce, make([]byte, commitmentSize)...), kek, k, ad)
	check(t, err)
	wantHex(t, "wrapped key", wrapped, "000102030405060708090a0b0c0d0e0f1011121314151617"+
		"3117f17ef04d0cd9682489cc8100cb00a38c3a47869702b484ad6fbdfa52ef83"+
		"e36be6e89c445bd661209a6932259e3363db3c2ea3a2c82f111cead96bf440ef"+"d3524fb2352bc421ead32e1ee92c08a1")
	again, err := UnwrapKey(kek, wrapped, ad)
	check(t, err)
	defer again.Destroy()
	if !again.Equal(k) {
		t.Error("another key came back")
	}
}

func TestWrapIsRandom(t *testing.T) {
	kek, k := testKey(t, 1), testKey(t, 2)
	seen := map[string]bool{}
	for range 100 {
		wrapped, err := WrapKey(kek, k, nil)
		check(t, err)
		for _, part := range [][]byte{wrapped[:NonceSize], wrapped[NonceSize:sealedAt], wrapped[sealedAt:]} {
			if seen[string(part)] {
				t.Fatalf("%x again", part)
			}
			seen[string(part)] = true
		}
	}
}

// TestUnwrapRefusals changes every bit of a wrapped key, and each input.
func TestUnwrapRefusals(t *testing.T) {
	kek, other, k, ad := testKey(t, 1), testKey(t, 3), testKey(t, 2), []byte("volume and file")
	wrapped, err := WrapKey(kek, k, ad)
	check(t, err)
	refuse := func(name string, kek *Key, wrapped, ad []byte) {
		t.Helper()
		if k, err := UnwrapKey(kek, wrapped, ad); err != ErrAuth || k != nil {
			t.Errorf("%s: %v, error %v", name, k, err)
		}
	}
	refuse("other kek", other, wrapped, ad)
	refuse("no ad", kek, wrapped, nil)
	refuse("longer ad", kek, wrapped, append(bytes.Clone(ad), 0))
	refuse("other ad", kek, wrapped, []byte("volume and fila"))
	refuse("zeros", kek, make([]byte, WrappedKeySize), ad)
	for bit := range len(wrapped) * 8 {
		w := bytes.Clone(wrapped)
		w[bit/8] ^= 1 << (bit % 8)
		refuse(fmt.Sprint("bit ", bit), kek, w, ad)
	}
	for _, n := range []int{0, NonceSize, WrappedKeySize - 1, WrappedKeySize + 1} {
		w := append(bytes.Clone(wrapped), 0)[:n]
		var size *SizeError
		if k, err := UnwrapKey(kek, w, ad); !errors.As(err, &size) || size.Got != n || size.Want != WrappedKeySize || k != nil {
			t.Errorf("%d bytes: %v, error %v", n, k, err)
		}
	}
}

// TestWrapDerivations checks that the encryption key and the commitment are
// those of the comment in wrap.go, and differ.
func TestWrapDerivations(t *testing.T) {
	raw, nonce, ad := bytes.Repeat([]byte{1}, KeySize), bytes.Repeat([]byte{9}, NonceSize), []byte("ad")
	var commitment [commitmentSize]byte
	c, err := wrapCipher(commitment[:], testKey(t, 1), nonce, ad)
	check(t, err)
	defer c.Destroy()
	wantHex(t, "commitment", commitment[:],
		hex.EncodeToString(hkdfModel(raw, nonce, []byte("akvfs/wrap/v1/commitmentad"), commitmentSize)))
	encryption := hkdfModel(raw, nonce, []byte("akvfs/wrap/v1/encryption"), KeySize)
	if hexOf(c.key) != hex.EncodeToString(encryption) || bytes.Equal(encryption, commitment[:]) {
		t.Errorf("the encryption key is %s instead of %x", hexOf(c.key), encryption)
	}
}

// TestKeyCommitment makes what the commitment is for: one ciphertext and tag
// that XAES-256-GCM opens under two keys. As a wrapped key it opens under the
// one that its commitment belongs to, and under no other.
func TestKeyCommitment(t *testing.T) {
	nonce, ad := bytes.Repeat([]byte{7}, NonceSize), []byte("ad")
	keks := []*Key{testKey(t, 1), testKey(t, 2)}
	var commitments [2][commitmentSize]byte
	var ciphers [2]*BlockCipher
	var h, mask [2]field
	for i, kek := range keks {
		var err error
		ciphers[i], err = wrapCipher(commitments[i][:], kek, nonce, ad)
		check(t, err)
		defer ciphers[i].Destroy()
		h[i], mask[i] = gcmKeys(t, ciphers[i], nonce)
	}
	sealed := collide(h, mask, ad)
	for i, c := range ciphers {
		if _, err := c.Open(nil, nonce, sealed, ad); err != nil {
			t.Fatalf("the ciphertext does not open under key %d: the test proves nothing", i)
		}
	}
	for committed := range keks {
		wrapped := bytes.Join([][]byte{nonce, commitments[committed][:], sealed}, nil)
		for i, kek := range keks {
			k, err := UnwrapKey(kek, wrapped, ad)
			if opens := err == nil; opens != (i == committed) {
				t.Errorf("committed to key %d, unwrapped under key %d: error %v", committed, i, err)
			}
			if k != nil {
				k.Destroy()
			}
		}
	}
}

// field is an element of GF(2^128) in GCM's order of bits (NIST SP 800-38D,
// section 6.3).
type field [16]byte

func (a field) plus(b field) field {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

func (a field) times(b field) (p field) {
	for i := range 128 {
		if a[i/8]>>(7-i%8)&1 == 1 {
			p = p.plus(b)
		}
		last := b[15] & 1
		for j := 15; j > 0; j-- {
			b[j] = b[j]>>1 | b[j-1]<<7
		}
		b[0] = b[0]>>1 ^ last*0xe1
	}
	return p
}

// inverse is a^(2^128-2).
func (a field) inverse() field {
	r := field{0x80}
	for range 127 {
		a = a.times(a)
		r = r.times(a)
	}
	return r
}

// gcmKeys returns the hash key and the mask of the tag.
func gcmKeys(t *testing.T, c *BlockCipher, nonce []byte) (h, mask field) {
	c.key.View(func(key []byte) {
		outer, err := aes.NewCipher(key)
		check(t, err)
		inner, err := aes.NewCipher(xaesSubkey(outer, prefix(nonce[:prefixSize])))
		check(t, err)
		inner.Encrypt(h[:], h[:])
		copy(mask[:], nonce[prefixSize:])
		mask[15] = 1
		inner.Encrypt(mask[:], mask[:])
	})
	return h, mask
}

// collide returns two blocks of ciphertext and a tag that are valid under both
// keys. With ad and lengths of one block each the tag is
// ad·h^4 + c1·h^3 + c2·h^2 + lengths·h + mask; c1 is chosen and c2 solved for.
func collide(h, mask [2]field, ad []byte) []byte {
	var adBlock, c1, lengths field
	copy(adBlock[:], ad)
	c1[0] = 0x55
	lengths[7], lengths[14] = byte(8*len(ad)), 1 // 256 bits of ciphertext
	tag := func(i int, c2 field) field {
		sum := adBlock
		for _, next := range []field{c1, c2, lengths} {
			sum = sum.times(h[i]).plus(next)
		}
		return sum.times(h[i]).plus(mask[i])
	}
	squares := h[0].times(h[0]).plus(h[1].times(h[1]))
	c2 := tag(0, field{}).plus(tag(1, field{})).times(squares.inverse())
	out := append(c1[:], c2[:]...)
	final := tag(0, c2)
	return append(out, final[:]...)
}

// TestForgedZeroNonce: a nonce of zeros is the salt that Derive has, so the
// infos keep the derivations apart.
func TestForgedZeroNonce(t *testing.T) {
	prk, err := hkdf.Extract(sha256.New, bytes.Repeat([]byte{1}, KeySize), make([]byte, NonceSize))
	check(t, err)
	plain, err := hkdf.Extract(sha256.New, bytes.Repeat([]byte{1}, KeySize), nil)
	check(t, err)
	if !bytes.Equal(prk, plain) {
		t.Error("the salts differ, so the comment on wrapInfo is wrong")
	}
	for _, info := range []string{wrapInfo, commitInfo} {
		if info[:len(derivePrefix)] == derivePrefix {
			t.Errorf("%q is an info of Derive", info)
		}
	}
}

func FuzzUnwrapKey(f *testing.F) {
	kek, k := testKey(f, 1), testKey(f, 2)
	// With a fixed nonce, so that all processes of the fuzzer have the same one.
	wrapped, err := wrapWith(make([]byte, sealedAt, WrappedKeySize), kek, k, []byte("ad"))
	check(f, err)
	f.Add(wrapped, []byte("ad"))
	f.Add(wrapped, []byte("da"))
	f.Add(wrapped[:WrappedKeySize-1], []byte("ad"))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, w, ad []byte) {
		got, err := UnwrapKey(kek, w, ad)
		if genuine := bytes.Equal(w, wrapped) && string(ad) == "ad"; genuine != (err == nil) {
			t.Fatalf("genuine: %v, error %v", genuine, err)
		}
		if err == nil {
			got.Destroy()
		}
	})
}

func BenchmarkWrapKey(b *testing.B) {
	kek, k, ad := testKey(b, 1), testKey(b, 2), make([]byte, 32)
	wrapped, err := WrapKey(kek, k, ad)
	check(b, err)
	b.Run("wrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := WrapKey(kek, k, ad); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unwrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			got, err := UnwrapKey(kek, wrapped, ad)
			if err != nil {
				b.Fatal(err)
			}
			got.Destroy()
		}
	})
}
