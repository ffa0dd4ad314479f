//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/scripts/rig"
)

// akvfsVolume is a volume of akvfs, whatever AKVFS_TEST_SYSTEM says.
func akvfsVolume(t *testing.T, fsType string, o rig.Options) (*volume, *rig.Akvfs) {
	t.Helper()
	t.Setenv("AKVFS_TEST_SYSTEM", "akvfs")
	v := newVolume(t, fsType, o)
	return v, v.System.(*rig.Akvfs)
}

// expectExit mounts and wants this exit status, an untouched mount point and
// an untouched backing directory.
func expectExit(t *testing.T, a *rig.Akvfs, want int, says string) {
	t.Helper()
	before := treeOf(t, a.Backing())
	err := a.Mount(t.Context())
	if err == nil {
		t.Fatalf("it mounts; exit status %d was expected", want)
	}
	if rig.ExitCode(err) != want || !strings.Contains(err.Error(), says) {
		t.Errorf("exit status %d, want %d, in a message with %q: %v", rig.ExitCode(err), want, says, err)
	}
	if at, err := rig.MountsAt(a.Dir()); err != nil || len(at) > 0 {
		t.Errorf("the mount point is in use: %v, %v", at, err)
	}
	if entries, err := os.ReadDir(a.Dir()); err != nil || len(entries) > 0 {
		t.Errorf("the mount point is not empty: %v, %v", entries, err)
	}
	if after := treeOf(t, a.Backing()); after != before {
		t.Errorf("the backing directory changed from\n%s\nto\n%s", before, after)
	}
}

// treeOf lists a directory with sizes and times of modification.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			b.WriteString(strings.Join([]string{path, info.Mode().String(), info.ModTime().String(), strconv.FormatInt(info.Size(), 10)}, " ") + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestKeyDisabled: an embedded key store's key, disabled, refuses the mount,
// and enabled again gives the data back.
func TestKeyDisabled(t *testing.T) {
	v, a := akvfsVolume(t, "ext4", rig.Options{})
	w := newWiredTiger(v, "db")
	w.run("load", "--records", "5000")
	v.mustUnmount()
	v.run(a.Command("dev-key", "disable", a.KeyFile()))
	expectExit(t, a, 11, "disabled")
	v.run(a.Command("dev-key", "enable", a.KeyFile()))
	v.mustMount()
	w.check()
}

// TestNothingInPlain: what the database holds is nowhere in the backing
// directory, neither as names nor as content.
func TestNothingInPlain(t *testing.T) {
	v, a := akvfsVolume(t, "ext4", rig.Options{})
	w := newWiredTiger(v, "db", "--compressor", "none")
	w.run("load", "--records", "5000")
	secret := strings.Repeat("the quick brown fox ", 400)
	if err := os.WriteFile(filepath.Join(v.Dir(), "fox.txt"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	v.mustUnmount()
	for _, plain := range []string{"quick brown fox", "aaaaaaaaaaaaaaaa", "WiredTiger"} {
		out, err := v.try(command("grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", plain, a.Backing()))
		if rig.ExitCode(err) != 1 {
			t.Errorf("%q is in the backing directory: %s (%v)", plain, out, err)
		}
	}
	names, err := filepath.Glob(filepath.Join(a.Backing(), "*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if base := filepath.Base(name); base == "db" || base == "fox.txt" {
			t.Errorf("the name %s is in the backing directory", base)
		}
	}
}
