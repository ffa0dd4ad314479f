//go:build !race

// No race is to be found here that other tests do not find: these are many
// short runs of the program, which take long under the detector.

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/keymgr/file"
)

func (w *world) listing() file.Listing {
	w.t.Helper()
	var l file.Listing
	w.must(json.Unmarshal([]byte(w.ok("dev-key", "show", w.store, "--json").out), &l))
	return l
}

func TestDevKeyCreate(t *testing.T) {
	w := newWorld(t)
	path := join(w.dir, "another.json")
	r := w.ok("dev-key", "create", "another.json", "--bits", "2048")
	if strings.TrimSpace(r.out) != file.KeyID(path) || !strings.Contains(r.err, "not a vault") {
		t.Errorf("%+v", r)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	before := w.read(path)
	if r := w.run("dev-key", "create", path); r.code == 0 || w.read(path) != before {
		t.Errorf("made twice: %+v", r)
	}
	w.refused(2, "between 2048 and 4096", "dev-key", "create", join(w.dir, "x"), "--bits", "1024")
	w.refused(2, "PATH is missing", "dev-key", "create")
	if r := w.run("dev-key", "create", join(w.dir, "none", "x")); r.code == 0 {
		t.Errorf("made in a missing directory: %+v", r)
	}
}

// The life of a key, and what a mount says to each of its states.
func TestDevKeyLife(t *testing.T) {
	w := newVolume(t)
	opens := func(code int) {
		t.Helper()
		if r := w.run("mount", w.backing, w.mountpoint); r.code != code {
			t.Errorf("mount exits with %d, not %d\n%s", r.code, code, r.err)
		}
		if code == 0 {
			w.unmount()
		}
	}
	first := w.listing().Versions[0].ID
	second := strings.TrimSpace(w.ok("dev-key", "rotate", w.store).out)
	if l := w.listing(); len(l.Versions) != 2 || l.Versions[1].ID != second || !l.Versions[1].Current {
		t.Errorf("%+v", l)
	}
	opens(0) // the old version still unwraps
	w.ok("dev-key", "disable", w.store, "--version", second)
	opens(0)
	w.ok("dev-key", "disable", w.store, "--version", first)
	opens(11)
	w.ok("dev-key", "enable", w.store)
	opens(0)
	w.ok("dev-key", "expire", w.store)
	opens(11)
	w.ok("dev-key", "expire", w.store, "--at", "2999-01-01T00:00:00Z")
	opens(0)
	w.ok("dev-key", "expire", w.store, "--at", "never")
	opens(0)
	w.ok("dev-key", "enable", w.store, "--from", "2999-01-01T00:00:00Z")
	opens(11)
	w.ok("dev-key", "enable", w.store, "--from", "never")
	opens(0)
	w.ok("dev-key", "delete", w.keyID()) // an identifier will do for a path
	opens(11)
	w.refused(11, "KeyDeleted", "dev-key", "rotate", w.store)
	w.ok("dev-key", "recover", w.store)
	opens(0)
	w.ok("dev-key", "delete", w.store, "--purge")
	opens(11)
	if text := w.ok("dev-key", "show", w.store).out; !strings.Contains(text, "purged") {
		t.Error(text)
	}
	w.refused(11, "KeyNotFound", "dev-key", "recover", w.store)
}

func TestDevKeyShow(t *testing.T) {
	w := newWorld(t)
	w.ok("dev-key", "rotate", w.store)
	w.ok("dev-key", "disable", w.store, "--version", w.listing().Versions[0].ID)
	text := w.ok("dev-key", "show", w.store).out
	for _, want := range []string{w.keyID(), "embedded key store, not a vault", "RSA, 2048 bits", "disabled", "usable", "current"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing from\n%s", want, text)
		}
	}
	if strings.Contains(text, strings.Split(w.read(w.store), "private")[0][:20]) {
		t.Error("it shows the file")
	}
	w.ok("dev-key", "delete", w.store)
	if text := w.ok("dev-key", "show", w.store).out; !strings.Contains(text, "can be recovered") {
		t.Error(text)
	}
}

func TestDevKeyBadInput(t *testing.T) {
	w := newWorld(t)
	w.refused(10, "none.json", "dev-key", "show", join(w.dir, "none.json"))
	w.refused(2, "wants a time", "dev-key", "expire", w.store, "--at", "tomorrow")
	w.refused(2, "wants a time", "dev-key", "enable", w.store, "--from", "12")
	w.refused(11, "KeyVersionNotFound", "dev-key", "disable", w.store, "--version", strings.Repeat("0", 32))
	w.must(os.Chmod(w.store, 0o640))
	w.refused(2, "UnsafeFile", "dev-key", "show", w.store)
}
