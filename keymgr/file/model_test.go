package file

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/keymgr"
)

// modelVersion is a version as an operator thinks of it.
type modelVersion struct {
	enabled            bool
	notBefore, expires time.Time // zero: no limit
}

func (v *modelVersion) code(now time.Time) string {
	switch {
	case !v.enabled:
		return "KeyDisabled"
	case !v.notBefore.IsZero() && now.Before(v.notBefore):
		return "KeyNotYetValid"
	case !v.expires.IsZero() && !now.Before(v.expires):
		return "KeyExpired"
	}
	return ""
}

// keyLife is a store, the model of it, and what was wrapped so far.
type keyLife struct {
	clock    *clock
	store    *Store
	order    []string // versions, oldest first
	versions map[string]*modelVersion
	deleted  bool
	purged   bool
	wraps    []keymgr.Wrapped
}

// gone is the code of a key that is not there, "" for one that is.
func (l *keyLife) gone() string {
	switch {
	case l.purged:
		return "KeyNotFound"
	case l.deleted:
		return "KeyDeleted"
	}
	return ""
}

func (l *keyLife) provider(t *rapid.T, version string) keymgr.Provider {
	id := l.store.KeyID()
	if version != "" {
		id = pinned(l.store.Path(), version)
	}
	p, err := OpenProvider(id, keymgr.ProviderOptions{Now: l.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// expect compares an outcome with the model's code.
func (l *keyLife) expect(t *rapid.T, what string, err error, code string) {
	got := ""
	if err != nil {
		ke, ok := errors.AsType[*keymgr.KeyError](err)
		if !ok {
			t.Fatalf("%s: %v is no KeyError", what, err)
		}
		if got = ke.Code; code != "KeyNotDeleted" && ke.Class != keymgr.Revoked {
			t.Fatalf("%s: class %v", what, ke.Class)
		}
	}
	if got != code {
		t.Fatalf("%s: %q, in the model %q (%v)", what, got, code, err)
	}
}

// newest is the model's idea of what an unversioned identifier means.
func (l *keyLife) newest() string {
	for _, id := range slices.Backward(l.order) {
		if l.versions[id].code(l.clock.t) == "" {
			return id
		}
	}
	return l.order[len(l.order)-1]
}

func (l *keyLife) rotate(t *rapid.T) {
	id, err := l.store.Rotate()
	l.expect(t, "rotate", err, l.gone())
	if err == nil {
		l.order = append(l.order, id)
		l.versions[id] = &modelVersion{enabled: true}
	}
}

// some draws one version of those there ever were, or all.
func (l *keyLife) some(t *rapid.T) string {
	return rapid.SampledFrom(append([]string{""}, l.order...)).Draw(t, "version")
}

// change applies an edit to the store and to the model.
func (l *keyLife) change(t *rapid.T, what string, edit func(id string) error, model func(*modelVersion)) {
	id := l.some(t)
	err := edit(id)
	l.expect(t, what, err, l.gone())
	for have, v := range l.versions {
		if err == nil && (id == "" || id == have) {
			model(v)
		}
	}
}

func (l *keyLife) disable(t *rapid.T) {
	l.change(t, "disable", l.store.Disable, func(v *modelVersion) { v.enabled = false })
}

func (l *keyLife) enable(t *rapid.T) {
	l.change(t, "enable", l.store.Enable, func(v *modelVersion) { v.enabled = true })
}

// instant draws a time around now, or none.
func (l *keyLife) instant(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "none") {
		return time.Time{}
	}
	return l.clock.t.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "hours")) * time.Hour)
}

func (l *keyLife) expire(t *rapid.T) {
	at := l.instant(t)
	l.change(t, "expire", func(id string) error { return l.store.Expire(id, at) }, func(v *modelVersion) { v.expires = at })
}

func (l *keyLife) notBefore(t *rapid.T) {
	at := l.instant(t)
	l.change(t, "not before", func(id string) error { return l.store.NotBefore(id, at) }, func(v *modelVersion) { v.notBefore = at })
}

func (l *keyLife) delete(t *rapid.T) {
	l.expect(t, "delete", l.store.Delete(), l.gone())
	l.deleted = true
}

