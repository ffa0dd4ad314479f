package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// newKey makes one more key store in the fixture's directory.
func (f *fixture) newKey(name string) *file.Store {
	f.t.Helper()
	s, err := file.Create(filepath.Join(f.dir, name), file.Options{Bits: 2048})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) client() *KeyClient {
	return &KeyClient{RunDir: f.cfg.RunDir, StateDir: f.cfg.StateDir, Openers: f.cfg.Openers, KeyTimeout: time.Minute}
}

// call calls a method for the fixture's volume.
func (f *fixture) call(method string, params, result any) error {
	return f.client().Call(f.t.Context(), f.cfg.Backing, method, params, result, nil)
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// change calls a method that answers a KeyChange.
func (f *fixture) change(method string, p KeyParams) KeyChange {
	f.t.Helper()
	var c KeyChange
	f.must(f.call(method, p, &c))
	return c
}

func (f *fixture) listing() KeyListing {
	f.t.Helper()
	var l KeyListing
	f.must(f.call(MethodKeyList, nil, &l))
	return l
}

// refuses wants a method to answer an error of a code, or of the type that has it.
func (f *fixture) refuses(code, method string, p KeyParams) {
	f.t.Helper()
	err := f.call(method, p, nil)
	var wire *control.Error
	got := ""
	switch {
	case err == nil:
	case errors.As(err, &wire):
		got = wire.Code
	default:
		got = Code(err)
	}
	if got != code {
		f.t.Errorf("%s %+v: %q (%v), not %q", method, p, got, err, code)
	}
}

// eachWay runs a test on a volume that is mounted, with a program that writes
// to it, and on one that is not. reads is called at the end with all that must
// still be there.
func eachWay(t *testing.T, test func(f *fixture)) {
	t.Run("mounted", func(t *testing.T) {
		f := newFixture(t)
		d := f.start()
		stop := f.load()
		test(f)
		stop()
		f.must(d.Unmount(t.Context(), time.Minute))
		f.start()
		stop()
	})
	t.Run("unmounted", func(t *testing.T) {
		f := newFixture(t)
		d := f.start()
		stop := f.load()
		stop()
		f.must(d.Unmount(t.Context(), time.Minute))
		test(f)
		f.start()
		stop()
	})
}

// load writes and syncs files until the function that it returns is called,
// which reads all of them back, as often as it is called. The first is there
// when load returns.
func (f *fixture) load() (verify func()) {
	var done sync.WaitGroup
	stop, begun := make(chan struct{}), make(chan struct{})
	count := 0
	name := func(i int) string { return filepath.Join(f.cfg.Mountpoint, fmt.Sprint("load", i%40)) }
	content := func(i int) string { return strings.Repeat(fmt.Sprint(i, " "), 100+i%2000) }
	done.Go(func() {
		started := sync.OnceFunc(func() { close(begun) })
		defer started()
		for ; !isClosed(stop) || count < 40; count++ {
			if err := writeSynced(name(count), content(count)); err != nil {
				f.t.Error(err)
				return
			}
			started()
		}
	})
	<-begun
	var once sync.Once
	return func() {
		f.t.Helper()
		once.Do(func() { close(stop) })
		done.Wait()
		for i := count - 40; i < count; i++ {
			if got, err := os.ReadFile(name(i)); err != nil || string(got) != content(i) {
				f.t.Errorf("file %d: %d bytes, %v", i, len(got), err)
			}
		}
	}
}

func writeSynced(name, content string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	return errors.Join(err, file.Sync(), file.Close())
}

func TestKeyRotate(t *testing.T) {
	eachWay(t, func(f *fixture) {
		c := f.change(MethodKeyRotate, KeyParams{})
		if c.Changed || c.Before.Version != c.After.Version {
			t.Errorf("nothing is newer, but %+v", c)
		}
		generation := c.Generation
		newest, err := f.store.Rotate()
		f.must(err)
		var r KeyReport
		f.must(f.call(MethodKeyCheck, KeyParams{}, &r))
		if r.Plan.Would != WouldRotate || r.Plan.To.Version != newest || r.Keys[0].State != KeyAvailable || r.Keys[0].Newest != newest || !r.Keys[0].Enabled {
			t.Errorf("%+v %+v", r.Plan, r.Keys)
		}
		if now := f.listing(); now.Generation != generation {
			t.Error("a check has changed the keyring")
		}
		c = f.change(MethodKeyRotate, KeyParams{})
		if !c.Changed || c.After.Version != newest || c.Generation != generation+1 {
			t.Errorf("%+v", c)
		}
		f.must(f.store.Disable(c.Before.Version)) // nobody needs it any more
		other := f.newKey("other.json")
		c = f.change(MethodKeyRotate, KeyParams{To: other.KeyID()})
		if !c.Changed || c.After.KeyID != other.KeyID() {
			t.Errorf("%+v", c)
		}
		if c = f.change(MethodKeyRotate, KeyParams{To: other.KeyID()}); c.Changed {
			t.Errorf("again: %+v", c)
		}
		f.must(f.store.Delete())
		first := c.After.Version
		_, err = other.Rotate()
		f.must(err)
		pinned := other.KeyID() + "?version=" + first
		if c = f.change(MethodKeyRotate, KeyParams{To: pinned}); !c.Changed || c.After.AKI != pinned || c.After.Version != first {
			t.Errorf("%+v", c)
		}
		if c = f.change(MethodKeyRotate, KeyParams{}); c.Changed {
			t.Errorf("a pinned version was left: %+v", c)
		}
		if c = f.change(MethodKeyRotate, KeyParams{To: other.KeyID(), Operation: keymgr.OpEncrypt}); !c.Changed || c.After.Version == first {
			t.Errorf("%+v", c)
		}
		if w := f.listing().MasterKeys[0].Wraps[0]; w.Operation != keymgr.OpEncrypt || w.AKI != other.KeyID() {
			t.Errorf("%+v", w)
		}
	})
}

// What cannot be taken leaves everything as it was.
func TestKeyRotateRefused(t *testing.T) {
	eachWay(t, func(f *fixture) {
		before := f.listing()
		disabled := f.newKey("disabled.json")
		f.must(disabled.Disable(""))
		f.refuses(CodeRevoked, MethodKeyRotate, KeyParams{To: disabled.KeyID()})
		f.refuses(CodeUnreachable, MethodKeyRotate, KeyParams{To: "file://" + f.dir + "/none.json"})
		f.refuses(CodeInvalidKey, MethodKeyRotate, KeyParams{To: "gopher://x"})
		f.refuses(CodeUnknownKey, MethodKeyRotate, KeyParams{From: disabled.KeyID()})
		f.refuses(CodeKeyPresent, MethodKeyAdd, KeyParams{To: f.store.KeyID()})
		f.refuses(CodeRevoked, MethodKeyAdd, KeyParams{To: disabled.KeyID()})
		f.refuses(CodeLastKey, MethodKeyRemove, KeyParams{From: f.store.KeyID()})
		f.refuses(CodeUnknownKey, MethodKeyRemove, KeyParams{From: disabled.KeyID()})
		var r KeyReport
		f.must(f.call(MethodKeyCheck, KeyParams{To: disabled.KeyID()}, &r))
		if r.Plan.Would != WouldFail || !strings.Contains(r.Plan.Error, "KeyDisabled") {
			t.Errorf("%+v", r.Plan)
		}
		if after := f.listing(); after.Generation != before.Generation {
			t.Errorf("generation %d became %d", before.Generation, after.Generation)
		}
	})
}

func TestKeyAddRemove(t *testing.T) {
	eachWay(t, func(f *fixture) {
		second := f.newKey("second.json")
		c := f.change(MethodKeyAdd, KeyParams{To: second.KeyID()})
		if !c.Changed || c.Before != nil || c.After.KeyID != second.KeyID() {
			t.Errorf("%+v", c)
		}
		f.refuses(CodeAmbiguousKey, MethodKeyRotate, KeyParams{})
		f.refuses(CodeKeyPresent, MethodKeyRotate, KeyParams{From: f.store.KeyID(), To: second.KeyID()})
		newest, err := second.Rotate()
		f.must(err)
		if c = f.change(MethodKeyRotate, KeyParams{To: second.KeyID()}); c.After.Version != newest {
			t.Errorf("%+v", c)
		}
		f.must(second.Disable(""))
		f.refuses(CodeRevoked, MethodKeyRemove, KeyParams{From: f.store.KeyID()})
		f.must(second.Enable(""))
		f.must(f.store.Delete()) // the first vault is lost, and goes all the same
		if c = f.change(MethodKeyRemove, KeyParams{From: f.store.KeyID()}); c.After != nil || c.Before.KeyID != f.store.KeyID() {
			t.Errorf("%+v", c)
		}
		if l := f.listing(); len(l.MasterKeys[0].Wraps) != 1 {
			t.Errorf("%+v", l)
		}
	})
}

func TestMasterKeyRotate(t *testing.T) {
	eachWay(t, func(f *fixture) {
		before := f.listing().MasterKeys[0].ID
		var events []RewrapStatus
		var c MasterKeyChange
		err := f.client().Call(t.Context(), f.cfg.Backing, MethodMasterKeyRotate, MasterKeyParams{Wait: true}, &c, func(raw json.RawMessage) {
			var s RewrapStatus
			f.must(json.Unmarshal(raw, &s))
			events = append(events, s)
		})
		f.must(err)
		if c.Before != before || c.MasterKey == before || len(events) == 0 {
			t.Errorf("%+v, %d events", c, len(events))
		}
		l := f.listing()
		if len(l.MasterKeys) != 1 || l.MasterKeys[0].ID != c.MasterKey || !l.MasterKeys[0].Active {
			t.Errorf("%+v", l.MasterKeys)
		}
		if s := c.Rewrap; s == nil || s.Running || s.Error != "" || s.Rewrapped == 0 || s.Bytes != 512*s.Rewrapped {
			t.Errorf("%+v", s)
		}
	})
}

// A read-only mount changes nothing, and says so.
func TestKeysReadOnly(t *testing.T) {
	f := newFixture(t)
	f.cfg.ReadOnly = true
	f.cfg.MasterKeyPeriod = time.Nanosecond
	d := f.start()
	_, err := f.store.Rotate()
	f.must(err)
	d.check(t.Context(), d.keys.current())
	d.follow(t.Context())
	d.tendOnce(t.Context())
	for _, method := range []string{MethodKeyRotate, MethodKeyAdd, MethodKeyRemove} {
		f.refuses(CodeReadOnly, method, KeyParams{From: f.store.KeyID()})
	}
	if err := f.call(MethodMasterKeyRotate, nil, nil); err == nil {
		t.Error("a master key was made")
	}
	if l := f.listing(); l.Generation != 1 {
		t.Errorf("%+v", l)
	}
}

func TestSameKey(t *testing.T) {
	const v = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		id, aki string
		same    bool
	}{
		{"https://v.example/keys/k", "https://V.example/keys/K", true},
		{"https://v.example/keys/k", "https://v.example/keys/k/" + v, true},
		{"https://v.example/keys/k", "https://v.example/keys/k2", false},
		{"https://v.example/keys/k", "https://v.example/keys/k/x", false},
		{"file:///a/k.json", "file:///a/k.json?version=" + v, true},
		{"file:///a/k.json", "file:///A/k.json", false},
		{"file:///a/k.json", "file:///a/k.json.old", false},
	} {
		if sameKey(c.id, c.aki) != c.same {
			t.Errorf("%s and %s: %v", c.id, c.aki, !c.same)
		}
	}
}

