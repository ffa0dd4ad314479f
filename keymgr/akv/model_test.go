package akv

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// versionModel is what the owner has made of one version.
type versionModel struct {
	disabled, expired, early bool
}

func (v versionModel) code() string {
	switch {
	case v.disabled:
		return "KeyDisabled"
	case v.expired:
		return "KeyExpired"
	case v.early:
		return "KeyNotYetValid"
	}
	return ""
}

// keyModel is a key as its owner sees it, and the wraps made under it.
type keyModel struct {
	c        *cloud
	p        *Provider
	versions map[string]versionModel
	newest   string
	deleted  bool
	denied   bool
	wraps    []keymgr.Wrapped
}

// want is the code that a use of a version fails with, or "".
func (m *keyModel) want(version string) string {
	switch {
	case m.denied:
		return "ForbiddenByRbac"
	case m.deleted:
		return "KeyDeleted"
	}
	return m.versions[version].code()
}

func (m *keyModel) check(t *rapid.T, err error, want string) bool {
	if want == "" {
		if err != nil {
			t.Fatalf("it fails: %v", err)
		}
		return true
	}
	if err == nil {
		t.Fatalf("it succeeds; want %s", want)
	}
	if ke := keyErrorOf(err); ke == nil || ke.Class != keymgr.Revoked || ke.Code != want {
		t.Fatalf("%v; want %s", err, want)
	}
	return false
}

func keyErrorOf(err error) *keymgr.KeyError {
	ke, _ := err.(*keymgr.KeyError)
	return ke
}

func (m *keyModel) wrap(t *rapid.T) {
	w, err := m.p.Wrap(t.Context(), master)
	if m.check(t, err, m.want(m.newest)) {
		if w.Version != m.newest {
			t.Fatalf("wrapped by %s, not by the newest", w.Version)
		}
		m.wraps = append(m.wraps, w)
	}
}

func (m *keyModel) unwrap(t *rapid.T) {
	if len(m.wraps) == 0 {
		return
	}
	w := rapid.SampledFrom(m.wraps).Draw(t, "wrap")
	got, err := m.p.Unwrap(t.Context(), w)
	if m.check(t, err, m.want(w.Version)) && !bytes.Equal(got, master) {
		t.Fatalf("unwrapped %q", got)
	}
}

func (m *keyModel) describe(t *rapid.T) {
	info, err := m.p.Describe(t.Context())
	want := ""
	if m.denied || m.deleted {
		want = m.want(m.newest)
	}
	if m.check(t, err, want) && (info.Version != m.newest || info.Enabled == m.versions[m.newest].disabled) {
		t.Fatalf("described as %+v", info)
	}
}

// edit changes a version, in the vault and in the model.
func (m *keyModel) edit(in func(version string) error, to func(*versionModel)) func(*rapid.T) {
	return func(t *rapid.T) {
		version := rapid.SampledFrom(slices.Sorted(maps.Keys(m.versions))).Draw(t, "version")
		if err := in(version); err != nil {
			t.Fatal(err)
		}
		v := m.versions[version]
		to(&v)
		m.versions[version] = v
	}
}

// TestModel: whatever the owner does to a key in whatever order, each use of it
// succeeds or fails as it should.
func TestModel(t *testing.T) {
	t.Parallel()
	c := newCloudOf(t, akvtest.Options{}, akvtest.KeySpec{Type: akvtest.OctHSM})
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	rapid.Check(t, func(rt *rapid.T) {
		c.vault.Allow()
		must(t, c.vault.Purge(keyName))
		first, err := c.vault.CreateKey(keyName, akvtest.KeySpec{Type: akvtest.OctHSM})
		must(t, err)
		m := &keyModel{c: c, p: c.open(t), versions: map[string]versionModel{first: {}}, newest: first}
		v := c.vault
		rt.Repeat(map[string]func(*rapid.T){
			"wrap": m.wrap, "unwrap": m.unwrap, "unwrap again": m.unwrap, "describe": m.describe,
			"rotate": func(rt *rapid.T) {
				id, err := v.Rotate(keyName)
				if m.deleted {
					if err == nil {
						rt.Fatal("a deleted key was rotated")
					}
					return
				}
				must(t, err)
				m.versions[id], m.newest = versionModel{}, id
			},
			"disable": m.edit(func(id string) error { return v.Disable(keyName, id) }, func(s *versionModel) { s.disabled = true }),
			"enable":  m.edit(func(id string) error { return v.Enable(keyName, id) }, func(s *versionModel) { s.disabled = false }),
			"expire":  m.edit(func(id string) error { return v.SetExpires(keyName, id, past) }, func(s *versionModel) { s.expired = true }),
			"prolong": m.edit(func(id string) error { return v.SetExpires(keyName, id, future) }, func(s *versionModel) { s.expired = false }),
			"delay":   m.edit(func(id string) error { return v.SetNotBefore(keyName, id, future) }, func(s *versionModel) { s.early = true }),
			"begin":   m.edit(func(id string) error { return v.SetNotBefore(keyName, id, past) }, func(s *versionModel) { s.early = false }),
			"delete": func(*rapid.T) {
				if !m.deleted {
					must(t, v.Delete(keyName))
					m.deleted = true
				}
			},
			"recover": func(*rapid.T) {
				if m.deleted {
					must(t, v.Recover(keyName))
					m.deleted = false
				}
			},
			"deny":          func(*rapid.T) { v.Deny("ForbiddenByRbac"); m.denied = true },
			"allow":         func(*rapid.T) { v.Allow(); m.denied = false },
			"revoke tokens": func(*rapid.T) { c.Directory().RevokeTokens() },
		})
	})
}
