package keymgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/akvfs/akvfs/crypto"
)

var fileID = [16]byte{1, 2, 3}

// sealedFile is a file key under the keys' active master key.
type sealedFile struct {
	id      [16]byte
	mk      [16]byte
	wrapped []byte
	key     *crypto.Key
}

func mustSeal(t testing.TB, keys *MasterKeys, id [16]byte) sealedFile {
	t.Helper()
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Destroy)
	mk, wrapped, err := keys.WrapFileKey(id, key)
	if err != nil {
		t.Fatal(err)
	}
	return sealedFile{id, mk, wrapped, key}
}

// opens reports whether keys give the file's key back.
func (f sealedFile) opens(keys *MasterKeys) error {
	got, err := keys.UnwrapFileKey(f.id, f.mk, f.wrapped)
	if err != nil {
		return err
	}
	defer got.Destroy()
	if !got.Equal(f.key) {
		return errors.New("another key came back")
	}
	return nil
}

func TestFileKeys(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	keys := mustCreate(t, st, vs)
	f := mustSeal(t, keys, fileID)
	if f.mk != [16]byte(keys.Keyring().Active().ID) || len(f.wrapped) != crypto.WrappedKeySize {
		t.Errorf("under %x, %d bytes", f.mk, len(f.wrapped))
	}
	if err := f.opens(mustOpen(t, st, vs)); err != nil {
		t.Error(err)
	}
	other := mustCreate(t, newMemory(), vs)
	bad := map[string]func(f sealedFile) (*MasterKeys, sealedFile){
		"other file":         func(f sealedFile) (*MasterKeys, sealedFile) { f.id[0]++; return keys, f },
		"unknown master key": func(f sealedFile) (*MasterKeys, sealedFile) { f.mk[0]++; return keys, f },
		"flipped":            func(f sealedFile) (*MasterKeys, sealedFile) { f.wrapped[90] ^= 1; return keys, f },
		"short":              func(f sealedFile) (*MasterKeys, sealedFile) { f.wrapped = f.wrapped[1:]; return keys, f },
		"empty":              func(f sealedFile) (*MasterKeys, sealedFile) { f.wrapped = nil; return keys, f },
		"other volume": func(f sealedFile) (*MasterKeys, sealedFile) {
			f.mk = other.Keyring().Active().ID
			return other, f
		},
	}
	for name, edit := range bad {
		c := f
		c.wrapped = bytes.Clone(f.wrapped)
		by, c := edit(c)
		if err := c.opens(by); !wantIntegrity(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDestroy(t *testing.T) {
	vs := vaults{newVault("a")}
	keys := mustCreate(t, newMemory(), vs)
	f := mustSeal(t, keys, fileID)
	keys.Destroy()
	keys.Destroy()
	_, _, wrapErr := keys.WrapFileKey(fileID, f.key)
	_, volErr := keys.VolumeKey("names")
	_, rotErr := keys.RotateMasterKey(t.Context(), vs[0])
	for name, err := range map[string]error{
		"wrap": wrapErr, "unwrap": f.opens(keys), "volume key": volErr, "rotate": rotErr,
		"add":    keys.AddKey(t.Context(), newVault("b")),
		"rewrap": keys.Rewrap(t.Context(), vs[0].id, vs[0]),
		"check":  keys.Check(t.Context(), vs[0].id, vs[0]),
	} {
		if !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if keys.Keyring().Generation() != 1 {
		t.Error("the keyring is not readable any more")
	}
}

// operation is one change, from a volume with keys a and b and two master keys.
type operation struct {
	name string
	do   func(ctx context.Context, keys *MasterKeys, vs vaults) error
}

var operations = []operation{
	{"add", func(ctx context.Context, keys *MasterKeys, vs vaults) error { return keys.AddKey(ctx, vs[2]) }},
	{"remove", func(_ context.Context, keys *MasterKeys, vs vaults) error { return keys.RemoveKey(vs[0].id) }},
	{"rewrap to new version", func(ctx context.Context, keys *MasterKeys, vs vaults) error {
		return keys.Rewrap(ctx, vs[0].id, vs[0])
	}},
	{"rewrap to other key", func(ctx context.Context, keys *MasterKeys, vs vaults) error {
		return keys.Rewrap(ctx, vs[0].id, vs[2])
	}},
	{"rotate master key", func(ctx context.Context, keys *MasterKeys, vs vaults) error {
		_, err := keys.RotateMasterKey(ctx, vs[0], vs[1])
		return err
	}},
	{"retire master key", func(_ context.Context, keys *MasterKeys, _ vaults) error {
		all := keys.Keyring().MasterKeys()
		return keys.RetireMasterKey(all[len(all)-1].ID)
	}},
}

// scene is a volume with keys a and b, two master keys and a file under the
// active one; key a has a newer version, key c is unused.
func scene(t testing.TB) (*memory, vaults, *MasterKeys, sealedFile) {
	vs := vaults{newVault("a"), newVault("b"), newVault("c")}
	st := newMemory()
	newTestKeyring(t, st, vs[:2])
	keys := mustOpen(t, st, vs)
	vs[0].rotate()
	return st, vs, keys, mustSeal(t, keys, fileID)
}

func TestOperations(t *testing.T) {
	for _, op := range operations {
		st, vs, keys, f := scene(t)
		before := keys.Keyring()
		if err := op.do(t.Context(), keys, vs); err != nil {
			t.Errorf("%s: %v", op.name, err)
			continue
		}
		after := keys.Keyring()
		if after.Generation() <= before.Generation() || bytes.Equal(after.raw, before.raw) {
			t.Errorf("%s: generation %d after %d", op.name, after.Generation(), before.Generation())
		}
		if !bytes.Equal(mustRead(t, st), after.raw) {
			t.Errorf("%s: the disk holds another keyring than is in effect", op.name)
		}
		if err := errors.Join(f.opens(keys), f.opens(mustOpen(t, st, vs))); err != nil {
			t.Errorf("%s: %v", op.name, err)
		}
	}
}

// TestCrashInEachStep fails every operation at every step of every replacement
// it makes, before and after the step. The disk must open the volume, and so
// must go on the keys in memory; the operation then succeeds when repeated.
func TestCrashInEachStep(t *testing.T) {
	for _, op := range operations {
		for step := 1; step <= 2*replaceSteps; step++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/step %d/%v", op.name, step, after), func(t *testing.T) {
					crash(t, op, step, after)
				})
			}
		}
	}
}

