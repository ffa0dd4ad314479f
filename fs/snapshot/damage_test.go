package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	akvfs "github.com/akvfs/akvfs/fs"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// flip changes a byte of a file, and leaves its time.
func flip(t *testing.T, name string, off int64) {
	t.Helper()
	before, err := os.Stat(name)
	must(t, err)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	must(t, err)
	b[0] ^= 0x40
	_, err = f.WriteAt(b, off)
	must(t, errors.Join(err, f.Close(), os.Chtimes(name, before.ModTime(), before.ModTime())))
}

// TestDamage: each kind of damage is found, and named. keys says that it takes
// the keys to find it; opens that the keys still open the snapshot.
func TestDamage(t *testing.T) {
	s := newScene(t, volume.NamesPlain)
	s.fill()
	s.create("good")
	const victim = "d/f500000"
	meta := func(name string) string { return filepath.Join(volume.MetaDir, name) }
	for name, c := range map[string]struct {
		harm  func(dir string)
		where string
		keys  bool
	}{
		"a block":       {func(dir string) { flip(t, filepath.Join(dir, victim), format.BlockOffset(50)+7) }, victim, true},
		"a tag page":    {func(dir string) { flip(t, filepath.Join(dir, victim), format.TagPageOffset(1)+100) }, victim, false},
		"a header":      {func(dir string) { flip(t, filepath.Join(dir, victim), 600) }, victim, false},
		"the last byte": {func(dir string) { flip(t, filepath.Join(dir, victim), format.PagesEnd(500_000)-1) }, victim, true},
		"a short file": {func(dir string) {
			must(t, os.Truncate(filepath.Join(dir, victim), format.BackingSize(400_000)))
		}, victim, false},
		"a missing file": {func(dir string) { must(t, os.Remove(filepath.Join(dir, victim))) }, victim, false},
		"an extra file":  {func(dir string) { must(t, os.WriteFile(filepath.Join(dir, "d", "new"), nil, 0o600)) }, "d/new", false},
		"a mode":         {func(dir string) { must(t, os.Chmod(filepath.Join(dir, victim), 0o777)) }, victim, false},
		"a link": {func(dir string) {
			link := filepath.Join(dir, "d", "link")
			must(t, errors.Join(os.Remove(link), os.Symlink("elsewhere", link)))
		}, "d/link", false},
		"an attribute": {func(dir string) {
			must(t, unix.Setxattr(filepath.Join(dir, "d/f1"), "user.other", []byte("x"), 0))
		}, "d/f1", false},
		"a hard link": {func(dir string) {
			again := filepath.Join(dir, "d/deep/again")
			must(t, errors.Join(os.Remove(again), exec.Command("cp", "-a", filepath.Join(dir, "d/f4097"), again).Run()))
		}, "d/f4097", false},
		"two blocks swapped": {func(dir string) { swap(t, filepath.Join(dir, victim)) }, victim, true},
		"the contents":       {func(dir string) { flip(t, filepath.Join(dir, meta(contentsName)), 40) }, meta(contentsName), false},
		"the manifest": {func(dir string) {
			edit(t, filepath.Join(dir, meta(manifestName)), `"cluster": "rs0"`, `"cluster": "rs1"`)
		}, meta(manifestName), true},
		"the keyring": {func(dir string) { flip(t, filepath.Join(dir, meta("keyring.json")), 5) }, meta("keyring.json"), false},
		"the description": {func(dir string) {
			edit(t, filepath.Join(dir, meta(volume.InfoFile)), `"id": "`, `"id": "x`)
		}, meta(volume.InfoFile), false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(s.dir, "harmed")
			must(t, exec.Command("cp", "-a", filepath.Join(s.c.Dir, "good"), dir).Run())
			defer os.RemoveAll(dir)
			c.harm(dir)
			st, err := store.OpenDisk(dir)
			must(t, err)
			defer st.Close()
			r, err := Verify(t.Context(), st, nil)
			must(t, err)
			if c.keys {
				if len(r.Damages) > 0 {
					t.Fatalf("found without keys: %q", r.Damages)
				}
				plain, err := akvfs.Open(t.Context(), dir, akvfs.Options{Openers: openers})
				must(t, err)
				defer plain.Close()
				must(t, VerifyBlocks(t.Context(), st, plain.Keys(), plain, r, nil, nil))
			}
			if !slices.ContainsFunc(r.Damages, func(d string) bool { return strings.HasPrefix(d, c.where+":") }) {
				t.Errorf("%q tells nothing of %s", r.Damages, c.where)
			}
		})
	}
}

