package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// TestOneOfTwo: with a second key, losing one is an alert and nothing more.
func TestOneOfTwo(t *testing.T) {
	s := newScene(t)
	write(t, filepath.Join(s.cfg.Mountpoint, "data"), "hello")
	second, err := file.Create(filepath.Join(s.dir, "second.json"), file.Options{Bits: 2048})
	s.must(err)
	provider, err := file.OpenProvider(second.KeyID(), keymgr.ProviderOptions{})
	s.must(err)
	s.must(s.d.keys.current().AddKey(t.Context(), provider))
	s.must(s.d.Unmount(t.Context(), time.Minute)) // the providers are those of the mount
	s.d = s.start()
	<-s.waits
	s.must(s.store.Disable(""))
	s.tick()
	s.is(StateMounted)
	if !strings.Contains(s.fixture.log.String(), "key-lost") {
		t.Error("nobody was told")
	}
	s.must(os.Rename(second.Path(), second.Path()+".away"))
	s.tick()
	s.is(StateGrace) // the second may yet open it
	s.must(errors.Join(os.Rename(second.Path()+".away", second.Path()), second.Disable("")))
	s.tick()
	s.is(StateLocked)
	s.must(second.Enable(""))
	s.tick()
	s.is(StateMounted)
}

// refuser is a provider that refuses our credentials the given number of
// times, and counts.
type refuser struct {
	keymgr.Provider
	refusals, calls, renewals int
}

func (r *refuser) Unwrap(ctx context.Context, w keymgr.Wrapped) ([]byte, error) {
	if r.calls++; r.calls <= r.refusals {
		return nil, &keymgr.KeyError{Class: keymgr.Credentials, KeyID: w.KeyID, Op: "unwrap"}
	}
	return r.Provider.Unwrap(ctx, w)
}

type renewing struct{ *refuser }

func (r renewing) Renew() { r.renewals++ }

// TestCredentialsRefused: a refusal counts once it is confirmed with a fresh
// token, and not where there is no such thing. One call is enough otherwise.
func TestCredentialsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		refusals, calls, renewals int
		renews                    bool
		want                      State
	}{
		"none":                      {0, 1, 0, true, StateMounted},
		"once":                      {1, 2, 1, true, StateMounted},
		"twice":                     {2, 2, 2, true, StateLocked}, // a lock renews as well
		"where nothing is to renew": {2, 1, 0, false, StateGrace},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			write(t, filepath.Join(s.cfg.Mountpoint, "data"), "hello")
			aki := s.d.keys.keyring().Wraps()[0].AKI
			kept := s.d.keys.providers.open[aki]
			r := &refuser{Provider: kept.Provider, refusals: c.refusals}
			kept.Provider = r
			if c.renews {
				kept.Provider = renewing{r}
			}
			s.d.keys.providers.open[aki] = kept
			s.tick()
			s.is(c.want)
			if r.calls != c.calls || r.renewals != c.renewals {
				t.Errorf("%d calls, %d renewals", r.calls, r.renewals)
			}
		})
	}
}

// TestFiftyVolumes: the volumes of a host that are mounted at one moment ask
// their vault once in each interval, and never many of them together.
func TestFiftyVolumes(t *testing.T) {
	const volumes, rounds = 50, 40
	r := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range volumes {
		s := newSchedule(DefaultCheckInterval, 0, r.Float64)
		up, calls := time.Duration(0), 0
		if once := newSchedule(DefaultCheckInterval, 0, r.Float64).wait(0); once <= 0 {
			t.Error("a check at the moment of the mount")
		}
		for up += s.wait(up); up < rounds*DefaultCheckInterval; up += s.wait(up) {
			calls++
			all = append(all, up)
		}
		if calls < rounds-1 || calls > rounds+1 {
			t.Errorf("%d calls in %d intervals", calls, rounds)
		}
	}
	slices.Sort(all)
	for i := range all[:len(all)-volumes/2] {
		if together := all[i+volumes/2] - all[i]; together < time.Minute {
			t.Fatalf("%d checks within %v", volumes/2, together)
		}
	}
}
