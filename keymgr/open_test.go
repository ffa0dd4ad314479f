package keymgr

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

func mustCreate(t testing.TB, st Storage, vs vaults) *MasterKeys {
	t.Helper()
	keys, err := createKeyring(t.Context(), st, testVolume, testClock, vs.providers())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Destroy)
	return keys
}

func mustOpen(t testing.TB, st Storage, vs vaults) *MasterKeys {
	t.Helper()
	keys, err := OpenKeyring(t.Context(), st, testVolume, vs.open, WithClock(testClock))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Destroy)
	return keys
}

func TestCreate(t *testing.T) {
	vs := vaults{newVault("a"), newVault("b")}
	st := newMemory()
	keys := mustCreate(t, st, vs)
	kr := keys.Keyring()
	if keys.Volume() != testVolume || kr.Volume() != testVolume || kr.Generation() != 1 || !kr.Created().Equal(testTime) || !kr.Modified().Equal(testTime) {
		t.Errorf("%v, created %v, modified %v", kr, kr.Created(), kr.Modified())
	}
	active := kr.Active()
	if len(kr.MasterKeys()) != 1 || !active.Active || !active.Created.Equal(testTime) {
		t.Errorf("master keys %v", kr.MasterKeys())
	}
	for i, w := range kr.Wraps() {
		if w.KeyID != vs[i].id || w.AKI != vs[i].id || w.Version != "v1" || w.Provider != "test" || w.Pinned() {
			t.Errorf("wrap %d: %+v", i, w)
		}
	}
	if _, err := CreateKeyring(t.Context(), st, testVolume, vs[0]); !errors.Is(err, ErrKeyringExists) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
}

func TestCreateRefusals(t *testing.T) {
	down := newVault("down")
	down.fail = Unreachable
	good := newVault("a")
	tests := map[string]struct {
		providers vaults
		want      func(error) bool
	}{
		"no provider":       {nil, func(err error) bool { return err != nil }},
		"same key twice":    {vaults{good, good}, func(err error) bool { return errors.Is(err, ErrKeyPresent) }},
		"one of two is off": {vaults{good, down}, wantClass(Unreachable)},
	}
	for name, tc := range tests {
		st := newMemory()
		_, err := CreateKeyring(t.Context(), st, testVolume, tc.providers.providers()...)
		if err == nil || !tc.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if len(st.files) != 0 {
			t.Errorf("%s: files were left behind", name)
		}
	}
	if _, err := CreateKeyring(t.Context(), newMemory(), uuid.Nil, good); err == nil || wantIntegrity(err) {
		t.Errorf("for no volume: %v", err)
	}
}

// badWraps is a provider whose Wrap gives what no keyring may hold.
type badWraps struct {
	*vault
	edit func(*Wrapped)
}

func (b badWraps) Wrap(ctx context.Context, plaintext []byte) (Wrapped, error) {
	w, err := b.vault.Wrap(ctx, plaintext)
	b.edit(&w)
	return w, err
}

