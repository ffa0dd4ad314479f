package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

const blockSize = 4096

// TestBlockRefusals changes each input of an Open in turn.
func TestBlockRefusals(t *testing.T) {
	c := blockCipher(t, testKey(t, 1))
	other := blockCipher(t, testKey(t, 2))
	nonce, ad := make([]byte, NonceSize), []byte("volume, file, block")
	plain := bytes.Repeat([]byte("data"), 8)
	sealed := c.Seal(nil, nonce, plain, ad)
	open := func(c *BlockCipher, nonce, sealed, ad []byte) ([]byte, error) {
		dst := bytes.Repeat([]byte{0xaa}, blockSize)[:0]
		out, err := c.Open(dst, nonce, sealed, ad)
		if err != nil && bytes.Contains(dst[:cap(dst)], plain[:8]) {
			t.Error("a refused block left its plaintext in dst")
		}
		return out, err
	}
	out, err := open(c, nonce, sealed, ad)
	check(t, err)
	if !bytes.Equal(out, plain) {
		t.Fatalf("opened %q", out)
	}
	flip := func(b []byte, bit int) []byte {
		b = bytes.Clone(b)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	type attempt struct {
		name              string
		c                 *BlockCipher
		nonce, sealed, ad []byte
	}
	attempts := []attempt{
		{"other key", other, nonce, sealed, ad},
		{"no associated data", c, nonce, sealed, nil},
		{"truncated", c, nonce, sealed[:len(sealed)-1], ad},
		{"extended", c, nonce, append(bytes.Clone(sealed), 0), ad},
		{"shorter than a tag", c, nonce, sealed[:TagSize-1], ad},
		{"empty", c, nonce, nil, ad},
		{"zeros", c, nonce, make([]byte, len(sealed)), ad},
	}
	for bit := range len(sealed) * 8 {
		attempts = append(attempts, attempt{fmt.Sprint("ciphertext bit ", bit), c, nonce, flip(sealed, bit), ad})
	}
	for bit := range len(nonce) * 8 {
		attempts = append(attempts, attempt{fmt.Sprint("nonce bit ", bit), c, flip(nonce, bit), sealed, ad})
	}
	for bit := range len(ad) * 8 {
		attempts = append(attempts, attempt{fmt.Sprint("ad bit ", bit), c, nonce, sealed, flip(ad, bit)})
	}
	for _, a := range attempts {
		if out, err := open(a.c, a.nonce, a.sealed, a.ad); err != ErrAuth || out != nil {
			t.Errorf("%s: opened %x, error %v", a.name, out, err)
		}
	}
}

// TestBlockModel compares a cipher with one key, many prefixes and reuse of
// buffers with plain XAES that caches nothing.
func TestBlockModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), KeySize, KeySize).Draw(t, "key")
		k, err := KeyFromBytes(bytes.Clone(raw))
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewBlockCipher(k)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Destroy()
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			nonce := make([]byte, NonceSize)
			nonce[rapid.IntRange(0, prefixSize-1).Draw(t, "at")] = byte(rapid.IntRange(0, 2).Draw(t, "prefix"))
			nonce[NonceSize-1] = rapid.Byte().Draw(t, "counter")
			plain := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "plain")
			ad := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "ad")
			before := rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "dst")

			aead, err := xaesAEAD(raw, prefix(nonce[:prefixSize]))
			if err != nil {
				t.Fatal(err)
			}
			want := aead.Seal(bytes.Clone(before), nonce[prefixSize:], plain, ad)
			sealed := c.Seal(bytes.Clone(before), nonce, plain, ad)
			if !bytes.Equal(sealed, want) {
				t.Fatalf("sealed %x instead of %x", sealed, want)
			}
			sealed = sealed[len(before):]
			opened, err := c.Open(sealed[:0], nonce, sealed, ad) // in place
			if err != nil || !bytes.Equal(opened, plain) {
				t.Fatalf("opened %x instead of %x: %v", opened, plain, err)
			}
			if n := len(*c.cached.Load()); n > maxSubkeys {
				t.Fatalf("%d subkeys are cached", n)
			}
		}
	})
}