func crash(t *testing.T, op operation, step int, after bool) {
	st, vs, keys, f := scene(t)
	st.failNext(step, after)
	err := op.do(t.Context(), keys, vs)
	done := keys.Keyring().Generation() > 2
	if err == nil && st.step >= step {
		t.Fatal("the fault was swallowed")
	}
	if err != nil && !errors.Is(err, errInjected) {
		t.Fatalf("failed otherwise: %v", err)
	}
	// What a crash leaves opens, with the file and with a key that was there
	// before or after.
	if err := f.opens(mustOpen(t, st.copyOf(), vs)); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	// The process that saw the error goes on.
	if err := f.opens(keys); err != nil {
		t.Errorf("the keys in memory: %v", err)
	}
	later := mustSeal(t, keys, [16]byte{9})
	if err := later.opens(mustOpen(t, st.copyOf(), vs)); err != nil {
		t.Errorf("a file made after the fault, opened after a crash: %v", err)
	}
	st.failNext(0, false)
	if !done {
		if err := op.do(t.Context(), keys, vs); err != nil {
			t.Errorf("repeated: %v", err)
		}
	}
	for _, f := range []sealedFile{f, later} {
		if err := f.opens(mustOpen(t, st, vs)); err != nil {
			t.Errorf("at the end: %v", err)
		}
	}
}

