//go:build !race

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/host"
)

// snapshots are the names that list prints.
func (w *world) snapshots(args ...string) []string {
	w.t.Helper()
	var all []host.Snapshot
	w.must(json.Unmarshal([]byte(w.ok(append([]string{"snapshot", "list", "--json"}, args...)...).out), &all))
	names := []string{}
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// TestSnapshotCommands goes the way of a snapshot, mounted and not.
func TestSnapshotCommands(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.write(join(w.mountpoint, "data"), "first")
	w.ok("snapshot", "create", w.mountpoint, "one")
	w.write(join(w.mountpoint, "data"), "second")
	other := join(w.dir, "elsewhere")
	w.ok("snapshot", "create", w.backing, "two", "--to", other)
	w.refused(2, "snapshot delete", "snapshot", "create", w.backing, "two", "--to", other)
	w.refused(2, "letters", "snapshot", "create", w.backing, "../x")
	w.refused(2, "beside", "snapshot", "create", w.backing, "three", "--to", join(w.backing, "in"))
	w.refused(1, "snapshot list", "snapshot", "show", w.backing, "none")
	if got := strings.Join(w.snapshots(w.mountpoint), " "); got != "one two" {
		t.Errorf("there are %s", got)
	}
	if got := w.ok("cat", w.mountpoint, "data", "--at", "one").out + w.ok("cat", w.mountpoint, "data", "--at", "two").out; got != "firstsecond" {
		t.Errorf("they have %s", got)
	}
	w.unmount()
	w.ok("snapshot", "create", w.backing, "three")
	for _, name := range []string{"one", "two", "three"} {
		if out := w.ok("snapshot", "verify", w.backing, name).out; !strings.Contains(out, "every block proven: no damage") {
			t.Errorf("%s: %s", name, out)
		}
	}
	// The volume is lost: the snapshots are found all the same.
	collection := w.backing + ".snapshots"
	w.must(os.Rename(w.backing, w.backing+".lost"))
	restored := join(w.dir, "restored")
	w.ok("snapshot", "restore", collection, "one", restored)
	w.ok("snapshot", "restore", w.backing, "three", restored+"3")
	w.refused(2, "never over anything", "snapshot", "restore", collection, "three", restored)
	w.ok("mount", restored, w.mountpoint)
	if got := w.read(join(w.mountpoint, "data")); got != "first" {
		t.Errorf("restored is %q", got)
	}
	w.write(join(w.mountpoint, "data"), "third")
	w.unmount()
	w.refused(2, "--read-only", "mount", join(collection, "one"), w.mountpoint)
	w.ok("mount", "--read-only", join(collection, "one"), w.mountpoint)
	if got := w.read(join(w.mountpoint, "data")); got != "first" {
		t.Errorf("the snapshot shows %q", got)
	}
	w.refused(15, "Unmount", "snapshot", "delete", collection, "one")
	w.unmount()
	w.refused(2, "--keep", "snapshot", "prune", collection)
	w.ok("snapshot", "prune", collection, "--older-than", "1ns", "--keep", "1", "--dry-run")
	if out := w.ok("snapshot", "prune", collection, "--older-than", "1ns", "--keep", "1").out; !strings.HasPrefix(out, "one\t") || strings.Contains(out, "three") {
		t.Errorf("pruned: %s", out)
	}
	w.ok("snapshot", "delete", collection, "three")
	if entries, err := os.ReadDir(collection); err != nil || len(entries) != 1 || entries[0].Name() != ".akvfs-snapshots" {
		t.Errorf("left: %v, %v", entries, err)
	}
	if out := w.ok("snapshot", "list", collection, "--json").out; strings.TrimSpace(out) != "[]" {
		t.Errorf("of a directory without snapshots: %s", out)
	}
	w.ok("snapshot", "prune", collection, "--keep", "1")
	w.refused(13, "", "snapshot", "list", t.TempDir())
	flipped := join(other, "two")
	w.must(filepath.WalkDir(flipped, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.Contains(name, ".akvfs") {
			data, err := os.ReadFile(name)
			w.must(err)
			info, err := d.Info()
			w.must(err)
			data[8200] ^= 1
			w.must(os.WriteFile(name, data, 0o600))
			w.must(os.Chtimes(name, info.ModTime(), info.ModTime()))
		}
		return err
	}))
	w.ok("snapshot", "verify", other, "two", "--no-key")
	if r := w.run("snapshot", "verify", other, "two"); r.code != 14 || !strings.Contains(r.out, "block 0") || !strings.Contains(r.err, "is damaged") {
		t.Errorf("verify ends with %d\n%s%s", r.code, r.out, r.err)
	}
}

