package akvtest

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyWrapVectors are those of RFC 3394 sections 4.3 and 4.6.
func TestKeyWrapVectors(t *testing.T) {
	for _, v := range []struct{ kek, plain, wrapped string }{
		{
			"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
			"00112233445566778899AABBCCDDEEFF",
			"64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7",
		},
		{
			"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
			"00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
			"28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
		},
	} {
		got, err := wrapAES(unhex(t, v.kek), unhex(t, v.plain))
		if err != nil || !bytes.Equal(got, unhex(t, v.wrapped)) {
			t.Errorf("wrap: %x, %v, want %s", got, err, v.wrapped)
		}
		back, err := unwrapAES(unhex(t, v.kek), got)
		if err != nil || !bytes.Equal(back, unhex(t, v.plain)) {
			t.Errorf("unwrap: %x, %v, want %s", back, err, v.plain)
		}
		for i := range got {
			got[i] ^= 1
			if _, err := unwrapAES(unhex(t, v.kek), got); err == nil {
				t.Errorf("byte %d was changed and it unwraps", i)
			}
			got[i] ^= 1
		}
	}
}

func TestKeyWrapLengths(t *testing.T) {
	kek := make([]byte, 32)
	for _, n := range []int{0, 8, 15, 17, 31} {
		if _, err := wrapAES(kek, make([]byte, n)); err == nil {
			t.Errorf("%d bytes can be wrapped", n)
		}
		if _, err := unwrapAES(kek, make([]byte, n)); err == nil {
			t.Errorf("%d bytes can be unwrapped", n)
		}
	}
}
