package main

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]size{
		"0": 0, "1": 1, "4096": 4096, "64K": 64 << 10, "64k": 64 << 10, "1M": 1 << 20, "128MiB": 128 << 20, "2GB": 2 << 30, "512B": 512,
	} {
		var s size
		if err := s.Set(text); err != nil || s != want {
			t.Errorf("%q is %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5G", "1T", "9999999999G", "1 M", "0x10"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is %d", text, s)
		}
	}
}

func TestSizeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := size(rapid.Int64Range(0, 1<<61).Draw(t, "size"))
		var back size
		if err := back.Set(s.String()); err != nil || back != s {
			t.Fatalf("%d is %q is %d, %v", int64(s), s.String(), int64(back), err)
		}
	})
}