// swap makes two blocks of a file change places.
func swap(t *testing.T, name string) {
	t.Helper()
	before, err := os.Stat(name)
	must(t, err)
	data, err := os.ReadFile(name)
	must(t, err)
	a, b := data[format.BlockOffset(3):][:format.BlockSize], data[format.BlockOffset(4):][:format.BlockSize]
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
	must(t, errors.Join(os.WriteFile(name, data, 0o600), os.Chtimes(name, before.ModTime(), before.ModTime())))
}

func edit(t *testing.T, name, old, new string) {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	text := strings.Replace(string(data), old, new, 1)
	if text == string(data) {
		t.Fatalf("%s has no %q", name, old)
	}
	must(t, os.WriteFile(name, []byte(text), 0o600))
}

// TestNotSnapshot: what is none is told from what is damaged.
func TestNotSnapshot(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenCollection(dir, false)
	must(t, err)
	defer c.Close()
	must(t, os.MkdirAll(filepath.Join(dir, "other", volume.MetaDir), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "broken", volume.MetaDir), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "broken", volume.MetaDir, manifestName), []byte("{"), 0o600))
	must(t, os.MkdirAll(filepath.Join(dir, "newer", volume.MetaDir), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "newer", volume.MetaDir, manifestName), []byte(`{"format": 2}`), 0o600))
	all, damaged, err := c.List()
	if err != nil || len(all) != 0 || len(damaged) != 2 {
		t.Errorf("%v, %v, %v", all, damaged, err)
	}
	if _, err := c.Get("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "a b", ".hidden", "-flag", "ü", strings.Repeat("x", 201), "a\x00"} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

// FuzzManifest: no manifest makes the parser fail otherwise than with an error.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"name":"a","objects":1,"mac":"AAAA"}`))
	f.Add([]byte(`{"format":9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if (m == nil) == (err == nil) {
			t.Fatal(m, err)
		}
		if err == nil {
			if _, err := m.encode(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzPath: a path of any bytes comes back as it was, and what leads out of
// the snapshot is no path.
func FuzzPath(f *testing.F) {
	for _, name := range []string{"a/b", "..", "a/../b", "/a", "%2e%2e/x", "a//b", "\xff\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if got, err := decodePath(name); err == nil {
			for part := range strings.SplitSeq(got, "/") {
				if part == ".." || part == "" {
					t.Fatalf("%q leads to %q", name, got)
				}
			}
		}
		if fs.ValidPath(validated(name)) {
			if got, err := decodePath(encodePath(name)); err != nil || got != name {
				t.Fatalf("%q became %q, %v", name, got, err)
			}
		}
	})
}

// FuzzRestore: no contents.jsonl makes a restore fail otherwise than with an
// error, or write outside its directory.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"path":".","mode":16832,"uid":0,"gid":0,"mtime":0}`))
	f.Add([]byte(`{"path":"a%2Fb","mode":41471,"mtime":1,"target":"%2e%2e/x"}` + "\n" + `{"path":"c","mode":33152,"same":"a"}`))
	f.Add([]byte(`{"path":"../x","mode":33152,"size":9}`))
	f.Fuzz(func(t *testing.T, contents []byte) {
		mem := store.NewMem(store.Options{Capacity: 1 << 20})
		for _, dir := range []string{"from", "from/.akvfs", "to"} {
			must(t, mem.Mkdir(dir, 0o700))
		}
		must(t, volume.Metadata(store.NewSub(mem, "from")).ReplaceFile(contentsName, contents))
		sum := sha256.Sum256(contents)
		m := &Manifest{Name: "one", Contents: hex.EncodeToString(sum[:])}
		s := &Snapshot{"from", m, func() (disk, error) { return store.NewSub(mem, "from"), nil }}
		if err := restore(t.Context(), s, store.NewSub(mem, "to"), "to", nil); err == nil {
			t.Fatal("restored what has no journal and no keys")
		}
		entries, err := mem.ReadDir(".")
		must(t, err)
		if len(entries) != 2 {
			t.Fatalf("%v", entries)
		}
	})
}
