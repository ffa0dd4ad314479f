package crypto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"sync"
	"testing"
)

func TestNonceForm(t *testing.T) {
	s := newNonceSource(fromKernel)
	first := s.current.Load()
	if first.prefix == (prefix{}) {
		t.Error("the prefix is zero")
	}
	for _, v := range []struct {
		count uint64
		want  string
	}{
		{0, "00000000"},
		{1, "00000001"},
		{0xff, "000000ff"},
		{1 << 24, "01000000"},
		{seriesLength - 1, "ffffffff"},
	} {
		first.count.Store(v.count)
		nonce := [NonceSize]byte(bytes.Repeat([]byte{0xee}, NonceSize))
		s.Next(&nonce)
		if !bytes.Equal(nonce[:prefixSize], first.prefix[:]) || hex.EncodeToString(nonce[freshEnd:]) != v.want {
			t.Errorf("nonce %d is %x instead of %x … %s", v.count, nonce, first.prefix, v.want)
		}
		if bytes.Equal(nonce[prefixSize:freshEnd], bytes.Repeat([]byte{0xee}, freshSize)) {
			t.Errorf("nonce %d has nothing fresh in it", v.count)
		}
	}
}

// TestNoncePrefixEnds: after the last nonce with a prefix there is another
// prefix, one for all who ask at that moment, and the counter begins again.
func TestNoncePrefixEnds(t *testing.T) {
	s := newNonceSource(fromKernel)
	first := s.current.Load()
	first.count.Store(seriesLength - 3)
	got := make([][NonceSize]byte, 64)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { s.Next(&got[i]) })
	}
	wg.Wait()
	under := map[prefix]map[uint32]bool{}
	for _, n := range got {
		p := prefix(n[:prefixSize])
		if under[p] == nil {
			under[p] = map[uint32]bool{}
		}
		under[p][binary.BigEndian.Uint32(n[freshEnd:])] = true
	}
	if len(under) != 2 || len(under[first.prefix]) != 3 {
		t.Fatalf("%d prefixes, %d nonces with the first", len(under), len(under[first.prefix]))
	}
	delete(under, first.prefix)
	for _, counts := range under {
		for i := range uint32(len(got) - 3) {
			if !counts[i] {
				t.Errorf("no nonce %d with the second prefix", i)
			}
		}
	}
}

func TestNoncesNeverRepeat(t *testing.T) {
	const goroutines, each = 8, 5000
	var seen seenNonces
	var wg sync.WaitGroup
	for range 2 { // two sources, as of two mounts
		s := newNonceSource(fromKernel)
		for range goroutines {
			wg.Go(func() { seen.add(t, draw(s, each)) })
		}
	}
	wg.Wait()
	if len(seen.all) != 2*goroutines*each {
		t.Errorf("%d different nonces", len(seen.all))
	}
}

// seenNonces complains of a nonce that it has seen.
type seenNonces struct {
	mu  sync.Mutex
	all map[[NonceSize]byte]bool
}

func (s *seenNonces) add(t *testing.T, nonces [][NonceSize]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[[NonceSize]byte]bool{}
	}
	for _, n := range nonces {
		if s.all[n] {
			t.Errorf("%x again", n)
		}
		s.all[n] = true
	}
}

func draw(s *NonceSource, n int) [][NonceSize]byte {
	nonces := make([][NonceSize]byte, n)
	for i := range nonces {
		s.Next(&nonces[i])
	}
	return nonces
}

// resumed is what a source is in a machine that was resumed from a snapshot of
// its memory: the same in all, but for the kernel's generator.
func resumed(s *NonceSource, random func([]byte)) *NonceSource {
	c := &NonceSource{random: random}
	from := s.current.Load()
	same := &series{prefix: from.prefix}
	same.count.Store(from.count.Load())
	c.current.Store(same)
	return c
}

// TestNoncesOfResumedMachines: two machines resumed from one snapshot go on
// with the same prefix and the same counter, and yet no nonce of one is a
// nonce of the other: what the kernel gives them tells them apart.
func TestNoncesOfResumedMachines(t *testing.T) {
	generator := func(seed byte) func([]byte) {
		r := rand.NewChaCha8([32]byte{seed})
		return func(b []byte) { _, _ = r.Read(b) }
	}
	s := newNonceSource(generator(0))
	var seen seenNonces
	seen.add(t, draw(s, 1000))
	s.current.Load().count.Store(seriesLength - 10_000) // the prefix ends in both, too
	one, two := resumed(s, generator(1)), resumed(s, generator(2))
	a, b := draw(one, 20_000), draw(two, 20_000)
	for i := range 10_000 {
		same := bytes.Equal(a[i][:prefixSize], b[i][:prefixSize]) && bytes.Equal(a[i][freshEnd:], b[i][freshEnd:])
		if !same {
			t.Fatalf("nonce %d: %x and %x are not those of two copies, so that this test shows nothing", i, a[i], b[i])
		}
	}
	seen.add(t, a)
	seen.add(t, b)
}

// TestNoncesAreFresh: the kernel is asked at each nonce. Bytes that were drawn
// ahead would be in the snapshot, and used twice.
func TestNoncesAreFresh(t *testing.T) {
	calls := 0
	s := newNonceSource(func(b []byte) {
		calls++
		fromKernel(b)
	})
	calls = 0
	draw(s, 100)
	if calls != 100 {
		t.Errorf("the kernel was asked %d times for 100 nonces", calls)
	}
}

func TestNewNonceSource(t *testing.T) {
	one, err := NewNonceSource()
	check(t, err)
	two, err := NewNonceSource()
	check(t, err)
	if one.current.Load().prefix == two.current.Load().prefix {
		t.Error("two sources have one prefix")
	}
}

func BenchmarkNonce(b *testing.B) {
	s := newNonceSource(fromKernel)
	b.RunParallel(func(pb *testing.PB) {
		nonce := new([NonceSize]byte)
		for pb.Next() {
			s.Next(nonce)
		}
	})
}

// TestNonceAfter: of a source's nonces the later one is known, of two sources'
// it is not.
func TestNonceAfter(t *testing.T) {
	s, other := newNonceSource(fromKernel), newNonceSource(fromKernel)
	s.current.Load().count.Store(0xff)
	var a, b, c [NonceSize]byte
	s.Next(&a)
	s.Next(&b)
	other.current.Load().count.Store(0xffff)
	other.Next(&c)
	for _, v := range []struct {
		a, b  [NonceSize]byte
		after bool
	}{{b, a, true}, {a, b, false}, {a, a, false}, {c, a, false}, {a, c, false}} {
		if NonceAfter(v.a[:], v.b[:]) != v.after {
			t.Errorf("%x after %x: %v", v.a, v.b, !v.after)
		}
	}
}
