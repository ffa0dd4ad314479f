package file

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

var plaintext = []byte("thirty-two bytes of a master key")

func mustWrap(t testing.TB, p keymgr.Provider) keymgr.Wrapped {
	t.Helper()
	w, err := p.Wrap(t.Context(), plaintext)
	must(t, err)
	return w
}

func TestWrap(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	for _, op := range []string{"", keymgr.OpWrap, keymgr.OpEncrypt} {
		p, err := OpenProvider(s.KeyID(), keymgr.ProviderOptions{Operation: op, Now: c.now})
		must(t, err)
		w := mustWrap(t, p)
		if op == "" {
			op = keymgr.OpWrap
		}
		if w.KeyID != s.KeyID() || w.Version != versions(t, s)[0] || w.Operation != op || w.Algorithm != "RSA-OAEP-256" {
			t.Errorf("%+v", w)
		}
		if len(w.Ciphertext) != minBits/8 || bytes.Contains(w.Ciphertext, plaintext[:8]) {
			t.Errorf("%d bytes of ciphertext", len(w.Ciphertext))
		}
		// Whoever unwraps goes by what the wrap says, not by its own options.
		got, err := mustProvider(t, s.KeyID(), c).Unwrap(t.Context(), w)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%s: %q, %v", op, got, err)
		}
	}
	p := mustProvider(t, s.KeyID(), c)
	if bytes.Equal(mustWrap(t, p).Ciphertext, mustWrap(t, p).Ciphertext) {
		t.Error("two wraps are alike")
	}
	if _, err := p.Wrap(t.Context(), make([]byte, minBits/8)); !is(err, keymgr.Invalid, "BadPlaintext", s.Path()) {
		t.Errorf("too much plaintext: %v", err)
	}
}

