package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestDestroyedKeysLeaveMemory is the promise of the package comment: a child
// does with two keys everything that the package can do; then this process
// reads all of the child's memory. Where ErasesHeap is false only the locked
// memory has to be clean.
func TestDestroyedKeysLeaveMemory(t *testing.T) {
	for _, c := range []struct{ name, mode, godebug string }{
		// What a signal may leave of a block sealed outside Secretly is beyond
		// the promise. Without asynchronous preemption there is no signal.
		{"a few blocks, then the collector", "few", "asyncpreemptoff=1"},
		{"many blocks in Secretly with the collector running, then Scrub", "load", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GODEBUG", c.godebug)
			testDestroyedKeys(t, startChild(t, "destroyed keys", 0, c.mode))
		})
	}
}

func testDestroyedKeys(t *testing.T, p *parent) {
	var key, kek, prefix [KeySize]byte
	rand.Read(key[:])
	rand.Read(kek[:])
	rand.Read(prefix[:])
	secrets := secretsOf(t, key[:], kek[:], prefix[:])
	p.send(key[:])
	p.send(kek[:])
	p.send(prefix[:])

	p.expect("working")
	locked, other := findSecrets(t, p.pid(), secrets)
	for _, name := range []string{"key", "kek"} {
		if locked[name] == 0 {
			t.Errorf("%s in use is not in locked memory", name)
		}
	}
	for _, name := range []string{"subkey", "subkey schedule", "names"} {
		if other[name] == 0 {
			t.Errorf("%s in use is nowhere in memory: the search finds nothing", name)
		}
	}
	p.send([]byte{1})

	p.expect("destroyed")
	locked, other = findSecrets(t, p.pid(), secrets)
	t.Logf("left in the heap and stacks: %v", other)
	if len(locked) > 0 {
		t.Errorf("left in locked memory: %v", locked)
	}
	if ErasesHeap() && len(other) > 0 {
		t.Errorf("left in memory: %v", other)
	}
}

func TestErasesHeap(t *testing.T) {
	if ErasesHeap() != wantErases {
		t.Errorf("ErasesHeap is %v in this build", ErasesHeap())
	}
}

func TestScrubTwice(t *testing.T) {
	check(t, Scrub())
	check(t, Scrub())
	if urgent(os.Getpid()) {
		t.Error("a signal is left behind")
	}
}

func TestSecretly(t *testing.T) {
	c := blockCipher(t, testKey(t, 1))
	nonce, buf := make([]byte, NonceSize), make([]byte, 0, 4096)
	c.Seal(buf, nonce, nil, nil)
	allocs := testing.AllocsPerRun(100, func() {
		Secretly(func() { c.Seal(buf, nonce, nonce, nil) })
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	defer func() {
		if recover() != "mine" {
			t.Error("the panic did not come through")
		}
	}()
	Secretly(func() { panic("mine") })
}

// childDestroyedKeys reads the bytes of two keys and a nonce prefix.
func childDestroyedKeys(c *child) {
	read := func() []byte {
		b := make([]byte, KeySize)
		_, err := io.ReadFull(os.Stdin, b)
		c.must(err)
		return b
	}
	key, err := KeyFromBytes(read())
	c.must(err)
	kek, err := KeyFromBytes(read())
	c.must(err)
	nonce := read()[:NonceSize]
	names := useAll(c, key, kek)
	block, err := NewBlockCipher(key)
	c.must(err)
	if os.Args[1] == "load" {
		load(c, block, nonce)
	} else {
		sealAndOpen(c, block, nonce)
	}
	c.say("working")
	c.wait()

	names.Destroy()
	kek.Destroy()
	block.Destroy()
	if os.Args[1] == "load" {
		c.must(Scrub())
	} else {
		runtime.GC()
	}
	c.say("destroyed")
	c.wait()
}

// useAll uses the keys for everything but blocks, on a goroutine of its own,
// and leaves a name cipher.
func useAll(c *child, key, kek *Key) (names *NameCipher) {
	var wg sync.WaitGroup
	wg.Go(func() {
		wrapped, err := WrapKey(kek, key, []byte("ad"))
		c.must(err)
		again, err := UnwrapKey(kek, wrapped, []byte("ad"))
		c.must(err)
		if !again.Equal(key) {
			c.say("unwrapped another key")
		}
		again.Destroy()
		derived, err := key.Derive("test")
		c.must(err)
		derived.Destroy()
		names, err = NewNameCipher(key)
		c.must(err)
		for i := range 100 {
			name := fmt.Sprint("collection-", i)
			got, err := names.Decrypt(names.Encrypt(name))
			c.must(err)
			if got != name {
				c.say("decrypted another name")
			}
		}
	})
	wg.Wait()
	return names
}

func sealAndOpen(c *child, block *BlockCipher, nonce []byte) {
	plain, sealed := make([]byte, 4096), make([]byte, 0, 4096+TagSize)
	for range 8 {
		sealed = block.Seal(sealed[:0], nonce, plain, nil)
		_, err := block.Open(plain[:0], nonce, sealed, nil)
		c.must(err)
	}
}

// load seals and opens blocks on some goroutines while the collector runs,
// which sends the threads signals in the midst of AES.
func load(c *child, block *BlockCipher, nonce []byte) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			plain, sealed := make([]byte, 4096), make([]byte, 0, 4096+TagSize)
			batch := func() {
				for range 8 {
					sealed = block.Seal(sealed[:0], nonce, plain, nil)
					_, err := block.Open(plain[:0], nonce, sealed, nil)
					c.must(err)
				}
			}
			for range 500 {
				Secretly(batch)
			}
		})
	}
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	wg.Wait()
	close(stop)
}