// A volume that somebody unknown has open is not touched.
func TestKeysInUse(t *testing.T) {
	f := newFixture(t)
	f.start()
	c := f.client()
	c.RunDir = filepath.Join(f.dir, "other-run")
	for _, method := range []string{MethodKeyRotate, MethodMasterKeyRotate} {
		err := c.Call(context.Background(), f.cfg.Backing, method, nil, nil, nil)
		if inUse, ok := errors.AsType[*InUseError](err); !ok || inUse.PID != os.Getpid() {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// While the keys are not in memory nothing is changed, and what the keyring
// and the vault say is still told.
func TestKeysDestroyed(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	_, err := f.store.Rotate()
	f.must(err)
	d.keys.master.Destroy()
	for method, p := range map[string]any{
		MethodKeyRotate: KeyParams{}, MethodKeyAdd: KeyParams{To: f.newKey("b.json").KeyID()}, MethodMasterKeyRotate: nil,
	} {
		if err := f.call(method, p, nil); err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("%s: %v", method, err)
		}
	}
	d.tendOnce(t.Context())
	if l := f.listing(); l.Generation != 1 || strings.Contains(f.log.String(), "rewrap-failed") {
		t.Errorf("%+v", l)
	}
	var r KeyReport
	f.must(f.call(MethodKeyCheck, KeyParams{}, &r))
	if r.Plan.Would != WouldRotate {
		t.Errorf("%+v", r.Plan)
	}
}