// TestSnapshotKeys: a snapshot opens with the version of its day, until that
// is taken away; rewrap brings it under the version of today. key usage counts
// it.
func TestSnapshotKeys(t *testing.T) {
	w := newVolume(t)
	s := w.openStore()
	w.mount()
	w.write(join(w.mountpoint, "data"), "old")
	first, err := s.Show()
	w.must(err)
	w.ok("snapshot", "create", w.mountpoint, "old")
	for range 3 {
		_, err := s.Rotate()
		w.must(err)
		w.ok("key", "rotate", w.mountpoint)
	}
	w.ok("master-key", "rotate", "--wait", w.mountpoint)
	w.ok("master-key", "rotate", "--wait", w.mountpoint)
	w.write(join(w.mountpoint, "data"), "new")
	w.ok("snapshot", "create", w.mountpoint, "new")
	w.unmount()
	day := first.Versions[len(first.Versions)-1].ID
	dir := join(w.backing+".snapshots", "old")
	if out := w.ok("snapshot", "show", w.backing, "old").out; !strings.Contains(out, day) {
		t.Errorf("%s is not told of in\n%s", day, out)
	}
	if out := w.ok("key", "usage", w.keyID(), "--scan", w.dir).out; !strings.Contains(out, dir) {
		t.Errorf("the snapshot is not among the users of the key:\n%s", out)
	}
	w.must(s.Disable(day))
	if got := w.ok("cat", w.backing, "data", "--at", "new").out; got != "new" {
		t.Errorf("new is %q", got)
	}
	w.refused(11, day, "cat", w.backing, "data", "--at", "old")
	w.refused(11, "(in use since "+time.Now().UTC().Format("2006-01"), "cat", w.backing, "data", "--at", "old")
	restored := join(w.dir, "restored")
	w.ok("snapshot", "restore", w.backing, "old", restored)
	w.refused(11, day, "mount", restored, w.mountpoint)
	w.refused(11, day, "snapshot", "verify", w.backing, "old")
	w.refused(11, day, "snapshot", "rewrap", w.backing, "old")
	w.must(s.Enable(day))
	w.ok("mount", restored, w.mountpoint)
	if got := w.read(join(w.mountpoint, "data")); got != "old" {
		t.Errorf("restored is %q", got)
	}
	w.unmount()
	w.refused(2, "--all", "snapshot", "rewrap", w.backing)
	w.ok("snapshot", "rewrap", w.backing, "--all")
	w.must(s.Disable(day))
	if got := w.ok("cat", w.backing, "data", "--at", "old").out; got != "old" {
		t.Errorf("old is %q", got)
	}
	w.ok("snapshot", "verify", w.backing, "old")
}

// TestSnapshotSecondKey: a snapshot of a volume with two keys opens with either
// alone.
func TestSnapshotSecondKey(t *testing.T) {
	w := newVolume(t)
	first := w.openStore()
	second, other := w.newStore("second.json")
	w.mount()
	w.write(join(w.mountpoint, "data"), "content")
	w.ok("key", "add", w.mountpoint, other)
	w.ok("snapshot", "create", w.mountpoint, "one")
	w.unmount()
	restored := join(w.dir, "restored")
	w.must(first.Delete())
	w.ok("snapshot", "verify", w.backing, "one")
	w.ok("snapshot", "restore", w.backing, "one", restored)
	if got := w.ok("cat", restored, "data").out; got != "content" {
		t.Errorf("with the second key alone: %q", got)
	}
	w.must(second.Delete())
	w.refused(11, "none of the 2 keys", "snapshot", "verify", w.backing, "one")
	w.must(first.Recover())
	w.ok("snapshot", "verify", w.backing, "one")
}

