package crypto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v instead of %v", err, want)
	}
}

// wantPanic runs f, which must panic with an error that is want.
func wantPanic(t testing.TB, want error, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if err, ok := recover().(error); !ok || !errors.Is(err, want) {
			t.Errorf("panic is %v instead of %v", err, want)
		}
	}()
	f()
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	check(t, err)
	return b
}

// testKey is a key of 32 times b.
func testKey(t testing.TB, b byte) *Key {
	t.Helper()
	raw := make([]byte, KeySize)
	for i := range raw {
		raw[i] = b
	}
	return keyOf(t, raw)
}

// keyOf is a key of the bytes of raw, which it zeroes.
func keyOf(t testing.TB, raw []byte) *Key {
	t.Helper()
	k, err := KeyFromBytes(raw)
	check(t, err)
	t.Cleanup(k.Destroy)
	return k
}

func blockCipher(t testing.TB, k *Key) *BlockCipher {
	t.Helper()
	c, err := NewBlockCipher(k)
	check(t, err)
	t.Cleanup(c.Destroy)
	return c
}

func hexOf(k *Key) (s string) {
	k.View(func(b []byte) { s = hex.EncodeToString(b) })
	return s
}

// mapping is an entry of /proc/PID/smaps.
type mapping struct {
	from, to    uint64
	perm, flags string // flags with a space before and after each
	untouched   bool   // no page of it exists, in memory or swap
}

func mappings(t testing.TB, smaps string) (all []mapping) {
	t.Helper()
	for line := range strings.Lines(smaps) {
		word, rest, _ := strings.Cut(line, " ")
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			all[len(all)-1].flags = strings.TrimRight(flags, "\n")
		} else if word == "Rss:" || word == "Swap:" {
			if strings.TrimSpace(rest) != "0 kB" {
				all[len(all)-1].untouched = false
			}
		} else if !strings.HasSuffix(word, ":") {
			m := mapping{perm: rest[:4], untouched: true}
			_, err := fmt.Sscanf(word, "%x-%x", &m.from, &m.to)
			check(t, err)
			all = append(all, m)
		}
	}
	return all
}
