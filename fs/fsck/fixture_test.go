package fsck

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// tb is what a test and a property have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vault is a key of a make-believe vault with versions.
type vault struct{ version byte }

func (v *vault) KeyID() string { return "test://key" }
func (v *vault) Name() string  { return "test" }

func (v *vault) aead(version string) cipher.AEAD {
	key := make([]byte, 32)
	copy(key, version)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (v *vault) Wrap(_ context.Context, plain []byte) (keymgr.Wrapped, error) {
	version := fmt.Sprint("v", v.version)
	return keymgr.Wrapped{
		KeyID: v.KeyID(), Version: version, Operation: keymgr.OpWrap, Algorithm: keymgr.AlgA256KW,
		Ciphertext: v.aead(version).Seal(nil, nil, plain, nil),
	}, nil
}

func (v *vault) Unwrap(_ context.Context, w keymgr.Wrapped) ([]byte, error) {
	b, err := v.aead(w.Version).Open(nil, nil, w.Ciphertext, nil)
	if err != nil {
		return nil, &keymgr.KeyError{Class: keymgr.Mismatch, KeyID: w.KeyID, Err: err}
	}
	return b, nil
}

func (v *vault) Describe(context.Context) (keymgr.KeyInfo, error) {
	return keymgr.KeyInfo{KeyID: v.KeyID(), Version: fmt.Sprint("v", v.version), Enabled: true}, nil
}

// openKeys is Options.Keys.
func openKeys(ctx context.Context, meta keymgr.Storage, id uuid.UUID) (*keymgr.MasterKeys, error) {
	return keymgr.OpenKeyring(ctx, meta, id, func(keyID string) (keymgr.Provider, error) {
		if keyID != "test://key" {
			return nil, &keymgr.KeyError{Class: keymgr.Invalid, KeyID: keyID}
		}
		return &vault{1}, nil
	})
}

// scene is a volume in memory.
type scene struct {
	t     tb
	st    *store.Mem
	files map[string][]byte // content by name in the tree
}

const (
	manyBlocks = 205 // of "big": three groups
	longName   = "long"
)

var aLongName = strings.Repeat(longName, 50)

// newScene makes a volume with one of everything, and closes it.
func newScene(t tb, names string) *scene {
	s := &scene{t: t, st: store.NewMem(store.Options{}), files: map[string][]byte{}}
	_, err := volume.Create(s.st, volume.Config{Names: names, JournalSize: 1 << 20, Cluster: "rs0"}, func(id uuid.UUID, meta volume.MetadataFiles) (volume.Keys, error) {
		return keymgr.CreateKeyring(context.Background(), meta, id, &vault{1})
	})
	must(t, err)
	s.with(func(v *volume.Volume, keys *keymgr.MasterKeys) {
		s.fill(v, manyBlocks)
		must(t, keys.AddKey(context.Background(), &second{})) // so that there is a keyring before
		must(t, keys.RemoveKey("test://second"))
	})
	must(t, s.st.SyncAll())
	return s
}

// fill makes one of everything; big is that many blocks long.
func (s *scene) fill(v *volume.Volume, blocks int) {
	t := s.t
	must(t, v.Mkdir("d", 0o755, volume.Owner{}))
	s.put(v, "big", random(1, blocks*format.BlockSize-1000))
	s.put(v, "d/small", []byte("small"))
	s.put(v, "d/"+aLongName, random(2, 9000))
	s.put(v, "empty", nil)
	s.put(v, "emptied", []byte("x"))
	must(t, v.Truncate("emptied", 0))
	s.files["emptied"] = nil
	s.sparse(v, "sparse")
	must(t, errors.Join(
		v.Link("d/small", "hard"), v.Symlink("d/small", "link", volume.Owner{}),
		v.Mknod("fifo", unix.S_IFIFO|0o600, 0, volume.Owner{}),
		v.Setxattr("d/small", "user.color", []byte("blue"), 0), v.Setxattr("d", "user.kind", []byte("directory"), 0),
	))
	s.files["hard"] = s.files["d/small"]
}

// second is another key, that nobody has.
type second struct{ vault }

func (s *second) KeyID() string { return "test://second" }

func (s *second) Wrap(ctx context.Context, plain []byte) (keymgr.Wrapped, error) {
	w, err := s.vault.Wrap(ctx, plain)
	w.KeyID = s.KeyID()
	return w, err
}

func random(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// with opens the volume, and closes it.
func (s *scene) with(do func(v *volume.Volume, keys *keymgr.MasterKeys)) {
	s.t.Helper()
	v, keys := s.open()
	do(v, keys)
	must(s.t, v.Close())
	keys.Destroy()
}

func (s *scene) open() (*volume.Volume, *keymgr.MasterKeys) {
	s.t.Helper()
	info, err := volume.ReadInfo(s.st)
	must(s.t, err)
	keys, err := openKeys(context.Background(), volume.Metadata(s.st), info.ID)
	must(s.t, err)
	v, err := volume.Open(s.st, keys, volume.Options{})
	must(s.t, err)
	return v, keys
}

func (s *scene) put(v *volume.Volume, name string, content []byte) {
	s.t.Helper()
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640, volume.Owner{})
	must(s.t, err)
	_, err = h.WriteAt(content, 0)
	must(s.t, errors.Join(err, h.Sync(true), h.Close()))
	s.files[name] = bytes.Clone(content)
}

// sparse makes a file with data in its first and fourth group only.
func (s *scene) sparse(v *volume.Volume, name string) {
	content := make([]byte, 310*format.BlockSize+17)
	copy(content[5000:], "begin")
	copy(content[305*format.BlockSize:], "end")
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640, volume.Owner{})
	must(s.t, err)
	_, err = h.WriteAt([]byte("begin"), 5000)
	_, err2 := h.WriteAt([]byte("end"), 305*format.BlockSize)
	must(s.t, errors.Join(err, err2, h.Truncate(int64(len(content))), h.Sync(true), h.Close()))
	s.files[name] = content
}

