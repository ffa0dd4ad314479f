package crypto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestKeyFromBytes(t *testing.T) {
	for _, n := range []int{0, 1, KeySize - 1, KeySize, KeySize + 1, 64} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := bytes.Repeat([]byte{7}, n)
			k, err := KeyFromBytes(b)
			if !bytes.Equal(b, make([]byte, n)) {
				t.Errorf("the bytes are %x afterwards", b)
			}
			if n == KeySize {
				check(t, err)
				defer k.Destroy()
				if got := hexOf(k); got != strings.Repeat("07", n) {
					t.Errorf("the key is %s", got)
				}
				return
			}
			var size *SizeError
			if !errors.As(err, &size) || size.Got != n || size.Want != KeySize || k != nil {
				t.Fatalf("key %v, error %v", k, err)
			}
		})
	}
}

func TestNewKeyIsRandom(t *testing.T) {
	seen := map[string]bool{strings.Repeat("00", KeySize): true}
	for range 100 {
		k, err := NewKey()
		check(t, err)
		s := hexOf(k)
		if seen[s] {
			t.Fatalf("%s again", s)
		}
		seen[s] = true
		k.Destroy()
	}
}

func TestKeyEqual(t *testing.T) {
	a, b, c := testKey(t, 1), testKey(t, 1), testKey(t, 2)
	if !a.Equal(b) || !b.Equal(a) || !a.Equal(a) || a.Equal(c) || c.Equal(a) {
		t.Error("equality is not that of the bytes")
	}
}

// TestDestroyedKey has every operation on a destroyed key fail, wherever the
// key stands among the arguments.
func TestDestroyedKey(t *testing.T) {
	dead, live := testKey(t, 1), testKey(t, 2)
	wrapped, err := WrapKey(live, live, nil)
	check(t, err)
	dead.Destroy()
	dead.Destroy()
	for name, op := range map[string]func() error{
		"Derive":         func() error { _, err := dead.Derive("x"); return err },
		"MAC":            func() error { _, err := dead.MAC(nil); return err },
		"Clone":          func() error { _, err := dead.Clone(); return err },
		"NewBlockCipher": func() error { _, err := NewBlockCipher(dead); return err },
		"NewNameCipher":  func() error { _, err := NewNameCipher(dead); return err },
		"WrapKey kek":    func() error { _, err := WrapKey(dead, live, nil); return err },
		"WrapKey key":    func() error { _, err := WrapKey(live, dead, nil); return err },
		"UnwrapKey":      func() error { _, err := UnwrapKey(dead, wrapped, nil); return err },
	} {
		if err := op(); !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	wantPanic(t, ErrDestroyed, func() { dead.View(func([]byte) { t.Error("View gave bytes") }) })
	wantPanic(t, ErrDestroyed, func() { dead.Equal(live) })
	wantPanic(t, ErrDestroyed, func() { live.Equal(dead) })
}

// TestFailedOperationsKeepNoSlot counts the arena's slots round failures.
func TestFailedOperationsKeepNoSlot(t *testing.T) {
	live, dead := testKey(t, 1), testKey(t, 2)
	dead.Destroy()
	wrapped, err := WrapKey(live, live, nil)
	check(t, err)
	before := inUse()
	for range 50 {
		dead.Clone()
		dead.Derive("x")
		WrapKey(live, dead, nil)
		UnwrapKey(live, wrapped, []byte("wrong"))
		UnwrapKey(dead, wrapped, nil)
		NewNameCipher(dead)
	}
	if n := inUse() - before; n > 0 {
		t.Errorf("%d slots are lost", n)
	}
}

func inUse() int {
	keys.mu.Lock()
	defer keys.mu.Unlock()
	return len(keys.slabs)*slabSize/KeySize - len(keys.free)
}

func TestCloneOutlivesOriginal(t *testing.T) {
	k := testKey(t, 9)
	c, err := k.Clone()
	check(t, err)
	defer c.Destroy()
	k.Destroy()
	if got := hexOf(c); got != strings.Repeat("09", KeySize) {
		t.Errorf("the clone is %s", got)
	}
}

// TestDestroyDuringUse: a user keeps the real bytes until it is done; then
// they are zeroed, and the slot is free.
func TestDestroyDuringUse(t *testing.T) {
	k := testKey(t, 5)
	before := inUse()
	var inside []byte
	k.View(func(b []byte) {
		k.View(func([]byte) { k.Destroy() }) // views nest, and Destroy does not wait
		if b[0] != 5 || inUse() != before {
			t.Error("the key went during its use")
		}
		wantPanic(t, ErrDestroyed, func() { k.View(func([]byte) {}) })
		inside = b
	})
	if !bytes.Equal(inside, make([]byte, KeySize)) || inUse() != before-1 {
		t.Errorf("the key is left after its last use: %x", inside)
	}
}

// TestConcurrentDestroy has users see the key or ErrDestroyed, never zeros.
func TestConcurrentDestroy(t *testing.T) {
	want := strings.Repeat("\x06", KeySize)
	for range 50 {
		k := testKey(t, 6)
		other := testKey(t, 6)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					err := k.use(func(b []byte) error {
						if string(b) != want {
							t.Errorf("bytes %x", b)
						}
						return nil
					})
					if err != nil {
						wantError(t, err, ErrDestroyed)
						return
					}
				}
			})
		}
		for range 2 {
			wg.Go(k.Destroy)
			wg.Go(func() {
				if c, err := k.Clone(); err == nil {
					if !c.Equal(other) {
						t.Error("a clone differs")
					}
					c.Destroy()
				}
			})
		}
		wg.Wait()
	}
}

