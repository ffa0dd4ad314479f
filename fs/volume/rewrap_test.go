package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/keymgr"
)

// homes is every backing file's content, but for the slots of its header.
func homes(t *testing.T, st store.FS, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := st.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch e.Type & unix.S_IFMT {
		case unix.S_IFDIR:
			if name != MetaDir {
				for k, v := range homes(t, st, name) {
					all[k] = v
				}
			}
		case unix.S_IFREG:
			f, err := st.OpenFile(name, os.O_RDONLY, 0)
			must(t, err)
			attr, err := f.Stat()
			must(t, err)
			data := make([]byte, attr.Size)
			if _, err := f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			must(t, f.Close())
			if len(data) >= format.PageSize {
				clear(data[512:1536])
			}
			all[name] = attr.Mtime.String() + string(data)
		}
	}
	return all
}

// TestRewrap: every kind of file that there can be is under the new master key
// afterwards, and but for one slot of each header nothing has changed.
func TestRewrap(t *testing.T) {
	for _, names := range []string{NamesEncrypted, NamesPlain} {
		t.Run(names, func(t *testing.T) {
			st := store.NewMem(store.Options{})
			k := newKeyed(t, st, names)
			long := strings.Repeat("n", 240)
			must(t, errors.Join(k.v.Mkdir("d", 0o755, Owner{}), k.v.Mkdir("d/e", 0o755, Owner{}), k.v.Mkdir(".name", 0o755, Owner{})))
			files := []string{"a", "d/b", "d/e/" + long, ".name/c", "d/x.name"}
			for i, name := range files {
				put(t, k.v, name, strings.Repeat(name, 1000*i+1))
			}
			must(t, errors.Join(k.v.Link("a", "d/hard"), k.v.Symlink("a", "link", Owner{}), k.v.Mknod("fifo", unix.S_IFIFO|0o600, 0, Owner{})))
			old := time.Unix(1e9, 0)
			must(t, k.v.Chtimes("d/b", nil, &old))
			must(t, k.close())
			before := homes(t, st, ".")
			must(t, k.open(st))
			first := k.keys.Keyring().Active().ID
			second, err := k.rotate()
			must(t, err)
			progress, err := k.rewrap()
			must(t, err)
			if want := uint64(len(files)); progress.Rewrapped != want || progress.Bytes != 512*want || progress.Files < want+1 {
				t.Errorf("%+v", progress)
			}
			if n := under(t, st, "."); n[first] != 0 || n[second] != len(files)+1 {
				t.Errorf("%v", n)
			}
			if len(k.keys.Keyring().MasterKeys()) != 1 {
				t.Error("the old master key was not retired")
			}
			again, err := k.rewrap()
			if must(t, err); again.Rewrapped != 0 || again.Bytes != 0 || again.Files != progress.Files {
				t.Errorf("again: %+v", again)
			}
			must(t, k.close())
			after := homes(t, st, ".")
			for name, was := range before {
				if after[name] != was {
					t.Errorf("%s has changed", name)
				}
			}
			must(t, k.open(st))
			for i, name := range files {
				must(t, readBack(k.v, name, []byte(strings.Repeat(name, 1000*i+1))))
			}
			must(t, k.close())
		})
	}
}

