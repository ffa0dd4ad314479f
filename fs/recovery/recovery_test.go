package recovery_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// oneKey wraps file keys under one key, and derives the volume's from it.
type oneKey struct{ *crypto.Key }

func (k oneKey) VolumeKey(purpose string) (*crypto.Key, error) { return k.Derive(purpose) }

func (k oneKey) WrapFileKey(file [16]byte, key *crypto.Key) ([16]byte, []byte, error) {
	w, err := crypto.WrapKey(k.Key, key, file[:])
	return [16]byte{}, w, err
}

func (k oneKey) UnwrapFileKey(file, _ [16]byte, wrapped []byte) (*crypto.Key, error) {
	return crypto.UnwrapKey(k.Key, wrapped, file[:])
}

// scene is a volume on a store whose power can be cut.
type scene struct {
	t    *testing.T
	keys oneKey
	st   *store.Mem
	v    *volume.Volume
}

func newScene(t *testing.T) *scene {
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Destroy)
	s := &scene{t: t, keys: oneKey{key}, st: store.NewMem(store.Options{})}
	_, err = volume.Create(s.st, volume.Config{JournalSize: 1 << 20}, func(uuid.UUID, volume.MetadataFiles) (volume.Keys, error) {
		return s.keys, nil
	})
	s.must(err)
	s.open()
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) open() {
	var err error
	s.v, err = volume.Open(s.st, s.keys, volume.Options{})
	s.must(err)
}

// cut cuts the power and opens what is left.
func (s *scene) cut(seed uint64) {
	s.st = s.st.Crash(seed)
	s.open()
}

func (s *scene) file(name string) *volume.Handle {
	h, err := s.v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, volume.Owner{})
	s.must(err)
	return h
}

func (s *scene) write(h *volume.Handle, p []byte, off int64) {
	_, err := h.WriteAt(p, off)
	s.must(err)
	s.must(h.Sync(true))
}

func (s *scene) expect(name string, want []byte) {
	s.t.Helper()
	h := s.file(name)
	defer h.Close()
	got := make([]byte, len(want)+1)
	n, err := h.ReadAt(got, 0)
	if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
		s.t.Fatalf("%s reads as %d bytes, want %d: %v", name, n, len(want), err)
	}
}

// TestReport: recovery says what it did, and nothing is left for the next.
func TestReport(t *testing.T) {
	s := newScene(t)
	want := bytes.Repeat([]byte("data"), 5000)
	h := s.file("f")
	s.write(h, want, 0)
	s.write(s.file("gone"), want, 0)
	s.must(s.v.Unlink("gone"))
	s.must(s.v.SyncDir("."))
	s.cut(1)
	if r := s.v.Stats().Recovery; r.Records != 2 || r.Files != 1 || r.Gone != 1 || r.Blocks != 5 || r.Damaged != 0 {
		t.Fatalf("reported %+v", r)
	}
	s.expect("f", want)
	s.must(s.v.Close())
	s.open()
	if r := s.v.Stats().Recovery; r.Records != 0 {
		t.Fatalf("after a clean close: %+v", r)
	}
}

// TestUnknownName: a file that lost the only name that was known of it is
// found by its ID under the other.
func TestUnknownName(t *testing.T) {
	s := newScene(t)
	s.must(s.v.Mkdir("d", 0o700, volume.Owner{}))
	s.write(s.file("a"), []byte("first"), 0)
	s.must(s.v.Link("a", "d/b"))
	s.must(s.v.Close())
	s.open()
	h := s.file("a")
	s.must(s.v.Unlink("a"))
	s.write(h, []byte("second"), 0)
	s.cut(2)
	s.expect("d/b", []byte("second"))
}

// TestOtherFileUnderTheName: records of a file are not applied to another one
// that has its name by now.
func TestOtherFileUnderTheName(t *testing.T) {
	for seed := range uint64(20) {
		s := newScene(t)
		s.write(s.file("f"), bytes.Repeat([]byte("old"), 3000), 0)
		s.must(s.v.Unlink("f"))
		s.write(s.file("f"), []byte("new"), 0)
		s.cut(seed)
		s.expect("f", []byte("new"))
	}
}

// TestAgain: a recovery that is cut at any operation is done again.
func TestAgain(t *testing.T) {
	s := newScene(t)
	want := bytes.Repeat([]byte("again"), 30_000)
	h := s.file("f")
	s.write(h, want, 0)
	s.must(h.Truncate(70_000))
	s.write(h, []byte("tail"), 100_000)
	want = append(want[:70_000:70_000], make([]byte, 30_004)...)
	copy(want[100_000:], "tail")
	crashed := s.st.Crash(4)
	for at := uint64(1); ; at++ {
		st := crashed.Crash(0)
		var n atomic.Uint64
		st.SetHook(func(store.Op) error {
			if n.Add(1) >= at {
				return store.ErrCut
			}
			return nil
		})
		_, err := volume.Open(st, s.keys, volume.Options{})
		s.st = st
		s.cut(at)
		s.expect("f", want)
		if err == nil {
			return
		}
	}
}