// TestCrashInCreate leaves nothing, or a keyring that opens.
func TestCrashInCreate(t *testing.T) {
	for step := 1; step < replaceSteps; step++ {
		for _, after := range []bool{false, true} {
			vs := vaults{newVault("a")}
			st := newMemory()
			st.failNext(step, after)
			if _, err := CreateKeyring(t.Context(), st, testVolume, vs[0]); !errors.Is(err, errInjected) {
				t.Fatalf("step %d: %v", step, err)
			}
			if _, err := LoadKeyring(st); errors.Is(err, ErrNoKeyring) {
				st.failNext(0, false)
				mustCreate(t, st, vs)
			}
			mustOpen(t, st, vs)
		}
	}
}

// TestVaultFailsInChange: nothing is dropped, or written, before the new wraps
// are proven.
func TestVaultFailsInChange(t *testing.T) {
	for _, op := range operations {
		if op.name == "remove" || op.name == "retire master key" {
			continue // they ask no vault
		}
		for name, break_ := range map[string]func(*vault){
			"fails": func(v *vault) { v.fail = Unreachable },
			"lies":  func(v *vault) { v.lie = func(b []byte) []byte { b[0]++; return b } },
		} {
			st, vs, keys, f := scene(t)
			disk := mustRead(t, st)
			for _, v := range vs {
				break_(v)
			}
			err := op.do(t.Context(), keys, vs)
			if _, ok := errors.AsType[*KeyError](err); !ok {
				t.Errorf("%s, vault %s: %v", op.name, name, err)
			}
			if !bytes.Equal(mustRead(t, st), disk) || keys.Keyring().Generation() != 2 {
				t.Errorf("%s, vault %s: something was changed", op.name, name)
			}
			if err := f.opens(keys); err != nil {
				t.Errorf("%s, vault %s: %v", op.name, name, err)
			}
		}
	}
}

func TestChangeRefusals(t *testing.T) {
	st, vs, keys, _ := scene(t)
	disk := mustRead(t, st)
	ctx := t.Context()
	_, fewer := keys.RotateMasterKey(ctx, vs[0])
	_, others := keys.RotateMasterKey(ctx, vs[0], vs[2])
	_, more := keys.RotateMasterKey(ctx, vs.providers()...)
	refusals := map[string]struct {
		err  error
		want error // nil: any
	}{
		"add a key that is there":       {keys.AddKey(ctx, vs[0]), ErrKeyPresent},
		"rewrap an unknown key":         {keys.Rewrap(ctx, "test://none", vs[2]), ErrUnknownKey},
		"rewrap onto another there":     {keys.Rewrap(ctx, vs[0].id, vs[1]), ErrKeyPresent},
		"remove an unknown key":         {keys.RemoveKey("test://none"), ErrUnknownKey},
		"check an unknown key":          {keys.Check(ctx, "test://none", vs[0]), ErrUnknownKey},
		"retire the active master key":  {keys.RetireMasterKey(keys.Keyring().Active().ID), nil},
		"retire an unknown master key":  {keys.RetireMasterKey(MasterKeyID{1}), nil},
		"new master key, fewer keys":    {fewer, nil},
		"new master key, other keys":    {others, nil},
		"new master key, one key more":  {more, nil},
		"new master key, without a key": {func() error { _, err := keys.RotateMasterKey(ctx); return err }(), nil},
	}
	for name, r := range refusals {
		if r.err == nil || r.want != nil && !errors.Is(r.err, r.want) {
			t.Errorf("%s: %v", name, r.err)
		}
	}
	if !bytes.Equal(mustRead(t, st), disk) {
		t.Error("a refusal wrote something")
	}
	if err := keys.RemoveKey(vs[0].id); err != nil {
		t.Fatal(err)
	}
	if err := keys.RemoveKey(vs[1].id); !errors.Is(err, ErrLastKey) {
		t.Errorf("the last key: %v", err)
	}
}

