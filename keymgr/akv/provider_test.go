package akv

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

func encrypting(cfg *Config) { cfg.Operation = keymgr.OpEncrypt }

// TestRoundTrip wraps and unwraps by each operation and algorithm.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		name      string
		spec      akvtest.KeySpec
		change    func(*Config)
		operation string
		algorithm string
		size      int // of the ciphertext
		requests  string
	}{
		{"RSA", akvtest.KeySpec{}, nil, "wrap", "RSA-OAEP-256", 256, "get wrapKey get unwrapKey"},
		{"RSA-HSM of 3072 bits", akvtest.KeySpec{Type: akvtest.RSAHSM, Bits: 3072}, nil, "wrap", "RSA-OAEP-256", 384, "get wrapKey get unwrapKey"},
		{"only wrapKey and unwrapKey", akvtest.KeySpec{Ops: []string{"wrapKey", "unwrapKey"}}, nil, "wrap", "RSA-OAEP-256", 256, "get wrapKey get unwrapKey"},
		{"only encrypt and decrypt", akvtest.KeySpec{Ops: []string{"encrypt", "decrypt"}}, encrypting, "encrypt", "RSA-OAEP-256", 256, "get encrypt get decrypt"},
		{"Managed HSM", akvtest.KeySpec{Type: akvtest.OctHSM}, nil, "wrap", "A256KW", 40, "get wrapKey get unwrapKey"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cl := newCloudOf(t, akvtest.Options{}, c.spec)
			change := c.change
			if change == nil {
				change = func(*Config) {}
			}
			w := mustWrap(t, cl.open(t, change))
			want := keymgr.Wrapped{KeyID: cl.vault.KeyID(keyName), Version: cl.version, Operation: c.operation, Algorithm: c.algorithm, Ciphertext: w.Ciphertext}
			if fmt.Sprint(w) != fmt.Sprint(want) || len(w.Ciphertext) != c.size {
				t.Errorf("wrapped %+v, %d bytes", w, len(w.Ciphertext))
			}
			// Which operation unwraps is the wrap's to say, not the provider's.
			mustUnwrap(t, cl.open(t), w)
			var asked []string
			for _, r := range cl.Requests() {
				if r.Host == cl.vault.Host() {
					asked = append(asked, r.Request)
				}
			}
			if got := strings.Join(asked, " "); got != c.requests {
				t.Errorf("the vault was asked %s", got)
			}
		})
	}
}

// TestVersions: an unversioned identifier wraps by the newest version, a pinned
// one by its own, and both unwrap by what the wrap names.
func TestVersions(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	p := c.open(t)
	pinned, err := c.tryOpen(c.vault.KeyID(keyName, c.version))
	must(t, err)
	first := mustWrap(t, p)
	second, err := c.vault.Rotate(keyName)
	must(t, err)
	next, old := mustWrap(t, p), mustWrap(t, pinned)
	if first.Version != c.version || next.Version != second || old.Version != c.version {
		t.Errorf("wrapped by %s, %s, pinned %s", first.Version, next.Version, old.Version)
	}
	if next.KeyID != first.KeyID || old.KeyID != first.KeyID || first.KeyID != c.vault.KeyID(keyName) {
		t.Errorf("key IDs %s, %s, %s", first.KeyID, next.KeyID, old.KeyID)
	}
	for _, w := range []keymgr.Wrapped{first, next, old} {
		mustUnwrap(t, p, w)
		mustUnwrap(t, pinned, w)
	}
	if p.KeyID() != c.vault.KeyID(keyName) || pinned.KeyID() != c.vault.KeyID(keyName, c.version) || p.Name() != "akv" {
		t.Errorf("%s, %s, %s", p.KeyID(), pinned.KeyID(), p.Name())
	}
	must(t, c.vault.Disable(keyName, c.version))
	mustUnwrap(t, p, next)
	_, err = p.Unwrap(t.Context(), first)
	expect(t, err, keymgr.Revoked, "KeyDisabled")
	_, err = pinned.Wrap(t.Context(), master)
	expect(t, err, keymgr.Revoked, "KeyDisabled")
	gone := first
	gone.Version = strings.Repeat("0", 32)
	_, err = p.Unwrap(t.Context(), gone)
	expect(t, err, keymgr.Revoked, "KeyNotFound")
}

