package snapshot

import (
	"bytes"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// TestRestoreClaims: nothing is placed in a directory before it is durable that
// it is being restored to. A file system that orders names keeps that by
// itself, and so does Mem; POSIX promises no such thing.
func TestRestoreClaims(t *testing.T) {
	m := newMachine(t)
	must(t, m.create("one"))
	s, err := m.collection().Get("one")
	must(t, err)
	var mu sync.Mutex
	claimed, durable, placed := false, false, 0
	meta := path.Join(restoredDir, volume.MetaDir)
	m.mem.SetHook(func(op store.Op) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op.Kind == store.OpRename && op.To == path.Join(meta, restoringName):
			claimed = true
		case op.Kind == store.OpSyncDir && op.Name == restoredDir:
			durable = claimed
		case op.Mutates() && strings.HasPrefix(op.Name, restoredDir+"/") && !strings.HasPrefix(op.Name, meta):
			if placed++; !durable {
				t.Errorf("%v of %s before the directory is claimed", op.Kind, op.Name)
			}
		}
		return nil
	})
	must(t, restore(t.Context(), s, m.at(restoredDir), restoredDir, nil))
	m.mem.SetHook(nil)
	if placed == 0 {
		t.Error("nothing was placed")
	}
}

// witness is a volume that tells when it stands still, and what is away then.
// It is written to after room was made, or before it stands still.
type witness struct {
	*volume.Volume
	afterRoom, beforeStill func()
	still                  atomic.Bool
	stills, away           int
}

func (w *witness) MakeRoom() error {
	err := w.Volume.MakeRoom()
	w.afterRoom()
	return err
}

func (w *witness) Still(picture func(volume.Away) error) (time.Duration, error) {
	w.stills++
	w.beforeStill()
	w.still.Store(true)
	defer w.still.Store(false)
	return w.Volume.Still(func(away volume.Away) error {
		w.away = len(away)
		return picture(away)
	})
}

// atHome says that an operation is one on the volume's tree.
func atHome(op store.Op) bool {
	return strings.HasPrefix(op.Name, volumeDir+"/") && !strings.HasPrefix(op.Name, path.Join(volumeDir, volume.MetaDir))
}

// TestHeldForLittle: what is committed and not at home is not brought there
// while writers are held, nor is a file copied again for it.
func TestHeldForLittle(t *testing.T) {
	m := newMachine(t)
	m.open(volumeDir, false, func(st *store.Tracker, v *volume.Volume, keys *keymgr.MasterKeys) {
		w := &witness{Volume: v, afterRoom: func() { m.rewrite(v, "large") }, beforeStill: func() {}}
		staging := path.Join(snapsDir, ".one"+partialSuffix, stagingName)
		m.mem.SetHook(func(op store.Op) error {
			if w.still.Load() && op.Mutates() && (atHome(op) || strings.HasPrefix(op.Name, staging)) {
				t.Errorf("%v of %s while writers are held", op.Kind, op.Name)
			}
			return nil
		})
		must(t, m.createFrom(Source{Store: st, Volume: w, Keys: keys}, v, "one"))
		m.mem.SetHook(nil)
		if w.away != 1 {
			t.Errorf("%d files were away from home", w.away)
		}
	})
	m.sound("one")
}

// TestAgainForMuch: if much comes home between the last round and the hold,
// writers are let go, and there is another round.
func TestAgainForMuch(t *testing.T) {
	m := newMachine(t)
	m.open(volumeDir, false, func(st *store.Tracker, v *volume.Volume, keys *keymgr.MasterKeys) {
		writeTo(t, v, "wide", make([]byte, (littleShares+10)*store.ChangedPiece), 0)
		w := &witness{Volume: v, afterRoom: func() {}}
		w.beforeStill = func() {
			if w.stills == 1 {
				writeTo(t, v, "wide", bytes.Repeat([]byte("mongod"), 700_000), 0)
				must(t, v.Checkpoint())
			}
		}
		must(t, m.createFrom(Source{Store: st, Volume: w, Keys: keys}, v, "one"))
		if w.stills != 2 {
			t.Errorf("the volume stood still %d times", w.stills)
		}
	})
	m.want = m.plain(volumeDir)
	m.sound("one")
}

