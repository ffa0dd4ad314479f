package convert

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// testKeys is a key hierarchy of one level, made from a seed.
type testKeys struct{ master, secret *crypto.Key }

func newTestKeys(t testing.TB, seed byte) *testKeys {
	t.Helper()
	key := func(b byte) *crypto.Key {
		k, err := crypto.KeyFromBytes(bytes.Repeat([]byte{b}, crypto.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Destroy)
		return k
	}
	return &testKeys{key(seed), key(seed + 1)}
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

// config converts with the keys and a small journal.
func (k *testKeys) config(names string) Config {
	return Config{
		Create: func(_ context.Context, st store.FS) error {
			_, err := volume.Create(st, volume.Config{Names: names, JournalSize: 1 << 20},
				func(uuid.UUID, volume.MetadataFiles) (volume.Keys, error) { return k, nil })
			return err
		},
		Open: func(_ context.Context, st store.FS) (*volume.Volume, func(), error) {
			v, err := volume.Open(st, k, volume.Options{})
			return v, func() {}, err
		},
		VolumeBytes: 1 << 20,
		BatchBytes:  8 << 10, // so that there are several
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a plain file of parts at their offsets.
func put(t testing.TB, st store.FS, name string, size int64, parts map[int64]string) {
	t.Helper()
	f, err := st.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	must(t, err)
	for off, part := range parts {
		_, err := f.WriteAt([]byte(part), off)
		must(t, err)
	}
	must(t, f.Truncate(size))
	must(t, f.Close())
}

// fill makes a tree with one of everything.
func fill(t testing.TB, st store.FS) {
	t.Helper()
	must(t, st.Mkdir("journal", 0o750))
	must(t, st.Mkdir("journal/deep", 0o2770))
	must(t, st.Mkdir("empty", 0o701))
	put(t, st, "WiredTiger.wt", 9000, map[int64]string{0: strings.Repeat("wired", 1800)})
	put(t, st, "journal/log.1", 5, map[int64]string{0: "hello"})
	put(t, st, "journal/deep/sparse", 400_000, map[int64]string{8192: "island", 300_000: strings.Repeat("x", 5000)})
	put(t, st, "zero", 0, nil)
	must(t, st.Mkdir("not \xff\xfe utf-8 %41", 0o700))
	put(t, st, "not \xff\xfe utf-8 %41/\x80", 6, map[int64]string{0: "latin1"})
	must(t, st.Link("not \xff\xfe utf-8 %41/\x80", "\x81"))
	put(t, st, "hole", 1<<20, nil)
	put(t, st, strings.Repeat("long", 60), 10, map[int64]string{0: "long names"})
	must(t, st.Link("WiredTiger.wt", "journal/deep/other-name"))
	must(t, st.Symlink("journal/log.1", "link"))
	must(t, st.Mknod("fifo", unix.S_IFIFO|0o620, 0))
	must(t, st.Mknod("socket", unix.S_IFSOCK|0o700, 0))
	must(t, st.Setxattr("zero", "user.mark", []byte("of zero"), 0))
	must(t, st.Setxattr("journal", "user.dir", []byte("of journal"), 0))
	must(t, st.Setxattr(".", "user.root", []byte("of root"), 0))
	must(t, st.Chown("zero", 1001, 1002))
	must(t, st.Chmod("zero", 0o4755))
	must(t, st.Chown(".", 1003, 1004))
	must(t, st.Chmod(".", 0o750))
	at, mt := time.Unix(1_500_000_001, 123456789), time.Unix(1_400_000_002, 987654321)
	for _, name := range []string{"journal/deep", "journal", "empty", "link", "WiredTiger.wt", "hole", "."} {
		must(t, st.Chtimes(name, &at, &mt))
	}
}

// picture describes every object of a tree in a line.
func picture(t tree) (map[string]string, error) {
	s, err := look(context.Background(), t)
	if err != nil {
		return nil, err
	}
	lines := map[string]string{}
	describe := func(name string, xattrs map[string][]byte, more string) error {
		a, err := t.Stat(name)
		if err != nil {
			return err
		}
		mtime := a.Mtime.UnixNano()
		if name == "." {
			mtime = 0 // making and removing the state directory changes it
		}
		lines[name] = fmt.Sprintf("%o %d:%d %d %v %s", a.Mode, a.UID, a.GID, mtime, slices.Sorted(maps.Keys(xattrs)), more)
		for _, attr := range slices.Sorted(maps.Keys(xattrs)) {
			lines[name] += fmt.Sprintf(" %q", xattrs[attr])
		}
		return nil
	}
	if err := describe(".", s.root.Xattrs, ""); err != nil {
		return nil, err
	}
	for _, dir := range s.dirs {
		if err := describe(dir, s.attrs[dir].Xattrs, ""); err != nil {
			return nil, err
		}
	}
	c := &conversion{ctx: context.Background(), buf: make([]byte, chunkSize)}
	for _, u := range s.units {
		more := fmt.Sprint(u.names, u.link, u.attr.Nlink)
		if u.regular() {
			d, err := c.readBack(t, u.names[0], u.attr.Size)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", u.names[0], err)
			}
			more += fmt.Sprintf(" %d %s", u.attr.Size, hexOf(d))
		}
		for _, name := range u.names {
			if err := describe(name, u.xattrs, more); err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

func pictureOf(t testing.TB, tr tree) map[string]string {
	t.Helper()
	p, err := picture(tr)
	must(t, err)
	return p
}

// sealedPicture is that of a volume in its place.
func (k *testKeys) sealedPicture(t testing.TB, st store.FS) map[string]string {
	t.Helper()
	v, err := volume.Open(st, k, volume.Options{})
	must(t, err)
	defer v.Close()
	return pictureOf(t, sealed{v})
}

func same(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for name, line := range want {
		if got[name] != line {
			t.Fatalf("%s: %q is\n%s, not\n%s", what, name, got[name], line)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Fatalf("%s: %q should not be there", what, name)
		}
	}
}

// noPlaintext makes sure that no backing file has a name or a word of the tree.
func noPlaintext(t testing.TB, st store.FS, dir string, names bool) {
	t.Helper()
	entries, err := st.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if names && dir != "." && !strings.HasPrefix(name, metaDir) && strings.Contains(name, "log.1") {
			t.Fatalf("%q is a plain name", name)
		}
		switch e.Type & unix.S_IFMT {
		case unix.S_IFDIR:
			noPlaintext(t, st, name, names)
		case unix.S_IFREG:
			data, err := readAll(st, name)
			must(t, err)
			for _, word := range []string{"wiredwired", "hello", "island", "xxxxx"} {
				if bytes.Contains(data, []byte(word)) {
					t.Fatalf("%q holds %q", name, word)
				}
			}
		}
	}
}

func hexOf(d digest) string { return hex.EncodeToString(d[:6]) }