// TestDisabledAtWrap: Key Vault wraps with a disabled key, since that takes its
// public half alone; akvfs does not ask it to.
func TestDisabledAtWrap(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	must(t, c.vault.Disable(keyName, ""))
	_, err := c.open(t).Wrap(t.Context(), master)
	ke := expect(t, err, keymgr.Revoked, "KeyDisabled")
	if ke.Version != c.version || ke.Op != "wrap" {
		t.Errorf("%+v", ke)
	}
	if n := c.requestsOf("wrapKey"); n != 0 {
		t.Errorf("wrapKey was asked for %d times", n)
	}
}

// TestComesBack: each thing that takes the key away ends when it is undone,
// with the same provider.
func TestComesBack(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	p := c.open(t)
	w := mustWrap(t, p)
	for _, s := range []struct {
		name          string
		take, restore func() error
	}{
		{"disable", func() error { return c.vault.Disable(keyName, "") }, func() error { return c.vault.Enable(keyName, "") }},
		{"delete", func() error { return c.vault.Delete(keyName) }, func() error { return c.vault.Recover(keyName) }},
		{"expire", func() error { return c.vault.SetExpires(keyName, "", time.Now().Add(-time.Hour)) },
			func() error { return c.vault.SetExpires(keyName, "", time.Now().Add(time.Hour)) }},
		{"deny", func() error { c.vault.Deny("ForbiddenByRbac"); return nil }, func() error { c.vault.Allow(); return nil }},
		{"secret", func() error {
			c.Directory().ExpireSecrets(c.Directory().ClientID)
			c.Directory().RevokeTokens()
			return nil
		}, func() error { c.Directory().AddSecret(c.Directory().ClientID, c.Directory().Secret); return nil }},
	} {
		must(t, s.take())
		if _, err := p.Unwrap(t.Context(), w); err == nil {
			t.Errorf("%s: it still unwraps", s.name)
		}
		must(t, s.restore())
		mustUnwrap(t, p, w)
	}
}

// TestClock: whether a key has expired is for the vault's clock to say.
func TestClock(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	must(t, c.vault.SetExpires(keyName, "", time.Now().Add(time.Hour)))
	must(t, c.vault.SetNotBefore(keyName, "", time.Now().Add(-time.Hour)))
	for _, off := range []time.Duration{-10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		p := c.open(t, func(cfg *Config) { cfg.Now = func() time.Time { return time.Now().Add(off) } })
		mustUnwrap(t, p, mustWrap(t, p))
	}
	w := mustWrap(t, c.open(t))
	// The directory's tokens live by the same clock, so new ones are needed.
	c.SetClock(func() time.Time { return time.Now().Add(2 * time.Hour) })
	_, err := c.open(t).Unwrap(t.Context(), w)
	expect(t, err, keymgr.Revoked, "KeyExpired")
	c.SetClock(func() time.Time { return time.Now().Add(-2 * time.Hour) })
	_, err = c.open(t).Unwrap(t.Context(), w)
	expect(t, err, keymgr.Revoked, "KeyNotYetValid")
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	c := newCloudOf(t, akvtest.Options{}, akvtest.KeySpec{Type: akvtest.RSAHSM})
	from := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	until := time.Date(2035, 1, 2, 3, 4, 5, 0, time.UTC)
	must(t, c.vault.SetNotBefore(keyName, "", from))
	must(t, c.vault.SetExpires(keyName, "", until))
	p := c.open(t)
	got, err := p.Describe(t.Context())
	must(t, err)
	if got.Created.IsZero() || got.Updated.Before(got.Created) || got.Created.Location() != time.UTC {
		t.Errorf("created %s, updated %s", got.Created, got.Updated)
	}
	want := keymgr.KeyInfo{
		KeyID: c.vault.KeyID(keyName), Version: c.version, Type: "RSA-HSM", Size: 2048, Enabled: true,
		Created: got.Created, Updated: got.Updated, NotBefore: from, Expires: until,
		RecoveryLevel: "Recoverable+Purgeable", RecoveryDays: 90,
	}
	if got != want {
		t.Errorf("described as\n%+v, want\n%+v", got, want)
	}
	// A key that is not usable is described all the same.
	must(t, c.vault.Disable(keyName, ""))
	if got, err = p.Describe(t.Context()); err != nil || got.Enabled {
		t.Errorf("%+v, %v", got, err)
	}
	second, err := c.vault.Rotate(keyName)
	must(t, err)
	if got, err = p.Describe(t.Context()); err != nil || got.Version != second || !got.Enabled || !got.Expires.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	must(t, c.vault.Delete(keyName))
	_, err = p.Describe(t.Context())
	if ke := expect(t, err, keymgr.Revoked, "KeyDeleted"); ke.Op != "describe" {
		t.Errorf("%+v", ke)
	}
}