// TestRewrapOpenFiles: files that are open, dirty, without a header yet,
// unlinked, or have no name, are re-wrapped through their handles.
func TestRewrapOpenFiles(t *testing.T) {
	st := store.NewMem(store.Options{})
	k := newKeyed(t, st, NamesEncrypted)
	open := func(name string) *Handle {
		h, err := k.v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		must(t, err)
		return h
	}
	write := func(h *Handle, p string) {
		_, err := h.WriteAt([]byte(p), 0)
		must(t, err)
	}
	dirty, synced, unlinked, empty := open("dirty"), open("synced"), open("unlinked"), open("empty")
	temp, err := k.v.OpenTemp(".", 0o600, Owner{})
	must(t, err)
	for _, h := range []*Handle{dirty, synced, unlinked, temp} {
		write(h, "old")
	}
	must(t, errors.Join(synced.Sync(false), k.v.Unlink("unlinked")))
	_, err = k.rotate()
	must(t, err)
	active := k.keys.Keyring().Active().ID
	progress, err := k.rewrap()
	if must(t, err); progress.Rewrapped != 4 {
		t.Errorf("%+v", progress)
	}
	for _, h := range []*Handle{dirty, synced, unlinked, temp, empty} {
		write(h, "new")
		must(t, h.Sync(false))
	}
	must(t, temp.LinkTo("temp"))
	for _, h := range []*Handle{dirty, synced, unlinked, temp, empty} {
		must(t, h.Close())
	}
	must(t, k.close())
	must(t, k.open(st))
	for _, name := range []string{"dirty", "synced", "temp", "empty"} {
		must(t, readBack(k.v, name, []byte("new")))
	}
	if n := under(t, st, "."); n[active] != 4 || len(n) != 1 {
		t.Errorf("%v", n)
	}
	must(t, k.close())
}

// mover changes names and files at every file that a walk opens.
type mover struct {
	v    *Volume
	t    *rapid.T
	busy bool
	held []*Handle
}

func (m *mover) hook(op store.Op) error {
	if m.busy || op.Kind != store.OpOpen || op.File || strings.HasPrefix(op.Name, MetaDir) {
		return nil
	}
	m.busy = true
	defer func() { m.busy = false }()
	for range rapid.IntRange(0, 2).Draw(m.t, "changes") {
		m.change()
	}
	return nil
}

// change does one thing; many of them fail, as names are not there.
func (m *mover) change() {
	name := func(what string) string {
		dir := rapid.SampledFrom([]string{"", "d0/", "d1/", "d2/", "d0/d3/", "d2/d3/"}).Draw(m.t, what)
		return dir + rapid.SampledFrom([]string{"f0", "f1", "f2", "d3", "g"}).Draw(m.t, what)
	}
	a, b := name("a"), name("b")
	switch rapid.IntRange(0, 8).Draw(m.t, "do") {
	case 0, 1, 2:
		m.v.Rename(a, b, 0)
	case 3:
		m.v.Rename(a, b, unix.RENAME_EXCHANGE)
	case 4:
		m.v.Link(a, b)
	case 5:
		m.v.Unlink(a)
	case 6:
		if h, err := m.v.OpenFile(a, os.O_RDWR|os.O_CREATE, 0o600, Owner{}); err == nil {
			h.WriteAt([]byte("held"), 0)
			m.held = append(m.held, h)
		}
	case 7:
		if len(m.held) > 0 {
			m.held[0].Close()
			m.held = m.held[1:]
		}
	case 8:
		m.v.Mkdir(a, 0o700, Owner{})
	}
}

// TestRewrapWhileNamesChange: whatever is renamed, linked, unlinked, made and
// opened while the walk goes, it leaves no file under the old master key.
func TestRewrapWhileNamesChange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := store.NewMem(store.Options{})
		k := newKeyed(t, st, NamesPlain)
		for _, dir := range []string{"d0", "d1", "d2", "d0/d3", "d2/d3"} {
			must(t, k.v.Mkdir(dir, 0o700, Owner{}))
			put(t, k.v, dir+"/f0", dir)
			put(t, k.v, dir+"/f1", dir)
		}
		must(t, errors.Join(k.close(), k.open(st))) // so that no file is open
		if _, err := k.rotate(); err != nil {
			rt.Fatal(err)
		}
		m := &mover{v: k.v, t: rt}
		st.SetHook(m.hook)
		_, err := k.v.Rewrap(context.Background(), RewrapOptions{Master: k.keys.Keyring().Active().ID})
		st.SetHook(nil)
		if err != nil {
			rt.Fatal(err)
		}
		active := k.keys.Keyring().Active().ID
		for _, e := range k.v.table.all() {
			h, err := blockfile.ReadHeader(e.file.Backing(), e.file.Path())
			if must(t, err); h == nil {
				continue
			}
			if slot, _ := h.Current(); slot.MasterKey != active {
				rt.Fatalf("open file %q is under %v", e.file.Path(), slot.MasterKey)
			}
		}
		for _, h := range m.held {
			h.Close()
		}
		must(t, k.v.Sync())
		if n := under(t, st, "."); n[active] == 0 || len(n) != 1 {
			rt.Fatalf("%v", n)
		}
		must(t, k.close())
	})
}

