package volume

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// TestOtherVolume: nothing of a file of another volume reads as part of one,
// even where the two have the same master key.
func TestOtherVolume(t *testing.T) {
	page, block := format.TagPageOffset, format.BlockOffset
	for name, place := range map[string]struct {
		off int64
		n   int
	}{
		"a block":                   {block(3), 4096},
		"a tag page":                {page(1), 4096},
		"a group":                   {page(1), 102 * 4096},
		"a header":                  {0, 4096},
		"a slot of a header":        {512, 512},
		"all blocks and tag pages":  {4096, 253 * 4096},
		"the whole file, and so on": {0, 254 * 4096},
	} {
		t.Run(name, func(t *testing.T) {
			w, other := newVictim(t), newVictim(t) // under equal keys
			w.t = t
			f, g := w.file(w.a), other.file(other.a)
			w.write(f, place.off, other.read(g, place.off, place.n))
			w.expectDamage()
		})
	}
}

// rewritten is a victim whose file "a" was written twice, and what its backing
// file was in between.
func rewritten(t *testing.T) (w *victim, old []byte) {
	w = newVictim(t)
	f := w.file(w.a)
	old = w.read(f, 0, int(format.BackingSize(int64(len(victimContent("a"))))))
	v := open(t, w.st, w.keys)
	h, err := v.OpenFile("a", os.O_RDWR, 0, Owner{})
	must(t, err)
	for off := int64(0); off < int64(len(victimContent("a"))); off += 4096 * 10 {
		_, err := h.WriteAt([]byte("new"), off)
		must(t, err)
	}
	must(t, errors.Join(h.Close(), v.Close()))
	return w, old
}

// TestOldVersions puts back what a file was before: what is finer than a group
// is noticed, and docs/SECURITY.md says that a group and a file are not.
func TestOldVersions(t *testing.T) {
	page, block := format.TagPageOffset, format.BlockOffset
	entry := func(i int64) int64 { return page(0) + i*format.EntrySize }
	type part struct {
		off int64
		n   int
	}
	for name, c := range map[string]struct {
		parts   []part
		noticed bool
	}{
		"a block":                               {[]part{{block(10), 4096}}, true},
		"a block and its entry":                 {[]part{{block(10), 4096}, {entry(10), format.EntrySize}}, true},
		"a tag page":                            {[]part{{page(0), 4096}}, true},
		"a tag page and all its blocks but one": {[]part{{page(0), 11 * 4096}, {block(11), 90 * 4096}}, true},
		"a group":                               {[]part{{page(0), 102 * 4096}}, false},
		"the whole file":                        {[]part{{0, 254 * 4096}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, old := rewritten(t)
			w.t = t
			f := w.file(w.a)
			for _, p := range c.parts {
				w.write(f, p.off, old[p.off:p.off+int64(p.n)])
			}
			if noticed := w.readsOldOrNew(); noticed != c.noticed {
				t.Errorf("noticed: %v", noticed)
			}
		})
	}
}

// readsOldOrNew reads file a, and reports whether any block was an error. Every
// other one is as it was once.
func (w *victim) readsOldOrNew() (noticed bool) {
	v := open(w.t, w.st, w.keys)
	defer v.Close()
	h, err := v.OpenFile("a", os.O_RDONLY, 0, Owner{})
	if err != nil {
		return true
	}
	defer h.Close()
	for i, want := 0, victimContent("a"); i < len(want); i += 4096 {
		got := make([]byte, min(4096, len(want)-i))
		_, err := h.ReadAt(got, int64(i))
		now := bytes.Clone(want[i : i+len(got)])
		if i%(4096*10) == 0 {
			copy(now, "new")
		}
		switch {
		case err != nil:
			noticed = true
		case !bytes.Equal(got, now) && !bytes.Equal(got, want[i:i+len(got)]):
			w.t.Fatalf("block %d was never so", i/4096)
		}
	}
	return noticed
}

// TestTruncatedAnywhere: a backing file that was cut, at any page or beside one,
// gives no wrong byte and no early end. Only one that was cut to nothing, or to
// its header, is taken for an empty file.
func TestTruncatedAnywhere(t *testing.T) {
	w := newVictim(t)
	f := w.file(w.a)
	size := format.BackingSize(int64(len(victimContent("a"))))
	whole := w.read(f, 0, int(size))
	for pages := int64(0); pages*4096 < size; pages++ {
		for _, by := range []int64{0, 1, 4095} {
			to := pages*4096 + by
			w.truncate(f, to)
			if to > 4096 {
				w.expectDamage()
			} else if n := w.sizeOfA(); n != 0 {
				t.Fatalf("cut to %d it has %d bytes", to, n)
			}
			w.truncate(f, 0)
			w.write(f, 0, whole)
			w.truncate(f, size)
		}
	}
}