// TestSubkeyEviction fills the cache, and finds that the oldest makes way.
func TestSubkeyEviction(t *testing.T) {
	c := blockCipher(t, testKey(t, 1))
	nonce := func(i int) []byte {
		n := make([]byte, NonceSize)
		binary.BigEndian.PutUint64(n, uint64(i))
		return n
	}
	sealed := make([][]byte, 3*maxSubkeys)
	for i := range sealed {
		sealed[i] = c.Seal(nil, nonce(i), []byte("x"), nil)
	}
	for i := range sealed {
		cached := c.lookup(prefix(nonce(i)[:prefixSize])) != nil
		if want := i >= len(sealed)-maxSubkeys; cached != want {
			t.Errorf("prefix %d: cached is %v", i, cached)
		}
	}
	for i := range sealed {
		_, err := c.Open(nil, nonce(i), sealed[i], nil)
		check(t, err)
	}
}

func TestBlockDestroy(t *testing.T) {
	c := blockCipher(t, testKey(t, 1))
	nonce := make([]byte, NonceSize)
	sealed := c.Seal(nil, nonce, []byte("x"), nil)
	c.Destroy()
	c.Destroy()
	other := bytes.Repeat([]byte{1}, NonceSize)
	for _, n := range [][]byte{nonce, other} {
		if out, err := c.Open(nil, n, sealed, nil); err != ErrDestroyed || out != nil {
			t.Errorf("opened %x, error %v", out, err)
		}
		wantPanic(t, ErrDestroyed, func() { c.Seal(nil, n, []byte("x"), nil) })
	}
}

func TestBlockOwnsItsKey(t *testing.T) {
	k := testKey(t, 1)
	c := blockCipher(t, k)
	c.Destroy()
	wantPanic(t, ErrDestroyed, func() { k.View(func([]byte) {}) })
}

func TestWrongNonceSize(t *testing.T) {
	c := blockCipher(t, testKey(t, 1))
	if c.NonceSize() != NonceSize || c.Overhead() != TagSize {
		t.Errorf("sizes are %d and %d", c.NonceSize(), c.Overhead())
	}
	for _, n := range []int{0, 12, 23, 25} {
		for name, f := range map[string]func(){
			"Seal": func() { c.Seal(nil, make([]byte, n), nil, nil) },
			"Open": func() { c.Open(nil, make([]byte, n), make([]byte, TagSize), nil) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s took a nonce of %d bytes", name, n)
					}
				}()
				f()
			}()
		}
	}
}