// TestDroppedKeyIsFreed leaves keys to the garbage collector.
func TestDroppedKeyIsFreed(t *testing.T) {
	runtime.GC()
	before := inUse()
	func() {
		for range 100 {
			_, err := NewKey()
			check(t, err)
		}
	}()
	if n := inUse() - before; n < 90 {
		t.Fatalf("only %d slots are in use", n)
	}
	for inUse() > before { // the test's own time limit bounds this
		runtime.GC()
		runtime.Gosched()
	}
}

// TestFormattedKey looks for key bytes in all that formats values.
func TestFormattedKey(t *testing.T) {
	k := keyOf(t, []byte("0123456789abcdefghijklmnopqrstuv"))
	holder := struct{ K *Key }{k}
	asJSON, err := json.Marshal(holder)
	check(t, err)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "key", k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "key", k)
	out := []string{string(asJSON), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out = append(out, fmt.Sprintf(verb, k), fmt.Sprintf(verb, holder))
		if got := fmt.Sprintf(verb, k); got != "crypto.Key(secret)" {
			t.Errorf("%s formats as %q", verb, got)
		}
	}
	for _, s := range out {
		for _, part := range []string{"0123", "30313233", "48 49 50"} {
			if strings.Contains(s, part) {
				t.Errorf("%q shows the key", s)
			}
		}
	}
}

// TestKeyModel runs random operations against a model of plain byte arrays.
func TestKeyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			key  *Key
			want [KeySize]byte
			dead bool
		}
		var all []*entry
		add := func(k *Key, err error, want [KeySize]byte) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, &entry{key: k, want: want})
		}
		pick := func(t *rapid.T) *entry {
			if len(all) == 0 {
				k, err := KeyFromBytes(make([]byte, KeySize))
				add(k, err, [KeySize]byte{})
			}
			return all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"make": func(t *rapid.T) {
				want := [KeySize]byte(rapid.SliceOfN(rapid.Byte(), KeySize, KeySize).Draw(t, "bytes"))
				raw := want
				k, err := KeyFromBytes(raw[:])
				add(k, err, want)
			},
			"clone": func(t *rapid.T) {
				e := pick(t)
				k, err := e.key.Clone()
				if e.dead != errors.Is(err, ErrDestroyed) {
					t.Fatalf("clone of a key (destroyed: %v): %v", e.dead, err)
				}
				if !e.dead {
					add(k, err, e.want)
				}
			},
			"destroy": func(t *rapid.T) {
				e := pick(t)
				e.key.Destroy()
				e.dead = true
			},
			"": func(t *rapid.T) {
				for _, e := range all {
					err := e.key.use(func(b []byte) error {
						if [KeySize]byte(b) != e.want {
							t.Fatalf("key is %x instead of %x", b, e.want)
						}
						return nil
					})
					if e.dead != errors.Is(err, ErrDestroyed) {
						t.Fatalf("use of a key (destroyed: %v): %v", e.dead, err)
					}
				}
			},
		})
		for _, e := range all {
			e.key.Destroy()
		}
	})
}
