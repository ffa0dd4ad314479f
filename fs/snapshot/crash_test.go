package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// machine is a disk that can lose its power, with a volume and a collection.
type machine struct {
	t    testing.TB
	mem  *store.Mem
	key  string // where its key is
	id   uuid.UUID
	want string // what the volume holds
}

// The directories of a machine.
const (
	volumeDir   = "enc"
	snapsDir    = "snaps"
	restoredDir = "restored"
)

func newMachine(t *testing.T) *machine {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key.json")
	_, err := file.Create(key, file.Options{Bits: 2048})
	must(t, err)
	m := &machine{t: t, key: key, mem: store.NewMem(store.Options{})}
	for _, dir := range []string{volumeDir, snapsDir, restoredDir} {
		must(t, m.mem.Mkdir(dir, 0o700))
	}
	_, err = volume.Create(m.at(volumeDir), volume.Config{Names: volume.NamesEncrypted, JournalSize: 1 << 20}, func(id uuid.UUID, meta volume.MetadataFiles) (volume.Keys, error) {
		p, err := openers.Open("file://"+key, keymgr.ProviderOptions{})
		must(t, err)
		m.id = id
		return keymgr.CreateKeyring(t.Context(), meta, id, p)
	})
	must(t, err)
	m.open(volumeDir, false, func(_ *store.Tracker, v *volume.Volume, _ *keymgr.MasterKeys) {
		must(t, v.Mkdir("d", 0o750, volume.Owner{}))
		writeTo(t, v, "d/small", []byte("small"), 0)
		writeTo(t, v, "large", bytes.Repeat([]byte("mongod"), 80_000), 0)
		writeTo(t, v, "sparse", []byte("end"), 2_000_000)
		must(t, v.Symlink("d/small", "link", volume.Owner{}))
		must(t, v.Link("d/small", "d/again"))
		must(t, v.Setxattr("large", "user.colour", []byte("blue"), 0))
	})
	must(t, m.mem.SyncAll())
	m.want = m.plain(volumeDir)
	return m
}

func (m *machine) at(dir string) *store.Sub { return store.NewSub(m.mem, dir) }

func (m *machine) collection() *Collection {
	return &Collection{snapsDir, m.at(snapsDir), func(name string) (disk, error) {
		dir := path.Join(snapsDir, name)
		if _, err := m.mem.Stat(dir); err != nil {
			return nil, err
		}
		return m.at(dir), nil
	}}
}

// open calls use with a volume of the machine.
func (m *machine) open(dir string, readOnly bool, use func(*store.Tracker, *volume.Volume, *keymgr.MasterKeys)) {
	m.t.Helper()
	st := store.NewTracker(m.at(dir))
	info, err := volume.ReadInfo(st)
	must(m.t, err)
	keys, err := keymgr.OpenKeyring(context.Background(), volume.Metadata(st), info.ID, func(id string) (keymgr.Provider, error) {
		return openers.Open(id, keymgr.ProviderOptions{})
	})
	must(m.t, err)
	defer keys.Destroy()
	v, err := volume.Open(st, keys, volume.Options{ReadOnly: readOnly})
	must(m.t, err)
	use(st, v, keys)
	if err := v.Close(); err != nil && !errors.Is(err, store.ErrCut) {
		m.t.Fatal(err)
	}
}

