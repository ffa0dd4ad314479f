package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/file"
)

// answer runs a command with --json and reads what it prints.
func answer[T any](w *world, args ...string) (result T) {
	w.t.Helper()
	w.must(json.Unmarshal([]byte(w.ok(append(args, "--json")...).out), &result))
	return result
}

// newStore makes another key store and gives its identifier.
func (w *world) newStore(name string) (*file.Store, string) {
	w.t.Helper()
	s, err := file.Create(join(w.dir, name), file.Options{Bits: 2048})
	w.must(err)
	return s, s.KeyID()
}

// The life of a key from the command line, on a volume that is mounted and on
// one that is not.
func TestKeyCommands(t *testing.T) {
	for _, mounted := range []bool{true, false} {
		w := newVolume(t)
		if mounted {
			w.mount()
			w.write(join(w.mountpoint, "data"), "hello")
		}
		v := w.backing
		if out := w.ok("key", "rotate", v).out; !strings.Contains(out, "nothing was changed") {
			t.Error(out)
		}
		newest := strings.TrimSpace(w.ok("dev-key", "rotate", w.store).out)
		if out := w.ok("key", "check", v).out; !strings.Contains(out, "would wrap with "+w.keyID()+" version "+newest) {
			t.Error(out)
		}
		if out := w.ok("key", "rotate", v).out; !strings.Contains(out, "to "+newest) {
			t.Error(out)
		}
		second, id := w.newStore("second.json")
		w.ok("key", "add", v, id)
		if out := w.ok("key", "list", v).out; !strings.Contains(out, id) || !strings.Contains(out, newest) || !strings.Contains(out, "not a vault") {
			t.Error(out)
		}
		w.refused(2, "--from AKI", "key", "rotate", v)
		if out := w.ok("key", "check", v).out; !strings.Contains(out, "needs to be told which of the keys") {
			t.Error(out)
		}
		w.refused(2, "by this key already", "key", "add", v, id)
		w.ok("key", "remove", v, w.keyID())
		w.refused(2, "Nothing would open the volume any more", "key", "remove", v, id)
		w.refused(2, "akvfs key list", "key", "remove", v, w.keyID())
		if l := answer[daemon.KeyListing](w, "key", "list", v); len(l.MasterKeys) != 1 || l.MasterKeys[0].Wraps[0].KeyID != id {
			t.Errorf("%+v", l)
		}
		w.must(second.Disable(""))
		if r := w.run("key", "check", v); r.code != 1 || !strings.Contains(r.out, "KeyDisabled") {
			t.Errorf("%+v", r)
		}
		w.must(second.Enable(""))
		c := answer[daemon.MasterKeyChange](w, "master-key", "rotate", v, "--wait")
		if c.MasterKey == c.Before || c.Rewrap.Bytes != 512*c.Rewrap.Rewrapped || mounted != (c.Rewrap.Rewrapped == 1) {
			t.Errorf("%+v", c)
		}
		if out := w.ok("master-key", "list", v).out; strings.Contains(out, c.Before) || !strings.Contains(out, c.MasterKey) {
			t.Error(out)
		}
		if out := w.ok("master-key", "rotate", v, "--wait").out; !strings.Contains(out, "bytes written in") {
			t.Error(out)
		}
		if mounted {
			if out := w.ok("status", v).out; !strings.Contains(out, "re-wrapped") {
				t.Error(out)
			}
			w.unmount()
			w.mount()
			if got := w.read(join(w.mountpoint, "data")); got != "hello" {
				t.Errorf("read %q", got)
			}
			w.unmount()
		}
	}
}

func TestKeyUsageCommand(t *testing.T) {
	w := newVolume(t)
	version := w.status(w.backing).AKIs[0].Version
	out := w.ok("key", "usage", w.keyID(), "--scan", w.dir).out
	for _, says := range []string{"Version " + version + " is needed: do not disable it. One volume has no other key.", w.backing, "rs0",
		"Every other version of this key may be disabled"} {
		if !strings.Contains(out, says) {
			t.Errorf("%q is missing in\n%s", says, out)
		}
	}
	if out := w.ok("key", "usage", w.keyID()).out; !strings.Contains(out, "No volume was looked at") || strings.Contains(out, "may be disabled, as far") {
		t.Error(out)
	}
	if out := w.ok("key", "usage", "file:///other.json", "--scan", w.dir).out; !strings.Contains(out, "This key may be disabled, as far as these volumes go") {
		t.Error(out)
	}
	w.mount()
	u := answer[daemon.KeyUsage](w, "key", "usage", w.keyID())
	if len(u.Uses) != 1 || u.Uses[0].Mountpoint != w.mountpoint || u.Uses[0].Created.IsZero() {
		t.Errorf("%+v", u)
	}
	w.unmount()
	w.write(join(w.backing, ".akvfs", "keyring.json"), "damaged")
	if out := w.ok("key", "usage", w.keyID(), "--scan", w.dir).out; !strings.Contains(out, "cannot be told") || !strings.Contains(out, "Could not be read: "+w.backing) {
		t.Error(out)
	}
}

