package crypto

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestArenaModel takes and puts slots at random; a model remembers what was
// written to each. A slot in use keeps its bytes, and a new one is zero.
func TestArenaModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &arena{}
		defer unmapSlabs(a)
		model := map[slot][KeySize]byte{}
		var order []slot
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				s, err := a.take()
				if err != nil {
					t.Fatal(err)
				}
				if _, taken := model[s]; taken {
					t.Fatal("a slot was given out twice")
				}
				if *s.bytes() != [KeySize]byte{} {
					t.Fatal("a new slot is not zero")
				}
				rand.Read(s.bytes()[:])
				model[s] = *s.bytes()
				order = append(order, s)
			},
			"put": func(t *rapid.T) {
				if len(order) == 0 {
					return
				}
				i := rapid.IntRange(0, len(order)-1).Draw(t, "which")
				s := order[i]
				a.put(s)
				if *s.bytes() != [KeySize]byte{} {
					t.Fatal("a slot was not zeroed")
				}
				delete(model, s)
				order = append(order[:i], order[i+1:]...)
			},
			"": func(t *rapid.T) {
				for s, want := range model {
					if *s.bytes() != want {
						t.Fatal("a slot in use changed")
					}
				}
				if n := len(a.slabs) * slabSize / KeySize; len(model)+len(a.free) != n {
					t.Fatalf("%d slots in use and %d free are not %d", len(model), len(a.free), n)
				}
			},
		})
	})
}

func TestArenaFreesOnce(t *testing.T) {
	a := &arena{}
	defer unmapSlabs(a)
	s, err := a.take()
	check(t, err)
	a.put(s)
	defer func() {
		if recover() == nil {
			t.Error("a slot was freed twice")
		}
		if len(a.free) != slabSize/KeySize {
			t.Errorf("%d slots are free", len(a.free))
		}
	}()
	a.put(s)
}

// unmapSlabs gives the memory of a test's arena back. The kernel merges no
// mappings of it with others because of the guard pages.
func unmapSlabs(a *arena) {
	for _, s := range a.slabs {
		page := os.Getpagesize()
		start := unsafe.Add(unsafe.Pointer(&s.mem[0]), -page)
		unix.MunmapPtr(start, uintptr(len(s.mem)+2*page))
	}
}

// TestManyKeys holds as many keys as a busy server has files.
func TestManyKeys(t *testing.T) {
	all := make([]*Key, 50_000)
	for i := range all {
		raw := make([]byte, KeySize)
		binary.BigEndian.PutUint64(raw, uint64(i))
		k, err := KeyFromBytes(raw)
		check(t, err)
		defer k.Destroy()
		all[i] = k
	}
	for i, k := range all {
		k.View(func(b []byte) {
			if binary.BigEndian.Uint64(b) != uint64(i) || !bytes.Equal(b[8:], make([]byte, KeySize-8)) {
				t.Fatalf("key %d is %x", i, b)
			}
		})
	}
}