// TestRenamedMeanwhile: a file that was changed, and is renamed before that is
// copied, is copied under its other name.
func TestRenamedMeanwhile(t *testing.T) {
	m := newMachine(t)
	m.open(volumeDir, false, func(st *store.Tracker, v *volume.Volume, keys *keymgr.MasterKeys) {
		rounds, armed := 0, atomic.Bool{}
		w := &witness{Volume: v, beforeStill: func() {}}
		w.afterRoom = func() {
			if rounds++; rounds == 2 {
				writeTo(t, v, "large", bytes.Repeat([]byte("other"), 90_000), 0)
				must(t, v.Checkpoint())
				armed.Store(true)
			}
		}
		m.mem.SetHook(func(op store.Op) error {
			if atHome(op) && op.Kind == store.OpOpen && armed.CompareAndSwap(true, false) {
				must(t, v.Rename("large", "renamed", 0))
			}
			return nil
		})
		must(t, m.createFrom(Source{Store: st, Volume: w, Keys: keys}, v, "one"))
		m.mem.SetHook(nil)
		if armed.Load() || rounds < 2 {
			t.Error("nothing was renamed")
		}
	})
	m.want = m.plain(volumeDir)
	m.sound("one")
}

// TestClearBeside: whoever clears beside one who is just beginning takes
// nothing away from him. A Clear begins before each of his first operations.
func TestClearBeside(t *testing.T) {
	m := newMachine(t)
	var mu sync.Mutex // guards the rest
	cleared := 0
	done := make(chan struct{}) // of the Clear that was begun last
	close(done)
	clearing := func() <-chan struct{} {
		mu.Lock()
		defer mu.Unlock()
		select {
		case <-done:
		default:
			return done
		}
		if cleared++; cleared > 20 {
			return done
		}
		ended := make(chan struct{})
		done = ended
		go func() {
			defer close(ended)
			if err := m.collection().Clear(); err != nil {
				t.Errorf("clearing: %v", err)
			}
		}()
		return ended
	}
	partial := path.Join(snapsDir, ".one"+partialSuffix)
	var locks atomic.Int64
	m.mem.SetHook(func(op store.Op) error {
		if !strings.HasPrefix(op.Name, partial) || op.Kind == store.OpLock && locks.Add(1) > 1 { // a Clear's own
			return nil
		}
		select { // it waits while the other one holds the collection
		case <-clearing():
		case <-time.After(20 * time.Millisecond):
		}
		return nil
	})
	must(t, m.create("one"))
	<-clearing()
	m.mem.SetHook(nil)
	if cleared < 5 {
		t.Errorf("cleared %d times", cleared)
	}
	m.sound("one")
}

// TestPowerCutRewrap: a snapshot is under the old version of its key or under
// the new one, and opens; the same is done again, and it is under the new one.
func TestPowerCutRewrap(t *testing.T) {
	m := newMachine(t)
	must(t, m.create("one"))
	vault, err := file.Open(m.key, file.Options{})
	must(t, err)
	newest, err := vault.Rotate()
	must(t, err)
	version := func(m *machine) string {
		t.Helper()
		k, err := keymgr.LoadKeyring(volume.Metadata(m.at(path.Join(snapsDir, "one"))))
		must(t, err)
		return k.Wraps()[0].Version
	}
	rewrap := func(m *machine) {
		t.Helper()
		p, err := openers.Open(vault.KeyID(), keymgr.ProviderOptions{})
		must(t, err)
		keys, err := keymgr.OpenKeyring(t.Context(), volume.Metadata(m.at(path.Join(snapsDir, "one"))), m.id, func(string) (keymgr.Provider, error) { return p, nil })
		must(t, err)
		defer keys.Destroy()
		must(t, keys.Rewrap(t.Context(), vault.KeyID(), p))
	}
	oldest, states := version(m), map[string]int{}
	m.cutEverywhere(func() { rewrap(m) }, func(after *machine) {
		is := version(after)
		if states[is]++; is != oldest && is != newest {
			t.Fatalf("it is under version %s", is)
		}
		after.sound("one")
		if rewrap(after); version(after) != newest {
			t.Fatal("it cannot be wrapped anew")
		}
	})
	if m.sound("one"); version(m) != newest || len(states) != 2 {
		t.Errorf("under %s, by way of %v", version(m), states)
	}
}
