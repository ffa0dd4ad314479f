package volume

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"os"
	"path"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/keymgr"
)

// vault is a key of a make-believe vault with versions, fast enough for a
// crash at every operation.
type vault struct {
	name    string
	version byte
}

func (v *vault) KeyID() string { return "test://" + v.name }
func (v *vault) Name() string  { return "test" }

func (v *vault) aead(version string) cipher.AEAD {
	var key [32]byte
	copy(key[:], v.name+"/"+version)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (v *vault) Wrap(_ context.Context, plain []byte) (keymgr.Wrapped, error) {
	version := fmt.Sprint("v", v.version)
	return keymgr.Wrapped{
		KeyID: v.KeyID(), Version: version, Operation: keymgr.OpWrap, Algorithm: keymgr.AlgA256KW,
		Ciphertext: v.aead(version).Seal(nil, nil, plain, nil),
	}, nil
}

func (v *vault) Unwrap(_ context.Context, w keymgr.Wrapped) ([]byte, error) {
	return v.aead(w.Version).Open(nil, nil, w.Ciphertext, nil)
}

func (v *vault) Describe(context.Context) (keymgr.KeyInfo, error) {
	return keymgr.KeyInfo{KeyID: v.KeyID(), Version: fmt.Sprint("v", v.version), Enabled: true}, nil
}

// vaults finds them by their identifiers.
type vaults []*vault

func (vs vaults) open(keyID string) (keymgr.Provider, error) {
	for _, v := range vs {
		if v.KeyID() == keyID {
			return v, nil
		}
	}
	return nil, &keymgr.KeyError{Class: keymgr.Invalid, KeyID: keyID}
}

// keyed is a volume under a real keyring.
type keyed struct {
	st     store.FS
	id     uuid.UUID
	vaults vaults
	keys   *keymgr.MasterKeys
	v      *Volume
}

func newKeyed(t testing.TB, st store.FS, names string) *keyed {
	t.Helper()
	return newKeyedWith(t, st, Config{Names: names, JournalSize: 1 << 20})
}

func newKeyedWith(t testing.TB, st store.FS, cfg Config) *keyed {
	t.Helper()
	k := &keyed{st: st, vaults: vaults{{"a", 1}, {"b", 1}}}
	var err error
	k.id, err = Create(st, cfg, func(id uuid.UUID, meta MetadataFiles) (Keys, error) {
		keys, err := keymgr.CreateKeyring(t.Context(), meta, id, k.vaults[0])
		k.keys = keys
		return keys, err
	})
	if err != nil {
		t.Fatal(err)
	}
	k.keys.Destroy()
	if err := k.open(st); err != nil {
		t.Fatal(err)
	}
	return k
}

// open opens the volume in another state of its store.
func (k *keyed) open(st store.FS) (err error) {
	k.st = st
	if k.keys, err = keymgr.OpenKeyring(context.Background(), Metadata(st), k.id, k.vaults.open); err != nil {
		return err
	}
	if k.v, err = Open(st, k.keys, Options{}); err != nil {
		k.keys.Destroy()
	}
	return err
}

func (k *keyed) close() error {
	err := k.v.Close()
	k.keys.Destroy()
	return err
}

// rotate makes a new master key, under whatever wraps the present one.
func (k *keyed) rotate() (keymgr.MasterKeyID, error) {
	var providers []keymgr.Provider
	for _, w := range k.keys.Keyring().Wraps() {
		p, err := k.vaults.open(w.AKI)
		if err != nil {
			return keymgr.MasterKeyID{}, err
		}
		providers = append(providers, p)
	}
	return k.keys.RotateMasterKey(context.Background(), providers...)
}

// rewrap wraps all file keys anew and retires every master key but the active.
func (k *keyed) rewrap() (RewrapProgress, error) {
	p, err := k.v.Rewrap(context.Background(), RewrapOptions{Master: k.keys.Keyring().Active().ID})
	if err != nil {
		return p, err
	}
	for _, mk := range k.keys.Keyring().MasterKeys() {
		if !mk.Active {
			if err := k.keys.RetireMasterKey(mk.ID); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// under counts the backing files below dir by the master key of their header.
func under(t testing.TB, st store.FS, dir string) map[keymgr.MasterKeyID]int {
	t.Helper()
	count := map[keymgr.MasterKeyID]int{}
	entries, err := st.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch {
		case name == MetaDir:
		case e.Type&unix.S_IFMT == unix.S_IFDIR:
			for id, n := range under(t, st, name) {
				count[id] += n
			}
		case e.Type&unix.S_IFMT == unix.S_IFREG:
			if id, ok := masterOf(t, st, name); ok {
				count[id]++
			}
		}
	}
	return count
}

func masterOf(t testing.TB, st store.FS, name string) (id keymgr.MasterKeyID, ok bool) {
	t.Helper()
	f, err := st.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := blockfile.ReadHeader(f, name)
	if err != nil {
		t.Fatal(err)
	}
	if h == nil {
		return id, false
	}
	slot, _ := h.Current()
	return slot.MasterKey, true
}
