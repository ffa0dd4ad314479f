package volume

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// prey is a volume that was killed with some of a file at home and some in the
// journal, for fuzzing to change what it finds there.
type prey struct {
	keys    Keys
	st      *store.Mem
	backing string // of the file "a"
	want    []byte
}

func newPrey(f *testing.F) *prey {
	p := &prey{keys: newTestKeys(f, 31), want: bytes.Repeat([]byte("precious"), 103*format.BlockSize/8)}
	st := store.NewMem(store.Options{})
	create(f, st, p.keys, NamesEncrypted, 1<<20)
	v := open(f, st, p.keys)
	h, err := v.OpenFile("a", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		f.Fatal(err)
	}
	_, err = h.WriteAt(p.want, 0)
	if err = errors.Join(err, h.Sync(true), v.Checkpoint()); err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		_, err := h.WriteAt(p.want[:100], int64(i)*4096)
		if err = errors.Join(err, h.Sync(true)); err != nil {
			f.Fatal(err)
		}
	}
	p.backing = v.names.element("a")
	v.stopBackground()
	p.st = st.Kill()
	return p
}

// changed is the store with data put into a file at off, and the file cut or
// grown by so much.
func (p *prey) changed(t *testing.T, name string, off int64, data []byte, grow int64) *store.Mem {
	st := p.st.Crash(0)
	f, err := st.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	attr, err := f.Stat()
	must(t, err)
	if len(data) > 0 {
		_, err = f.WriteAt(data, off%attr.Size)
		must(t, err)
	}
	if size := attr.Size + grow; grow != 0 && size >= 0 {
		must(t, f.Truncate(size))
	}
	return st
}

// read reads the file: what it gives is what was written there, or an error.
// That the file is empty is the one thing that nothing in it can refute.
func (p *prey) read(t *testing.T, st store.FS) {
	v, err := Open(st, p.keys, Options{})
	if err != nil {
		return
	}
	defer v.Close()
	h, err := v.OpenFile("a", os.O_RDONLY, 0, Owner{})
	if err != nil {
		return
	}
	defer h.Close()
	got := make([]byte, format.BlockSize)
	for off := 0; off < 2*len(p.want); off += len(got) {
		n, err := h.ReadAt(got, int64(off))
		switch {
		case err != nil && !errors.Is(err, io.EOF): // n bytes say nothing then
		case n > 0 && (off+n > len(p.want) || !bytes.Equal(got[:n], p.want[off:off+n])):
			t.Fatalf("%d bytes at %d are not what was written there", n, off)
		case n < len(got) && 0 < off && off+n < len(p.want):
			t.Fatalf("the file ends at %d", off+n)
		}
	}
}

// FuzzBackingFile: whatever somebody does to a backing file (header, tag pages,
// blocks, size), nothing reads as what was not written there.
func FuzzBackingFile(f *testing.F) {
	p := newPrey(f)
	f.Add(int64(0), []byte("AKVFSBF1"), int64(0))
	f.Add(format.TagPageOffset(0), make([]byte, 40), int64(0))
	f.Add(format.TagPageOffset(1)+4040, []byte{1, 2, 3}, int64(-4096))
	f.Add(format.BlockOffset(3), []byte{1}, int64(1))
	f.Add(int64(512), make([]byte, 512), int64(1<<30))
	f.Fuzz(func(t *testing.T, off int64, data []byte, grow int64) {
		if off < 0 || len(data) > 1<<16 || grow > 1<<40 {
			return
		}
		p.read(t, p.changed(t, p.backing, off, data, grow))
	})
}

// FuzzJournalFile is the same for the journal's segments, and for a volume that
// is recovered.
func FuzzJournalFile(f *testing.F) {
	p := newPrey(f)
	f.Add(uint8(0), int64(0), []byte("AKVFSJF1"), int64(0))
	f.Add(uint8(0), int64(8192+24), []byte{9}, int64(0))
	f.Add(uint8(3), int64(100), []byte{1}, int64(-4096))
	f.Fuzz(func(t *testing.T, segment uint8, off int64, data []byte, grow int64) {
		if off < 0 || len(data) > 1<<16 || grow > journal.MinSize {
			return
		}
		name := JournalDir + "/00" + string('0'+rune(segment%4))
		p.read(t, p.changed(t, name, off, data, grow))
	})
}