// restore recovers the key, or purges it, or finds that it cannot.
func (l *keyLife) restore(purge bool) func(*rapid.T) {
	return func(t *rapid.T) {
		f, code := l.store.Recover, ""
		if purge {
			f = l.store.Purge
		}
		switch {
		case l.purged:
			code = "KeyNotFound"
		case !l.deleted:
			code = "KeyNotDeleted"
		}
		l.expect(t, "recover or purge", f(), code)
		if code == "" {
			l.deleted, l.purged = purge, purge
		}
	}
}

// timePasses moves the clock, forward mostly.
func (l *keyLife) timePasses(t *rapid.T) {
	l.clock.t = l.clock.t.Add(time.Duration(rapid.IntRange(-1, 3).Draw(t, "hours")) * time.Hour)
}

// wrap wraps under the newest usable version, or a pinned one.
func (l *keyLife) wrap(t *rapid.T) {
	id := l.some(t)
	w, err := l.provider(t, id).Wrap(t.Context(), plaintext)
	if id == "" {
		id = l.newest()
	}
	code := l.gone()
	if code == "" {
		code = l.versions[id].code(l.clock.t)
	}
	l.expect(t, "wrap", err, code)
	if err != nil {
		return
	}
	if w.Version != id {
		t.Fatalf("wrapped under %s, in the model under %s", w.Version, id)
	}
	l.wraps = append(l.wraps, w)
}

// unwrapAll is the invariant: what was wrapped unwraps just when its version
// is usable. The last few wraps stand for all, since each costs an RSA key.
func (l *keyLife) unwrapAll(t *rapid.T) {
	for _, w := range l.wraps[max(0, len(l.wraps)-3):] {
		code := l.gone()
		if code == "" {
			code = l.versions[w.Version].code(l.clock.t)
		}
		got, err := l.provider(t, "").Unwrap(t.Context(), w)
		l.expect(t, "unwrap", err, code)
		if err == nil && string(got) != string(plaintext) {
			t.Fatalf("unwrap gave %q", got)
		}
	}
	l.lists(t)
}

// lists compares the listing with the model.
func (l *keyLife) lists(t *rapid.T) {
	listing, err := l.store.Show()
	if err != nil {
		t.Fatal(err)
	}
	if listing.Deleted.IsZero() == l.deleted || listing.Purged.IsZero() == l.purged {
		t.Fatalf("%+v: deleted %v, purged %v in the model", listing, l.deleted, l.purged)
	}
	for _, v := range listing.Versions {
		m := l.versions[v.ID]
		if (v.State == Usable) != (m.code(l.clock.t) == "") || v.Enabled != m.enabled || !v.Expires.Equal(m.expires) || !v.NotBefore.Equal(m.notBefore) {
			t.Fatalf("%+v, in the model %+v", v, m)
		}
		if current := l.gone() == "" && v.State == Usable && v.ID == l.newest(); v.Current != current {
			t.Fatalf("%+v is current: %v in the model", v, current)
		}
	}
	if !l.purged && len(listing.Versions) != len(slices.Collect(maps.Keys(l.versions))) {
		t.Fatalf("%d versions, %d in the model", len(listing.Versions), len(l.versions))
	}
}

// TestKeyLife walks random lives of a key against the model.
func TestKeyLife(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{start}
		path := filepath.Join(dir, "key.json")
		s, err := Create(path, c.options())
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		first, err := s.Show()
		if err != nil {
			t.Fatal(err)
		}
		id := first.Versions[0].ID
		l := &keyLife{clock: c, store: s, order: []string{id}, versions: map[string]*modelVersion{id: {enabled: true}}}
		t.Repeat(map[string]func(*rapid.T){
			"":            l.unwrapAll,
			"rotate":      l.rotate,
			"disable":     l.disable,
			"enable":      l.enable,
			"enable too":  l.enable,
			"expire":      l.expire,
			"notBefore":   l.notBefore,
			"delete":      l.delete,
			"recover":     l.restore(false),
			"recover too": l.restore(false),
			"purge":       l.restore(true),
			"time":        l.timePasses,
			"wrap":        l.wrap,
			"wrap too":    l.wrap,
		})
	})
}