func TestCreateRefusesBadWraps(t *testing.T) {
	for name, edit := range map[string]func(*Wrapped){
		"no version":     func(w *Wrapped) { w.Version = "" },
		"no key":         func(w *Wrapped) { w.KeyID = "" },
		"weak algorithm": func(w *Wrapped) { w.Algorithm = "RSA1_5" },
		"no operation":   func(w *Wrapped) { w.Operation = "" },
		"no ciphertext":  func(w *Wrapped) { w.Ciphertext = nil },
	} {
		st := newMemory()
		_, err := CreateKeyring(t.Context(), st, testVolume, badWraps{newVault("a"), edit})
		if !wantClass(Invalid)(err) || len(st.files) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVolumeKeysStay(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	keys := mustCreate(t, st, vs)
	names, err := keys.VolumeKey("names")
	if err != nil {
		t.Fatal(err)
	}
	defer names.Destroy()
	if _, err := keys.RotateMasterKey(t.Context(), vs.providers()...); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, st, vs)
	for purpose, same := range map[string]bool{"names": true, "journal": false, "xattr": false} {
		k, err := again.VolumeKey(purpose)
		if err != nil {
			t.Fatal(err)
		}
		if k.Equal(names) != same {
			t.Errorf("%q: equal to the first names key: %v", purpose, !same)
		}
		k.Destroy()
	}
}

func TestOpenWithoutKeyring(t *testing.T) {
	_, err := OpenKeyring(t.Context(), newMemory(), testVolume, vaults{}.open)
	if !errors.Is(err, ErrNoKeyring) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

type brokenStorage struct{}

func (brokenStorage) ReadFile(string) ([]byte, error)  { return nil, errInjected }
func (brokenStorage) ReplaceFile(string, []byte) error { return errInjected }

func TestBrokenStorage(t *testing.T) {
	if _, err := LoadKeyring(brokenStorage{}); !errors.Is(err, errInjected) {
		t.Errorf("load: %v", err)
	}
	if _, err := CreateKeyring(t.Context(), brokenStorage{}, testVolume, newVault("a")); !errors.Is(err, errInjected) {
		t.Errorf("create: %v", err)
	}
}

// TestVerdict opens a volume whose vaults all fail, each in its way. Class 0
// means that the vault lies, Mismatch that the ciphertext is not its own.
func TestVerdict(t *testing.T) {
	tests := []struct {
		fail []Class
		want Class // of the first KeyError
	}{
		{[]Class{Revoked}, Revoked},
		{[]Class{Credentials}, Credentials},
		{[]Class{Unreachable}, Unreachable},
		{[]Class{Invalid}, Invalid},
		{[]Class{Mismatch}, Mismatch},
		{[]Class{Revoked, Unreachable}, Unreachable},
		{[]Class{Unreachable, Revoked}, Unreachable},
		{[]Class{Credentials, Revoked}, Revoked},
		{[]Class{Revoked, Credentials}, Revoked},
		{[]Class{Invalid, Credentials}, Credentials},
		{[]Class{Mismatch, Unreachable}, Unreachable},
		{[]Class{Revoked, Mismatch}, Mismatch},
		{[]Class{Invalid, Credentials, Revoked, Unreachable}, Unreachable},
		{[]Class{Invalid, Credentials, Revoked}, Revoked},
	}
	for _, tc := range tests {
		var vs vaults
		for i := range tc.fail {
			vs = append(vs, newVault(string(rune('a'+i))))
		}
		st := newMemory()
		mustCreate(t, st, vs)
		for i, v := range vs {
			v.fail = tc.fail[i]
		}
		_, err := OpenKeyring(t.Context(), st, testVolume, vs.open)
		ke, ok := errors.AsType[*KeyError](err)
		if !ok || ke.Class != tc.want {
			t.Errorf("%v: first is %v in %v", tc.fail, ke, err)
		}
		if got := wantIntegrity(err); got != (tc.want == Mismatch) {
			t.Errorf("%v: is an integrity error: %v", tc.fail, got)
		}
		if many, ok := errors.AsType[*UnopenedError](err); ok != (len(vs) > 1) || ok && len(many.Errors) != len(vs) {
			t.Errorf("%v: %v", tc.fail, err)
		}
		for _, v := range vs {
			if !strings.Contains(err.Error(), v.id) {
				t.Errorf("%v: %q does not name %s", tc.fail, err, v.id)
			}
		}
	}
}

// TestOneVaultOfTwo opens with either vault alone, whatever ails the other.
func TestOneVaultOfTwo(t *testing.T) {
	for _, class := range []Class{Revoked, Credentials, Unreachable, Invalid, Mismatch} {
		for dead := range 2 {
			vs := vaults{newVault("a"), newVault("b")}
			st := newMemory()
			newTestKeyring(t, st, vs)
			vs[dead].fail = class
			keys := mustOpen(t, st, vs)
			if got := len(keys.masters); got != 2 {
				t.Errorf("%v of vault %d: %d master keys are open", class, dead, got)
			}
			// The dead vault is asked for the first master key alone.
			if vs[dead].calls > 1+4 { // 4 to make the keyring
				t.Errorf("%v of vault %d: it was asked %d times", class, dead, vs[dead].calls-4)
			}
		}
	}
}

// TestSilentVault gives the second vault its share of the time.
func TestSilentVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vs := vaults{newVault("a"), newVault("b")}
		st := newMemory()
		newTestKeyring(t, st, vs)
		vs[0].hang = true
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		keys, err := OpenKeyring(ctx, st, testVolume, vs.open)
		if err != nil {
			t.Fatal(err)
		}
		keys.Destroy()
		if spent := time.Since(start); spent != 15*time.Second { // the clock is the bubble's
			t.Errorf("the silent vault was given %v of 30 s", spent)
		}
		vs[1].hang = true
		if _, err := OpenKeyring(ctx, st, testVolume, vs.open); !wantClass(Unreachable)(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("both silent: %v", err)
		}
	})
}