// plain describes what a volume of the machine holds.
func (m *machine) plain(dir string) string {
	m.t.Helper()
	var all strings.Builder
	m.open(dir, true, func(_ *store.Tracker, v *volume.Volume, _ *keymgr.MasterKeys) {
		var walk func(name string)
		walk = func(name string) {
			attr, err := v.Stat(name)
			must(m.t, err)
			fmt.Fprintf(&all, "%s %o %d %d", name, attr.Mode, attr.Nlink, attr.Mtime.UnixNano())
			switch attr.Mode & unix.S_IFMT {
			case unix.S_IFREG:
				fmt.Fprintf(&all, " %d %x\n", attr.Size, digest(readAll(m.t, v, name)))
			case unix.S_IFDIR:
				all.WriteByte('\n')
				entries, err := v.ReadDir(name)
				must(m.t, err)
				slices.SortFunc(entries, func(a, b store.DirEntry) int { return strings.Compare(a.Name, b.Name) })
				for _, e := range entries {
					walk(path.Join(name, e.Name))
				}
			default:
				target, err := v.Readlink(name)
				must(m.t, err)
				fmt.Fprintf(&all, " -> %s\n", target)
			}
		}
		walk(".")
	})
	return all.String()
}

// create makes a snapshot of the volume, while somebody writes what is there
// already: so that not all of it is at home.
func (m *machine) create(name string) (err error) {
	m.open(volumeDir, false, func(st *store.Tracker, v *volume.Volume, keys *keymgr.MasterKeys) {
		err = m.createFrom(Source{Store: st, Volume: v, Keys: keys}, v, name)
	})
	return err
}

func (m *machine) createFrom(src Source, v *volume.Volume, name string) error {
	var once sync.Once
	_, err := Create(context.Background(), src, m.collection(), Options{Name: name, Progress: func(Progress) {
		once.Do(func() { m.rewrite(v, "large") })
	}})
	return err
}

// rewrite writes a file's content over it again, and gives it its time.
func (m *machine) rewrite(v *volume.Volume, name string) {
	m.t.Helper()
	attr, err := v.Stat(name)
	must(m.t, err)
	data := readAll(m.t, v, name)
	h, err := v.OpenFile(name, os.O_RDWR, 0, volume.Owner{})
	must(m.t, err)
	_, err = h.WriteAt(data, 0)
	must(m.t, errors.Join(err, h.Chtimes(nil, &attr.Mtime), h.Sync(true), h.Close()))
}

// sound wants a snapshot to be what the volume was.
func (m *machine) sound(name string) {
	m.t.Helper()
	st, err := m.collection().sub(name)
	must(m.t, err)
	r, err := Verify(context.Background(), st, nil)
	must(m.t, err)
	if got := m.plain(path.Join(snapsDir, name)); len(r.Damages) > 0 || got != m.want {
		m.t.Fatalf("%q, and it holds\n%s\nand not\n%s", r.Damages, got, m.want)
	}
}

// there says whether there is a snapshot of a name.
func (m *machine) there(name string) bool {
	m.t.Helper()
	_, err := m.collection().Get(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	return err == nil
}

// tidy clears what was interrupted, and wants nothing but snapshots left.
func (m *machine) tidy() {
	m.t.Helper()
	must(m.t, m.collection().Clear())
	entries, err := m.mem.ReadDir(snapsDir)
	must(m.t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name, ".") && e.Name != markName {
			m.t.Fatalf("%s is left", e.Name)
		}
	}
}

// cutsAtOnce is how often the power is cut at each operation: each time something
// else survives.
const cutsAtOnce = 4

// cutEverywhere does something, looks at what a power cut before each of its
// operations would leave, and cuts it at the end.
func (m *machine) cutEverywhere(do func(), look func(after *machine)) {
	m.t.Helper()
	var turn sync.Mutex
	seed := uint64(0)
	m.mem.SetHook(func(op store.Op) error {
		if !op.Mutates() && !op.Kind.Syncs() {
			return nil
		}
		turn.Lock()
		defer turn.Unlock()
		for range cutsAtOnce {
			seed++
			look(&machine{m.t, m.mem.AfterCrash(seed), m.key, m.id, m.want})
		}
		return nil
	})
	do()
	m.mem.SetHook(nil)
	m.mem = m.mem.Crash(seed) // what is done is durable
	m.t.Logf("the power was cut %d times", seed)
	if seed < 10*cutsAtOnce {
		m.t.Error("that is next to never")
	}
}

