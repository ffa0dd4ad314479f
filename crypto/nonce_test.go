package crypto

import (
	"bytes"
	"encoding/hex"
	"sync"
	"testing"
)

func TestNonceForm(t *testing.T) {
	s, err := NewNonceSource()
	check(t, err)
	if s.prefix == (prefix{}) {
		t.Error("the prefix is zero")
	}
	for _, v := range []struct {
		count uint64
		want  string
	}{
		{0, "000000000000000000000000"},
		{1, "000000000000000000000001"},
		{0xff, "0000000000000000000000ff"},
		{1 << 32, "000000000000000100000000"},
		{maxNonces - 1, "000000007fffffffffffffff"},
	} {
		s.count.Store(v.count)
		nonce := [NonceSize]byte(bytes.Repeat([]byte{0xee}, NonceSize))
		s.Next(&nonce)
		if want := hex.EncodeToString(s.prefix[:]) + v.want; hex.EncodeToString(nonce[:]) != want {
			t.Errorf("nonce %d is %x instead of %s", v.count, nonce, want)
		}
	}
}

// TestNoncesEnd: at the end there is a panic, again and again, and no nonce.
func TestNoncesEnd(t *testing.T) {
	s, err := NewNonceSource()
	check(t, err)
	s.count.Store(maxNonces)
	for range 3 {
		var nonce [NonceSize]byte
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a nonce beyond the last")
				}
			}()
			s.Next(&nonce)
		}()
		if nonce != [NonceSize]byte{} {
			t.Errorf("nonce %x was written", nonce)
		}
	}
}

func TestNoncesNeverRepeat(t *testing.T) {
	const goroutines, each = 8, 5000
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[[NonceSize]byte]bool{}
	for range 2 { // two sources, as of two mounts
		s, err := NewNonceSource()
		check(t, err)
		for range goroutines {
			wg.Go(func() {
				own := make([][NonceSize]byte, each)
				for i := range own {
					s.Next(&own[i])
				}
				mu.Lock()
				defer mu.Unlock()
				for _, n := range own {
					if seen[n] {
						t.Errorf("%x again", n)
					}
					seen[n] = true
				}
			})
		}
	}
	wg.Wait()
	if len(seen) != 2*goroutines*each {
		t.Errorf("%d different nonces", len(seen))
	}
}

func BenchmarkNonce(b *testing.B) {
	var s NonceSource
	b.RunParallel(func(pb *testing.PB) {
		nonce := new([NonceSize]byte)
		for pb.Next() {
			s.Next(nonce)
		}
	})
}
