package keymgr

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/crypto"
)

// life is a volume and what a model knows about it: which key versions wrap
// it, which versions the vaults would use, and which files must open.
type life struct {
	disk    *memory
	vaults  vaults
	keys    *MasterKeys // nil while locked
	wraps   []string    // key IDs, in order
	version map[string]string
	masters int
	files   []sealedFile
	last    uint64 // generation
}

func newLife(t *rapid.T) *life {
	l := &life{disk: newMemory(), vaults: vaults{newVault("a"), newVault("b"), newVault("c")}, version: map[string]string{}}
	keys, err := createKeyring(t.Context(), l.disk, testVolume, testClock, []Provider{l.vaults[0]})
	if err != nil {
		t.Fatal(err)
	}
	l.keys, l.masters = keys, 1
	l.wraps = []string{l.vaults[0].id}
	l.version[l.vaults[0].id] = "v1"
	return l
}

func (l *life) vault(id string) *vault {
	return l.vaults[slices.IndexFunc(l.vaults, func(v *vault) bool { return v.id == id })]
}

// opens is the model's word on whether the key at id opens the volume.
func (l *life) opens(id string) bool {
	v := l.vault(id)
	return v.fail == 0 && !v.disabled[l.version[id]]
}

// wrapsNow is the model's word on whether the key at id could wrap.
func (l *life) wrapsNow(id string) bool {
	v := l.vault(id)
	return v.fail == 0 && !v.disabled[v.newest()]
}

func (l *life) has(id string) bool { return slices.Contains(l.wraps, id) }

// unlocked makes an action do nothing while the keys are not in memory.
func (l *life) unlocked(action func(*rapid.T)) func(*rapid.T) {
	return func(t *rapid.T) {
		if l.keys != nil {
			action(t)
		}
	}
}

func expect(t *rapid.T, what string, err error, ok bool) {
	if (err == nil) != ok {
		t.Fatalf("%s: %v; the model says it succeeds: %v", what, err, ok)
	}
}

func (l *life) lock(*rapid.T) {
	if l.keys != nil {
		l.keys.Destroy()
		l.keys = nil
	}
}

func (l *life) unlock(t *rapid.T) {
	l.lock(t)
	keys, err := OpenKeyring(t.Context(), l.disk, testVolume, l.vaults.open, WithClock(testClock), MinGeneration(l.last))
	expect(t, "open", err, slices.ContainsFunc(l.wraps, l.opens))
	if err == nil {
		l.keys = keys
	} else if _, ok := errors.AsType[*KeyError](err); !ok || wantIntegrity(err) {
		t.Fatalf("open: %v is no KeyError", err)
	}
}

func (l *life) newFile(t *rapid.T) {
	keys := l.keys
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	f := sealedFile{id: [16]byte{byte(len(l.files))}, key: key}
	if f.mk, f.wrapped, err = keys.WrapFileKey(f.id, key); err != nil {
		t.Fatal(err)
	}
	l.files = append(l.files, f)
}

func (l *life) addKey(t *rapid.T) {
	keys, v := l.keys, rapid.SampledFrom(l.vaults).Draw(t, "vault")
	err := keys.AddKey(t.Context(), v)
	ok := !l.has(v.id) && l.wrapsNow(v.id)
	expect(t, "add", err, ok)
	if ok {
		l.wraps = append(l.wraps, v.id)
		l.version[v.id] = v.newest()
	}
}

func (l *life) removeKey(t *rapid.T) {
	keys, v := l.keys, rapid.SampledFrom(l.vaults).Draw(t, "vault")
	ok := l.has(v.id) && len(l.wraps) > 1
	expect(t, "remove", keys.RemoveKey(v.id), ok)
	if ok {
		l.wraps = slices.DeleteFunc(l.wraps, func(id string) bool { return id == v.id })
	}
}

func (l *life) rewrap(t *rapid.T) {
	keys := l.keys
	from, to := rapid.SampledFrom(l.vaults).Draw(t, "from"), rapid.SampledFrom(l.vaults).Draw(t, "to")
	ok := l.has(from.id) && (from == to || !l.has(to.id)) && l.wrapsNow(to.id)
	expect(t, "rewrap", keys.Rewrap(t.Context(), from.id, to), ok)
	if ok {
		l.wraps[slices.Index(l.wraps, from.id)] = to.id
		l.version[to.id] = to.newest()
	}
}

func (l *life) rotateMaster(t *rapid.T) {
	keys := l.keys
	var ps []Provider
	ok := l.masters < maxMasterKeys
	for _, id := range l.wraps {
		ps = append(ps, l.vault(id))
		// The new master key is under the vaults' newest versions while the
		// old one stays under its own, so the model wants them to agree.
		ok = ok && l.wrapsNow(id)
		if l.version[id] != l.vault(id).newest() {
			return // rewrap comes first
		}
	}
	_, err := keys.RotateMasterKey(t.Context(), ps...)
	expect(t, "rotate master key", err, ok)
	if ok {
		l.masters++
	}
}

// retire moves the files of an old master key to the active one, and drops it.
func (l *life) retire(t *rapid.T) {
	keys := l.keys
	all := keys.Keyring().MasterKeys()
	mk := rapid.SampledFrom(all).Draw(t, "master key")
	if !mk.Active {
		for i, f := range l.files {
			if f.mk != mk.ID {
				continue
			}
			var err error
			if l.files[i].mk, l.files[i].wrapped, err = keys.WrapFileKey(f.id, f.key); err != nil {
				t.Fatal(err)
			}
		}
		l.masters--
	}
	expect(t, "retire", keys.RetireMasterKey(mk.ID), !mk.Active)
}