// TestPowerCutCreate: a snapshot is there whole, or not at all; and it can be
// made then.
func TestPowerCutCreate(t *testing.T) {
	m := newMachine(t)
	n := 0
	m.cutEverywhere(func() { must(t, m.create("one")) }, func(after *machine) {
		there := after.there("one")
		after.tidy()
		if there != after.there("one") {
			t.Fatal("tidying up changes what is there")
		}
		if n++; !there && n%20 == 0 {
			must(t, after.create("one"))
		}
		if after.there("one") {
			after.sound("one")
		}
	})
	m.sound("one")
}

// TestPowerCutDelete: a snapshot is there whole, or not at all.
func TestPowerCutDelete(t *testing.T) {
	m := newMachine(t)
	must(t, m.create("one"))
	must(t, m.create("two"))
	m.cutEverywhere(func() { must(t, m.collection().Delete("one")) }, func(after *machine) {
		if after.there("one") {
			after.sound("one")
		}
		after.tidy()
		if !after.there("two") {
			t.Fatal("the other one is gone")
		}
	})
	m.tidy()
	if m.there("one") {
		t.Error("it is still there")
	}
}

// TestPowerCutImport: what a stream brings is there whole, or not at all; and
// the same for the difference from one that is there.
func TestPowerCutImport(t *testing.T) {
	m := newMachine(t)
	must(t, m.create("one"))
	m.open(volumeDir, false, func(_ *store.Tracker, v *volume.Volume, _ *keymgr.MasterKeys) {
		writeTo(t, v, "large", []byte("changed"), 300_000)
		writeTo(t, v, "new", []byte("new"), 0)
	})
	m.want = m.plain(volumeDir)
	must(t, m.create("two"))
	one, err := m.collection().Get("one")
	must(t, err)
	two, err := m.collection().Get("two")
	must(t, err)
	for _, base := range []*Snapshot{nil, one} {
		var stream bytes.Buffer
		_, err = Export(t.Context(), &stream, two, base, nil)
		must(t, err)
		must(t, m.collection().Delete("two"))
		m.cutEverywhere(func() {
			_, err := Import(t.Context(), bytes.NewReader(stream.Bytes()), m.collection(), uuid.Nil, nil)
			must(t, err)
		}, func(after *machine) {
			after.tidy()
			if !after.there("two") {
				return
			}
			after.sound("two")
		})
		m.sound("two")
	}
}

// TestPowerCutRestore: the same restore goes on, and what comes of it is the
// volume; before that there is none.
func TestPowerCutRestore(t *testing.T) {
	m := newMachine(t)
	must(t, m.create("one"))
	again := func(m *machine) {
		t.Helper()
		s, err := m.collection().Get("one")
		must(t, err)
		must(t, restore(context.Background(), s, m.at(restoredDir), restoredDir, nil))
		if got := m.plain(restoredDir); got != m.want {
			t.Fatalf("restored is\n%s\nand not\n%s", got, m.want)
		}
		entries, err := m.mem.ReadDir(path.Join(restoredDir, volume.MetaDir))
		must(t, err)
		if slices.ContainsFunc(entries, func(e store.DirEntry) bool { return e.Name == restoringName }) {
			t.Fatal("it still says that it is being restored")
		}
	}
	m.cutEverywhere(func() { again(m) }, func(after *machine) {
		if _, err := after.mem.Stat(path.Join(restoredDir, volume.MetaDir, restoringName)); errors.Is(err, os.ErrNotExist) {
			if _, err := after.mem.Stat(path.Join(restoredDir, volume.MetaDir, volume.InfoFile)); err == nil {
				if got := after.plain(restoredDir); got != after.want {
					t.Fatalf("a volume that is none\n%s", got)
				}
				return
			}
		}
		again(after)
	})
	if got := m.plain(restoredDir); got != m.want {
		t.Errorf("restored is\n%s\nand not\n%s", got, m.want)
	}
}
