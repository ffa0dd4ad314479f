//go:build !race

// No race is to be found here that other tests do not find: these are many
// short runs of the program, which take long under the detector.

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/keymgr/file"
)

func (w *world) openStore() *file.Store {
	w.t.Helper()
	s, err := file.Open(w.store, file.Options{})
	w.must(err)
	return s
}

// keyRefusals are the ways in which a key may not be used.
var keyRefusals = []struct {
	name string
	do   func(w *world, s *file.Store)
	code int
	says string
}{
	{"disabled", func(w *world, s *file.Store) { w.must(s.Disable("")) }, 11, "KeyDisabled"},
	{"expired", func(w *world, s *file.Store) { w.must(s.Expire("", time.Now().Add(-time.Hour))) }, 11, "KeyExpired"},
	{"not yet valid", func(w *world, s *file.Store) { w.must(s.NotBefore("", time.Now().Add(time.Hour))) }, 11, "KeyNotYetValid"},
	{"deleted", func(w *world, s *file.Store) { w.must(s.Delete()) }, 11, "KeyDeleted"},
	{"purged", func(w *world, s *file.Store) { w.must(s.Delete()); w.must(s.Purge()) }, 11, "KeyNotFound"},
	{"missing", func(w *world, _ *file.Store) { w.must(os.Remove(w.store)) }, 10, "key.json"},
	{"readable by others", func(w *world, _ *file.Store) { w.must(os.Chmod(w.store, 0o644)) }, 2, "UnsafeFile"},
	{"damaged", func(w *world, _ *file.Store) { w.write(w.store, "{}") }, 2, "DamagedFile"},
}

// A mount is refused with the exit code that says why, and nothing changes:
// not at the mount point, not in the backing directory.
func TestMountRefusedByKey(t *testing.T) {
	for _, c := range keyRefusals {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newVolume(t)
			c.do(w, w.openStore())
			for _, mode := range [][]string{nil, {"--foreground"}, {"--read-only"}} {
				w.untouched(func() {
					w.refused(c.code, c.says, append([]string{"mount", w.backing, w.mountpoint}, mode...)...)
				})
			}
			w.untouched(func() { w.refused(c.code, c.says, "mount", w.backing, w.backing) })
		})
	}
}

// Access comes back with the key.
func TestMountAfterRefusal(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.write(join(w.mountpoint, "data"), "precious")
	w.unmount()
	w.ok("dev-key", "disable", w.store)
	w.untouched(func() { w.refused(11, "is enabled", "mount", w.backing, w.mountpoint) })
	w.ok("dev-key", "enable", w.store)
	w.mount()
	if got := w.read(join(w.mountpoint, "data")); got != "precious" {
		t.Errorf("read %q", got)
	}
	w.unmount()
}

// edit changes a file of the volume's metadata.
func (w *world) edit(name string, f func(string) string) {
	w.t.Helper()
	path := join(w.backing, ".akvfs", name)
	old := w.read(path)
	now := f(old)
	if now == old {
		w.t.Fatalf("%s was not changed:\n%s", name, old)
	}
	w.write(path, now)
}

func replace(old, now string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, now, 1) }
}

// field replaces the value of a field of JSON as text, whatever it was.
func field(name string, value any) func(string) string {
	return func(s string) string {
		data, err := json.Marshal(value)
		if err != nil {
			return s
		}
		_, rest, ok := strings.Cut(s, `"`+name+`": `)
		if !ok {
			return s
		}
		end := strings.IndexAny(rest, ",\n")
		return s[:len(s)-len(rest)] + string(data) + rest[end:]
	}
}