// secrets are pieces of eight bytes of all that could give a key away, with
// the name of what they are of.
type secrets struct {
	pieces map[uint64]string
	ends   [1 << 16]bool // the last two bytes of each piece, to look up few
}

// add cuts b into pieces, each also with the bytes of its 32-bit words turned
// round, as portable AES code keeps them.
func (s *secrets) add(name string, b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		turned := uint64(binary.BigEndian.Uint32(b)) | uint64(binary.BigEndian.Uint32(b[4:]))<<32
		for _, piece := range []uint64{binary.LittleEndian.Uint64(b), turned} {
			s.pieces[piece] = name
			s.ends[piece>>48] = true
		}
	}
}

// count counts the pieces in b, at any offset. last is what it returned for
// the bytes before b.
//
//go:norace
func (s *secrets) count(b []byte, found map[string]int, last uint64) uint64 {
	for _, c := range b {
		last = last>>8 | uint64(c)<<56
		if s.ends[last>>48] {
			if name, ok := s.pieces[last]; ok {
				found[name]++
			}
		}
	}
	return last
}

// secretsOf returns the secrets that childDestroyedKeys works with: keys and
// AES key schedules.
func secretsOf(t *testing.T, key, kek, prefixBytes []byte) *secrets {
	block, err := aes.NewCipher(key)
	check(t, err)
	names := hkdfModel(key, nil, []byte("akvfs/v1/names/aes-siv"), 64)
	extracted, err := hkdf.Extract(sha256.New, key, nil)
	check(t, err)
	s := &secrets{pieces: map[uint64]string{}}
	s.add("derived", hkdfModel(key, nil, []byte("akvfs/v1/test"), KeySize))
	s.add("extracted", extracted)
	for name, keys := range map[string][][]byte{
		"key": {key}, "kek": {kek}, "names": {names[:32], names[32:]},
		"subkey": {xaesSubkey(block, prefix(prefixBytes[:prefixSize]))},
	} {
		for _, k := range keys {
			schedule := expandAES256(k)
			s.add(name, schedule[:KeySize])
			s.add(name+" schedule", schedule[KeySize:])
		}
	}
	return s
}

// expandAES256 is the key expansion of FIPS 197, section 5.2.
func expandAES256(key []byte) []byte {
	var w [60]uint32
	for i := range w {
		if i < 8 {
			w[i] = binary.BigEndian.Uint32(key[4*i:])
			continue
		}
		v := w[i-1]
		switch i % 8 {
		case 0:
			v = subWord(bits.RotateLeft32(v, 8)) ^ 1<<(24+i/8-1)
		case 4:
			v = subWord(v)
		}
		w[i] = w[i-8] ^ v
	}
	out := make([]byte, 0, 240)
	for _, v := range w {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	return out
}

// subWord applies the S-box of FIPS 197, section 5.1.1: inverse, then an
// affine map.
func subWord(w uint32) (out uint32) {
	for shift := 0; shift < 32; shift += 8 {
		b := inverse8(byte(w >> shift))
		s := b ^ bits.RotateLeft8(b, 1) ^ bits.RotateLeft8(b, 2) ^ bits.RotateLeft8(b, 3) ^ bits.RotateLeft8(b, 4) ^ 0x63
		out |= uint32(s) << shift
	}
	return out
}

// inverse8 is b^254 in AES's field.
func inverse8(b byte) byte {
	r := byte(1)
	for range 254 {
		r = mul8(r, b)
	}
	return r
}

func mul8(a, b byte) (p byte) {
	for ; b != 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		a = a<<1 ^ a>>7*0x1b
	}
	return p
}

func TestExpandAES256(t *testing.T) {
	// FIPS 197, appendix A.3: the last four words.
	key := unhex(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
	if got, want := expandAES256(key)[224:], unhex(t, "fe4890d1e6188d0b046df344706c631e"); !bytes.Equal(got, want) {
		t.Errorf("expansion ends in %x, want %x", got, want)
	}
}

// findSecrets counts the pieces of secrets in all memory that a process has
// and could have written to: in locked mappings, and in others.
func findSecrets(t *testing.T, pid int, s *secrets) (locked, other map[string]int) {
	t.Helper()
	locked, other = map[string]int{}, map[string]int{}
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	check(t, err)
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	check(t, err)
	defer mem.Close()
	read := 0
	for _, m := range mappings(t, string(smaps)) {
		if !strings.HasPrefix(m.perm, "rw") || m.untouched {
			continue
		}
		found := other
		if strings.Contains(m.flags, " lo ") {
			found = locked
		}
		read += s.countMapping(t, mem, m, found)
	}
	if read < 1<<20 {
		t.Fatalf("read %d bytes of memory only", read)
	}
	return locked, other
}

func (s *secrets) countMapping(t *testing.T, mem *os.File, m mapping, found map[string]int) (read int) {
	t.Helper()
	buf := make([]byte, 1<<20)
	last := uint64(0)
	for at := m.from; at < m.to; at += uint64(len(buf)) {
		buf = buf[:min(m.to-at, uint64(len(buf)))]
		if _, err := mem.ReadAt(buf, int64(at)); err != nil {
			t.Fatalf("cannot read the memory at %x: %v", at, err)
		}
		last = s.count(buf, found, last)
		read += len(buf)
	}
	return read
}
