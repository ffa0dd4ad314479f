//go:build !race

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/fsck"
)

// fsck runs a check and wants its exit status; its report is what --json prints.
func (w *world) fsck(code int, args ...string) (r fsck.Report) {
	w.t.Helper()
	got := w.run(append([]string{"fsck", "--json"}, args...)...)
	if got.code != code {
		w.t.Fatalf("akvfs fsck %v: %d, not %d\n%s%s", args, got.code, code, got.out, got.err)
	}
	if got.out != "" {
		w.must(json.Unmarshal([]byte(got.out), &r))
	}
	return r
}

// backingFile is the largest file of the tree in the backing directory.
func (w *world) backingFile() (largest string) {
	w.t.Helper()
	all, err := filepath.Glob(join(w.backing, "*"))
	w.must(err)
	size := int64(0)
	for _, name := range all {
		if fi, err := os.Lstat(name); err == nil && fi.Mode().IsRegular() && fi.Size() > size {
			largest, size = name, fi.Size()
		}
	}
	return largest
}

func (w *world) flip(name string, off int64) {
	w.t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	w.must(err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	w.must(err)
	b[0] ^= 4
	_, err = f.WriteAt(b, off)
	w.must(err)
}

// TestFsckStatus: what is found, what is repaired, and what keeps a check from
// its beginning, each with its exit status.
func TestFsckStatus(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.write(join(w.mountpoint, "small"), "hello")
	w.write(join(w.mountpoint, "big"), strings.Repeat("0123456789abcdef", 80_000))
	if r := w.fsck(0, w.mountpoint); !r.Proven || r.Objects < 3 || r.Bytes == 0 {
		t.Errorf("mounted: %+v", r)
	}
	w.refused(15, "Unmount", "fsck", w.mountpoint, "--repair")
	w.refused(15, "Unmount", "fsck", w.backing, "--no-key")
	w.unmount()
	if r := w.fsck(0, w.backing); !r.Proven {
		t.Errorf("%+v", r)
	}
	if r := w.fsck(0, w.backing, "--no-key"); r.Proven || r.Objects < 2 {
		t.Errorf("without keys: %+v", r)
	}
	w.write(join(w.backing, ".akvfs", "keyring.json.tmp"), "half")
	w.fsck(4, w.backing)
	w.fsck(1, w.backing, "--repair")
	w.fsck(0, w.backing)

	w.flip(w.backingFile(), format.BlockOffset(100))
	w.flip(w.backingFile(), 1024)
	if out := w.run("fsck", w.backing).out; !strings.Contains(out, "4096 bytes at 409600 do not read (big)") {
		t.Errorf("%s", out)
	}
	r := w.fsck(5, w.backing, "--repair", "--salvage", join(w.dir, "salvaged"))
	if r.Count(fsck.Repaired) != 1 || r.Count(fsck.Left) != 1 {
		t.Errorf("%+v", r.Findings)
	}
	salvaged := w.read(join(w.dir, "salvaged", "big"))
	if want := strings.Repeat("0123456789abcdef", 80_000); len(salvaged) != len(want) || salvaged[:409600] != want[:409600] || salvaged[413696:] != want[413696:] {
		t.Errorf("salvaged: %d bytes", len(salvaged))
	}
	w.refused(16, "empty", "fsck", w.backing, "--salvage", join(w.dir, "salvaged"))
	w.refused(16, "VOLUME is missing", "fsck")
	w.refused(16, "--no-key", "fsck", w.backing, "--no-key", "--repair")
	w.refused(16, "--rate", "fsck", w.backing, "--rate", "-1")
	w.refused(16, "does not exist", "fsck", join(w.dir, "nowhere"))
	w.refused(13, "not an akvfs volume", "fsck", w.dir)
	w.must(w.openStore().Disable(""))
	w.refused(11, "KeyDisabled", "fsck", w.backing)
	w.must(os.Rename(w.store, w.store+".away"))
	w.refused(10, "key.json", "fsck", w.backing)
	info := join(w.backing, ".akvfs", "volume.json")
	text := w.read(info)
	w.write(info, strings.Replace(text, `"format": 1`, `"format": 2`, 1))
	w.refused(13, "later version", "fsck", w.backing, "--no-key")
}

// TestFsckLostMetadata: volume.json and the journal, lost and made up for, with
// what consent each takes.
func TestFsckLostMetadata(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.write(join(w.mountpoint, "f"), "hello")
	w.unmount()
	info := join(w.backing, ".akvfs", "volume.json")
	was := w.read(info)
	w.must(os.Remove(info))
	w.fsck(4, w.backing)
	w.fsck(1, w.backing, "--repair")
	if w.read(info) != was {
		t.Errorf("volume.json is another one: %s", w.read(info))
	}
	w.must(os.Remove(info))
	w.must(os.Remove(info + ".prev"))
	w.fsck(4, w.backing, "--repair")
	w.refused(16, "--repair", "fsck", w.backing, "--cluster", "rs0")
	w.fsck(1, w.backing, "--repair", "--cluster", "rs0")
	w.fsck(0, w.backing)

	w.must(os.Remove(join(w.backing, ".akvfs", "journal", "002")))
	w.fsck(4, w.backing, "--repair")
	w.refused(16, "--repair", "fsck", w.backing, "--accept-loss")
	w.fsck(1, w.backing, "--repair", "--accept-loss")
	w.fsck(0, w.backing)
	w.mount()
	if got := w.read(join(w.mountpoint, "f")); got != "hello" {
		t.Errorf("%q", got)
	}
	w.unmount()
}

// TestFsckInterrupted: Ctrl-C ends a check of a mounted volume with the place
// where it goes on.
func TestFsckInterrupted(t *testing.T) {
	w := newVolume(t)
	w.mount()
	for _, name := range []string{"a", "b", "c"} {
		w.write(join(w.mountpoint, name), strings.Repeat("x", 12<<20))
	}
	cmd := w.command("fsck", w.mountpoint, "--rate", "2", "--jobs", "1")
	var out bytes.Buffer
	cmd.Stderr = &out
	w.must(cmd.Start())
	for s := w.status(w.mountpoint); s.Scrub.Bytes == 0; s = w.status(w.mountpoint) {
		time.Sleep(20 * time.Millisecond)
	}
	w.must(cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait()
	_, from, ok := strings.Cut(out.String(), "--from '")
	if cmd.ProcessState.ExitCode() != 32 || !ok {
		t.Fatalf("%v: %s", cmd.ProcessState, &out)
	}
	from, _, _ = strings.Cut(from, "'")
	if r := w.fsck(0, w.mountpoint, "--from", from); !r.Proven {
		t.Errorf("%+v", r)
	}
	w.unmount()
}
