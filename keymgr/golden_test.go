package keymgr

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/akvfs/akvfs/crypto"
)

var update = flag.Bool("update", false, "write the golden files anew: only before a format is released")

const (
	goldenKeyring = "testdata/keyring-v1.json"
	goldenExpect  = "testdata/keyring-v1.expect.json"
)

// golden is what keyring-v1.json must open to.
type golden struct {
	FileID  [16]byte `json:"file_id"`
	Master  [16]byte `json:"master"`
	Wrapped []byte   `json:"wrapped"`  // file key
	FileKey []byte   `json:"file_key"` // SHA-256 of it
	Names   []byte   `json:"names"`    // SHA-256 of VolumeKey("names")
}

func sumOf(k *crypto.Key) []byte {
	var sum [32]byte
	k.View(func(b []byte) { sum = sha256.Sum256(b) })
	return sum[:]
}

func writeGolden(t *testing.T, vs vaults) {
	st := newMemory()
	newTestKeyring(t, st, vs)
	keys := mustOpen(t, st, vs)
	f := mustSeal(t, keys, fileID)
	names, err := keys.VolumeKey("names")
	if err != nil {
		t.Fatal(err)
	}
	defer names.Destroy()
	expect, err := json.MarshalIndent(golden{f.id, f.mk, f.wrapped, sumOf(f.key), sumOf(names)}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(goldenKeyring), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{goldenKeyring: mustRead(t, st), goldenExpect: append(expect, '\n')} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGolden: a keyring that format 1 wrote opens for ever, to the same keys.
func TestGolden(t *testing.T) {
	vs := vaults{newVault("golden"), newVault("golden-two")}
	if *update {
		writeGolden(t, vs)
	}
	data, err := os.ReadFile(goldenKeyring)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(goldenExpect)
	if err != nil {
		t.Fatal(err)
	}
	var want golden
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	for i := range vs { // either vault alone
		st := newMemory()
		st.files[KeyringFile] = data
		keys := mustOpen(t, st, vs[i:i+1])
		key, err := keys.UnwrapFileKey(want.FileID, want.Master, want.Wrapped)
		if err != nil {
			t.Fatal(err)
		}
		names, err := keys.VolumeKey("names")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sumOf(key), want.FileKey) || !bytes.Equal(sumOf(names), want.Names) {
			t.Error("the golden keyring opens to other keys")
		}
		key.Destroy()
		names.Destroy()
	}
}
