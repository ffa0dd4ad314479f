package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// watch remembers what each key said last. It is safe for concurrent use.
type watch struct {
	now func() time.Time

	mu    sync.Mutex
	found map[string]finding // by key ID, without version
}

// finding is one answer of a key, or of the way to it.
type finding struct {
	at    time.Time
	state KeyState
	err   string
}

func newWatch(now func() time.Time) *watch {
	return &watch{now: now, found: make(map[string]finding)}
}

// note remembers how a call of a key went, and returns how the key stood
// before and stands now.
func (w *watch) note(keyID string, err error) (before, after KeyState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before = KeyUnknown
	if f, ok := w.found[keyID]; ok {
		before = f.state
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, keymgr.ErrDestroyed) {
		return before, before // we did not wait for its answer, or had nothing to compare with
	}
	f := finding{at: w.now().UTC(), state: keyState(err)}
	if err != nil {
		f.err = err.Error()
	}
	w.found[keyID] = f
	return before, f.state
}

// fill adds what is known to statuses.
func (w *watch) fill(akis []AKIStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range akis {
		if f, ok := w.found[akis[i].KeyID]; ok {
			at := f.at
			akis[i].Checked, akis[i].State, akis[i].Error = &at, f.state, f.err
		}
	}
}

// watched is a provider whose every unwrap is noted.
type watched struct {
	keymgr.Provider
	watch *watch
}

// Unwrap is the provider's, and notes how it went.
func (p *watched) Unwrap(ctx context.Context, wrapped keymgr.Wrapped) ([]byte, error) {
	plain, err := p.Provider.Unwrap(ctx, wrapped)
	p.watch.note(wrapped.KeyID, err)
	return plain, err
}

// check has every key of the keyring unwrap the master key, and compares it
// with the one in memory. It logs what has changed, and reports every call.
func (d *Daemon) check(ctx context.Context, master *keymgr.MasterKeys) []reply {
	var round []reply
	for _, w := range master.Keyring().Wraps() {
		began := d.cfg.Uptime()
		err := d.keys.checkOne(ctx, master, w, d.cfg.KeyTimeout)
		before, after := d.keys.watch.note(w.KeyID, err)
		d.tell(keyEvent{Action: actionCheck, KeyID: w.KeyID, Version: w.Version, Err: err, Took: d.cfg.Uptime() - began})
		round = append(round, reply{w.KeyID, after, err})
		switch {
		case after == before:
		case after == KeyAvailable:
			d.log.Info("key is available", "key_id", w.KeyID, "version", w.Version, "before", string(before))
		default:
			d.log.Warn("key is not available", "key_id", w.KeyID, "version", w.Version, "state", string(after), "error", err)
		}
	}
	return round
}

// checkOne checks one key. That our credentials are refused is believed only
// after a second try, with nothing left of what was fetched before the first.
func (k *keys) checkOne(ctx context.Context, master *keymgr.MasterKeys, w keymgr.Wrap, timeout time.Duration) error {
	provider, err := k.providers.get(w.AKI)
	if err != nil {
		return err
	}
	try := func() error {
		one, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return master.Check(one, w.KeyID, provider)
	}
	err = try()
	if keyState(err) != KeyCredentials {
		return err
	}
	renewer, ok := provider.(keymgr.Renewer)
	if !ok {
		return fmt.Errorf("not confirmed: %v", err) // no KeyError: its state is unknown
	}
	renewer.Renew()
	return try()
}

// checkLoop checks the keys once an interval until ctx ends.
func (d *Daemon) checkLoop(ctx context.Context) {
	s := newSchedule(d.cfg.CheckInterval, d.cfg.Uptime(), rand.Float64)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.cfg.After(d.guard.sooner(s.wait(d.cfg.Uptime()))):
		}
		d.checkRound(ctx)
	}
}

// checkRound is what happens at each check.
func (d *Daemon) checkRound(ctx context.Context) {
	defer d.scrubIfLocked()
	master, err := d.masterKeys()
	if err != nil { // locked
		d.tryUnlock(ctx)
		return
	}
	round := d.check(ctx, master)
	if ctx.Err() != nil {
		return // answers that we did not wait for
	}
	d.heed(round)
	d.follow(ctx)
}