// check runs a check with keys, and more options.
func (s *scene) check(opts Options) *Report {
	s.t.Helper()
	opts.Keys = openKeys
	r, err := Run(context.Background(), s.st, opts)
	must(s.t, err)
	return r
}

// clean wants a check to find nothing, and every file to read back.
func (s *scene) clean() {
	s.t.Helper()
	if r := s.check(Options{}); !r.Clean() || !r.Proven {
		s.t.Fatalf("%s\n%v", r.Summary(), r.Findings)
	}
	s.readAll(nil)
}

// readAll reads every file but those that are to be passed over.
func (s *scene) readAll(except []string) {
	s.t.Helper()
	s.with(func(v *volume.Volume, _ *keymgr.MasterKeys) {
		for name, want := range s.files {
			if slices.Contains(except, name) {
				continue
			}
			if got, err := read(v, name); err != nil || !bytes.Equal(got, want) {
				s.t.Fatalf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	})
}

func read(v *volume.Volume, name string) ([]byte, error) {
	h, err := v.OpenFile(name, os.O_RDONLY, 0, volume.Owner{})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	attr, err := h.Stat()
	if err != nil {
		return nil, err
	}
	got := make([]byte, attr.Size)
	_, err = h.ReadAt(got, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return got, err
}

// backing is the backing path of a file of the tree: the one with that content size.
func (s *scene) backing(name string) string {
	s.t.Helper()
	var found string
	want := format.BackingSize(int64(len(s.files[name])))
	walk(s.t, s.st, ".", func(p string, attr store.Attr) {
		if attr.Mode&unix.S_IFMT == unix.S_IFREG && attr.Size == want && !strings.HasPrefix(p, volume.MetaDir) && !strings.HasSuffix(p, volume.LongSuffix) {
			found = p
		}
	})
	if found == "" {
		s.t.Fatalf("%s has no backing file", name)
	}
	return found
}

// walk visits every object of a store, in order.
func walk(t tb, st store.FS, dir string, visit func(p string, attr store.Attr)) {
	t.Helper()
	entries, err := st.ReadDir(dir)
	must(t, err)
	slices.SortFunc(entries, func(a, b store.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		p := path.Join(dir, e.Name)
		attr, err := st.Stat(p)
		must(t, err)
		visit(p, attr)
		if attr.Mode&unix.S_IFMT == unix.S_IFDIR {
			walk(t, st, p, visit)
		}
	}
}

// change edits a backing file in place.
func (s *scene) change(name string, off int64, edit func(p []byte), n int) {
	s.t.Helper()
	f, err := s.st.OpenFile(name, os.O_RDWR, 0)
	must(s.t, err)
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
		s.t.Fatal(err)
	}
	edit(p)
	_, err = f.WriteAt(p, off)
	must(s.t, errors.Join(err, f.Close()))
}

func (s *scene) flip(name string, off int64) {
	s.t.Helper()
	s.change(name, off, func(p []byte) { p[0] ^= 0x10 }, 1)
}

func (s *scene) truncate(name string, size int64) {
	s.t.Helper()
	f, err := s.st.OpenFile(name, os.O_RDWR, 0)
	must(s.t, err)
	must(s.t, errors.Join(f.Truncate(size), f.Close()))
}

// eachNames runs a test with either kind of names.
func eachNames(t *testing.T, f func(t *testing.T, s *scene)) {
	for _, names := range []string{volume.NamesEncrypted, volume.NamesPlain} {
		t.Run(names, func(t *testing.T) { f(t, newScene(t, names)) })
	}
}
