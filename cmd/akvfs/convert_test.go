//go:build !race

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/convert"
)

// newData is a world with plain data in the backing directory.
func newData(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.mkdir(join(w.backing, "journal"))
	w.write(join(w.backing, "journal", "log"), strings.Repeat("journal", 5000))
	w.write(join(w.backing, "a.wt"), strings.Repeat("plain", 100_000))
	w.must(os.Link(join(w.backing, "a.wt"), join(w.backing, "b.wt")))
	w.write(join(w.backing, "mongod.lock"), "")
	return w
}

// content is the tree without times of change, and without the root's line.
func (w *world) content(root string) string {
	w.t.Helper()
	var lines []string
	for line := range strings.SplitSeq(w.tree(root), "\n") {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(line, "/") {
			lines = append(lines, strings.Join(append(f[:5], f[6:]...), " "))
		}
	}
	return strings.Join(lines, "\n")
}

func (w *world) encryptArgs(more ...string) []string {
	return append([]string{"convert", "encrypt", w.backing, "--key-id", w.keyID(), "--journal-size", "1M"}, more...)
}

func TestConvert(t *testing.T) {
	w := newData(t)
	want := w.content(w.backing)
	var plan convert.Plan
	w.must(json.Unmarshal([]byte(w.ok(w.encryptArgs("--dry-run", "--json")...).out), &plan))
	if plan.Files != 3 || plan.Dirs != 1 || plan.Seconds <= 0 || len(plan.Problems) != 0 {
		t.Errorf("%+v", plan)
	}
	if r := w.ok("convert", "encrypt", w.backing, "--dry-run"); !strings.Contains(r.out, "3 files in 1 directories") || !strings.Contains(r.out, "Nothing was changed") {
		t.Errorf("%s", r.out)
	}
	if got := w.content(w.backing); got != want {
		t.Fatalf("the plan has changed\n%s\nto\n%s", want, got)
	}
	if r := w.ok(w.encryptArgs()...); !strings.Contains(r.out, "Encrypted 3 files") || !strings.Contains(r.out, "fstrim") {
		t.Errorf("%s", r.out)
	}
	out, err := exec.Command("grep", "-rlE", "plainplain|journaljournal", w.backing).CombinedOutput()
	if err == nil || len(out) > 0 {
		t.Errorf("plaintext is in %s", out)
	}
	w.ok("mount", w.backing, w.backing)
	if got := w.content(w.backing); got != want {
		t.Errorf("through the mount it is\n%s\nnot\n%s", got, want)
	}
	w.refused(15, "is mounted", "convert", "decrypt", w.backing)
	w.ok("unmount", w.backing)
	w.mount()
	w.refused(15, "in use", "convert", "decrypt", w.backing)
	w.unmount()
	w.refused(2, "a volume already", w.encryptArgs()...)
	var report convert.Report
	w.must(json.Unmarshal([]byte(w.ok("convert", "decrypt", w.backing, "--json").out), &report))
	if report.Files != 3 || report.Direction != convert.Decrypting {
		t.Errorf("%+v", report)
	}
	if got := w.content(w.backing); got != want {
		t.Errorf("decrypted it is\n%s\nnot\n%s", got, want)
	}
	w.refused(13, "there is no volume", "convert", "decrypt", w.backing)
}

// TestConvertGuard: the database's user may write in the directory while it is
// mounted, and not while it is not, when that would be plaintext in a volume.
func TestConvertGuard(t *testing.T) {
	w := newData(t)
	w.must(os.Chmod(w.dir, 0o755))
	w.must(os.Chown(w.backing, 65534, 65534))
	writes := func() bool {
		t.Helper()
		out, err := asNobody(exec.Command("touch", join(w.backing, "mongod.log"))).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "Permission denied") {
			t.Fatalf("touch: %v\n%s", err, out)
		}
		return err == nil
	}
	if !writes() {
		t.Error("not before")
	}
	w.ok(w.encryptArgs()...)
	for range 2 {
		if writes() {
			t.Error("into the backing directory")
		}
		w.ok("mount", w.backing, w.backing)
		if !writes() {
			t.Error("not through the mount")
		}
		w.ok("unmount", w.backing)
	}
	w.ok("convert", "decrypt", w.backing)
	if !writes() {
		t.Error("not after")
	}
}

