package akv

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// lines are a probe's answers: "+" for yes, "-" for no, "?" for not asked, in
// the order reach, token, get, type, state, list, seal, open.
func (p Probe) lines() string {
	var b strings.Builder
	for _, err := range []error{p.Reach, p.Token, p.Get, p.Type, p.State, p.List, p.Seal, p.Open} {
		switch {
		case err == nil:
			b.WriteByte('+')
		case errors.Is(err, ErrNotAsked):
			b.WriteByte('?')
		default:
			b.WriteByte('-')
		}
	}
	return b.String()
}

// TestProbe: each thing that is missing shows in its own place, and in no other.
func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(testing.TB, *cloud)
		spec   akvtest.KeySpec
		change func(*Config)
		want   string
	}{
		"all is well":             {want: "++++++++"},
		"encrypt":                 {change: encrypting, want: "++++++++"},
		"managed HSM":             {spec: akvtest.KeySpec{Type: akvtest.OctHSM}, want: "++++++++"},
		"no get":                  {do: func(t testing.TB, c *cloud) { c.vault.Deny("ForbiddenByPolicy", "get") }, want: "++-??+++"},
		"no list":                 {do: func(t testing.TB, c *cloud) { c.vault.Deny("ForbiddenByRbac", "list") }, want: "+++++-++"},
		"no wrapKey":              {do: func(t testing.TB, c *cloud) { c.vault.Deny("ForbiddenByPolicy", "wrapKey") }, want: "++++++-+"},
		"no unwrapKey":            {do: func(t testing.TB, c *cloud) { c.vault.Deny("ForbiddenByPolicy", "unwrapKey") }, want: "+++++++-"},
		"neither":                 {do: func(t testing.TB, c *cloud) { c.vault.Deny("", "wrapKey", "unwrapKey") }, want: "++++++--"},
		"no encrypt":              {change: encrypting, do: func(t testing.TB, c *cloud) { c.vault.Deny("ForbiddenByPolicy", "encrypt") }, want: "++++++-+"},
		"no decrypt":              {change: encrypting, do: func(t testing.TB, c *cloud) { c.vault.Deny("ForbiddenByPolicy", "decrypt") }, want: "+++++++-"},
		"nothing":                 {do: func(t testing.TB, c *cloud) { c.vault.Deny("ForbiddenByRbac") }, want: "++-??---"},
		"disabled":                {do: func(t testing.TB, c *cloud) { must(t, c.vault.Disable(keyName, "")) }, want: "++++-+??"},
		"expired":                 {do: func(t testing.TB, c *cloud) { must(t, c.vault.SetExpires(keyName, "", time.Now().Add(-time.Hour))) }, want: "++++-+??"},
		"too small":               {spec: akvtest.KeySpec{Bits: 1024}, want: "+++-++??"},
		"cannot wrap":             {spec: akvtest.KeySpec{Type: akvtest.EC}, want: "+++-++??"},
		"not permitted by itself": {spec: akvtest.KeySpec{Ops: []string{"encrypt", "decrypt"}}, want: "+++-++??"},
		"no such key":             {do: func(t testing.TB, c *cloud) { must(t, c.vault.Purge(keyName)) }, want: "++-?????"},
		"deleted":                 {do: func(t testing.TB, c *cloud) { must(t, c.vault.Delete(keyName)) }, want: "++-?????"},
		"wrong secret":            {do: func(t testing.TB, c *cloud) { c.env["AZURE_CLIENT_SECRET"] = "wrong" }, want: "+-??????"},
		"wrong tenant":            {do: func(t testing.TB, c *cloud) { c.env["AZURE_TENANT_ID"] = "00000000-0000-4000-8000-000000000000" }, want: "+-??????"},
		"no network":              {do: func(t testing.TB, c *cloud) { c.Inject(akvtest.Fault{Reset: true}) }, change: budget(time.Second), want: "-???????"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl := newCloudOf(t, akvtest.Options{}, c.spec)
			if c.do != nil {
				c.do(t, cl)
			}
			change := c.change
			if change == nil {
				change = func(*Config) {}
			}
			p := cl.open(t, change).Probe(t.Context())
			if got := p.lines(); got != c.want {
				t.Errorf("%s, want %s\n%+v", got, c.want, p)
			}
			for _, err := range []error{p.Reach, p.Token, p.Get, p.Type, p.State, p.List, p.Seal, p.Open} {
				if _, ok := errors.AsType[*keymgr.KeyError](err); err != nil && !ok && !errors.Is(err, ErrNotAsked) {
					t.Errorf("%T: %v", err, err)
				}
			}
			cl.silent(t, fmt.Sprint(p))
		})
	}
}