// TestFreezeCommands: a command runs while the volume is frozen, and the
// volume is thawed whatever comes of it.
func TestFreezeCommands(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.write(join(w.mountpoint, "data"), "before")
	copied := join(w.dir, "copied")
	w.ok("freeze", w.mountpoint, "--exec", `cp -a "$AKVFS_BACKING" `+copied)
	if got := w.ok("cat", copied, "data").out; got != "before" {
		t.Errorf("the copy has %q", got)
	}
	if r := w.run("freeze", w.mountpoint, "--exec", "exit 7"); r.code != 1 || !strings.Contains(r.err, "exit status 7") || !strings.HasPrefix(r.out, "thawed") {
		t.Errorf("a command that fails: %d\n%s%s", r.code, r.out, r.err)
	}
	w.write(join(w.mountpoint, "data"), "after") // it is thawed
	w.ok("freeze", w.mountpoint, "--timeout", "5m")
	if s := w.status(w.backing); s.FrozenUntil == nil || s.State != daemon.StateMounted {
		t.Errorf("%+v", s)
	}
	w.refused(15, "thaw", "freeze", w.mountpoint)
	w.ok("thaw", w.mountpoint)
	w.refused(1, "not frozen", "thaw", w.mountpoint)
	w.refused(2, "10m", "freeze", w.mountpoint, "--timeout", "1h")
	w.refused(1, "thawed by itself", "freeze", w.mountpoint, "--timeout", "50ms", "--exec", "sleep 0.3")
	w.write(join(w.mountpoint, "data"), time.Now().String())
	w.unmount()
	w.refused(1, "mounted", "thaw", w.backing)
}

// TestNightlyScript runs the script that OPERATIONS.md gives, for two nights
// and the second again, and gets the second back from what it wrote.
func TestNightlyScript(t *testing.T) {
	manual, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(manual), "Each night:\n\n```sh\n")
	script, _, ended := strings.Cut(script, "```")
	if !found || !ended {
		t.Fatal("OPERATIONS.md has no such script")
	}
	w := newVolume(t)
	w.mount()
	backup, there := w.mkdir(join(w.dir, "backup")), join(w.dir, "there")
	for old, now := range map[string]string{"/var/lib/mongodb": w.mountpoint, "/backup/rs0": backup, `"nightly-$(date +%F)"`: `"$name"`} {
		if script = strings.ReplaceAll(script, old, now); !strings.Contains(script, now) {
			t.Errorf("the script has no %s", old)
		}
	}
	for i, name := range []string{"nightly-1", "nightly-2", "nightly-2"} {
		if i < 2 {
			w.write(join(w.mountpoint, "data"), name)
		}
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Env = append(w.env, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "name="+name)
		if r := w.finish(cmd); r.code != 0 || !strings.Contains(r.out, "no damage") {
			t.Errorf("exit status %d\n%s%s", r.code, r.out, r.err)
		}
		if got := w.snapshots(w.mountpoint); len(got) != min(i+1, 2) {
			t.Errorf("there are %q", got)
		}
	}
	w.unmount()
	for _, name := range []string{"nightly-1", "nightly-2"} {
		w.ok("snapshot", "import", there, "--input", join(backup, name+".akvfs"))
	}
	restored := join(w.dir, "restored")
	w.ok("snapshot", "restore", there, "nightly-2", restored)
	if got := w.ok("cat", restored, "data").out; got != "nightly-2" {
		t.Errorf("restored is %q", got)
	}
}