// TestRewrapFails: files whose key cannot be re-wrapped keep the old master
// key in the keyring, are named, and do not keep the others from it.
func TestRewrapFails(t *testing.T) {
	st := store.NewMem(store.Options{})
	k := newKeyed(t, st, NamesPlain)
	put(t, k.v, "good", "good")
	put(t, k.v, "torn", "torn")
	must(t, k.close())
	f, err := st.OpenFile("torn", os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 0)
	must(t, errors.Join(err, f.Close()))
	must(t, k.open(st))
	_, err = k.rotate()
	must(t, err)
	_, err = k.rewrap()
	var failed *RewrapError
	var damaged *IntegrityError
	if !errors.As(err, &failed) || !errors.As(err, &damaged) || !strings.Contains(err.Error(), "torn") {
		t.Errorf("%v", err)
	}
	if id, _ := masterOf(t, st, "good"); id != k.keys.Keyring().Active().ID || len(k.keys.Keyring().MasterKeys()) != 2 {
		t.Errorf("%s", k.keys.Keyring())
	}
	must(t, k.v.Unlink("torn"))
	_, err = k.rewrap()
	must(t, errors.Join(err, k.close()))
}

// TestRewrapEnds: a walk ends when its context or its pace does, and counts
// what it has done; one begun again does the rest. A failed sync is no success.
func TestRewrapEnds(t *testing.T) {
	st := store.NewMem(store.Options{})
	k := newKeyed(t, st, NamesPlain)
	for i := range 10 {
		put(t, k.v, fmt.Sprint("f", i), "x")
	}
	must(t, k.v.Checkpoint())
	_, err := k.rotate()
	must(t, err)
	active := k.keys.Keyring().Active().ID
	stop, n := errors.New("enough"), 0
	pace := func(context.Context) error {
		if n++; n == 4 {
			return stop
		}
		return nil
	}
	progress, err := k.v.Rewrap(t.Context(), RewrapOptions{Master: active, Pace: pace})
	if !errors.Is(err, stop) || progress.Rewrapped != 4 {
		t.Errorf("%+v, %v", progress, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.v.Rewrap(ctx, RewrapOptions{Master: active}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpDatasync {
			return syscall.EIO
		}
		return nil
	})
	if _, err = k.rewrap(); !errors.Is(err, syscall.EIO) || len(k.keys.Keyring().MasterKeys()) != 2 {
		t.Errorf("%v", err)
	}
	st.SetHook(nil)
	last, err := k.v.Rewrap(t.Context(), RewrapOptions{Master: active, Progress: func(p RewrapProgress) { n = int(p.Files) }})
	if must(t, err); n != 10 || last.Files != 10 {
		t.Errorf("%d files of %+v told", n, last)
	}
	must(t, k.close())
	read, err := Open(st, mustKeys(t, k), Options{ReadOnly: true})
	must(t, err)
	if _, err := read.Rewrap(t.Context(), RewrapOptions{}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v", err)
	}
	must(t, read.Close())
}

func mustKeys(t *testing.T, k *keyed) *keymgr.MasterKeys {
	keys, err := keymgr.OpenKeyring(t.Context(), Metadata(k.st), k.id, k.vaults.open)
	must(t, err)
	t.Cleanup(keys.Destroy)
	return keys
}