// TestUnusableKeys are refused before anything is wrapped.
func TestUnusableKeys(t *testing.T) {
	for _, c := range []struct {
		name   string
		spec   akvtest.KeySpec
		change func(*Config)
		code   string
	}{
		{"EC", akvtest.KeySpec{Type: akvtest.EC}, nil, CodeKeyType},
		{"RSA of 1024 bits", akvtest.KeySpec{Bits: 1024}, nil, CodeKeySize},
		{"may not wrap", akvtest.KeySpec{Ops: []string{"encrypt", "decrypt"}}, nil, CodeOperation},
		{"may not unwrap", akvtest.KeySpec{Ops: []string{"wrapKey"}}, nil, CodeOperation},
		{"may not decrypt", akvtest.KeySpec{Ops: []string{"encrypt", "wrapKey", "unwrapKey"}}, encrypting, CodeOperation},
		{"symmetric keys do not encrypt", akvtest.KeySpec{Type: akvtest.OctHSM}, encrypting, CodeOperation},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cl := newCloudOf(t, akvtest.Options{}, c.spec)
			change := c.change
			if change == nil {
				change = func(*Config) {}
			}
			_, err := cl.open(t, change).Wrap(t.Context(), master)
			expect(t, err, keymgr.Invalid, c.code)
			if n := cl.requestsOf("wrapKey") + cl.requestsOf("encrypt"); n != 0 {
				t.Errorf("it was wrapped %d times all the same", n)
			}
		})
	}
}

// TestKeyTurnsUnusable: what the vault refuses at a wrap that "get" did not
// tell is the key's fault too.
func TestKeyTurnsUnusable(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.Inject(akvtest.Fault{Request: "wrapKey", Status: 403, Code: "Forbidden", Inner: "KeyOperationForbidden"})
	_, err := c.open(t).Wrap(t.Context(), master)
	expect(t, err, keymgr.Invalid, "KeyOperationForbidden")
	_, err = c.open(t, encrypting).Wrap(t.Context(), bytes.Repeat([]byte("x"), 1000))
	expect(t, err, keymgr.Invalid, "BadParameter")
}