func TestMountRefusedByVolume(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world)
		code int
		says string
	}{
		{"no volume", func(w *world) { w.must(os.RemoveAll(join(w.backing, ".akvfs"))) }, 13, "not an akvfs volume"},
		{"creation interrupted", func(w *world) { w.must(os.Remove(join(w.backing, ".akvfs", "volume.json"))) }, 13, "Run `akvfs init` on it again"},
		{"newer volume", func(w *world) { w.edit("volume.json", field("format", 99)) }, 13, "newer than"},
		{"unknown feature", func(w *world) { w.edit("volume.json", field("features", []string{"teleport"})) }, 13, "teleport"},
		{"newer keyring", func(w *world) { w.edit("keyring.json", field("format", 99)) }, 13, "format 99"},
		{"volume.json is nonsense", func(w *world) { w.edit("volume.json", replace("{", "[")) }, 14, `volume.json": it cannot be read`},
		{"volume.json is lost", func(w *world) {
			w.write(join(w.backing, "something"), "")
			w.must(os.Remove(join(w.backing, ".akvfs", "volume.json")))
		}, 14, `volume.json": it is missing`},
		{"the journal is lost", func(w *world) { w.must(os.RemoveAll(join(w.backing, ".akvfs", "journal"))) }, 14, "journal is damaged"},
		{"volume.json is another's", func(w *world) { w.edit("volume.json", field("cluster", "rs1")) }, 14, "volume description"},
		{"no keyring", func(w *world) { w.must(os.Remove(join(w.backing, ".akvfs", "keyring.json"))) }, 14, "keyring.json"},
		{"keyring is nonsense", func(w *world) { w.edit("keyring.json", replace("{", "[")) }, 14, "integrity"},
		{"keyring was edited", func(w *world) { w.edit("keyring.json", field("generation", 7)) }, 14, "edited"},
		{"keyring has another date", func(w *world) { w.edit("keyring.json", field("created", "2020-01-01T00:00:00Z")) }, 14, "integrity"},
		{"wrap was edited", func(w *world) { w.edit("keyring.json", field("ciphertext", strings.Repeat("A", 342)+"==")) }, 14, "does not match"},
		{"keyring names another volume", func(w *world) {
			w.edit("keyring.json", field("volume", "00000000-0000-4000-8000-000000000000"))
		}, 14, "belongs to volume"},
		{"another volume's keyring", func(w *world) {
			other := w.mkdir(join(w.dir, "other"))
			w.ok("init", other, "--key-id", w.keyID())
			w.write(join(w.backing, ".akvfs", "keyring.json"), w.read(join(other, ".akvfs", "keyring.json")))
		}, 14, "belongs to volume"},
		{"key of other material", func(w *world) {
			w.must(os.Remove(w.store))
			_, err := file.Create(w.store, file.Options{Bits: 2048})
			w.must(err)
		}, 11, "KeyVersionNotFound"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newVolume(t)
			c.do(w)
			w.untouched(func() { w.refused(c.code, c.says, "mount", w.backing, w.mountpoint) })
			w.untouched(func() { w.refused(c.code, c.says, "mount", w.backing, w.mountpoint, "--foreground", "--read-only") })
		})
	}
}

func TestMountBadInput(t *testing.T) {
	w := newVolume(t)
	w.write(join(w.dir, "file"), "")
	full := w.mkdir(join(w.dir, "full"))
	w.write(join(full, "file"), "")
	inner := w.mkdir(join(w.backing, "inner"))
	for _, c := range []struct {
		name string
		code int
		says string
		args []string
	}{
		{"no arguments", 2, "BACKING is missing", nil},
		{"one argument", 2, "MOUNTPOINT is missing", []string{w.backing}},
		{"three arguments", 2, "unexpected argument", []string{w.backing, w.mountpoint, "x"}},
		{"unknown flag", 2, "unknown flag: --colour", []string{w.backing, w.mountpoint, "--colour"}},
		{"unknown option", 2, "is unknown; known are allow_other", []string{w.backing, w.mountpoint, "-o", "colour"}},
		{"option without its value", 2, "needs a value", []string{w.backing, w.mountpoint, "-o", "fsname"}},
		{"time-out", 2, "--key-timeout", []string{w.backing, w.mountpoint, "--key-timeout", "-1s"}},
		{"no backing directory", 2, "backing directory " + join(w.dir, "none") + " does not exist", []string{join(w.dir, "none"), w.mountpoint}},
		{"backing is a file", 2, "is not a directory", []string{join(w.dir, "file"), w.mountpoint}},
		{"no mount point", 2, "mount point " + join(w.dir, "none") + " does not exist", []string{w.backing, join(w.dir, "none")}},
		{"mount point is a file", 2, "is not a directory", []string{w.backing, join(w.dir, "file")}},
		{"mount point not empty", 2, "is not empty\nThe mount would hide", []string{w.backing, full}},
		{"mount point inside", 2, "lies inside the backing directory", []string{w.backing, inner}},
		{"backing inside", 2, "lies inside the mount point", []string{w.backing, w.dir}},
		{"not a volume", 13, "not an akvfs volume", []string{full, w.mountpoint}},
		{"log directory missing", 1, "none/log", []string{w.backing, w.mountpoint, "--log-file", join(w.dir, "none", "log")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.untouched(func() { w.refused(c.code, c.says, append([]string{"mount"}, c.args...)...) })
		})
	}
}

