package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func nameCipher(t testing.TB) *NameCipher {
	t.Helper()
	c, err := NewNameCipher(testKey(t, 1))
	check(t, err)
	t.Cleanup(c.Destroy)
	return c
}

// cmacModel is AES-CMAC, RFC 4493.
func cmacModel(block cipher.Block, m []byte) []byte {
	var sub, x [aes.BlockSize]byte
	block.Encrypt(sub[:], sub[:])
	double(&sub)
	if len(m) == 0 || len(m)%aes.BlockSize != 0 {
		double(&sub)
		m = append(bytes.Clone(m), 0x80)
		m = append(m, make([]byte, -len(m)&(aes.BlockSize-1))...)
	}
	for ; len(m) > 0; m = m[aes.BlockSize:] {
		for i := range x {
			x[i] ^= m[i]
			if len(m) == aes.BlockSize {
				x[i] ^= sub[i]
			}
		}
		block.Encrypt(x[:], x[:])
	}
	return x[:]
}

// sivModel is AES-SIV encryption, RFC 5297, sections 2.4 and 2.6, with one
// associated data.
func sivModel(t testing.TB, key, ad, plain []byte) []byte {
	t.Helper()
	mac, err := aes.NewCipher(key[:len(key)/2])
	check(t, err)
	enc, err := aes.NewCipher(key[len(key)/2:])
	check(t, err)
	d := [aes.BlockSize]byte(cmacModel(mac, make([]byte, aes.BlockSize)))
	double(&d)
	xor(d[:], cmacModel(mac, ad))
	last := bytes.Clone(plain)
	if len(last) >= aes.BlockSize {
		xor(last[len(last)-aes.BlockSize:], d[:])
	} else {
		double(&d)
		last = append(last, 0x80)
		last = append(last, make([]byte, aes.BlockSize-len(last))...)
		xor(last, d[:])
	}
	v := cmacModel(mac, last)
	iv := bytes.Clone(v)
	iv[8] &= 0x7f
	iv[12] &= 0x7f
	out := make([]byte, len(plain))
	cipher.NewCTR(enc, iv).XORKeyStream(out, plain)
	return append(v, out...)
}

func xor(a, b []byte) {
	for i := range b {
		a[i] ^= b[i]
	}
}

func TestSIVModel(t *testing.T) {
	// RFC 5297, appendix A.1.
	got := sivModel(t, unhex(t, "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"),
		unhex(t, "101112131415161718191a1b1c1d1e1f2021222324252627"), unhex(t, "112233445566778899aabbccddee"))
	wantHex(t, "ciphertext", got, "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c")
}

// TestNamesModel compares with the model, for all names that a directory can
// have, and back again.
func TestNamesModel(t *testing.T) {
	c, brief := nameCipher(t), nameCipher(t)
	brief.Brief()
	key := hkdfModel(bytes.Repeat([]byte{1}, KeySize), nil, []byte("akvfs/v1/names/aes-siv"), 64)
	rapid.Check(t, func(rt *rapid.T) {
		name := validName(rapid.SliceOfN(rapid.Byte(), 1, maxName).Draw(rt, "name"))
		encrypted := c.Encrypt(name)
		if want := base64.RawURLEncoding.EncodeToString(sivModel(t, key, nil, []byte(name))); encrypted != want {
			rt.Fatalf("%q encrypts to %s instead of %s", name, encrypted, want)
		}
		if c.Encrypt(name) != encrypted || brief.Encrypt(name) != encrypted {
			rt.Fatalf("%q has two encryptions", name)
		}
		if len(name) <= MaxShortName != (len(encrypted) <= maxName) {
			rt.Fatalf("%d bytes encrypt to %d", len(name), len(encrypted))
		}
		if strings.ContainsAny(encrypted, "/\x00.") {
			rt.Fatalf("%s is no plain file name", encrypted)
		}
		for _, c := range []*NameCipher{c, brief} {
			if got, err := c.Decrypt(encrypted); err != nil || got != name {
				rt.Fatalf("%q came back as %q, error %v", name, got, err)
			}
		}
	})
}

// validName makes a name of any bytes.
func validName(b []byte) string {
	name := strings.NewReplacer("/", "_", "\x00", "_").Replace(string(b))
	if name == "." || name == ".." {
		return "_"
	}
	return name
}

// TestNamesAreStable: names on disks are encrypted like this. The values come
// from a separate implementation.
func TestNamesAreStable(t *testing.T) {
	c := nameCipher(t)
	for name, want := range map[string]string{
		"WiredTiger.wt":              "85Gzfe7b3g5r6lExSdz6dgFd2sZmke39SH1BOwM",
		"collection-7-1234567890.wt": "E9isfS2sSCawQhGq1I4Qie-HUTEMyfap_djOHETaExW9krIlTa90g68o",
		"a":                          "15fwqbhTajzmLOC-pmBHzQ4",
	} {
		if got := c.Encrypt(name); got != want {
			t.Errorf("%s encrypts to %s instead of %s", name, got, want)
		}
	}
}

