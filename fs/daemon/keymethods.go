package daemon

import (
	"context"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr"
)

// request is a call of a method about keys: over the control socket of a
// mounted volume, or from this process for one that is not mounted.
type request interface {
	Params(into any) error
	Event(event any) error
}

// keyHost is a volume whose keys are open.
type keyHost struct {
	admin   *keyAdmin
	rewraps *rewrapper
	// kick has whoever runs the rewraps begin; nil: nobody does.
	kick func()
}

// keyMethod answers a request of somebody.
type keyMethod func(h *keyHost, ctx context.Context, r request, by *control.Peer) (any, error)

var keyMethods = map[string]keyMethod{
	MethodKeyCheck:        (*keyHost).check,
	MethodKeyRotate:       (*keyHost).rotate,
	MethodKeyAdd:          (*keyHost).add,
	MethodKeyRemove:       (*keyHost).remove,
	MethodKeyList:         (*keyHost).list,
	MethodMasterKeyRotate: (*keyHost).rotateMaster,
}

// addKeyMethods puts those that are about keys among a daemon's methods.
func (d *Daemon) addKeyMethods(all map[string]control.Method) map[string]control.Method {
	h := &keyHost{d.admin, d.rewraps, d.kick}
	for name, m := range keyMethods {
		all[name] = func(ctx context.Context, c *control.Call) (any, error) {
			defer d.scrubIfLocked()
			return m(h, ctx, c, &c.Peer)
		}
	}
	return all
}

func (h *keyHost) check(ctx context.Context, r request, _ *control.Peer) (any, error) {
	var p KeyParams
	if err := r.Params(&p); err != nil {
		return nil, err
	}
	master, err := h.admin.master()
	if err != nil {
		master = nil // what the keys say is still to be told
	}
	return h.admin.check(ctx, h.admin.keyring(), master, p), nil
}

func (h *keyHost) rotate(ctx context.Context, r request, by *control.Peer) (any, error) {
	var p KeyParams
	if err := r.Params(&p); err != nil {
		return nil, err
	}
	return h.admin.rotate(ctx, MethodKeyRotate, by, p)
}

func (h *keyHost) add(ctx context.Context, r request, by *control.Peer) (any, error) {
	var p KeyParams
	if err := r.Params(&p); err != nil {
		return nil, err
	}
	return h.admin.add(ctx, by, p)
}

func (h *keyHost) remove(ctx context.Context, r request, by *control.Peer) (any, error) {
	var p KeyParams
	if err := r.Params(&p); err != nil {
		return nil, err
	}
	return h.admin.remove(ctx, by, p)
}

func (h *keyHost) list(_ context.Context, r request, _ *control.Peer) (any, error) {
	if err := r.Params(nil); err != nil {
		return nil, err
	}
	l := listing(h.admin.keyring())
	for _, mk := range l.MasterKeys {
		h.admin.watch.fill(mk.Wraps)
	}
	l.Rewrap, _, _ = h.rewraps.get()
	return l, nil
}

// listing is what a keyring says, with no key asked.
func listing(keyring *keymgr.Keyring) KeyListing {
	l := KeyListing{Generation: keyring.Generation()}
	for _, mk := range keyring.MasterKeys() {
		m := MasterKeyWraps{MasterKeyStatus: MasterKeyStatus{mk.ID.String(), mk.Active, mk.Created}}
		for _, w := range mk.Wraps {
			m.Wraps = append(m.Wraps, describeWrap(w))
		}
		l.MasterKeys = append(l.MasterKeys, m)
	}
	return l
}

// rotateMaster answers at once, or with Wait when the old master key is gone.
func (h *keyHost) rotateMaster(ctx context.Context, r request, by *control.Peer) (any, error) {
	var p MasterKeyParams
	if err := r.Params(&p); err != nil {
		return nil, err
	}
	before, after, err := h.admin.rotateMaster(ctx, by)
	if err != nil {
		return nil, err
	}
	h.kick()
	if p.Wait {
		if err := h.rewraps.await(ctx, before, r.Event); err != nil {
			return nil, err
		}
	}
	status, _, _ := h.rewraps.get()
	return MasterKeyChange{MasterKey: after.String(), Before: before.String(), Rewrap: status}, nil
}