// TestConcurrentBlocks seals and opens under more prefixes than are cached,
// and destroys the cipher in the midst of it: every operation gives the right
// answer or ErrDestroyed.
func TestConcurrentBlocks(t *testing.T) {
	reference := blockCipher(t, testKey(t, 1))
	c := blockCipher(t, testKey(t, 1))
	const prefixes = 2 * maxSubkeys
	nonces, sealed := make([][]byte, prefixes), make([][]byte, prefixes)
	plain := []byte("plaintext")
	for i := range nonces {
		nonces[i] = bytes.Repeat([]byte{byte(i)}, NonceSize)
		sealed[i] = reference.Seal(nil, nonces[i], plain, nil)
	}
	started := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; ; i++ {
				if i == 200+g {
					started <- struct{}{}
				}
				if !sealAgrees(t, c, nonces[i%prefixes], plain, sealed[i%prefixes]) {
					return
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	c.Destroy()
	wg.Wait()
}

// sealAgrees returns false when c is destroyed.
func sealAgrees(t *testing.T, c *BlockCipher, nonce, plain, want []byte) (alive bool) {
	defer func() {
		if r := recover(); r != nil && r != ErrDestroyed {
			t.Errorf("panic: %v", r)
		}
	}()
	out, err := c.Open(nil, nonce, want, nil)
	if err == ErrDestroyed {
		return false
	}
	if err != nil || !bytes.Equal(out, plain) {
		t.Errorf("opened %x: %v", out, err)
	}
	if got := c.Seal(nil, nonce, plain, nil); !bytes.Equal(got, want) {
		t.Errorf("sealed %x instead of %x", got, want)
	}
	return true
}

func TestBlockPathAllocatesNothing(t *testing.T) {
	c := blockCipher(t, testKey(t, 1))
	nonce, ad, plain := make([]byte, NonceSize), make([]byte, 40), make([]byte, blockSize)
	sealed := c.Seal(make([]byte, 0, blockSize+TagSize), nonce, plain, ad)
	if n := testing.AllocsPerRun(100, func() { c.Seal(sealed[:0], nonce, plain, ad) }); n != 0 {
		t.Errorf("Seal allocates %v times", n)
	}
	open := func() {
		if _, err := c.Open(plain[:0], nonce, sealed, ad); err != nil {
			t.Error(err)
		}
	}
	if n := testing.AllocsPerRun(100, open); n != 0 {
		t.Errorf("Open allocates %v times", n)
	}
	nonces := newNonceSource(fromKernel)
	next := new([NonceSize]byte)
	if n := testing.AllocsPerRun(100, func() { nonces.Next(next) }); n != 0 {
		t.Errorf("Next allocates %v times", n)
	}
}

// BenchmarkBlock measures 4 KiB blocks: xaes is what the block path does, gcm
// is bare crypto/cipher. secretly is 32 blocks in one Secretly.
func BenchmarkBlock(b *testing.B) {
	raw := make([]byte, KeySize)
	rand.Read(raw)
	inner, err := aes.NewCipher(raw)
	check(b, err)
	gcm, err := cipher.NewGCM(inner)
	check(b, err)
	xaes := blockCipher(b, keyOf(b, raw))
	for _, v := range []struct {
		name string
		aead cipher.AEAD
	}{{"gcm", gcm}, {"xaes", xaes}} {
		nonce, ad, plain := make([]byte, v.aead.NonceSize()), make([]byte, 40), make([]byte, blockSize)
		sealed := v.aead.Seal(make([]byte, 0, blockSize+TagSize), nonce, plain, ad)
		seal := func() { v.aead.Seal(sealed[:0], nonce, plain, ad) }
		open := func() {
			if _, err := v.aead.Open(plain[:0], nonce, sealed, ad); err != nil {
				b.Error(err)
			}
		}
		benchmark(b, "seal/"+v.name, 1, seal)
		benchmark(b, "open/"+v.name, 1, open)
		benchmark(b, "seal/secretly/"+v.name, 32, func() {
			Secretly(func() {
				for range 32 {
					seal()
				}
			})
		})
	}
	b.Run("parallel/xaes", func(b *testing.B) {
		b.SetBytes(blockSize)
		b.RunParallel(func(pb *testing.PB) {
			nonce, plain, out := make([]byte, NonceSize), make([]byte, blockSize), make([]byte, 0, blockSize+TagSize)
			for pb.Next() {
				xaes.Seal(out, nonce, plain, nil)
			}
		})
	})
}

func benchmark(b *testing.B, name string, blocks int64, f func()) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(blocks * blockSize)
		b.ReportAllocs()
		for b.Loop() {
			f()
		}
	})
}

// BenchmarkSubkey is what the first block under a new prefix costs more.
func BenchmarkSubkey(b *testing.B) {
	c := blockCipher(b, testKey(b, 1))
	nonce, out := make([]byte, NonceSize), make([]byte, 0, TagSize)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		binary.BigEndian.PutUint64(nonce, i)
		c.Seal(out, nonce, nil, nil)
	}
}
