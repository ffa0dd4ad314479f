package replace

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/internal/replace/replacetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds wants a directory to hold these names and no others.
func holds(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("%s holds %q, not %q", dir, names, want)
	}
}

// longAgo is when what the tests leave was written.
var longAgo = time.Now().Add(-2 * leftAfter)

// TestFile: a file is made and replaced, with the permissions that it is to
// have, and nothing else is left beside it, or ever was in TMPDIR.
func TestFile(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	must(t, os.Chtimes(tmp, longAgo, longAgo)) // who makes or removes a name in it changes that
	path := filepath.Join(dir, "f")
	for i, text := range []string{"first", "second", ""} {
		must(t, File(path, []byte(text), 0o644))
		if data, err := os.ReadFile(path); err != nil || string(data) != text {
			t.Errorf("%q, %v", data, err)
		}
		want := os.FileMode(0o644)
		if i > 0 {
			want = 0o640
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode() != want {
			t.Errorf("write %d: %v, %v", i, fi.Mode(), err)
		}
		must(t, os.Chmod(path, 0o640))
	}
	holds(t, dir, "f")
	if fi, err := os.Stat(tmp); err != nil || !fi.ModTime().Equal(longAgo) {
		t.Errorf("TMPDIR was used: %v, %v", fi.ModTime(), err)
	}
}

// TestFailed: what cannot be written leaves the file as it was, and nothing else.
func TestFailed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	if err := File(filepath.Join(dir, "d"), []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if err := File(filepath.Join(dir, "none", "f"), []byte("x"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	holds(t, dir, "d")
}

// TestLeft: what a killed writer of the same file left is removed, and nothing
// that may be something else, or somebody's who is at it now.
func TestLeft(t *testing.T) {
	dir := t.TempDir()
	const number = "3184370505918273645"
	keep := []string{".f" + number[:14], ".f" + number[1:] + "1", ".f" + number + "x", ".g" + number, "f" + number}
	gone := []string{".f" + number, ".f" + number[:leftDigits]}
	for _, name := range append(keep, gone...) {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		if name != keep[1] {
			must(t, os.Chtimes(path, longAgo, longAgo))
		}
	}
	link := ".f" + number[2:] + "11"
	must(t, os.Symlink("g", filepath.Join(dir, link)))
	must(t, unix.Lutimes(filepath.Join(dir, link), []unix.Timeval{{Sec: 1}, {Sec: 1}}))
	must(t, File(filepath.Join(dir, "f"), []byte("x"), 0o600))
	for _, name := range append(keep, link) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range gone {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	must(t, File(path, nil, 0o600))
	must(t, Remove(path))
	holds(t, dir)
	must(t, Remove(path))
	must(t, Remove(filepath.Join(dir, "none", "f")))
	must(t, os.MkdirAll(filepath.Join(path, "full"), 0o700))
	if err := Remove(path); err == nil {
		t.Error("removed what holds something")
	}
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b")
	for range 2 {
		must(t, Dir(path))
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		if fi, err := os.Stat(p); err != nil || fi.Mode() != os.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", p, fi.Mode(), err)
		}
	}
	must(t, File(filepath.Join(dir, "f"), nil, 0o600))
	if err := Dir(filepath.Join(dir, "f", "c")); err == nil {
		t.Error("made below a file")
	}
}

// TestNotDurable: whose name cannot be made durable is not told to be there,
// or gone.
func TestNotDurable(t *testing.T) {
	for name, do := range map[string]func(dir string) error{
		"file":    func(dir string) error { return File(filepath.Join(dir, "f"), []byte("x"), 0o600) },
		"removal": func(dir string) error { return Remove(filepath.Join(dir, "f")) },
		"dir":     func(dir string) error { return Dir(filepath.Join(dir, "d")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			replacetest.Undurable(t, dir, func() {
				if err := do(dir); !errors.Is(err, fs.ErrPermission) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// TestNobodyElse: renameio is for this package alone. By itself it puts
// temporary files in TMPDIR, and syncs no directory. keymgr/file, which keeps
// its keys where people keep other things, sees to both and clears nothing.
func TestNobodyElse(t *testing.T) {
	const module = `"github.com/google/renameio/v2"`
	root := filepath.Join("..", "..")
	users := map[string]bool{}
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			if rel, _ := filepath.Rel(root, filepath.Dir(path)); i.Path.Value == module {
				users[rel] = true
			}
		}
		return nil
	}))
	if want := "map[internal/replace:true keymgr/file:true]"; fmt.Sprint(users) != want {
		t.Errorf("%v, not %s: use internal/replace", users, want)
	}
}
