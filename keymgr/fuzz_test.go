package keymgr

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// FuzzParseKeyring: the parser never panics, its errors have their types, and
// what it accepts is what the encoder writes.
func FuzzParseKeyring(f *testing.F) {
	good, err := os.ReadFile(goldenKeyring)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.ReplaceAll(good, []byte(" "), nil))
	f.Add(bytes.Replace(good, []byte(`"format": 1`), []byte(`"format": 2`), 1))
	f.Add([]byte(`{"format":1,"master_keys":[{"wraps":[null]}]}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		kr, err := ParseKeyring(data)
		if err != nil {
			_, newer := errors.AsType[*NewerFormatError](err)
			if !newer && !wantIntegrity(err) {
				t.Fatalf("an error of another type: %v", err)
			}
			return
		}
		if !bytes.Equal(kr.raw, data) {
			t.Fatal("accepted, but not as it was")
		}
		if err := kr.doc.validate(); err != nil {
			t.Fatalf("accepted, and is not valid: %v", err)
		}
		if kr.Volume() != kr.doc.Volume || len(kr.MasterKeys()) == 0 || len(kr.Wraps()) == 0 || kr.String() == "" {
			t.Fatal("accepted, and cannot be listed")
		}
	})
}