// FuzzBackingNames: whatever lies in the backing directory (names, names of
// attributes and their values, links' targets, files with long names), no name
// in the tree is one that a directory cannot have, and no value or target is
// one that was never set.
func FuzzBackingNames(f *testing.F) {
	keys := newTestKeys(f, 33)
	made := store.NewMem(store.Options{})
	create(f, made, keys, NamesEncrypted, 1<<20)
	v := open(f, made, keys)
	if err := v.Symlink("there", "link", Owner{}); err != nil {
		f.Fatal(err)
	}
	name, link := v.names.element("name"), v.names.element("link")
	target, err := made.Readlink(link)
	if err = errors.Join(err, v.Close()); err != nil {
		f.Fatal(err)
	}
	closed := made.Kill()
	f.Add(name, target, SealedPrefix+name, []byte("value"), []byte("long"))
	f.Add("..", "../../etc/passwd", "user.akvfs.", make([]byte, 40), []byte(strings.Repeat("A", 400)))
	f.Add(longName("long"), "", SealedPrefix, []byte{}, []byte("long"))
	f.Fuzz(func(t *testing.T, name, target, attr string, value, long []byte) {
		st := closed.Crash(0)
		putAnything(st, name, target, attr, value, long)
		v, err := Open(st, keys, Options{ReadOnly: true})
		if err != nil {
			return
		}
		defer v.Close()
		entries, err := v.ReadDir(".")
		must(t, err)
		for _, e := range entries {
			if e.Name == "" || e.Name == "." || e.Name == ".." || len(e.Name) > 255 || strings.ContainsAny(e.Name, "/\x00") {
				t.Fatalf("an entry %q", e.Name)
			}
		}
		if got, err := v.Readlink("link"); err == nil && got != "there" {
			t.Fatalf("the link leads to %q", got)
		}
		attrs, _ := v.Listxattr(".")
		for _, attr := range attrs {
			if got, err := v.Getxattr(".", attr); err == nil {
				t.Fatalf("the attribute %q is %q", attr, got)
			}
		}
	})
}

// putAnything puts what it may into a backing directory.
func putAnything(st store.FS, name, target, attr string, value, long []byte) {
	if len(name) < 200 && name != "." && name != ".." && name != "" && name != MetaDir && !strings.ContainsAny(name, "/\x00") {
		if f, err := st.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_ = f.Close()
		}
		if f, err := st.OpenFile(name+LongSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_, _ = f.WriteAt(long, 0)
			_ = f.Close()
		}
	}
	entries, err := st.ReadDir(".")
	if err != nil {
		return
	}
	for _, e := range entries {
		if old, err := st.Readlink(e.Name); err == nil && old != target && target != "" && !strings.Contains(target, "\x00") {
			_ = st.Unlink(e.Name)
			_ = st.Symlink(target, e.Name)
		}
	}
	if strings.HasPrefix(attr, SealedPrefix) && len(attr) < 256 && !strings.Contains(attr, "\x00") {
		_ = st.Setxattr(".", attr, value, 0)
	}
}

// FuzzUnseal: nothing that was not sealed for a purpose opens for it.
func FuzzUnseal(f *testing.F) {
	keys := newTestKeys(f, 34)
	st := store.NewMem(store.Options{})
	create(f, st, keys, NamesEncrypted, 1<<20)
	v := open(f, st, keys)
	f.Cleanup(func() { v.Close() })
	f.Add(v.seal([]byte("value"), "user.a"), "user.b")
	f.Add(v.seal(nil, "link"), "user.link")
	f.Add([]byte{}, "link")
	f.Fuzz(func(t *testing.T, sealed []byte, context string) {
		if got, err := v.unseal(sealed, context); err == nil {
			t.Fatalf("%q opened as %q", sealed, got)
		} else if !errors.Is(err, crypto.ErrAuth) {
			t.Fatal(err)
		}
	})
}