func TestMountInUse(t *testing.T) {
	w := newVolume(t)
	other, alias := w.mkdir(join(w.dir, "other")), w.mkdir(join(w.dir, "alias"))
	w.must(unix.Mount(w.backing, alias, "", unix.MS_BIND, ""))
	w.mount()
	defer w.unmount()
	elsewhere := *w
	elsewhere.env = append(elsewhere.env, "AKVFS_RUN_DIR="+join(w.dir, "run2"))
	before := w.tree(other)
	w.refused(15, "is mounted at "+w.mountpoint+" already (process ", "mount", w.backing, other)
	w.refused(15, "is mounted at", "mount", w.backing, other, "--read-only")
	w.refused(15, "is in use", "mount", alias, other)
	w.refused(15, "is mounted at", "mount", w.backing, w.mountpoint)
	w.refused(15, "is mounted at", "mount", w.backing, w.backing)
	elsewhere.refused(15, "is in use (process ", "mount", w.backing, other)
	elsewhere.refused(15, "by another user or with another run directory", "mount", other, w.mountpoint)
	if now := w.tree(other); now != before {
		t.Errorf("the other mount point has changed from\n%sto\n%s", before, now)
	}
	w.write(join(w.mountpoint, "still"), "works")
}

func TestMountPermissions(t *testing.T) {
	w := newVolume(t)
	w.must(os.Chmod(w.dir, 0o755))
	w.untouched(func() {
		cmd := asNobody(w.command("mount", w.backing, w.mountpoint))
		cmd.Env = append(cmd.Env, "AKVFS_RUN_DIR="+w.nobodysDir())
		if r := w.finish(cmd); r.code != 16 || !strings.Contains(r.err, "permission denied") {
			t.Errorf("exit code %d\n%s", r.code, r.err)
		}
	})
}

func TestRunDirOfOthers(t *testing.T) {
	w := newVolume(t)
	run := w.mkdir(join(w.dir, "run"))
	for _, mode := range []os.FileMode{0o777, 0o770} {
		w.must(os.Chmod(run, mode))
		w.untouched(func() { w.refused(16, "is not safe", "mount", w.backing, w.mountpoint) })
		w.refused(16, "is not safe", "status")
	}
	w.must(os.Chmod(run, 0o700))
}

func TestMountReadOnlyFileSystem(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.write(join(w.mountpoint, "data"), "x")
	w.unmount()
	w.must(unix.Mount(w.backing, w.backing, "", unix.MS_BIND, ""))
	w.must(unix.Mount("", w.backing, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	w.untouched(func() {
		w.refused(1, "read-only file system\nMake the file system writable, or mount the volume with --read-only", "mount", w.backing, w.mountpoint)
	})
	w.mount("--read-only")
	if got := w.read(join(w.mountpoint, "data")); got != "x" {
		t.Errorf("read %q", got)
	}
	w.unmount()
}