// TestTooMany reaches the limits: a plain error, and a keyring that opens.
func TestTooMany(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	keys := mustCreate(t, st, vs)
	for i := range maxMasterKeys {
		_, err := keys.RotateMasterKey(t.Context(), vs[0])
		if full := i == maxMasterKeys-1; (err != nil) != full || wantIntegrity(err) {
			t.Fatalf("master key %d: %v", i+2, err)
		}
	}
	for i := range maxWraps {
		v := newVault(string(rune('b' + i)))
		vs = append(vs, v)
		err := keys.AddKey(t.Context(), v)
		if full := i == maxWraps-1; (err != nil) != full || wantIntegrity(err) {
			t.Fatalf("wrap %d: %v", i+2, err)
		}
	}
	mustOpen(t, st, vs)
	t.Logf("the largest keyring of small wraps has %d bytes", len(mustRead(t, st)))
}

// TestLargestFits: as many master keys and wraps as are allowed, of RSA-4096.
func TestLargestFits(t *testing.T) {
	st := newMemory()
	newTestKeyring(t, st, vaults{newVault("a")})
	kr, err := LoadKeyring(st)
	if err != nil {
		t.Fatal(err)
	}
	d := kr.doc.clone()
	mk := d.MasterKeys[0]
	mk.Wraps[0].Ciphertext = make([]byte, 512)
	mk.Wraps[0].AKI = "https://a-vault-with-a-long-name.managedhsm.usgovcloudapi.net/keys/and-a-key-with-a-long-name/0123456789abcdef0123456789abcdef"
	d.MasterKeys = nil
	for i := range maxMasterKeys {
		next := mk.clone()
		next.ID, next.Active = MasterKeyID{byte(i), 1}, i == 0
		next.Wraps = nil
		for j := range maxWraps {
			w := mk.Wraps[0]
			w.KeyID = fmt.Sprint(w.AKI, j)
			next.Wraps = append(next.Wraps, w)
		}
		d.MasterKeys = append(d.MasterKeys, next)
	}
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	defer key.Destroy()
	big, err := d.seal(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(big.raw))
}

// TestConflict: another process changed the keyring meanwhile.
func TestConflict(t *testing.T) {
	st, vs, keys, _ := scene(t)
	other := mustOpen(t, st, vs)
	if err := other.AddKey(t.Context(), vs[2]); err != nil {
		t.Fatal(err)
	}
	disk := mustRead(t, st)
	if err := keys.RemoveKey(vs[0].id); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(mustRead(t, st), disk) {
		t.Error("the other's keyring was overwritten")
	}
}

