package file

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/keymgr"
)

// metadata is a volume's metadata in memory.
type metadata map[string][]byte

func (m metadata) ReadFile(name string) ([]byte, error) {
	data, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return data, nil
}

func (m metadata) ReplaceFile(name string, data []byte) error {
	if old, ok := m[name]; ok {
		m[name+".prev"] = old
	}
	m[name] = data
	return nil
}

var volume = uuid.MustParse("6ba7b810-9dad-41d1-80b4-00c04fd430c8")

func openVolume(t testing.TB, st keymgr.Storage, c *clock) (*keymgr.MasterKeys, error) {
	t.Helper()
	openers := keymgr.Openers{Scheme: OpenProvider}
	return keymgr.OpenKeyring(t.Context(), st, volume, func(keyID string) (keymgr.Provider, error) {
		return openers.Open(keyID, keymgr.ProviderOptions{Now: c.now})
	})
}

// volumeWith makes a volume under keys, and a file key in it.
func volumeWith(t testing.TB, ps ...keymgr.Provider) (metadata, func(*keymgr.MasterKeys) error) {
	t.Helper()
	st := metadata{}
	keys, err := keymgr.CreateKeyring(t.Context(), st, volume, ps...)
	must(t, err)
	defer keys.Destroy()
	key, err := crypto.NewKey()
	must(t, err)
	t.Cleanup(key.Destroy)
	id := [16]byte{1}
	mk, wrapped, err := keys.WrapFileKey(id, key)
	must(t, err)
	return st, func(keys *keymgr.MasterKeys) error {
		got, err := keys.UnwrapFileKey(id, mk, wrapped)
		if err != nil {
			return err
		}
		defer got.Destroy()
		if !got.Equal(key) {
			return errors.New("another file key came back")
		}
		return nil
	}
}

