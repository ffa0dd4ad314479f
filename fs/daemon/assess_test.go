package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

const testDay = 24 * time.Hour

// judged is what assess says, firing alerts only.
func judged(cfg Config, now time.Time, f facts) map[alertName]string {
	firing := make(map[alertName]string)
	for _, a := range assess(cfg, now, f) {
		if a.firing {
			firing[a.name] = a.detail
		}
	}
	return firing
}

func TestAssess(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	vault := AKIStatus{KeyID: "https://v/keys/k", Version: "v1", Provider: "akv", Created: now}
	store := AKIStatus{KeyID: "file:///k", Version: "f1", Provider: "file", Created: now}
	aged := func(k AKIStatus, age time.Duration) AKIStatus { k.Created = now.Add(-age); return k }
	expires := func(k AKIStatus, in time.Duration) map[string]keymgr.KeyInfo {
		return map[string]keymgr.KeyInfo{k.KeyID: {KeyID: k.KeyID, Version: k.Version, Expires: now.Add(in)}}
	}
	for _, c := range []struct {
		name string
		f    facts
		want alertName // "" for none
		says string
	}{
		{"nothing", facts{}, "", ""},
		{"fresh", facts{akis: []AKIStatus{vault, store}}, "", ""},
		{"just not too old", facts{akis: []AKIStatus{aged(vault, 90*testDay)}}, "", ""},
		{"too old", facts{akis: []AKIStatus{store, aged(vault, 90*testDay+1)}}, alert.KeyNotRotated, "https://v/keys/k version v1 wraps since 2026-08-25, 90 days"},
		{"a store, too", facts{akis: []AKIStatus{aged(store, 100*testDay)}}, alert.KeyNotRotated, "file:///k"},
		{"made in the future", facts{akis: []AKIStatus{aged(vault, -1000*testDay)}}, "", ""},
		{"does not expire", facts{akis: []AKIStatus{vault}, described: map[string]keymgr.KeyInfo{vault.KeyID: {}}}, "", ""},
		{"expires late", facts{akis: []AKIStatus{vault}, described: expires(vault, 30*testDay)}, "", ""},
		{"expires soon", facts{akis: []AKIStatus{vault}, described: expires(vault, 29*testDay)}, alert.KeyExpiring, "version v1 expires on 2026-12-22, in 29 days"},
		{"has expired", facts{akis: []AKIStatus{vault}, described: expires(vault, -testDay)}, alert.KeyExpiring, "has expired on 2026-11-22"},
		{"another key expires", facts{akis: []AKIStatus{vault}, described: expires(store, 0)}, "", ""},
		{"credential late", facts{akis: []AKIStatus{vault}, credential: now.Add(30 * testDay)}, "", ""},
		{"credential soon", facts{akis: []AKIStatus{vault}, credential: now.Add(testDay + 1)}, alert.CredentialExpiring, "in 1 day"},
		{"credential for nobody", facts{akis: []AKIStatus{store}, credential: now}, "", ""},
		{"integrity", facts{stats: volume.Stats{IntegrityErrors: 2}}, alert.Integrity, "2 integrity errors"},
		{"journal", facts{stats: volume.Stats{Journal: journal.Stats{Failed: true}}}, alert.StorageFailed, "journal"},
		{"write-back", facts{failed: true}, alert.StorageFailed, "brought home"},
	} {
		got := judged(NewConfig(), now, c.f)
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[c.want], c.says)) {
			t.Errorf("%s: %v, want %s: %s", c.name, got, c.want, c.says)
		}
		off := NewConfig()
		off.AKIMaxAge, off.ExpiryWarning = 0, 0
		switch c.want {
		case alert.KeyNotRotated, alert.KeyExpiring, alert.CredentialExpiring:
			if got := judged(off, now, c.f); len(got) > 0 {
				t.Errorf("%s, switched off: %v", c.name, got)
			}
		}
	}
}

// However the clock jumps: alerts depend on where it stands and on nothing
// before, and a later time never ends one of them by itself.
func TestAssessClockJumps(t *testing.T) {
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	span := rapid.Int64Range(-int64(1000*testDay), int64(1000*testDay))
	rapid.Check(t, func(t *rapid.T) {
		at := func(label string) time.Time { return base.Add(time.Duration(span.Draw(t, label))) }
		k := AKIStatus{KeyID: "https://v/keys/k", Provider: "akv", Created: at("created")}
		f := facts{
			akis: []AKIStatus{k}, credential: at("credential"),
			described: map[string]keymgr.KeyInfo{k.KeyID: {KeyID: k.KeyID, Expires: at("expires")}},
		}
		early, late := at("one"), at("other")
		if late.Before(early) {
			early, late = late, early
		}
		before, after := judged(NewConfig(), early, f), judged(NewConfig(), late, f)
		for name := range before {
			if _, still := after[name]; !still {
				t.Fatalf("%s fires at %v and not at %v", name, early, late)
			}
		}
		if again := judged(NewConfig(), early, f); fmt.Sprint(again) != fmt.Sprint(before) {
			t.Fatalf("%v, and again %v", before, again)
		}
	})
}