// --all goes from one volume to the next, and stops at the first that fails.
func TestKeyRotateAll(t *testing.T) {
	w := newVolume(t)
	if out := w.ok("key", "rotate", "--all").out; !strings.Contains(out, "No volume is mounted") {
		t.Error(out)
	}
	w.mount()
	var stores []*file.Store
	for _, name := range []string{"2", "3"} {
		backing, mountpoint := w.mkdir(join(w.dir, "b"+name)), w.mkdir(join(w.dir, "m"+name))
		s, id := w.newStore("key" + name + ".json")
		stores = append(stores, s)
		w.ok("init", backing, "--key-id", id, "--journal-size", "1M")
		w.ok("mount", backing, mountpoint)
		defer w.ok("unmount", mountpoint)
		_, err := s.Rotate()
		w.must(err)
	}
	defer w.unmount()
	w.must(stores[1].Delete())
	r := w.run("key", "rotate", "--all", "--json")
	var all []rotated
	w.must(json.Unmarshal([]byte(r.out), &all))
	failed, after := 0, 0
	for i, one := range all {
		switch {
		case one.Error != "":
			failed, after = failed+1, len(all)-i-1
		case !one.Done:
			after--
		}
	}
	if r.code != 11 || len(all) != 3 || failed != 1 || after != 0 {
		t.Errorf("exit code %d, %+v\n%s", r.code, all, r.err)
	}
	w.must(stores[1].Recover())
	if out := w.ok("key", "rotate", "--all").out; strings.Contains(out, "not done") || strings.Count(out, "\n") != 3 {
		t.Error(out)
	}
	w.refused(2, "unexpected argument", "key", "rotate", "--all", w.backing)
}

func TestKeyWrongUsage(t *testing.T) {
	w := newVolume(t)
	w.refused(2, "wrap or encrypt", "key", "rotate", w.backing, "--key-operation", "sign")
	w.refused(2, "must be more than 0", "key", "rotate", w.backing, "--key-timeout", "0s")
	w.refused(2, "AKI is missing", "key", "add", w.backing)
	w.refused(2, "does not exist", "key", "rotate", join(w.dir, "none"))
	w.refused(13, "", "key", "rotate", w.mountpoint)
	w.refused(13, "", "master-key", "rotate", w.mountpoint)
	w.refused(2, "no key provider", "key", "rotate", w.backing, "--to", "gopher://hole")
}

// A rotation that waits is not needed for the daemon to go on: it goes on at
// its rate, and through a kill.
func TestMasterKeyRotateResumed(t *testing.T) {
	w := newVolume(t)
	w.mount("-o", "rewrap-rate=1")
	for i := range 5 {
		w.write(join(w.mountpoint, string(rune('a'+i))), "content")
	}
	c := answer[daemon.MasterKeyChange](w, "master-key", "rotate", w.backing)
	eventually(t, "walks", func() bool { return w.status(w.backing).Rewrap != nil })
	if s := w.status(w.backing); len(s.MasterKeys) != 2 {
		t.Errorf("%+v", s.MasterKeys)
	}
	w.kill()
	w.mount()
	eventually(t, "retired", func() bool { return len(w.status(w.backing).MasterKeys) == 1 })
	if s := w.status(w.backing); s.MasterKeys[0].ID != c.MasterKey {
		t.Errorf("%+v", s.MasterKeys)
	}
	for i := range 5 {
		// What nobody synced may be gone, but what is there opens.
		if got, err := os.ReadFile(join(w.mountpoint, string(rune('a'+i)))); err != nil && !os.IsNotExist(err) || len(got) > 0 && string(got) != "content" {
			t.Errorf("%q, %v", got, err)
		}
	}
	w.unmount()
}
