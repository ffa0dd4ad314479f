package file

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/keymgr"
)

const someVersion = "0123456789abcdef0123456789abcdef"

func TestParseKeyID(t *testing.T) {
	for keyID, want := range map[string]struct{ path, version, normal string }{
		"file:///p/key.json":                          {"/p/key.json", "", "file:///p/key.json"},
		"file://localhost/p/key.json":                 {"/p/key.json", "", "file:///p/key.json"},
		"FILE:///p/key.json":                          {"/p/key.json", "", "file:///p/key.json"},
		"file:/p/key.json":                            {"/p/key.json", "", "file:///p/key.json"},
		"file:///p//q/../key.json":                    {"/p/key.json", "", "file:///p/key.json"},
		"file:///p/a%20key%3f.json":                   {"/p/a key?.json", "", "file:///p/a%20key%3F.json"},
		"file:///p/schlüssel":                         {"/p/schlüssel", "", "file:///p/schl%C3%BCssel"},
		"file:///p/key.json?version=" + someVersion:   {"/p/key.json", someVersion, "file:///p/key.json?version=" + someVersion},
		"file:///p/./key.json?version=" + someVersion: {"/p/key.json", someVersion, "file:///p/key.json?version=" + someVersion},
	} {
		path, version, err := ParseKeyID(keyID)
		if err != nil || path != want.path || version != want.version {
			t.Errorf("%q: %q, %q, %v", keyID, path, version, err)
			continue
		}
		p, err := OpenProvider(keyID, keymgr.ProviderOptions{})
		if err != nil || p.KeyID() != want.normal || p.Name() != "file" {
			t.Errorf("%q: provider of %v, %v", keyID, p, err)
		}
	}
}

func TestParseKeyIDRefusals(t *testing.T) {
	for _, keyID := range []string{
		"", "/p/key.json", "key.json", "file:", "file://", "file:key.json", "file://key.json", "file:///",
		"https://vault.azure.net/keys/k", "file://host/p/key.json", "file://user@/p/key.json", "file:///p/",
		"file:/%2e", "file:///p/..", "file:///p/key.json#", "file:///p/key.json#x", "file:///p/a%0ab", "file:///p/a%00b", "file:///p/%zz",
		"file:///p/key.json?", "file:///p/key.json?version=", "file:///p/key.json?version=1",
		"file:///p/key.json?v=" + someVersion, "file:///p/key.json?version=" + strings.ToUpper(someVersion),
		"file:///p/key.json?version=" + someVersion + "&version=" + someVersion,
		"file:///p/key.json?version=" + someVersion + "0", "file:///p/key.json?x=1&version=" + someVersion,
	} {
		_, err := OpenProvider(keyID, keymgr.ProviderOptions{})
		if ke, ok := err.(*keymgr.KeyError); !ok || ke.Class != keymgr.Invalid || ke.Code != "BadKeyID" || ke.KeyID != keyID {
			t.Errorf("%q: %v", keyID, err)
		}
	}
}

// TestKeyIDRoundTrip: any path that a store may have is its identifier's.
func TestKeyIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := "/x" + rapid.StringMatching(`[^\x00-\x1f\x7f/]{1,20}(/[^\x00-\x1f\x7f/]{1,20}){0,3}`).Draw(t, "path")
		s, err := newStore("open", path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, version, err := ParseKeyID(s.KeyID())
		if err != nil || got != s.Path() || version != "" {
			t.Fatalf("%q became %q, %q, %v", path, got, version, err)
		}
		got, version, err = ParseKeyID(pinned(s.Path(), someVersion))
		if err != nil || got != s.Path() || version != someVersion {
			t.Fatalf("%q pinned became %q, %q, %v", path, got, version, err)
		}
	})
}

// FuzzParseKeyID: what is accepted has one normal form, which means the same.
func FuzzParseKeyID(f *testing.F) {
	f.Add("file:///p/key.json")
	f.Add("file:///p/key.json?version=" + someVersion)
	f.Add("file://localhost/%2e%2e/a%2fb")
	f.Add("file:////x")
	f.Fuzz(func(t *testing.T, keyID string) {
		path, version, err := ParseKeyID(keyID)
		if err != nil {
			return
		}
		p, err := OpenProvider(keyID, keymgr.ProviderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if path[0] != '/' || strings.ContainsAny(path, "\x00\n") {
			t.Fatalf("%q gave path %q", keyID, path)
		}
		again, sameVersion, err := ParseKeyID(p.KeyID())
		if err != nil || again != path || sameVersion != version {
			t.Fatalf("%q became %q: %q, %q, %v", keyID, p.KeyID(), again, sameVersion, err)
		}
	})
}