func TestCancelled(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	mustCreate(t, st, vs)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	vs[0].calls = 0
	if _, err := OpenKeyring(ctx, st, testVolume, vs.open); !wantClass(Unreachable)(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if vs[0].calls != 0 {
		t.Error("the vault was asked all the same")
	}
}

// TestOpenFuncRefuses has the caller refuse a key identifier by an error of
// its own.
func TestOpenFuncRefuses(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	mustCreate(t, st, vs)
	_, err := OpenKeyring(t.Context(), st, testVolume, func(string) (Provider, error) { return nil, errInjected })
	if !wantClass(Invalid)(err) || !errors.Is(err, errInjected) {
		t.Errorf("got %v", err)
	}
}

// TestRefusalWritesNothing: whatever is refused, the disk stays as it was.
func TestRefusalWritesNothing(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	newTestKeyring(t, st, vs)
	before := st.copyOf()
	vs[0].fail = Revoked
	if _, err := OpenKeyring(t.Context(), st, testVolume, vs.open); err == nil {
		t.Fatal("opened")
	}
	for name, data := range st.files {
		if !bytes.Equal(data, before.files[name]) {
			t.Errorf("%s changed", name)
		}
	}
	if len(st.files) != len(before.files) {
		t.Error("files came or went")
	}
}

func TestKeyErrorText(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{&KeyError{Class: Revoked, KeyID: "https://v.example/keys/k", Vault: "v.example", Key: "k", Version: "1f", Code: "KeyDisabled", Op: "unwrap"},
			`unwrap: key "k" version 1f in v.example is revoked (KeyDisabled)`},
		{&KeyError{Class: Credentials, Vault: "v.example", Key: "k", Op: "wrap", Err: errInjected},
			`wrap: key "k" in v.example refuses our credentials: injected fault`},
		{&KeyError{Class: Unreachable, KeyID: "https://v.example/keys/k"}, `key "https://v.example/keys/k" is unreachable`},
		{&KeyError{Class: Invalid, KeyID: "x", Code: "BadKeyID"}, `key "x" is not a usable key (BadKeyID)`},
		{&KeyError{Class: Mismatch, KeyID: "x"}, `key "x" does not match`},
		{&KeyError{KeyID: "x"}, `key "x" is class 0`},
		{&IntegrityError{File: "keyring.json", Volume: testVolume, Reason: "r", Err: errInjected},
			"keyring.json of volume 6ba7b810-9dad-41d1-80b4-00c04fd430c8 fails its integrity check: r: injected fault"},
		{&NewerFormatError{File: "keyring.json", Format: 9, Known: 1}, "keyring.json has format 9; this akvfs reads formats up to 1"},
	}
	for _, tc := range tests {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

func TestOpeners(t *testing.T) {
	var gotID string
	openers := Openers{"test": func(keyID string, _ ProviderOptions) (Provider, error) {
		gotID = keyID
		return newVault("a"), nil
	}}
	for _, keyID := range []string{"test://a/key", "TEST://a/key"} {
		if _, err := openers.Open(keyID, ProviderOptions{Operation: OpEncrypt}); err != nil || gotID != keyID {
			t.Errorf("%q: %v, opened %q", keyID, err, gotID)
		}
	}
	for _, keyID := range []string{"", "key", "/etc/key.json", "http://v/keys/k", "test:/a", "://"} {
		if _, err := openers.Open(keyID, ProviderOptions{}); !wantClass(Invalid)(err) {
			t.Errorf("%q: %v", keyID, err)
		}
	}
	if _, err := openers.Open("test://a/key", ProviderOptions{Operation: "sign"}); !wantClass(Invalid)(err) {
		t.Errorf("operation sign: %v", err)
	}
}
