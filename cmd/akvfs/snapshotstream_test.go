//go:build !race

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/fs/snapshot"
)

// TestSnapshotStreams sends snapshots from one host to another: whole, as the
// difference, through a pipe, through files that a kill cut off.
func TestSnapshotStreams(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.fillMount()
	w.ok("snapshot", "create", w.mountpoint, "one")
	w.write(join(w.mountpoint, "small"), "smaller\n")
	w.write(join(w.mountpoint, "new"), "new\n")
	w.ok("snapshot", "create", w.mountpoint, "two")
	there := join(w.dir, "there")
	whole, difference := join(w.dir, "one.akvfs"), join(w.dir, "two.akvfs")
	w.ok("snapshot", "export", w.mountpoint, "one", "--output", whole)
	var done snapshot.Exported
	w.must(json.Unmarshal([]byte(w.ok("snapshot", "export", w.mountpoint, "two", "--base", "one", "--output", difference, "--json").out), &done))
	if size := len(w.read(difference)); done.Bytes != int64(size) || done.Base != "one" || done.Kept != 0 || size > len(w.read(whole))/2 {
		t.Errorf("%+v, of %d bytes", done, size)
	}
	w.refused(2, "remove that file", "snapshot", "export", w.backing, "one", "--output", whole)
	w.refused(1, "snapshot list", "snapshot", "export", w.backing, "none")
	w.refused(2, "--output", "snapshot", "export", w.backing, "one", "--json")

	// An export that was cut off goes on: the same stream comes of it.
	w.must(os.WriteFile(whole+"2.partial", []byte(w.read(whole)[:len(w.read(whole))/2]), 0o600))
	if out := w.ok("snapshot", "export", w.backing, "one", "--output", whole+"2").out; !strings.Contains(out, "were there already") {
		t.Errorf("it began anew: %s", out)
	}
	if w.read(whole) != w.read(whole+"2") {
		t.Error("a stream that was cut off is another in the end")
	}

	w.refused(1, "Import the stream of that snapshot first", "snapshot", "import", there, "--input", difference)
	w.ok("snapshot", "import", there, "--input", whole)
	w.refused(2, "snapshot delete", "snapshot", "import", there, "--input", whole)
	w.ok("snapshot", "import", there, "--input", difference)
	w.refused(14, "damaged at byte", "snapshot", "import", join(w.dir, "nowhere"), "--input", w.store)
	for _, name := range []string{"one", "two"} {
		if out := w.ok("snapshot", "verify", there, name).out; !strings.Contains(out, "every block proven: no damage") {
			t.Errorf("%s: %s", name, out)
		}
	}
	if got := w.ok("cat", there, "small", "new", "--at", "two").out; got != "smaller\nnew\n" {
		t.Errorf("it has %q", got)
	}

	// Through a pipe, to the volume's own snapshots.
	w.ok("snapshot", "delete", w.mountpoint, "two")
	script := `"$0" snapshot export "$1" two --base one | "$0" snapshot import "$2"`
	cmd := exec.Command("/bin/sh", "-c", script, binary, there, w.mountpoint)
	cmd.Env = w.env
	if r := w.finish(cmd); r.code != 0 {
		t.Errorf("through a pipe: %+v", r)
	}
	w.ok("snapshot", "verify", w.mountpoint, "two")
	w.unmount()

	// Another volume does not take them.
	other := newVolume(t)
	other.refused(2, "another volume", "snapshot", "import", other.backing, "--input", whole)
	verifyStreams(w, whole, difference)
}

// verifyStreams: a stream can be verified where it lies; what is wrong with it
// is found.
func verifyStreams(w *world, whole, difference string) {
	w.t.Helper()
	if out := w.ok("snapshot", "verify", "--input", difference).out; !strings.Contains(out, "two since one") || !strings.Contains(out, "no damage") {
		w.t.Error(out)
	}
	data := []byte(w.read(whole))
	harmed := join(w.dir, "harmed")
	for what, stream := range map[string][]byte{
		"cut":     data[:len(data)-1],
		"flipped": append(bytes.Clone(data[:9000]), append([]byte{data[9000] ^ 1}, data[9001:]...)...),
	} {
		w.must(os.WriteFile(harmed, stream, 0o600))
		if r := w.run("snapshot", "verify", "--input", harmed); r.code != 14 || !strings.Contains(r.err, "damaged at byte") {
			w.t.Errorf("%s: %+v", what, r)
		}
	}
	w.refused(2, "unexpected argument", "snapshot", "verify", "--input", whole, "one")
}

// TestSnapshotDiff compares snapshots with each other, and with the volume.
func TestSnapshotDiff(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.fillMount()
	w.ok("snapshot", "create", w.mountpoint, "one")
	at := func(name string) string { return join(w.mountpoint, name) }
	w.write(at("small"), "SMALL\n")
	w.must(os.Remove(at("journal/WiredTigerLog.1")))
	w.must(os.Mkdir(at("added"), 0o700))
	w.write(at("added/file"), "added")
	w.must(os.Chmod(at("sparse"), 0o640))
	w.must(os.Remove(at("link")))
	w.must(os.Symlink("small", at("link")))
	w.must(os.Remove(at("fifo")))
	w.write(at("fifo"), "a file now")
	w.ok("snapshot", "create", w.mountpoint, "two")
	got := func(args ...string) string {
		var changes []snapshot.Change
		w.must(json.Unmarshal([]byte(w.ok(append([]string{"snapshot", "diff", "--json"}, args...)...).out), &changes))
		var all []string
		for _, c := range changes {
			all = append(all, c.What, c.Path, strings.Join(c.Of, ","))
		}
		return strings.Join(strings.Fields(strings.Join(all, " ")), " ")
	}
	want := "added added added added/file changed fifo type removed journal/WiredTigerLog.1 changed journal/small too content " +
		"changed link target changed small content changed sparse mode"
	for _, args := range [][]string{{w.mountpoint, "one", "two"}, {w.mountpoint, "one"}} {
		if g := got(args...); g != want {
			t.Errorf("%v: %s", args, g)
		}
	}
	if g := got(w.mountpoint, "two"); g != "" {
		t.Errorf("nothing has changed but %s", g)
	}
	// A master key's rotation writes every header anew, and changes no file.
	w.ok("master-key", "rotate", "--wait", w.mountpoint)
	w.ok("snapshot", "create", w.mountpoint, "three")
	if g := got(w.mountpoint, "two", "three"); g != "" {
		t.Errorf("a rotation has changed %s", g)
	}
	w.unmount()
	if g := got(w.backing, "one"); g != want {
		t.Errorf("unmounted: %s", g)
	}
	if out := w.ok("snapshot", "diff", w.backing, "two", "one").out; !strings.Contains(out, "removed  added/file") || !strings.Contains(out, "10 -> 0 bytes") {
		t.Errorf("the other way:\n%s", out)
	}
	w.refused(1, "snapshot list", "snapshot", "diff", w.backing, "one", "none")
	w.refused(2, "A is missing", "snapshot", "diff", w.backing)
}
