package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
)

func (w *world) statuses() []daemon.Status {
	w.t.Helper()
	var all []daemon.Status
	w.must(json.Unmarshal([]byte(w.ok("status", "--json").out), &all))
	return all
}

func TestStatusUnmounted(t *testing.T) {
	w := newVolume(t)
	w.ok("dev-key", "disable", w.store) // no key is needed
	w.untouched(func() {
		s := w.status(w.backing)
		if s.State != daemon.StateUnmounted || s.Backing != w.backing || s.Mountpoint != "" || s.Cluster != "rs0" || s.Format != 1 || s.PID != 0 || s.Stats != nil {
			t.Errorf("%+v", s)
		}
		if len(s.MasterKeys) != 1 || !s.MasterKeys[0].Active || time.Since(s.MasterKeys[0].Created) > time.Hour {
			t.Errorf("%+v", s.MasterKeys)
		}
		if len(s.AKIs) != 1 || s.AKIs[0].KeyID != w.keyID() || s.AKIs[0].Provider != "file" || s.AKIs[0].State != "unknown" || s.AKIs[0].Checked != nil {
			t.Errorf("%+v", s.AKIs)
		}
	})
	text := w.ok("status", w.backing).out
	for _, want := range []string{"unmounted", "rs0", "embedded key store, not a vault", w.keyID(), "unknown"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing from\n%s", want, text)
		}
	}
	if r := w.ok("status"); r.out != "No volume is mounted.\n" {
		t.Errorf("%+v", r)
	}
	if all := w.statuses(); all == nil || len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

func TestStatusMounted(t *testing.T) {
	w := newVolume(t)
	w.mount("-o", "check-interval=1s,grace=2h")
	for _, name := range []string{w.backing, w.mountpoint, w.mountpoint + "/../mount/", w.status(w.backing).VolumeID} {
		s := w.status(name)
		if s.State != daemon.StateMounted || s.Backing != w.backing || s.Mountpoint != w.mountpoint || s.Since == nil || s.PID == 0 || s.Daemon != "1.2.3-test" {
			t.Errorf("%s: %+v", name, s)
		}
		if s.AKIs[0].State != daemon.KeyAvailable || s.AKIs[0].Checked == nil || s.Stats == nil || s.CheckInterval != "1s" || s.Grace != "2h" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if all := w.statuses(); len(all) != 1 || all[0].Backing != w.backing {
		t.Errorf("%+v", all)
	}
	table := w.ok("status").out
	if lines := strings.Split(table, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "BACKING ") || !strings.Contains(lines[1], w.mountpoint) {
		t.Error(table)
	}
	text := w.ok("status", w.mountpoint).out
	for _, want := range []string{"mounted", "available, checked", "every 1s, 2h of grace", "Integrity errors", "full-data policy"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing from\n%s", want, text)
		}
	}
	// The key is checked while the volume is mounted.
	w.ok("dev-key", "disable", w.store)
	eventually(t, "revoked", func() bool { return w.status(w.backing).AKIs[0].State == daemon.KeyRevoked })
	if s := w.status(w.backing); !strings.Contains(s.AKIs[0].Error, "KeyDisabled") {
		t.Errorf("%+v", s.AKIs)
	}
	w.ok("dev-key", "enable", w.store)
	eventually(t, "available", func() bool { return w.status(w.backing).AKIs[0].State == daemon.KeyAvailable })
	w.unmount()
}

func TestStatusSeveral(t *testing.T) {
	w := newVolume(t)
	other, second := w.mkdir(join(w.dir, "other")), w.mkdir(join(w.dir, "second"))
	w.ok("init", other, "--key-id", w.keyID(), "--journal-size", "1M")
	w.mount()
	w.ok("mount", other, second, "--read-only")
	states := map[string]string{}
	for _, s := range w.statuses() {
		states[s.Mountpoint] = string(s.State)
	}
	if len(states) != 2 || states[w.mountpoint] != "mounted" || states[second] != "mounted" {
		t.Errorf("%v", states)
	}
	w.ok("unmount", second)
	w.kill()
	all := w.statuses()
	if len(all) != 1 || all[0].State != daemon.StateUnmounted || all[0].Backing != w.backing || all[0].Cluster != "rs0" || all[0].Note == "" {
		t.Errorf("%+v", all)
	}
	if text := w.ok("status").out; !strings.Contains(text, "was killed") {
		t.Error(text)
	}
	w.ok("unmount", w.mountpoint)
}

func TestStatusBadInput(t *testing.T) {
	w := newVolume(t)
	w.write(join(w.dir, "file"), "")
	w.refused(13, "not an akvfs volume", "status", w.mountpoint)
	w.refused(2, "does not exist", "status", join(w.dir, "none"))
	w.refused(2, "is not a directory", "status", join(w.dir, "file"))
	w.refused(1, "no volume with the ID", "status", "0f0e0d0c-0b0a-4908-8706-050403020100")
	w.must(os.Remove(join(w.backing, ".akvfs", "keyring.json")))
	w.refused(14, "has no keyring.json", "status", w.backing)
}