// TestConvertAsUser: who owns the files needs no root.
func TestConvertAsUser(t *testing.T) {
	w := newWorld(t)
	w.must(os.Chmod(w.dir, 0o755))
	dir := w.nobodysDir()
	w.env = append(w.env, "AKVFS_RUN_DIR="+join(dir, "run"), "AKVFS_STATE_DIR="+join(dir, "state"))
	as := func(args ...string) string {
		t.Helper()
		r := w.finish(asNobody(w.command(args...)))
		if r.code != 0 {
			t.Fatalf("akvfs %v: %d\n%s", args, r.code, r.err)
		}
		return r.out
	}
	as("dev-key", "create", join(dir, "key.json"))
	data := w.mkdir(join(dir, "data"))
	w.write(join(data, "file"), "content")
	w.must(os.Chown(data, 65534, 65534))
	w.must(os.Chown(join(data, "file"), 65534, 65534))
	want := w.content(data)
	as("convert", "encrypt", data, "--key-id", "file://"+join(dir, "key.json"), "--journal-size", "1M")
	if out := as("cat", data, "file"); out != "content" {
		t.Errorf("%q", out)
	}
	as("convert", "decrypt", data)
	if got := w.content(data); got != want {
		t.Errorf("it is\n%s\nnot\n%s", got, want)
	}
}

// TestConvertUnfinished has a file that cannot be removed stop a conversion.
func TestConvertUnfinished(t *testing.T) {
	w := newData(t)
	want := w.content(w.backing)
	f, err := os.Open(join(w.backing, "journal", "log"))
	w.must(err)
	w.refused(15, "in use by", w.encryptArgs()...)
	w.must(f.Close())
	out, err := exec.Command("chattr", "+i", join(w.backing, "journal", "log")).CombinedOutput()
	if err != nil {
		t.Fatalf("chattr: %v\n%s", err, out)
	}
	w.refused(16, "not permitted", w.encryptArgs()...)
	out, err = exec.Command("chattr", "-i", join(w.backing, "journal", "log")).CombinedOutput()
	if err != nil {
		t.Fatalf("chattr: %v\n%s", err, out)
	}
	if r := w.ok("convert", "status", w.backing); !strings.Contains(r.out, "Unfinished: encrypt") {
		t.Errorf("%s", r.out)
	}
	w.refused(13, "not finished", "mount", w.backing, w.backing)
	w.refused(2, "not empty", "init", w.backing, "--key-id", w.keyID())
	asUser := asNobody(exec.Command("ls", w.backing))
	if out, err := asUser.CombinedOutput(); err == nil {
		t.Errorf("another user may look in: %s", out)
	}
	w.ok("convert", "encrypt", w.backing) // without --key-id
	w.ok("mount", w.backing, w.backing)
	if got := w.content(w.backing); got != want {
		t.Errorf("through the mount it is\n%s\nnot\n%s", got, want)
	}
	w.ok("unmount", w.backing)
}

func TestConvertRefusals(t *testing.T) {
	w := newData(t)
	w.must(os.Symlink(w.backing, join(w.dir, "symlink")))
	before := w.content(w.backing)
	w.refused(2, "symbolic link", "convert", "encrypt", join(w.dir, "symlink"), "--key-id", w.keyID())
	w.refused(2, "--key-id is missing", "convert", "encrypt", w.backing)
	w.refused(2, "does not exist", "convert", "encrypt", join(w.dir, "none"), "--key-id", w.keyID())
	w.refused(2, "DIR is missing", "convert", "decrypt")
	w.refused(2, "no command", "convert")
	w.refused(13, "there is no volume", "convert", "decrypt", w.backing)
	w.refused(10, "no such file", "convert", "encrypt", w.backing, "--key-id", "file://"+join(w.dir, "nokey.json"))
	w.mkdir(join(w.backing, "nested"))
	w.tmpfs(join(w.backing, "nested"), "size=1m")
	w.refused(15, "a mount at", w.encryptArgs()...)
	w.must(unix.Unmount(join(w.backing, "nested"), 0))
	w.must(os.Remove(join(w.backing, "nested")))
	sleeper := exec.Command("sleep", "1000")
	sleeper.Dir = w.backing
	w.must(sleeper.Start())
	w.refused(15, "sleep (process", w.encryptArgs()...)
	w.must(sleeper.Process.Signal(syscall.SIGKILL))
	_ = sleeper.Wait()
	if after := w.content(w.backing); strings.Join(strings.Split(after, "\n")[1:], "\n") != strings.Join(strings.Split(before, "\n")[1:], "\n") {
		t.Errorf("the directory has changed from\n%s\nto\n%s", before, after)
	}
}
