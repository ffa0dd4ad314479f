package confdir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newDir(t *testing.T) Dir {
	t.Helper()
	return In(t.TempDir(), "projects", "project")
}

func TestNames(t *testing.T) {
	d := newDir(t)
	for _, name := range []string{"a", "rs0", "A.b-c_d", strings.Repeat("x", 63)} {
		if err := d.CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "a/b", "/", "../a", "a b", " a", "a\n", "é", "漢", "a\x00", "-a", ".a", "_a", strings.Repeat("x", 64), "a%n", "a\x1b",
	} {
		_, read := d.Read(name, "f")
		_, lock := d.Lock(name, false)
		for what, err := range map[string]error{"check": d.CheckName(name), "read": read, "lock": lock, "write": d.Write(name, "f", nil), "remove": d.RemoveFile(name, "f")} {
			if _, ok := errors.AsType[*NameError](err); !ok || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	if left, err := os.ReadDir(filepath.Dir(d.path)); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestWriteAndRead(t *testing.T) {
	d := newDir(t)
	if names, err := d.Names("f"); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	_, err := d.Read("one", "f")
	if _, ok := errors.AsType[*NoEntryError](err); !ok {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"first", "second"} {
		must(t, d.Write("one", "f", []byte(text)))
		if data, err := d.Read("one", "f"); err != nil || string(data) != text {
			t.Errorf("%q, %v", data, err)
		}
	}
	must(t, os.MkdirAll(filepath.Join(d.path, "empty"), 0o700))
	must(t, os.MkdirAll(filepath.Join(d.path, "not a name"), 0o700))
	if names, err := d.Names("f"); err != nil || len(names) != 1 || names[0] != "one" {
		t.Errorf("%v, %v", names, err)
	}
	for path, mode := range map[string]os.FileMode{d.Path("one", "f"): 0o600, filepath.Dir(d.Path("one", "f")): os.ModeDir | 0o700, d.path: os.ModeDir | 0o700} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v", path, fi.Mode())
		}
	}
	must(t, d.Remove("one", "f"))
	must(t, d.Remove("one", "f"+"x"))
	if names, err := d.Names("f"); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

// What a writer left that was killed is no entry and in nobody's way; it is
// gone after the next write, or with its entry.
func TestLeft(t *testing.T) {
	d := newDir(t)
	left := d.Path("one", ".f3184370505918273645")
	for _, age := range []time.Duration{0, 24 * time.Hour} {
		must(t, d.Write("one", "f", []byte("x")))
		must(t, os.WriteFile(left, []byte("secret"), 0o600))
		must(t, os.Chtimes(left, time.Time{}, time.Now().Add(-age)))
		if names, err := d.Names("f"); err != nil || len(names) != 1 {
			t.Errorf("%v, %v", names, err)
		}
		if age > 0 {
			must(t, d.Write("one", "f", []byte("y")))
			if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
		}
		must(t, d.Remove("one", "f"))
		if _, err := os.Lstat(filepath.Dir(left)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the entry is still there: %v", err)
		}
	}
}

// What somebody else could have put there is refused.
func TestUnsafe(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, d Dir){
		"file that others write":      func(t *testing.T, d Dir) { must(t, os.Chmod(d.Path("one", "f"), 0o606)) },
		"file that a group writes":    func(t *testing.T, d Dir) { must(t, os.Chmod(d.Path("one", "f"), 0o660)) },
		"file of somebody else":       func(t *testing.T, d Dir) { must(t, os.Chown(d.Path("one", "f"), 65534, 65534)) },
		"directory that others write": func(t *testing.T, d Dir) { must(t, os.Chmod(filepath.Join(d.path, "one"), 0o777)) },
		"directory of somebody else":  func(t *testing.T, d Dir) { must(t, os.Chown(filepath.Join(d.path, "one"), 65534, 65534)) },
		"link for the file": func(t *testing.T, d Dir) {
			must(t, os.Rename(d.Path("one", "f"), d.Path("one", "g")))
			must(t, os.Symlink("g", d.Path("one", "f")))
		},
		"link for the directory": func(t *testing.T, d Dir) {
			must(t, os.Rename(filepath.Join(d.path, "one"), filepath.Join(d.path, "two")))
			must(t, os.Symlink("two", filepath.Join(d.path, "one")))
		},
		"pipe": func(t *testing.T, d Dir) {
			must(t, os.Remove(d.Path("one", "f")))
			must(t, unix.Mkfifo(d.Path("one", "f"), 0o600))
		},
		"huge file": func(t *testing.T, d Dir) { must(t, os.Truncate(d.Path("one", "f"), maxFile+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t)
			must(t, d.Write("one", "f", []byte("x")))
			do(t, d)
			_, err := d.Read("one", "f")
			if _, ok := errors.AsType[*UnsafeError](err); !ok {
				t.Errorf("%v", err)
			}
		})
	}
}

// Two who change one entry do not do it at once; readers hinder nobody but the
// one who removes.
func TestLock(t *testing.T) {
	d := newDir(t)
	busy := func(name string, shared bool) {
		t.Helper()
		_, err := d.Lock(name, shared)
		if b, ok := errors.AsType[*BusyError](err); !ok || b.Name != name {
			t.Errorf("%v", err)
		}
	}
	lock := func(name string, shared bool) func() {
		t.Helper()
		unlock, err := d.Lock(name, shared)
		must(t, err)
		return unlock
	}
	one := lock("one", false)
	busy("one", false)
	busy("one", true)
	lock("two", false)()
	one()
	a, b := lock("one", true), lock("one", true)
	busy("one", false)
	a()
	b()
	lock("one", false)()
}