// asked counts descriptions.
type asked struct {
	keymgr.Provider
	n       *atomic.Int64
	expires *atomic.Int64 // Unix; 0: the vault does not answer
}

func (p asked) Describe(ctx context.Context) (keymgr.KeyInfo, error) {
	p.n.Add(1)
	info, err := p.Provider.Describe(ctx)
	if at := p.expires.Load(); at != 0 {
		info.Expires = time.Unix(at, 0)
		return info, err
	}
	return info, errors.New("no answer")
}

// A vault is asked for a key's expiry once a day, once an hour while that is
// near or not known, and at no other time, whatever the wall clock does.
func TestDescribeSchedule(t *testing.T) {
	f := newFixture(t)
	var n, expires, wall atomic.Int64
	open := f.cfg.Openers["file"]
	f.cfg.Openers = keymgr.Openers{"file": func(id string, o keymgr.ProviderOptions) (keymgr.Provider, error) {
		p, err := open(id, o)
		return asked{p, &n, &expires}, err
	}}
	wall.Store(time.Now().Unix())
	f.cfg.Now = func() time.Time { return time.Unix(wall.Load(), 0) }
	f.cfg.StateDir = filepath.Join(f.dir, "state")
	d := f.start()
	up := 1000 * time.Hour
	step := func(by time.Duration, want int64) {
		t.Helper()
		up += by
		before := n.Load()
		for range 3 {
			d.assessAt(t.Context(), up, up)
		}
		if got := n.Load() - before; got != want {
			t.Errorf("after %v more: asked %d times, want %d", by, got, want)
		}
	}
	fires := func(want bool) {
		t.Helper()
		if got := len(d.Status().Alerts) > 0; got != want {
			t.Errorf("%+v", d.Status().Alerts)
		}
	}
	step(0, 1) // no answer
	step(time.Hour-1, 0)
	fires(false)
	expires.Store(wall.Load() + int64(100*testDay/time.Second))
	step(1, 1)
	step(23*time.Hour, 0)
	wall.Add(int64(80 * testDay / time.Second)) // the clock jumps
	step(time.Minute, 0)
	fires(true)
	wall.Add(-int64(80 * testDay / time.Second)) // and back
	step(time.Minute, 0)
	fires(false)
	step(58*time.Minute, 1) // a day is over
	wall.Add(int64(80 * testDay / time.Second))
	step(24*time.Hour, 1)
	fires(true)
	step(time.Hour, 1) // it is near: asked each hour, so that an extension shows
	expires.Add(int64(365 * testDay / time.Second))
	step(time.Hour, 1)
	fires(false)
	step(23*time.Hour, 0)
}

// The certificate is read again each hour, and one that cannot be read leaves
// what is known; the operator's word goes before it.
func TestCredentialExpiry(t *testing.T) {
	at, fails, reads := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), false, 0
	d := &Daemon{cfg: NewConfig(), observed: &observed{}}
	d.log = d.cfg.Logger
	d.cfg.CertificateExpiry = func() (time.Time, error) {
		reads++
		if fails {
			return time.Time{}, errors.New("no such file")
		}
		return at, nil
	}
	if got := d.credentialExpiry(0); !got.Equal(at) {
		t.Errorf("%v", got)
	}
	fails = true
	if got := d.credentialExpiry(time.Hour); !got.Equal(at) || reads != 2 {
		t.Errorf("%v after %d reads", got, reads)
	}
	fails, at = false, at.AddDate(1, 0, 0)
	if got := d.credentialExpiry(2*time.Hour - 1); got.Equal(at) || reads != 2 {
		t.Errorf("%v after %d reads", got, reads)
	}
	if got := d.credentialExpiry(2 * time.Hour); !got.Equal(at) {
		t.Errorf("%v", got)
	}
	d.cfg.CredentialExpires = at.AddDate(1, 0, 0)
	if got := d.credentialExpiry(9 * time.Hour); !got.Equal(d.cfg.CredentialExpires) || reads != 3 {
		t.Errorf("%v after %d reads", got, reads)
	}
}
