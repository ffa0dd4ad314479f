package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// exported is the stream of a snapshot, or of its difference from another.
func (s *scene) exported(name, since string) []byte {
	s.t.Helper()
	snap, err := s.c.Get(name)
	must(s.t, err)
	var base *Snapshot
	if since != "" {
		base, err = s.c.Get(since)
		must(s.t, err)
	}
	var out bytes.Buffer
	n, err := Export(s.t.Context(), &out, snap, base, nil)
	must(s.t, err)
	if n != int64(out.Len()) {
		s.t.Errorf("%d bytes were written, not %d", out.Len(), n)
	}
	return out.Bytes()
}

func (s *scene) elsewhere(dir string) *Collection {
	s.t.Helper()
	c, err := OpenCollection(filepath.Join(s.dir, dir), true)
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// TestStream: a snapshot that went through a stream is the same, whole or as
// the difference from one before it, and the difference is small.
func TestStream(t *testing.T) {
	for _, names := range []string{volume.NamesEncrypted, volume.NamesPlain} {
		t.Run(names, func(t *testing.T) {
			s := newScene(t, names)
			s.fill()
			s.create("one")
			s.write("d/f3000000", []byte("changed"), 1_500_000)
			must(t, s.v.Rename("sparse", "renamed", 0))
			s.write("renamed", []byte("more"), 5_000_000)
			h, err := s.v.OpenFile("d/f500000", os.O_RDWR, 0, volume.Owner{})
			must(t, err)
			must(t, errors.Join(h.Truncate(100_000), h.Truncate(300_000), h.Sync(true), h.Close()))
			must(t, s.v.Unlink("d/f4095"))
			s.write("new", []byte("new"), 0)
			s.create("two")
			there := s.elsewhere("there")
			whole, difference := s.exported("two", ""), s.exported("two", "one")
			if len(difference) > len(whole)/2 {
				t.Errorf("the difference takes %d of %d bytes", len(difference), len(whole))
			}
			if again := s.exported("two", "one"); !bytes.Equal(again, difference) {
				t.Error("a second export is another")
			}
			var missing *BaseError
			if _, err := Import(t.Context(), bytes.NewReader(difference), there, uuid.Nil, nil); !errors.As(err, &missing) {
				t.Errorf("without its base: %v", err)
			}
			for _, stream := range [][]byte{s.exported("one", ""), difference} {
				_, err := Import(t.Context(), bytes.NewReader(stream), there, uuid.Nil, nil)
				must(t, err)
			}
			var exists *ExistsError
			if _, err := Import(t.Context(), bytes.NewReader(whole), there, uuid.Nil, nil); !errors.As(err, &exists) {
				t.Errorf("twice: %v", err)
			}
			whole2 := s.elsewhere("whole")
			_, err = Import(t.Context(), bytes.NewReader(whole), whole2, uuid.Nil, nil)
			must(t, err)
			want := s.contents(filepath.Join(s.c.Dir, "two"))
			s.c = there
			s.sound("one")
			s.sound("two")
			for _, dir := range []string{filepath.Join(there.Dir, "two"), filepath.Join(whole2.Dir, "two")} {
				if got := s.contents(dir); got != want {
					t.Errorf("%s is\n%s\nand not\n%s", dir, got, want)
				}
			}
		})
	}
}

// TestDamagedStream: a byte that was changed, anywhere, or an end that is
// missing is found, and nothing is left.
func TestDamagedStream(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	s.write("file", bytes.Repeat([]byte("x"), 30_000), 0)
	must(t, s.v.Symlink("elsewhere", "link", volume.Owner{}))
	s.create("one")
	whole := s.exported("one", "")
	there := s.elsewhere("there")
	refused := func(what string, stream []byte) {
		t.Helper()
		if _, err := Import(t.Context(), bytes.NewReader(stream), there, uuid.Nil, nil); err == nil {
			t.Fatalf("%s: imported", what)
		}
		if left := leftIn(t, there.Dir); len(left) > 0 {
			t.Fatalf("%s: it leaves %v", what, left)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		at := r.IntN(len(whole))
		harmed := bytes.Clone(whole)
		harmed[at] ^= 1 << r.IntN(8)
		refused(fmt.Sprint("byte ", at), harmed)
		refused(fmt.Sprint("cut at ", at), whole[:at])
	}
	refused("without its end", whole[:len(whole)-41])
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Import(ctx, bytes.NewReader(whole), there, uuid.Nil, func(Progress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	_, err := Import(t.Context(), bytes.NewReader(whole), there, uuid.Nil, nil)
	must(t, err)
}

// FuzzImport: no stream makes an import fail otherwise than with an error, or
// write outside its directory.
func FuzzImport(f *testing.F) {
	var small bytes.Buffer
	w, err := newStreamWriter(&small)
	must(f, err)
	must(f, errors.Join(w.json(sectionHeader, streamHeader{Name: "a"}),
		w.json(sectionFile, streamFile{Path: "../../x", Size: 10}), w.put(section(sectionData, make([]byte, 9))), w.put(holeSection(1, 2)), w.end()))
	f.Add(small.Bytes())
	f.Add([]byte(streamMagic))
	f.Fuzz(func(t *testing.T, stream []byte) {
		dir := t.TempDir()
		c, err := OpenCollection(filepath.Join(dir, "c"), true)
		must(t, err)
		defer c.Close()
		if _, err := Import(t.Context(), bytes.NewReader(stream), c, uuid.Nil, nil); err == nil {
			t.Fatal("imported")
		}
		entries, err := os.ReadDir(dir)
		must(t, err)
		if inside := leftIn(t, c.Dir); len(entries) != 1 || len(inside) != 0 {
			t.Fatalf("left: %v, %v", entries, inside)
		}
	})
}

// FuzzContents: no contents.jsonl, as the manifest has it or not, makes a
// reader fail otherwise than with an error, or names what is outside.
func FuzzContents(f *testing.F) {
	f.Add([]byte(`{"path":"a%2fb","mode":33152,"uid":0,"gid":0,"mtime":1}`+"\n"), true)
	f.Add([]byte(`{"path":"../a"}`+"\n"+`{"path":"a","same":"..","target":"%00","xattrs":{"user.x":"AAAA"}}`), true)
	f.Add([]byte("{}\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, agrees bool) {
		st := store.NewMem(store.Options{})
		must(t, st.Mkdir(volume.MetaDir, 0o700))
		must(t, volume.Metadata(st).ReplaceFile(contentsName, data))
		m := &Manifest{}
		if agrees {
			sum := sha256.Sum256(data)
			m.Contents = hex.EncodeToString(sum[:])
		}
		err := m.EachObject(st, func(_ Object, name string) error {
			if !fs.ValidPath(validated(name)) {
				t.Fatalf("%q is no path", name)
			}
			return nil
		})
		if err == nil && !agrees {
			t.Fatal("contents that the manifest does not have")
		}
	})
}