func (w *victim) sizeOfA() int64 {
	v := open(w.t, w.st, w.keys)
	defer v.Close()
	attr, err := v.Stat("a")
	must(w.t, err)
	return attr.Size
}

// TestEqualBlocks: equal plaintext, anywhere in a file, in several files, and
// written again, is never equal on the disk.
func TestEqualBlocks(t *testing.T) {
	st := store.NewMem(store.Options{})
	keys := newTestKeys(t, 41)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	seen := map[[sha256.Size]byte]string{}
	for round := range 3 {
		for _, name := range []string{"a", "b"} {
			put(t, v, name, string(bytes.Repeat([]byte("equal   "), 130*4096/8)))
		}
		must(t, errors.Join(v.commitAll(), v.Checkpoint()))
		for _, name := range []string{"a", "b"} {
			f, err := st.OpenFile(v.names.element(name), os.O_RDONLY, 0)
			must(t, err)
			for i := range int64(130) {
				got := make([]byte, 4096)
				_, err := f.ReadAt(got, format.BlockOffset(i))
				must(t, err)
				sum, here := sha256.Sum256(got), fmt.Sprint("block ", i, " of ", name, ", written ", round)
				if there, ok := seen[sum]; ok {
					t.Fatalf("%s is %s", here, there)
				}
				seen[sum] = here
			}
			must(t, f.Close())
		}
	}
	must(t, v.Close())
}

// TestChangedWhileMounted: another process changes the backing directory under
// an open volume. What a program reads is what was written, or an error, or
// zeros where all of a group is gone, and the volume goes on.
func TestChangedWhileMounted(t *testing.T) {
	for name, change := range map[string]func(backing string) error{
		"blocks overwritten": func(b string) error { return overwrite(b, format.BlockOffset(0), 4096*20) },
		"tags overwritten":   func(b string) error { return overwrite(b, format.TagPageOffset(0), 4096) },
		"header overwritten": func(b string) error { return overwrite(b, 0, 4096) },
		"cut":                func(b string) error { return os.Truncate(b, 20_000) },
		"emptied":            func(b string) error { return os.Truncate(b, 0) },
		"longer":             func(b string) error { return os.Truncate(b, 64<<20) },
		"removed":            os.Remove,
		"another in its place": func(b string) error {
			return errors.Join(os.Remove(b), os.WriteFile(b, bytes.Repeat([]byte("x"), 500_000), 0o600))
		},
		"a directory in its place": func(b string) error { return errors.Join(os.Remove(b), os.Mkdir(b, 0o700)) },
		"a link in its place":      func(b string) error { return errors.Join(os.Remove(b), os.Symlink("/etc/passwd", b)) },
	} {
		for _, isOpen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, open %v", name, isOpen), func(t *testing.T) {
				changedWhileMounted(t, change, isOpen)
			})
		}
	}
}

func overwrite(name string, off int64, n int) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("overwritten "), n/12), off)
	return errors.Join(err, f.Close())
}

func changedWhileMounted(t *testing.T, change func(string) error, isOpen bool) {
	dir := t.TempDir()
	st, err := store.OpenDisk(dir)
	must(t, err)
	defer st.Close()
	keys := newTestKeys(t, 42)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	want := bytes.Repeat([]byte("precious"), 130*4096/8)
	put(t, v, "a", string(want))
	put(t, v, "b", "untouched")
	must(t, errors.Join(v.commitAll(), v.Checkpoint()))
	var h *Handle
	if isOpen {
		h, err = v.OpenFile("a", os.O_RDWR, 0, Owner{})
		must(t, err)
	}
	must(t, change(filepath.Join(dir, v.names.element("a"))))
	if !isOpen {
		h, err = v.OpenFile("a", os.O_RDWR, 0, Owner{})
	}
	if err == nil {
		readsWantOrError(t, h, want)
		_, _ = h.WriteAt([]byte("more"), 8192) // it may fail, and harms nothing else
		_ = h.Sync(true)
		_ = h.Close()
	}
	put(t, v, "c", "afterwards")
	for name, content := range map[string]string{"b": "untouched", "c": "afterwards"} {
		h, err := v.OpenFile(name, os.O_RDONLY, 0, Owner{})
		must(t, err)
		got := make([]byte, 100)
		if n, err := h.ReadAt(got, 0); string(got[:n]) != content || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %q, %v", name, got[:n], err)
		}
		must(t, h.Close())
	}
	_ = v.Close() // what cannot be committed to what is gone is told
}

func readsWantOrError(t *testing.T, h *Handle, want []byte) {
	t.Helper()
	got := make([]byte, 4096)
	for off := 0; off < len(want); off += len(got) {
		n, err := h.ReadAt(got, int64(off))
		if err == nil && !bytes.Equal(got[:n], want[off:off+n]) && !format.IsZero(got[:n]) {
			t.Fatalf("%d bytes at %d are not what was written", n, off)
		}
	}
}