// TestVolume takes a volume through all states of its key, as an operator
// would see them: it opens, or is refused with this class and code.
func TestVolume(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	first := versions(t, s)[0]
	st, fileOpens := volumeWith(t, mustProvider(t, s.KeyID(), c))
	untouched := maps.Clone(st)
	moved := s.Path() + ".moved"
	for _, tc := range []struct {
		name  string
		do    func() error
		class keymgr.Class
		code  string
	}{
		{"as made", func() error { return nil }, 0, ""},
		{"key rotated, volume not", func() error { _, err := s.Rotate(); return err }, 0, ""},
		{"its version disabled", func() error { return s.Disable(first) }, keymgr.Revoked, "KeyDisabled"},
		{"its version enabled", func() error { return s.Enable(first) }, 0, ""},
		{"all disabled", func() error { return s.Disable("") }, keymgr.Revoked, "KeyDisabled"},
		{"all enabled", func() error { return s.Enable("") }, 0, ""},
		{"expired", func() error { return s.Expire("", c.t.Add(-time.Hour)) }, keymgr.Revoked, "KeyExpired"},
		{"to expire", func() error { return s.Expire("", c.t.Add(time.Hour)) }, 0, ""},
		{"the hour is over", func() error { c.t = c.t.Add(time.Hour); return nil }, keymgr.Revoked, "KeyExpired"},
		{"never expires", func() error { return s.Expire("", time.Time{}) }, 0, ""},
		{"not yet valid", func() error { return s.NotBefore("", c.t.Add(time.Hour)) }, keymgr.Revoked, "KeyNotYetValid"},
		{"valid", func() error { return s.NotBefore("", c.t) }, 0, ""},
		{"deleted", s.Delete, keymgr.Revoked, "KeyDeleted"},
		{"recovered", s.Recover, 0, ""},
		{"file gone", func() error { return os.Rename(s.Path(), moved) }, keymgr.Unreachable, "FileNotFound"},
		{"file is back", func() error { return os.Rename(moved, s.Path()) }, 0, ""},
		{"readable to others", func() error { return os.Chmod(s.Path(), 0o644) }, keymgr.Invalid, "UnsafeFile"},
		{"0600 again", func() error { return os.Chmod(s.Path(), 0o600) }, 0, ""},
		{"purged", func() error { return errors.Join(s.Delete(), s.Purge()) }, keymgr.Revoked, "KeyNotFound"},
		{"a new key in its place", func() error { _, err := Create(s.Path(), c.options()); return err }, keymgr.Revoked, "KeyVersionNotFound"},
	} {
		must(t, tc.do())
		keys, err := openVolume(t, st, c)
		if tc.class == 0 {
			if err == nil {
				err = fileOpens(keys)
				keys.Destroy()
			}
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		} else if !is(err, tc.class, tc.code, s.Path()) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if !maps.EqualFunc(st, untouched, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Error("opening, or not, changed the volume's metadata")
	}
}

// TestOtherMaterial: a key of the same name and version, but with other
// material, is an integrity failure and no revocation.
func TestOtherMaterial(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	st, _ := volumeWith(t, mustProvider(t, s.KeyID(), c))
	d, err := read("test", s.Path())
	must(t, err)
	d.Versions[0].PrivateKey, err = fromPool(minBits)
	must(t, err)
	must(t, write(s.Path(), d))
	_, err = openVolume(t, st, c)
	if _, ok := errors.AsType[*keymgr.IntegrityError](err); !ok || !is(err, keymgr.Mismatch, "BadCiphertext", s.Path()) {
		t.Errorf("got %v", err)
	}
}

// TestRotation follows a key's rotation, moves to another store, and adds a
// second one, with the old versions and stores taken away behind it.
func TestRotation(t *testing.T) {
	c := &clock{start}
	a, b := mustCreate(t, c), mustCreate(t, c)
	pa, pb := mustProvider(t, a.KeyID(), c), mustProvider(t, b.KeyID(), c)
	st, fileOpens := volumeWith(t, pa)
	opens := func(what string) *keymgr.MasterKeys {
		t.Helper()
		keys, err := openVolume(t, st, c)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Cleanup(keys.Destroy)
		if err := fileOpens(keys); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return keys
	}
	keys := opens("at first")
	first := versions(t, a)[0]
	second, err := a.Rotate()
	must(t, err)
	must(t, keys.Rewrap(t.Context(), a.KeyID(), pa))
	if w := keys.Keyring().Wraps()[0]; w.Version != second || w.Pinned() {
		t.Errorf("%+v", w)
	}
	must(t, a.Disable(first))
	keys = opens("under the new version")

	must(t, keys.AddKey(t.Context(), pb))
	must(t, a.Delete())
	opens("by the second store")
	must(t, a.Recover())
	must(t, os.Rename(b.Path(), b.Path()+".moved"))
	opens("by the first store")
	must(t, os.Rename(b.Path()+".moved", b.Path()))

	must(t, keys.RemoveKey(a.KeyID()))
	must(t, os.Remove(a.Path()))
	keys = opens("by what was the second store")
	must(t, keys.Check(t.Context(), b.KeyID(), pb))

	pin := mustProvider(t, pinned(b.Path(), versions(t, b)[0]), c)
	must(t, keys.Rewrap(t.Context(), b.KeyID(), pin))
	if w := opens("pinned").Keyring().Wraps()[0]; !w.Pinned() || w.AKI != pin.KeyID() || w.KeyID != b.KeyID() {
		t.Errorf("%+v", w)
	}
}

// TestEncryptOperation keeps to encrypt and decrypt over a keyring's life.
func TestEncryptOperation(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	p, err := OpenProvider(s.KeyID(), keymgr.ProviderOptions{Operation: keymgr.OpEncrypt, Now: c.now})
	must(t, err)
	st, fileOpens := volumeWith(t, p)
	keys, err := openVolume(t, st, c) // whose provider was told nothing
	must(t, err)
	defer keys.Destroy()
	must(t, fileOpens(keys))
	if w := keys.Keyring().Wraps()[0]; w.Operation != keymgr.OpEncrypt || w.Provider != "file" {
		t.Errorf("%+v", w)
	}
}

// TestMovedVolume: the identifier in the keyring is absolute, whatever path
// the store was named by.
func TestMovedVolume(t *testing.T) {
	c := &clock{start}
	t.Chdir(t.TempDir())
	s, err := Create("key.json", c.options())
	must(t, err)
	if !filepath.IsAbs(s.Path()) {
		t.Errorf("path %q", s.Path())
	}
	st, _ := volumeWith(t, mustProvider(t, s.KeyID(), c))
	t.Chdir(t.TempDir())
	keys, err := openVolume(t, st, c)
	must(t, err)
	keys.Destroy()
}