// TestForeignWraps are refused without a word to the vault.
func TestForeignWraps(t *testing.T) {
	t.Parallel()
	p, err := New("https://kv-test.vault.azure.net/keys/"+keyName, Config{
		Dial:   noDial(t),
		Getenv: func(string) string { return "" },
	})
	must(t, err)
	good := keymgr.Wrapped{
		KeyID: "https://kv-test.vault.azure.net/keys/" + keyName, Version: someVersion,
		Operation: keymgr.OpWrap, Algorithm: keymgr.AlgRSAOAEP256, Ciphertext: []byte("x"),
	}
	for name, change := range map[string]func(*keymgr.Wrapped){
		"another key":             func(w *keymgr.Wrapped) { w.KeyID += "2" },
		"another vault":           func(w *keymgr.Wrapped) { w.KeyID = "https://kv-best.vault.azure.net/keys/" + keyName },
		"the embedded key store":  func(w *keymgr.Wrapped) { w.KeyID = "file:///key.json" },
		"a versioned identifier":  func(w *keymgr.Wrapped) { w.KeyID += "/" + someVersion },
		"no version":              func(w *keymgr.Wrapped) { w.Version = "" },
		"a version of odd form":   func(w *keymgr.Wrapped) { w.Version = "../" + someVersion[3:] },
		"a weaker algorithm":      func(w *keymgr.Wrapped) { w.Algorithm = "RSA1_5" },
		"no algorithm":            func(w *keymgr.Wrapped) { w.Algorithm = "" },
		"an operation of no kind": func(w *keymgr.Wrapped) { w.Operation = "sign" },
		"no ciphertext":           func(w *keymgr.Wrapped) { w.Ciphertext = nil },
	} {
		w := good
		change(&w)
		_, err := p.Unwrap(t.Context(), w)
		if ke := keyError(t, err); ke.Class != keymgr.Mismatch || ke.Vault == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEditedWraps: an algorithm or operation that the key would not have used
// is found out by the key's type.
func TestEditedWraps(t *testing.T) {
	t.Parallel()
	rsa := newCloud(t)
	w := mustWrap(t, rsa.open(t))
	edited := w
	edited.Algorithm = keymgr.AlgA256KW
	_, err := rsa.open(t).Unwrap(t.Context(), edited)
	expect(t, err, keymgr.Mismatch, CodeWrongWrap)
	edited = w
	edited.Ciphertext = bytes.Clone(w.Ciphertext)
	edited.Ciphertext[17] ^= 1
	_, err = rsa.open(t).Unwrap(t.Context(), edited)
	expect(t, err, keymgr.Mismatch, "BadParameter")

	hsm := newCloudOf(t, akvtest.Options{}, akvtest.KeySpec{Type: akvtest.OctHSM})
	w = mustWrap(t, hsm.open(t))
	edited = w
	edited.Algorithm = keymgr.AlgRSAOAEP256
	_, err = hsm.open(t).Unwrap(t.Context(), edited)
	expect(t, err, keymgr.Mismatch, CodeWrongWrap)
	edited = w
	edited.Operation = keymgr.OpEncrypt
	_, err = hsm.open(t).Unwrap(t.Context(), edited)
	expect(t, err, keymgr.Mismatch, CodeWrongWrap)
}

// TestConcurrentUse: one provider, many callers, owners who change the key.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	c := newCloudOf(t, akvtest.Options{}, akvtest.KeySpec{Type: akvtest.OctHSM})
	p := c.open(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				w, err := p.Wrap(t.Context(), master)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := p.Unwrap(t.Context(), w); err != nil || !bytes.Equal(got, master) {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	for range 5 {
		if _, err := c.vault.Rotate(keyName); err != nil {
			t.Error(err)
		}
		c.Directory().RevokeTokens()
	}
	all.Wait()
}

// TestPlaintextIsTheCallers: Wrap changes nothing of it, and works on a copy.
func TestPlaintextIsTheCallers(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	mine := bytes.Clone(master)
	if _, err := c.open(t).Wrap(t.Context(), mine); err != nil || !bytes.Equal(mine, master) {
		t.Errorf("%q, %v", mine, err)
	}
}

// TestOpenThroughRegistry: the program's registry sends both schemes here, so
// that an http URL gets the right refusal.
func TestOpenThroughRegistry(t *testing.T) {
	t.Setenv("AZURE_TENANT_ID", "contoso.example")
	t.Setenv("AZURE_CLIENT_ID", "app")
	t.Setenv("AZURE_CLIENT_SECRET", "never-shown")
	o := keymgr.Openers{"https": Open, "http": Open}
	p, err := o.Open("https://KV-test.vault.azure.net/keys/k", keymgr.ProviderOptions{})
	must(t, err)
	if p.KeyID() != "https://kv-test.vault.azure.net/keys/k" {
		t.Error(p.KeyID())
	}
	for _, text := range []string{fmt.Sprint(p), fmt.Sprintf("%+v %#v", p, p)} {
		if strings.Contains(text, "never-shown") {
			t.Errorf("%s shows the secret", text)
		}
	}
	_, err = o.Open("http://kv-test.vault.azure.net/keys/k", keymgr.ProviderOptions{})
	expect(t, err, keymgr.Invalid, CodeNotHTTPS)
	_, err = o.Open("https://example.com/keys/k", keymgr.ProviderOptions{})
	expect(t, err, keymgr.Invalid, CodeUnknownVault)
}
