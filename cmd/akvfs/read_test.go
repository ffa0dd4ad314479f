package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fillMount puts one of everything on the mount.
func (w *world) fillMount() {
	at := func(name string) string { return join(w.mountpoint, name) }
	w.must(os.MkdirAll(at("journal/deep"), 0o750))
	w.write(at("small"), "small\n")
	w.write(at("journal/deep/collection-1.wt"), strings.Repeat("0123456789abcde\n", 100_000))
	w.write(at("journal/WiredTigerLog.1"), "log")
	w.must(os.Link(at("small"), at("journal/small too")))
	w.must(os.Symlink("journal/deep", at("link")))
	w.must(unix.Mkfifo(at("fifo"), 0o640))
	w.must(os.Chmod(at("small"), 0o711|os.ModeSetuid))
	w.must(unix.Setxattr(at("small"), "user.note", []byte("n\x01te"), 0))
	sparse, err := os.Create(at("sparse"))
	w.must(err)
	_, err = sparse.WriteAt([]byte("end"), 8<<20)
	w.must(err)
	w.must(sparse.Sync())
	w.must(sparse.Close())
	old := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	for _, name := range []string{"small", "journal/deep/collection-1.wt", "sparse", "journal/deep", "journal", "."} {
		w.must(os.Chtimes(at(name), old, old))
	}
	unix.Sync()
}

// shape is what an export keeps of a tree: names, modes, owners, times,
// targets and contents.
func (w *world) shape(root string) string {
	w.t.Helper()
	var b strings.Builder
	w.must(filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d ", strings.TrimPrefix(path, root), st.Mode, st.Uid, st.Gid, st.Mtim.Nano())
		switch {
		case e.Type().IsRegular():
			fmt.Fprintf(&b, "%d %x", st.Size, sha256.Sum256([]byte(w.read(path))))
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			w.must(err)
			b.WriteString(target)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// TestReadCommands: ls, stat, cat and du answer the same of a volume that is
// mounted, of one that is not, and of one whose daemon was killed.
func TestReadCommands(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.fillMount()
	commands := [][]string{
		{"ls"}, {"ls", "-R"}, {"ls", "-l", "-R", "journal"}, {"ls", "small", "journal"}, {"ls", "**/*.wt"}, {"ls", "{small,journal/Wired*}"},
		{"stat", "small", "link", "fifo", "journal", "sparse"}, {"stat", "--json", "**"}, {"cat", "small", "journal/deep/*", "link/collection-1.wt"},
		{"du"}, {"du", "-s"}, {"du", "--apparent-size", "journal", "sparse"},
	}
	answers := func() (all []string) {
		for _, c := range commands {
			r := w.ok(append([]string{c[0], w.backing}, c[1:]...)...)
			all = append(all, r.out)
		}
		return all
	}
	w.unmount() // home: blocks allocated by then stay
	unmounted := answers()
	w.mount()
	mounted := answers()
	w.kill()
	killed := answers()
	for i, c := range commands {
		if mounted[i] != unmounted[i] || killed[i] != unmounted[i] {
			t.Errorf("%v\nunmounted: %s\nmounted: %s\nkilled: %s", c, unmounted[i], mounted[i], killed[i])
		}
	}
	if got := strings.Fields(unmounted[0]); strings.Join(got, " ") != "fifo journal link small sparse" {
		t.Errorf("ls: %q", got)
	}
	if unmounted[4] != "journal/deep/collection-1.wt\n" {
		t.Errorf("a pattern finds %q", unmounted[4])
	}
	var stats []fileStatus
	w.must(json.Unmarshal([]byte(unmounted[7]), &stats))
	if len(stats) < 9 {
		t.Errorf("** finds %d objects", len(stats))
	}
	for _, s := range stats {
		if s.Path == "small" && (s.Mode != "4711" || s.Links != 2 || s.Size != 6 || string(s.Attributes["user.note"]) != "n\x01te") {
			t.Errorf("%+v", s)
		}
	}
}

// TestReadRefusals: what is not there, and what cannot be printed.
func TestReadRefusals(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.fillMount()
	w.unmount()
	w.refused(1, "nothing", "ls", w.backing, "nothing")
	w.refused(1, "no*thing", "cat", w.backing, "no*thing")
	w.refused(1, "syntax error in pattern", "ls", w.backing, "a[")
	w.refused(1, "no regular file", "cat", w.backing, "journal")
	w.refused(2, "PATH is missing", "cat", w.backing)
	w.refused(2, "VOLUME is missing", "ls")
	w.refused(13, "not an akvfs volume", "ls", w.mountpoint)
	w.ok("dev-key", "disable", w.store)
	w.untouched(func() { w.refused(11, "disabled", "export", w.backing, "--to", join(w.dir, "out")) })
	if _, err := os.Lstat(join(w.dir, "out")); err == nil {
		t.Error("a refused export has made its directory")
	}
}

// TestExport: what comes out, by tar and into a directory, is what the mount
// shows; a second export has nothing to do, and one that was cut goes on.
func TestExport(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.fillMount()
	want := w.shape(w.mountpoint)
	w.unmount()
	untarred, copied := w.mkdir(join(w.dir, "untarred")), join(w.dir, "copied")
	tar := exec.Command("tar", "--xattrs", "-xpf", "-", "-C", untarred)
	tar.Stdin = strings.NewReader(w.ok("export", w.backing).out)
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.ok("export", w.backing, "--to", copied)
	for name, dir := range map[string]string{"tar": untarred, "directory": copied} {
		if got := w.shape(dir); got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
		var st unix.Stat_t
		w.must(unix.Stat(join(dir, "small"), &st))
		value := make([]byte, 16)
		n, err := unix.Getxattr(join(dir, "small"), "user.note", value)
		if st.Nlink != 2 || err != nil || !bytes.Equal(value[:n], []byte("n\x01te")) {
			t.Errorf("%s: %d links, attribute %q, %v", name, st.Nlink, value[:n], err)
		}
	}
	var st unix.Stat_t
	w.must(unix.Stat(join(copied, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("a hole takes %d bytes", st.Blocks*512)
	}
	w.must(os.Remove(join(copied, "journal/WiredTigerLog.1")))
	w.must(os.WriteFile(join(copied, "small"), []byte("cut"), 0o600))
	var before, after unix.Stat_t
	w.must(unix.Stat(join(copied, "journal/deep/collection-1.wt"), &before))
	w.ok("export", w.backing, "--to", copied)
	w.must(unix.Stat(join(copied, "journal/deep/collection-1.wt"), &after))
	if got := w.shape(copied); got != want || before.Ino != after.Ino {
		t.Errorf("the second export, which copied again: %v\n%s", before.Ino != after.Ino, got)
	}
	some := join(w.dir, "some")
	w.ok("export", w.backing, "**/*.wt", "--to", some)
	if got := w.read(join(some, "journal/deep/collection-1.wt")); len(got) != 1_600_000 {
		t.Errorf("%d bytes", len(got))
	}
}
