package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// check asks every key what it would be asked by a mount and by a rotation,
// and changes nothing. master is nil where the keys are not in memory.
func (a *keyAdmin) check(ctx context.Context, keyring *keymgr.Keyring, master *keymgr.MasterKeys, p KeyParams) KeyReport {
	var r KeyReport
	for _, w := range keyring.Wraps() {
		r.Keys = append(r.Keys, a.ask(ctx, w, master))
	}
	r.Plan = a.foresee(ctx, keyring, p)
	return r
}

// ask has one key unwrap, and describe itself.
func (a *keyAdmin) ask(ctx context.Context, w keymgr.Wrap, master *keymgr.MasterKeys) KeyAnswer {
	answer := KeyAnswer{KeyVersion: version(w), Pinned: w.Pinned()}
	provider, err := a.providers.get(w.AKI)
	if err == nil && master != nil {
		err = master.Check(ctx, w.KeyID, provider)
	} else if err == nil {
		var plain []byte
		plain, err = provider.Unwrap(ctx, w.Wrapped())
		clear(plain)
	}
	if answer.State = keyState(err); err != nil {
		answer.Error = err.Error()
	}
	if provider == nil {
		return answer
	}
	if info, err := provider.Describe(ctx); err == nil {
		answer.Newest, answer.Enabled = info.Version, info.Enabled
		answer.Created, answer.Expires = orNil(info.Created), orNil(info.Expires)
	}
	return answer
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// foresee tells what a rotation would do. The key that it would take proves
// itself with a random secret.
func (a *keyAdmin) foresee(ctx context.Context, keyring *keymgr.Keyring, p KeyParams) KeyPlan {
	r, err := a.plan(ctx, keyring, p)
	result := KeyPlan{Would: WouldRotate}
	if r.from.KeyID != "" {
		from := version(r.from)
		result.From, result.To = &from, &r.to
	}
	if err == nil && r.done {
		result.Would = WouldNothing
		return result
	}
	if err == nil {
		err = a.mayTake(keyring, r)
	}
	if err == nil {
		err = prove(ctx, r.provider)
	}
	if err != nil {
		result.Would, result.Error = WouldFail, err.Error()
	}
	if _, ok := errors.AsType[*AmbiguousKeyError](err); ok {
		result.Would = WouldAsk
	}
	return result
}

// mayTake refuses a key that wraps the volume beside the one to be replaced.
func (a *keyAdmin) mayTake(keyring *keymgr.Keyring, r plan) error {
	if w, ok := a.find(keyring.Wraps(), r.to.AKI); ok && w.KeyID != r.from.KeyID {
		return keymgr.ErrKeyPresent
	}
	return nil
}