func (l *life) vaultRotates(t *rapid.T) { rapid.SampledFrom(l.vaults).Draw(t, "vault").rotate() }

func (l *life) vaultDisables(t *rapid.T) {
	v := rapid.SampledFrom(l.vaults).Draw(t, "vault")
	version := rapid.SampledFrom(v.versions).Draw(t, "version")
	v.disabled[version] = !v.disabled[version]
}

func (l *life) vaultFails(t *rapid.T) {
	rapid.SampledFrom(l.vaults).Draw(t, "vault").fail = rapid.SampledFrom([]Class{0, 0, Revoked, Credentials, Unreachable}).Draw(t, "class")
}

func (l *life) checkKey(t *rapid.T) {
	keys, id := l.keys, rapid.SampledFrom(l.wraps).Draw(t, "key")
	expect(t, "check", keys.Check(t.Context(), id, l.vault(id)), l.opens(id))
}

// invariant holds after every action.
func (l *life) invariant(t *rapid.T) {
	kr, err := LoadKeyring(l.disk)
	if err != nil {
		t.Fatal(err)
	}
	if kr.Generation() < l.last {
		t.Fatalf("generation %d came after %d", kr.Generation(), l.last)
	}
	l.last = kr.Generation()
	if len(kr.MasterKeys()) != l.masters {
		t.Fatalf("%d master keys, the model has %d", len(kr.MasterKeys()), l.masters)
	}
	for _, mk := range kr.MasterKeys() {
		var got []string
		for _, w := range mk.Wraps {
			got = append(got, w.KeyID+" "+w.Version)
		}
		var want []string
		for _, id := range l.wraps {
			want = append(want, id+" "+l.version[id])
		}
		if !slices.Equal(got, want) {
			t.Fatalf("master key %s is wrapped by %v, in the model by %v", mk.ID, got, want)
		}
	}
	if l.keys == nil {
		return
	}
	for _, f := range l.files {
		if err := f.opens(l.keys); err != nil {
			t.Fatalf("file %d: %v", f.id[0], err)
		}
	}
}

// TestLifeCycle walks random key life cycles against the model.
func TestLifeCycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t)
		defer l.lock(t)
		t.Repeat(map[string]func(*rapid.T){
			"":              l.invariant,
			"lock":          l.lock,
			"unlock":        l.unlock,
			"newFile":       l.unlocked(l.newFile),
			"addKey":        l.unlocked(l.addKey),
			"removeKey":     l.unlocked(l.removeKey),
			"rewrap":        l.unlocked(l.rewrap),
			"rotateMaster":  l.unlocked(l.rotateMaster),
			"retire":        l.unlocked(l.retire),
			"vaultRotates":  l.vaultRotates,
			"vaultDisables": l.vaultDisables,
			"vaultFails":    l.vaultFails,
			"check":         l.unlocked(l.checkKey),
		})
	})
}

// TestRoundTrip: any document that validates is read back as it was written.
func TestRoundTrip(t *testing.T) {
	text := rapid.StringMatching(`[!-~]{1,40}`)
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	defer key.Destroy()
	rapid.Check(t, func(t *rapid.T) {
		d := document{
			Format: keyringFormat, Volume: testVolume, Created: testTime, Modified: testTime,
			Generation:   rapid.Uint64Range(1, maxGeneration).Draw(t, "generation"),
			VolumeSecret: rapid.SliceOfN(rapid.Byte(), crypto.WrappedKeySize, crypto.WrappedKeySize).Draw(t, "secret"),
		}
		masters := rapid.IntRange(1, maxMasterKeys).Draw(t, "masters")
		active := rapid.IntRange(0, masters-1).Draw(t, "active")
		for i := range masters {
			mk := MasterKey{ID: MasterKeyID{byte(i), 1}, Created: testTime, Active: i == active, Check: make([]byte, macSize)}
			for j := range rapid.IntRange(1, maxWraps).Draw(t, "wraps") {
				mk.Wraps = append(mk.Wraps, Wrap{
					Provider: text.Draw(t, "provider"), AKI: text.Draw(t, "aki"), KeyID: fmt.Sprint(j, text.Draw(t, "key")),
					Version: text.Draw(t, "version"), Created: testTime,
					Operation:  rapid.SampledFrom([]string{OpWrap, OpEncrypt}).Draw(t, "operation"),
					Algorithm:  rapid.SampledFrom([]string{AlgRSAOAEP256, AlgA256KW}).Draw(t, "algorithm"),
					Ciphertext: rapid.SliceOfN(rapid.Byte(), 32, 600).Draw(t, "ciphertext"),
				})
			}
			d.MasterKeys = append(d.MasterKeys, mk)
		}
		kr, err := d.seal(key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseKeyring(kr.raw)
		if err != nil {
			t.Fatal(err)
		}
		for i, mk := range again.MasterKeys() {
			same := func(a, b Wrap) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
			if mk.ID != d.MasterKeys[i].ID || !slices.EqualFunc(mk.Wraps, d.MasterKeys[i].Wraps, same) {
				t.Fatalf("master key %d came back as another", i)
			}
		}
	})
}

// TestIDsDiffer: no two keyrings share a master key's ID, ciphertext or MAC.
func TestIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		kr := mustCreate(t, newMemory(), vaults{newVault("a")}).Keyring()
		for _, s := range []string{kr.Active().ID.String(), string(kr.Wraps()[0].Ciphertext), string(kr.doc.MAC), string(kr.doc.VolumeSecret)} {
			if seen[s] {
				t.Fatalf("%q twice", s)
			}
			seen[s] = true
		}
	}
	if len(slices.Collect(maps.Keys(seen))) != 80 {
		t.Error("not all were compared")
	}
}
