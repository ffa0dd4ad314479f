package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// keyModel is a volume that is not mounted, and what must be true of it.
type keyModel struct {
	*fixture
	rt     *rapid.T
	stores []*file.Store
	wraps  []wrapModel
}

// wrapModel is a key that opens the volume, by a version.
type wrapModel struct {
	store   *file.Store
	version string
}

// usable is the version that a store wraps with, "" if it has none to.
func (m *keyModel) usable(s *file.Store) string {
	l, err := s.Show()
	m.must(err)
	for _, v := range l.Versions {
		if v.Current {
			return v.ID
		}
	}
	return ""
}

func (m *keyModel) enabled(w wrapModel) bool {
	l, err := w.store.Show()
	m.must(err)
	return slices.ContainsFunc(l.Versions, func(v file.VersionListing) bool { return v.ID == w.version && v.State == file.Usable })
}

// opens says whether any key opens the volume.
func (m *keyModel) opens() bool { return slices.ContainsFunc(m.wraps, m.enabled) }

func (m *keyModel) at(s *file.Store) int {
	return slices.IndexFunc(m.wraps, func(w wrapModel) bool { return w.store == s })
}

// does calls a method and wants the success that the model predicts; a failure
// changes nothing.
func (m *keyModel) does(ok bool, method string, p any) {
	before := m.listing().Generation
	err := m.call(method, p, nil)
	if (err == nil) != ok {
		m.rt.Fatalf("%s %+v: %v; the model says it succeeds: %v", method, p, err, ok)
	}
	if err != nil && m.listing().Generation != before {
		m.rt.Fatalf("%s failed and changed the keyring: %v", method, err)
	}
}

func (m *keyModel) step() {
	from, to := rapid.SampledFrom(m.stores).Draw(m.rt, "from"), rapid.SampledFrom(m.stores).Draw(m.rt, "to")
	at := m.at(from)
	switch rapid.SampledFrom([]string{"rotate", "rotate", "add", "remove", "master key", "new version", "disable", "enable"}).Draw(m.rt, "do") {
	case "rotate":
		version := m.usable(to)
		ok := m.opens() && at >= 0 && version != "" && (from == to || m.at(to) < 0)
		m.does(ok, MethodKeyRotate, KeyParams{From: from.KeyID(), To: to.KeyID()})
		if ok {
			m.wraps[at] = wrapModel{to, version}
		}
	case "add":
		version := m.usable(to)
		ok := m.opens() && m.at(to) < 0 && version != ""
		m.does(ok, MethodKeyAdd, KeyParams{To: to.KeyID()})
		if ok {
			m.wraps = append(m.wraps, wrapModel{to, version})
		}
	case "remove":
		others := slices.DeleteFunc(slices.Clone(m.wraps), func(w wrapModel) bool { return w.store == from })
		ok := at >= 0 && slices.ContainsFunc(others, m.enabled)
		m.does(ok, MethodKeyRemove, KeyParams{From: from.KeyID()})
		if ok {
			m.wraps = others
		}
	case "master key":
		m.rotateMaster()
	case "new version":
		_, err := from.Rotate()
		m.must(err)
	case "disable":
		if at >= 0 {
			m.must(from.Disable(m.wraps[at].version))
		}
	case "enable":
		m.must(from.Enable(""))
	}
}

func (m *keyModel) rotateMaster() {
	ok := m.opens()
	next := slices.Clone(m.wraps)
	for i, w := range m.wraps {
		next[i].version = m.usable(w.store)
		ok = ok && next[i].version != ""
	}
	m.does(ok, MethodMasterKeyRotate, MasterKeyParams{})
	if ok {
		m.wraps = next
	}
}

// check holds the keyring against the model, and has each key that is enabled
// open the volume alone.
func (m *keyModel) check() {
	l := m.listing()
	if len(l.MasterKeys) != 1 {
		m.rt.Fatalf("%+v", l.MasterKeys)
	}
	for i, w := range l.MasterKeys[0].Wraps {
		if i >= len(m.wraps) || w.KeyID != m.wraps[i].store.KeyID() || w.Version != m.wraps[i].version {
			m.rt.Fatalf("%+v, the model has %+v", l.MasterKeys[0].Wraps, m.wraps)
		}
		if m.enabled(m.wraps[i]) {
			m.read(w.KeyID)
		}
	}
}

// read reads the volume's file by way of one key.
func (m *keyModel) read(keyID string) {
	st, err := store.OpenDisk(m.cfg.Backing)
	m.must(err)
	defer st.Close()
	info, err := volume.ReadInfo(st)
	m.must(err)
	keys, err := keymgr.OpenKeyring(m.t.Context(), volume.Metadata(st), info.ID, func(id string) (keymgr.Provider, error) {
		if id != keyID {
			return nil, &keymgr.KeyError{Class: keymgr.Invalid, KeyID: id}
		}
		return file.OpenProvider(id, keymgr.ProviderOptions{})
	})
	m.must(err)
	defer keys.Destroy()
	v, err := volume.Open(st, keys, volume.Options{ReadOnly: true})
	m.must(err)
	h, err := v.OpenFile("data", os.O_RDONLY, 0, volume.Owner{})
	m.must(err)
	got := make([]byte, 7)
	if n, err := h.ReadAt(got, 0); n != 7 || string(got) != "content" {
		m.rt.Fatalf("%q, %v", got[:n], err)
	}
	m.must(h.Close())
	m.must(v.Close())
}

// TestKeySequences: whatever is done to keys in whatever order, what succeeds
// is what the model says, what fails changes nothing, and every key that ought
// to open the volume does.
func TestKeySequences(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	f.must(writeSynced(filepath.Join(f.cfg.Mountpoint, "data"), "content"))
	f.must(d.Unmount(t.Context(), time.Minute))
	stores := []*file.Store{f.store, f.newKey("b.json"), f.newKey("c.json")}
	first := f.listing().MasterKeys[0].Wraps[0].Version
	saved := t.TempDir()
	copyAll := func(from, to string) {
		for _, name := range []string{"b", "key.json", "b.json", "c.json"} {
			f.must(os.RemoveAll(filepath.Join(to, name)))
			f.must(exec.Command("cp", "-a", filepath.Join(from, name), to).Run())
		}
	}
	copyAll(f.dir, saved)
	rapid.Check(t, func(rt *rapid.T) {
		copyAll(saved, f.dir)
		m := &keyModel{fixture: f, rt: rt, stores: stores, wraps: []wrapModel{{f.store, first}}}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			m.step()
		}
		m.check()
	})
}
