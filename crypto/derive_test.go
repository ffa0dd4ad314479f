package crypto

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

// hkdfModel is RFC 5869 with SHA-256, for up to 255 blocks.
func hkdfModel(key, salt, info []byte, n int) (out []byte) {
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	prk := mac(salt, key)
	var last []byte
	for i := byte(1); len(out) < n; i++ {
		last = mac(prk, last, info, []byte{i})
		out = append(out, last...)
	}
	return out[:n]
}

func TestHKDFModel(t *testing.T) {
	// RFC 5869, test case 1.
	got := hkdfModel(bytes.Repeat([]byte{0x0b}, 22), unhex(t, "000102030405060708090a0b0c"), unhex(t, "f0f1f2f3f4f5f6f7f8f9"), 42)
	wantHex(t, "output", got,
		"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
}

func TestDerive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), KeySize, KeySize).Draw(t, "key")
		purpose := rapid.String().Draw(t, "purpose")
		k, err := KeyFromBytes(bytes.Clone(raw))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Destroy()
		d, err := k.Derive(purpose)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Destroy()
		if want := hex.EncodeToString(hkdfModel(raw, nil, []byte("akvfs/v1/"+purpose), KeySize)); hexOf(d) != want {
			t.Fatalf("derived %s instead of %s", hexOf(d), want)
		}
		if hexOf(k) != hex.EncodeToString(raw) {
			t.Fatal("the key changed")
		}
	})
}

// TestDeriveIsStable: volumes on disks depend on these.
func TestDeriveIsStable(t *testing.T) {
	for purpose, want := range map[string]string{
		"names":         "392ee49c9dec52d3e22147ea158be0366cf0c96cb86cb5e0eb592e2c9a06cec5",
		"journal":       "f1f3de6cce746421c91997f2bb23d9e4845472fa1935919a599b8a177df45442",
		"keyring-mac":   "35709474bab0b99aab2e15a9bb18ee75c98320c63cff3c9e492ba1139644579f",
		"xattr":         "3280417b8526f5898552ad106c021e175d2af296f9ce0fcca7838562632bcf5e",
		"file-key-wrap": "efad5e136bf8e3eb44f1db6f223d1210fd6db8b2f4c55f38994f1b5d6b2e2b9e",
	} {
		d, err := testKey(t, 1).Derive(purpose)
		check(t, err)
		if hexOf(d) != want {
			t.Errorf("%s: %s instead of %s", purpose, hexOf(d), want)
		}
		d.Destroy()
	}
}

func TestMAC(t *testing.T) {
	// RFC 4231, test case 2, has a shorter key; HMAC pads it with zeros.
	k := keyOf(t, append([]byte("Jefe"), make([]byte, KeySize-4)...))
	mac, err := k.MAC([]byte("what do ya want for nothing?"))
	check(t, err)
	wantHex(t, "MAC", mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
}
