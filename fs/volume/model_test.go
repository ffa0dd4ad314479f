package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
)

// testKeys is a key hierarchy of one level: a master key and a volume secret
// made from a seed, so that a volume opens again with equal keys.
type testKeys struct{ master, secret *crypto.Key }

func newTestKeys(t testing.TB, seed byte) *testKeys {
	t.Helper()
	master, err := crypto.KeyFromBytes(bytes.Repeat([]byte{seed}, crypto.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := crypto.KeyFromBytes(bytes.Repeat([]byte{seed + 1}, crypto.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Destroy(); secret.Destroy() })
	return &testKeys{master, secret}
}

func (k *testKeys) WrapFileKey(file [16]byte, key *crypto.Key) ([16]byte, []byte, error) {
	w, err := crypto.WrapKey(k.master, key, file[:])
	return [16]byte{1}, w, err
}

func (k *testKeys) UnwrapFileKey(file, master [16]byte, wrapped []byte) (*crypto.Key, error) {
	if master != [16]byte{1} {
		return nil, errors.New("unknown master key")
	}
	return crypto.UnwrapKey(k.master, wrapped, file[:])
}

func (k *testKeys) VolumeKey(purpose string) (*crypto.Key, error) { return k.secret.Derive(purpose) }

func create(t testing.TB, st store.FS, keys Keys, names string, journal int64) uuid.UUID {
	t.Helper()
	id, err := Create(st, Config{Cluster: "test", Names: names, JournalSize: journal},
		func(uuid.UUID, MetadataFiles) (Keys, error) { return keys, nil })
	if err != nil {
		t.Fatal("create:", err)
	}
	return id
}

func open(t testing.TB, st store.FS, keys Keys) *Volume {
	t.Helper()
	v, err := Open(st, keys, Options{})
	if err != nil {
		t.Fatal("open:", err)
	}
	return v
}

func onDisk(t testing.TB) *store.Disk {
	t.Helper()
	st, err := store.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// fileModel is what a file ought to hold.
type fileModel struct{ data []byte }

func (m *fileModel) write(p []byte, off int) {
	m.resize(max(len(m.data), off+len(p)))
	copy(m.data[off:], p)
}

func (m *fileModel) resize(n int) {
	if n <= len(m.data) {
		m.data = m.data[:n:n]
		return
	}
	m.data = append(m.data, make([]byte, n-len(m.data))...)
}

func (m *fileModel) punch(off, n int) {
	if off < len(m.data) {
		clear(m.data[off:min(len(m.data), off+n)])
	}
}

// TestFileModel runs random operations on one file against a byte slice.
func TestFileModel(t *testing.T) {
	keys := newTestKeys(t, 7)
	rapid.Check(t, func(t *rapid.T) { fileModelRun(t, keys) })
}

func fileModelRun(t *rapid.T, keys Keys) {
	dir, err := os.MkdirTemp("", "akvfs-model-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	st, err := store.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := Create(st, Config{JournalSize: 1 << 20}, func(uuid.UUID, MetadataFiles) (Keys, error) { return keys, nil }); err != nil {
		t.Fatal(err)
	}
	r := &fileRun{t: t, st: st, keys: keys}
	r.open()
	defer func() { r.v.Close() }()
	t.Repeat(map[string]func(*rapid.T){
		"write":      r.write,
		"truncate":   r.truncate,
		"punch":      r.punch,
		"allocate":   func(t *rapid.T) { r.allocate(t) },
		"sync":       func(t *rapid.T) { r.must(r.h.Sync(true)) },
		"sync then":  func(t *rapid.T) { r.must(syncThen(r.h, false)) },
		"checkpoint": func(t *rapid.T) { r.must(r.v.Checkpoint()) },
		"reopen":     func(t *rapid.T) { r.must(r.h.Close()); r.must(r.v.Close()); r.open() },
		"rename":     func(t *rapid.T) { r.rename() },
		"lock":       func(t *rapid.T) { r.lock() },
		"":           r.check,
	})
}

type fileRun struct {
	t    *rapid.T
	st   store.FS
	keys Keys
	v    *Volume
	h    *Handle
	name string
	m    fileModel
}

func (r *fileRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%v", err)
	}
}

func (r *fileRun) open() {
	var err error
	if r.name == "" {
		r.name = "file"
	}
	r.v, err = Open(r.st, r.keys, Options{})
	r.must(err)
	r.h, err = r.v.OpenFile(r.name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	r.must(err)
}

// offset draws places near block and group boundaries as often as others.
func offset(t *rapid.T) int {
	base := rapid.SampledFrom([]int{0, 1, 2, 50, 100, 101, 102, 203}).Draw(t, "block") * 4096
	return max(0, base+rapid.IntRange(-5, 5000).Draw(t, "byte"))
}

func (r *fileRun) write(t *rapid.T) {
	off, n := offset(t), rapid.SampledFrom([]int{1, 100, 4096, 5000, 70000, 400000}).Draw(t, "n")
	p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
	_, err := r.h.WriteAt(p, int64(off))
	r.must(err)
	r.m.write(p, off)
}

func (r *fileRun) truncate(t *rapid.T) {
	n := offset(t)
	r.must(r.h.Truncate(int64(n)))
	r.m.resize(n)
}

func (r *fileRun) punch(t *rapid.T) {
	off, n := offset(t), 1+offset(t)
	r.must(r.h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
	r.m.punch(off, n)
}

func (r *fileRun) allocate(t *rapid.T) {
	off, n := offset(t), 1+offset(t)
	r.must(r.h.Allocate(0, int64(off), int64(n)))
	r.m.resize(max(len(r.m.data), off+n))
}

func (r *fileRun) rename() {
	next := r.name + "x"
	if len(next) > 8 {
		next = "file"
	}
	r.must(r.v.Rename(r.name, next, 0))
	r.name = next
}

func (r *fileRun) lock() {
	r.must(r.v.Lock("test"))
	_, err := r.v.Unlock(r.keys)
	r.must(err)
}

func (r *fileRun) check(t *rapid.T) {
	attr, err := r.v.Stat(r.name)
	r.must(err)
	if attr.Size != int64(len(r.m.data)) {
		t.Fatalf("size %d, want %d", attr.Size, len(r.m.data))
	}
	got := make([]byte, len(r.m.data)+10)
	n, err := r.h.ReadAt(got, 0)
	if !errors.Is(err, io.EOF) || n != len(r.m.data) {
		t.Fatalf("read %d of %d bytes: %v", n, len(r.m.data), err)
	}
	if i := firstDifference(got[:n], r.m.data); i >= 0 {
		t.Fatalf("byte %d (block %d) is %#x, want %#x", i, i/4096, got[i], r.m.data[i])
	}
	if s := r.v.Stats(); s.IntegrityErrors != 0 {
		t.Fatalf("%d integrity errors", s.IntegrityErrors)
	}
}

func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

var _ = fmt.Sprint