func TestNameLengths(t *testing.T) {
	c := nameCipher(t)
	for n, want := range map[int]int{1: 23, MaxShortName: 255, MaxShortName + 1: 256, maxName: 362} {
		name := strings.Repeat("x", n)
		encrypted := c.Encrypt(name)
		if len(encrypted) != want {
			t.Errorf("%d bytes encrypt to %d instead of %d", n, len(encrypted), want)
		}
		got, err := c.Decrypt(encrypted)
		if err != nil || got != name {
			t.Errorf("%d bytes do not come back: %v", n, err)
		}
	}
}

// TestNameRefusals: strings that are no names, though some of them decrypt.
func TestNameRefusals(t *testing.T) {
	c := nameCipher(t)
	other, err := NewNameCipher(testKey(t, 2))
	check(t, err)
	genuine := c.Encrypt("genuine") // 23 bytes: the last character has two unused bits
	stray := genuine[:len(genuine)-1] + string(genuine[len(genuine)-1]+1)
	for name, v := range map[string]struct {
		encrypted string
		want      error
	}{
		"empty string":     {"", errNameForm},
		"padded":           {genuine + "=", errNameForm},
		"line end":         {genuine + "\n", errNameForm},
		"line end inside":  {genuine[:5] + "\r\n" + genuine[5:], errNameForm},
		"stray last bits":  {stray, errNameForm},
		"space":            {genuine + " ", errNameForm},
		"standard base64":  {strings.Repeat("+", 32), errNameForm},
		"only an IV":       {base64.RawURLEncoding.EncodeToString(make([]byte, sivSize)), errNameForm},
		"too long":         {base64.RawURLEncoding.EncodeToString(make([]byte, sivSize+maxName+1)), errNameForm},
		"empty name":       {c.Encrypt(""), errNameForm},
		"name of 256":      {c.Encrypt(strings.Repeat("x", 256)), errNameForm},
		"dot":              {c.Encrypt("."), errNotName},
		"dot dot":          {c.Encrypt(".."), errNotName},
		"slash":            {c.Encrypt("../etc"), errNotName},
		"NUL":              {c.Encrypt("a\x00b"), errNotName},
		"other volume":     {other.Encrypt("genuine"), ErrAuth},
		"zeros":            {strings.Repeat("A", 32), ErrAuth},
		"truncated":        {c.Encrypt("genuine name")[:36], ErrAuth},
		"a plaintext name": {"WiredTigerLog000000000001000", ErrAuth},
	} {
		got, err := c.Decrypt(v.encrypted)
		var refused *NameError
		if got != "" || !errors.Is(err, v.want) || !errors.As(err, &refused) || refused.Encrypted != v.encrypted {
			t.Errorf("%s: decrypted to %q, error %v", name, got, err)
		}
	}
	for i := range len(genuine) {
		for _, b := range []byte("AZaz09-_") {
			changed := genuine[:i] + string(b) + genuine[i+1:]
			if got, err := c.Decrypt(changed); changed != genuine && (err == nil || got != "") {
				t.Errorf("%s decrypts to %q", changed, got)
			}
		}
	}
}

func TestNamesDestroy(t *testing.T) {
	c := nameCipher(t)
	encrypted := c.Encrypt("x")
	c.Destroy()
	c.Destroy()
	wantPanic(t, ErrDestroyed, func() { c.Encrypt("x") })
	if got, err := c.Decrypt(encrypted); !errors.Is(err, ErrDestroyed) || got != "" {
		t.Errorf("decrypted to %q, error %v", got, err)
	}
}

// TestNamesLeaveKeyAlone: the key stays the caller's, and its end is not that
// of the cipher.
func TestNamesLeaveKeyAlone(t *testing.T) {
	k := testKey(t, 1)
	c, err := NewNameCipher(k)
	check(t, err)
	want := c.Encrypt("x")
	k.Destroy()
	if got := c.Encrypt("x"); got != want {
		t.Errorf("%s instead of %s", got, want)
	}
}

func TestConcurrentNames(t *testing.T) {
	c := nameCipher(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 100 {
				name := strings.Repeat("n", n+1)
				if got, err := c.Decrypt(c.Encrypt(name)); err != nil || got != name {
					t.Errorf("%q came back as %q, error %v", name, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecryptName(f *testing.F) {
	c := nameCipher(f)
	for _, seed := range []string{"", ".", "A", "WiredTiger.wt", strings.Repeat("A", 23), strings.Repeat("_", 400)} {
		f.Add(seed)
		f.Add(c.Encrypt(seed))
	}
	f.Add(c.Encrypt("name") + "\n")
	f.Fuzz(func(t *testing.T, encrypted string) {
		name, err := c.Decrypt(encrypted)
		if err != nil {
			if name != "" {
				t.Fatalf("refused, but decrypted to %q", name)
			}
			return
		}
		if c.Encrypt(name) != encrypted {
			t.Fatalf("%q decrypts to %q, which encrypts otherwise", encrypted, name)
		}
		if name != validName([]byte(name)) || name == "" || len(name) > maxName {
			t.Fatalf("%q decrypts to %q", encrypted, name)
		}
	})
}

func BenchmarkName(b *testing.B) {
	c := nameCipher(b)
	encrypted := c.Encrypt("collection-7-1234567890.wt")
	b.Run("encrypt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Encrypt("collection-7-1234567890.wt")
		}
	})
	b.Run("decrypt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Decrypt(encrypted); err != nil {
				b.Fatal(err)
			}
		}
	})
}