// TestGoneForGood: after a removal, no file of the metadata holds what was
// removed.
func TestGoneForGood(t *testing.T) {
	st, vs, keys, _ := scene(t)
	all := keys.Keyring().MasterKeys()
	old := all[1]
	if err := keys.RetireMasterKey(old.ID); err != nil {
		t.Fatal(err)
	}
	if err := keys.RemoveKey(vs[0].id); err != nil {
		t.Fatal(err)
	}
	if keys.masters[old.ID] != nil {
		t.Error("the retired master key is still in memory")
	}
	for name := range st.files {
		kr, err := ParseKeyring(st.files[name])
		if err != nil {
			t.Fatal(err)
		}
		for _, mk := range kr.MasterKeys() {
			if mk.ID == old.ID || mk.wrapOf(vs[0].id) >= 0 {
				t.Errorf("%s still holds it", name)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	_, vs, keys, _ := scene(t)
	check := func() error { return keys.Check(t.Context(), vs[0].id, vs[0]) }
	if err := check(); err != nil {
		t.Errorf("good: %v", err)
	}
	vs[0].disabled["v1"] = true
	if err := check(); !wantClass(Revoked)(err) {
		t.Errorf("disabled: %v", err)
	}
	vs[0].disabled["v1"] = false
	vs[0].material = "other"
	if err := check(); !wantClass(Mismatch)(err) {
		t.Errorf("same name, other material: %v", err)
	}
	vs[0].material = "a"
	vs[0].lie = func(b []byte) []byte { b[31]++; return b }
	if err := check(); !wantClass(Mismatch)(err) {
		t.Errorf("other bytes: %v", err)
	}
}

// TestImmutable: what a Keyring hands out can be scribbled on.
func TestImmutable(t *testing.T) {
	_, _, keys, _ := scene(t)
	kr := keys.Keyring()
	for _, mk := range append(kr.MasterKeys(), kr.Active()) {
		clear(mk.Check)
		for i := range mk.Wraps {
			clear(mk.Wraps[i].Ciphertext)
			mk.Wraps[i] = Wrap{}
		}
	}
	clear(kr.Wraps())
	again, err := kr.doc.encode()
	if err != nil || !bytes.Equal(again, kr.raw) {
		t.Errorf("the keyring changed (%v)", err)
	}
}

// TestConcurrent runs files, changes, checks and a late Destroy at once; the
// race detector and the file keys are the judges.
func TestConcurrent(t *testing.T) {
	st, vs, keys, f := scene(t)
	var wg sync.WaitGroup
	ok := func(err error) bool { return err == nil || errors.Is(err, ErrDestroyed) }
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				if err := f.opens(keys); !ok(err) {
					t.Errorf("unwrap: %v", err)
				}
				mk, wrapped, err := keys.WrapFileKey([16]byte{byte(i)}, f.key)
				if err == nil {
					err = sealedFile{[16]byte{byte(i)}, mk, wrapped, f.key}.opens(keys)
				}
				if !ok(err) {
					t.Errorf("wrap: %v", err)
				}
				_ = keys.Keyring().Wraps()
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := keys.Rewrap(t.Context(), vs[0].id, vs[0]); !ok(err) {
				t.Errorf("rewrap: %v", err)
			}
		}
	})
	wg.Go(func() {
		for range 3 {
			id, err := keys.RotateMasterKey(t.Context(), vs[0], vs[1])
			if !ok(err) {
				t.Errorf("rotate: %v", err)
			}
			if err == nil && !slices.ContainsFunc(keys.Keyring().MasterKeys(), func(m MasterKey) bool { return m.ID == id }) {
				t.Error("the new master key is not in the keyring")
			}
			if err := keys.Check(t.Context(), vs[1].id, vs[1]); !ok(err) {
				t.Errorf("check: %v", err)
			}
		}
		keys.Destroy()
	})
	wg.Wait()
	if err := f.opens(mustOpen(t, st, vs)); err != nil {
		t.Error(err)
	}
}

// midway is a vault that does something between an unwrap and its answer.
type midway struct {
	*vault
	do func()
}

func (p *midway) Unwrap(ctx context.Context, w Wrapped) ([]byte, error) {
	b, err := p.vault.Unwrap(ctx, w)
	if do := p.do; do != nil {
		p.do = nil
		do()
	}
	return b, err
}

// TestCheckWhileRetired: a master key that is rotated and retired while the
// vault answers is no reason to call the key bad.
func TestCheckWhileRetired(t *testing.T) {
	v := newVault("a")
	keys := mustCreate(t, newMemory(), vaults{v})
	first := keys.Keyring().Active().ID
	p := &midway{v, func() {
		if _, err := keys.RotateMasterKey(t.Context(), v); err != nil {
			t.Error(err)
		}
		if err := keys.RetireMasterKey(first); err != nil {
			t.Error(err)
		}
	}}
	if err := keys.Check(t.Context(), v.id, p); err != nil {
		t.Error(err)
	}
	p.do = keys.Destroy
	if err := keys.Check(t.Context(), v.id, p); !errors.Is(err, ErrDestroyed) {
		t.Errorf("%v", err)
	}
}