// TestWrongWraps edits each field of a wrapped key.
func TestWrongWraps(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	p := mustProvider(t, s.KeyID(), c)
	good := mustWrap(t, p)
	newer, err := s.Rotate()
	must(t, err)
	for name, tc := range map[string]struct {
		edit  func(w *keymgr.Wrapped)
		class keymgr.Class
		code  string
	}{
		"key id":          {func(w *keymgr.Wrapped) { w.KeyID += "x" }, keymgr.Mismatch, "WrongKey"},
		"pinned key id":   {func(w *keymgr.Wrapped) { w.KeyID = pinned(s.Path(), w.Version) }, keymgr.Mismatch, "WrongKey"},
		"no version":      {func(w *keymgr.Wrapped) { w.Version = "" }, keymgr.Mismatch, "NoVersion"},
		"unknown version": {func(w *keymgr.Wrapped) { w.Version = someVersion }, keymgr.Revoked, "KeyVersionNotFound"},
		"other version":   {func(w *keymgr.Wrapped) { w.Version = newer }, keymgr.Mismatch, "BadCiphertext"},
		"algorithm":       {func(w *keymgr.Wrapped) { w.Algorithm = "RSA1_5" }, keymgr.Mismatch, "WrongAlgorithm"},
		"other algorithm": {func(w *keymgr.Wrapped) { w.Algorithm = keymgr.AlgA256KW }, keymgr.Mismatch, "WrongAlgorithm"},
		"no algorithm":    {func(w *keymgr.Wrapped) { w.Algorithm = "" }, keymgr.Mismatch, "WrongAlgorithm"},
		"operation":       {func(w *keymgr.Wrapped) { w.Operation = "sign" }, keymgr.Mismatch, "WrongOperation"},
		"ciphertext":      {func(w *keymgr.Wrapped) { w.Ciphertext[100] ^= 1 }, keymgr.Mismatch, "BadCiphertext"},
		"short":           {func(w *keymgr.Wrapped) { w.Ciphertext = w.Ciphertext[1:] }, keymgr.Mismatch, "BadCiphertext"},
		"long":            {func(w *keymgr.Wrapped) { w.Ciphertext = append(w.Ciphertext, 0) }, keymgr.Mismatch, "BadCiphertext"},
		"empty":           {func(w *keymgr.Wrapped) { w.Ciphertext = nil }, keymgr.Mismatch, "BadCiphertext"},
	} {
		w := good
		w.Ciphertext = bytes.Clone(good.Ciphertext)
		tc.edit(&w)
		got, err := p.Unwrap(t.Context(), w)
		if got != nil || !is(err, tc.class, tc.code, s.Path()) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestStates brings the key into each state and asks everything of it. The
// wraps are under the first version of two.
func TestStates(t *testing.T) {
	const ok = ""
	for name, tc := range map[string]struct {
		change         func(s *Store, first, second string) error
		later          time.Duration
		unwrap, pinned string // codes
		wrap, describe string
		current        int // the version that an unversioned wrap takes
	}{
		"as it was":           {change: func(s *Store, a, b string) error { return nil }, current: 1},
		"first disabled":      {change: func(s *Store, a, b string) error { return s.Disable(a) }, unwrap: "KeyDisabled", pinned: "KeyDisabled", current: 1},
		"second disabled":     {change: func(s *Store, a, b string) error { return s.Disable(b) }, current: 0},
		"all disabled":        {change: func(s *Store, a, b string) error { return s.Disable("") }, unwrap: "KeyDisabled", pinned: "KeyDisabled", wrap: "KeyDisabled"},
		"enabled again":       {change: func(s *Store, a, b string) error { return errors.Join(s.Disable(""), s.Enable("")) }, current: 1},
		"first expired":       {change: func(s *Store, a, b string) error { return s.Expire(a, start) }, unwrap: "KeyExpired", pinned: "KeyExpired", current: 1},
		"expires later":       {change: func(s *Store, a, b string) error { return s.Expire("", start.Add(1)) }, current: 1},
		"later is now":        {change: func(s *Store, a, b string) error { return s.Expire("", start.Add(1)) }, later: 1, unwrap: "KeyExpired", pinned: "KeyExpired", wrap: "KeyExpired"},
		"not yet valid":       {change: func(s *Store, a, b string) error { return s.NotBefore("", start.Add(1)) }, unwrap: "KeyNotYetValid", pinned: "KeyNotYetValid", wrap: "KeyNotYetValid"},
		"just valid":          {change: func(s *Store, a, b string) error { return s.NotBefore("", start.Add(1)) }, later: 1, current: 1},
		"disabled beats time": {change: func(s *Store, a, b string) error { return errors.Join(s.Disable(""), s.Expire("", start)) }, unwrap: "KeyDisabled", pinned: "KeyDisabled", wrap: "KeyDisabled"},
		"deleted":             {change: func(s *Store, a, b string) error { return s.Delete() }, unwrap: "KeyDeleted", pinned: "KeyDeleted", wrap: "KeyDeleted", describe: "KeyDeleted"},
		"recovered":           {change: func(s *Store, a, b string) error { return errors.Join(s.Delete(), s.Recover()) }, current: 1},
		"purged":              {change: func(s *Store, a, b string) error { return errors.Join(s.Delete(), s.Purge()) }, unwrap: "KeyNotFound", pinned: "KeyNotFound", wrap: "KeyNotFound", describe: "KeyNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{start}
			s := mustCreate(t, c)
			p := mustProvider(t, s.KeyID(), c)
			w := mustWrap(t, p)
			second, err := s.Rotate()
			must(t, err)
			pin := mustProvider(t, pinned(s.Path(), w.Version), c)
			must(t, tc.change(s, w.Version, second))
			c.t = c.t.Add(tc.later)
			check := func(what string, err error, code string) {
				t.Helper()
				if code == ok && err != nil || code != ok && !is(err, keymgr.Revoked, code, s.Path()) {
					t.Errorf("%s: %v instead of %q", what, err, code)
				}
			}
			got, err := p.Unwrap(t.Context(), w)
			check("unwrap", err, tc.unwrap)
			if tc.unwrap == ok != bytes.Equal(got, plaintext) {
				t.Errorf("unwrap gave %q", got)
			}
			_, err = pin.Unwrap(t.Context(), w)
			check("unwrap, pinned", err, tc.unwrap)
			pw, err := pin.Wrap(t.Context(), plaintext)
			check("wrap, pinned", err, tc.pinned)
			if err == nil && pw.Version != w.Version {
				t.Errorf("the pinned provider wrapped under %s", pw.Version)
			}
			nw, err := p.Wrap(t.Context(), plaintext)
			check("wrap", err, tc.wrap)
			if want := []string{w.Version, second}[tc.current]; err == nil && nw.Version != want {
				t.Errorf("wrapped under %s instead of %s", nw.Version, want)
			}
			_, err = p.Describe(t.Context())
			check("describe", err, tc.describe)
		})
	}
}

func TestDescribe(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	first := versions(t, s)[0]
	c.t = c.t.Add(time.Hour)
	second, err := s.Rotate()
	must(t, err)
	must(t, s.Expire(first, start.Add(time.Minute)))
	must(t, s.NotBefore(first, start))
	info, err := mustProvider(t, pinned(s.Path(), first), c).Describe(t.Context())
	must(t, err)
	want := keymgr.KeyInfo{
		KeyID: s.KeyID(), Version: first, Type: "RSA", Size: minBits, Enabled: true, Created: start, Updated: c.t,
		NotBefore: start, Expires: start.Add(time.Minute), RecoveryLevel: "Recoverable+Purgeable",
	}
	if info != want {
		t.Errorf("got  %+v\nwant %+v", info, want)
	}
	p := mustProvider(t, s.KeyID(), c)
	if info, err = p.Describe(t.Context()); err != nil || info.Version != second || !info.Created.Equal(c.t) {
		t.Errorf("%+v, %v", info, err)
	}
	must(t, s.Disable(""))
	if info, err = p.Describe(t.Context()); err != nil || info.Version != second || info.Enabled {
		t.Errorf("all disabled: %+v, %v", info, err)
	}
	if _, err := mustProvider(t, pinned(s.Path(), someVersion), c).Describe(t.Context()); !is(err, keymgr.Revoked, "KeyVersionNotFound", s.Path()) {
		t.Errorf("unknown version: %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	p := mustProvider(t, s.KeyID(), c)
	w := mustWrap(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, wrap := p.Wrap(ctx, plaintext)
	_, unwrap := p.Unwrap(ctx, w)
	_, describe := p.Describe(ctx)
	for what, err := range map[string]error{"wrap": wrap, "unwrap": unwrap, "describe": describe} {
		if !is(err, keymgr.Unreachable, "Interrupted", s.Path()) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDamaged: a file with any byte changed gives the right plaintext or an
// error that is no surprise, and never other bytes.
func TestDamaged(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	p := mustProvider(t, s.KeyID(), c)
	w := mustWrap(t, p)
	data := mustReadFile(t, s.Path())
	secret := bytes.Index(data, []byte(`"private_key"`)) + 20
	tried, refused := 0, 0
	for i := range data {
		if i > secret && i < len(data)-20 && i%5 != 0 {
			continue // an RSA key each
		}
		tried++
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 7)
		must(t, os.WriteFile(s.Path(), bad, 0o600))
		got, err := p.Unwrap(t.Context(), w)
		if err == nil {
			if !bytes.Equal(got, plaintext) {
				t.Fatalf("byte %d (%q): other plaintext", i, data[i])
			}
			continue
		}
		refused++
		ke, ok := errors.AsType[*keymgr.KeyError](err)
		if !ok || ke.Class == keymgr.Unreachable || ke.Class == keymgr.Credentials {
			t.Fatalf("byte %d (%q): %v", i, data[i], err)
		}
	}
	if refused < tried*9/10 {
		t.Errorf("only %d of %d changes were noticed", refused, tried)
	}
	for _, bad := range []string{"", "{}", "null", "[]", string(data[:len(data)/2]), string(data) + "\n", strings.Repeat(" ", maxFileSize+1)} {
		must(t, os.WriteFile(s.Path(), []byte(bad), 0o600))
		if _, err := p.Unwrap(t.Context(), w); !is(err, keymgr.Invalid, "DamagedFile", s.Path()) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// TestWrongMaterial: a private key that is no RSA key of the size.
func TestWrongMaterial(t *testing.T) {
	for name, tc := range map[string]struct {
		der  []byte
		bits int
	}{
		"none":       {[]byte("no key at all"), minBits},
		"other size": {pool()[0], 3072},
		"cut":        {pool()[0][:600], minBits},
	} {
		if key, err := parseKey(tc.der, tc.bits); err == nil || key != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
