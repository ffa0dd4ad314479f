package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// A new version is taken, or told of, at the next check; none is while the
// version in use is revoked.
func TestFollow(t *testing.T) {
	for _, mode := range []Follow{FollowTake, FollowAlert} {
		f := newFixture(t)
		f.cfg.Follow = mode
		d := f.start()
		round := func() KeyVersion {
			d.check(t.Context(), d.keys.current())
			d.follow(t.Context())
			aki := d.Status().AKIs[0]
			return KeyVersion{aki.KeyID, aki.AKI, aki.Version}
		}
		first := round()
		f.must(f.store.Disable(first.Version))
		second, err := f.store.Rotate()
		f.must(err)
		if now := round(); now != first {
			t.Errorf("%s: revoked, but then %+v", mode, now)
		}
		f.must(f.store.Enable(first.Version))
		now := round()
		if taken := now.Version == second; taken != (mode == FollowTake) {
			t.Errorf("%s: %+v after %+v", mode, now, first)
		}
		if alerted := strings.Contains(f.log.String(), "name=rotation-available"); alerted != (mode == FollowAlert) {
			t.Errorf("%s: alerted: %v", mode, alerted)
		}
		f.must(d.Unmount(t.Context(), time.Minute))
	}
}

func TestFollowPinned(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	pinned := f.store.KeyID() + "?version=" + d.Status().AKIs[0].Version
	f.change(MethodKeyRotate, KeyParams{To: pinned})
	_, err := f.store.Rotate()
	f.must(err)
	d.check(t.Context(), d.keys.current())
	d.follow(t.Context())
	if aki := d.Status().AKIs[0]; aki.AKI != pinned {
		t.Errorf("%+v", aki)
	}
}

// The master key's age by a clock that jumps.
func TestMasterKeyPeriod(t *testing.T) {
	f := newFixture(t)
	var mu sync.Mutex
	at := time.Now()
	f.cfg.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return at
	}
	d := f.start()
	f.must(writeSynced(filepath.Join(f.cfg.Mountpoint, "data"), "data"))
	id := d.keys.keyring().Active().ID
	for i, step := range []struct {
		by      time.Duration
		rotates bool
	}{
		{0, false},
		{-1000 * 24 * time.Hour, false},
		{1000 * 24 * time.Hour, false},
		{90*24*time.Hour - time.Minute, false},
		{time.Minute, true},
		{0, false},
		{3650 * 24 * time.Hour, true}, // a jump of ten periods, one rotation
		{0, false},
		{-3650 * 24 * time.Hour, false},
		{91 * 24 * time.Hour, false}, // not until it is older than made
	} {
		mu.Lock()
		at = at.Add(step.by)
		mu.Unlock()
		d.tendOnce(t.Context())
		keyring := d.keys.keyring()
		if now := keyring.Active().ID; (now != id) != step.rotates || len(keyring.MasterKeys()) != 1 {
			t.Errorf("step %d: %s after %s, %d master keys", i, now, id, len(keyring.MasterKeys()))
		}
		id = d.keys.keyring().Active().ID
	}
	if s := d.Status().Rewrap; s == nil || s.Rewrapped != 1 || s.Bytes != 512 || s.Running {
		t.Errorf("%+v", s)
	}
}

// A rotation that is due and cannot be is told of; with a period of 0 none is.
func TestMasterKeyOld(t *testing.T) {
	for _, period := range []time.Duration{time.Hour, 0} {
		f := newFixture(t)
		var ahead atomic.Int64
		f.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		f.cfg.MasterKeyPeriod = period
		d := f.start()
		f.must(f.store.Disable(""))
		ahead.Store(int64(1000 * time.Hour))
		d.tendOnce(t.Context())
		log := f.log.String()
		if told := strings.Contains(log, "name=master-key-old") && strings.Contains(log, "KeyDisabled"); told != (period > 0) {
			t.Errorf("period %v:\n%s", period, log)
		}
		f.must(d.Unmount(t.Context(), time.Minute))
	}
}

// Who waits for a master key to go hears how the walk ended that retired it,
// not how far it had come.
func TestRewrapAwaitsItsEnd(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	retired := keymgr.MasterKeyID{1}
	d.rewraps.set(func(s *RewrapStatus) { *s = RewrapStatus{Running: true, Retiring: []string{retired.String()}} })
	told := 0
	f.must(d.rewraps.await(t.Context(), retired, func(any) error {
		told++
		d.rewraps.set(func(s *RewrapStatus) { s.Running = false })
		return nil
	}))
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// A background walk keeps to its rate, goes on at the next mount, and hurries
// once somebody waits.
func TestRewrapInBackground(t *testing.T) {
	f := newFixture(t)
	f.cfg.RewrapRate = 1
	d := f.start()
	for i := range 50 {
		f.must(writeSynced(filepath.Join(f.cfg.Mountpoint, fmt.Sprint("f", i)), "content"))
	}
	var c MasterKeyChange
	f.must(f.call(MethodMasterKeyRotate, nil, &c))
	for d.Status().Rewrap == nil {
		time.Sleep(time.Millisecond)
	}
	if s := d.Status(); !s.Rewrap.Running || s.Rewrap.To != c.MasterKey || len(s.MasterKeys) != 2 {
		t.Errorf("%+v", s)
	}
	f.must(d.Unmount(t.Context(), time.Minute))
	d = f.start()
	before := d.keys.keyring().MasterKeys()
	f.must(d.rewraps.await(t.Context(), before[len(before)-1].ID, func(any) error { return nil }))
	if keyring := d.keys.keyring(); len(keyring.MasterKeys()) != 1 || keyring.Active().ID.String() != c.MasterKey {
		t.Errorf("%s", keyring)
	}
}

// While somebody waits, a walk that fails is what they hear of, and what an
// alert tells of.
func TestRewrapFailure(t *testing.T) {
	f := newFixture(t)
	f.must(writeSynced(filepath.Join(f.cfg.Backing, "damaged"), strings.Repeat("x", 5000)))
	f.start()
	var c MasterKeyChange
	err := f.call(MethodMasterKeyRotate, MasterKeyParams{Wait: true}, &c)
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(f.log.String(), "name=rewrap-failed"); {
		if time.Sleep(10 * time.Millisecond); time.Now().After(deadline) {
			t.Fatal(f.log.String())
		}
	}
	if l := f.listing(); len(l.MasterKeys) != 2 || l.Rewrap.Error == "" {
		t.Errorf("%+v", l)
	}
}

// describing counts how often a key is asked to describe itself.
type describing struct {
	keymgr.Provider
	asked *atomic.Int64
}

func (p *describing) Describe(ctx context.Context) (keymgr.KeyInfo, error) {
	p.asked.Add(1)
	return p.Provider.Describe(ctx)
}

// Beyond its check, a period costs one call of the vault, and no provider is
// opened anew for it.
func TestFollowAsksOnce(t *testing.T) {
	f := newFixture(t)
	var asked, opened atomic.Int64
	f.cfg.Openers = keymgr.Openers{file.Scheme: func(keyID string, opts keymgr.ProviderOptions) (keymgr.Provider, error) {
		opened.Add(1)
		p, err := file.OpenProvider(keyID, opts)
		return &countingProvider{&describing{p, &asked}, func() { asked.Add(1) }}, err
	}}
	d := f.start()
	d.check(t.Context(), d.keys.current())
	asked.Store(0)
	before := opened.Load()
	for range 3 {
		d.follow(t.Context())
	}
	if asked.Load() != 3 || opened.Load() != before {
		t.Errorf("%d calls in 3 periods, %d providers opened", asked.Load(), opened.Load()-before)
	}
}
