package file

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that only a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// pool is four RSA keys, made once, that stores under test take in turn.
var pool = sync.OnceValue(func() [][]byte {
	var ders [][]byte
	for range 4 {
		key, err := rsa.GenerateKey(rand.Reader, minBits)
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		ders = append(ders, der)
	}
	return ders
})

var taken atomic.Uint32

func fromPool(int) ([]byte, error) {
	ders := pool()
	return append([]byte(nil), ders[int(taken.Add(1))%len(ders)]...), nil
}

func (c *clock) options() Options {
	return Options{Bits: minBits, Now: c.now, generate: fromPool}
}

func mustCreate(t testing.TB, c *clock) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "key.json"), c.options())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustProvider(t testing.TB, keyID string, c *clock) keymgr.Provider {
	t.Helper()
	p, err := OpenProvider(keyID, keymgr.ProviderOptions{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// versions are the IDs of a store's versions.
func versions(t testing.TB, s *Store) []string {
	t.Helper()
	l, err := s.Show()
	must(t, err)
	var ids []string
	for _, v := range l.Versions {
		ids = append(ids, v.ID)
	}
	return ids
}

// is reports whether err is a KeyError of this class and code that names path.
func is(err error, class keymgr.Class, code, path string) bool {
	ke, ok := errors.AsType[*keymgr.KeyError](err)
	return ok && ke.Class == class && ke.Code == code && ke.Vault == path && ke.KeyID != ""
}

func mustReadFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}
