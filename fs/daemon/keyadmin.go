package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr"
)

// keyAdmin changes the keys of one volume, mounted or not.
type keyAdmin struct {
	cfg       Config // KeyTimeout, Now, Backing, ReadOnly
	providers *providers
	watch     *watch
	master    func() (*keymgr.MasterKeys, error) // those in use; an error while there are none
	keyring   func() *keymgr.Keyring             // also while there are none
	tell      func(keyEvent)

	changing sync.Mutex // one change at a time, over the vault's answers; before all others
}

// begin starts a change of the keyring, and returns what ends it.
func (a *keyAdmin) begin() (*keymgr.MasterKeys, func(), error) {
	if a.cfg.ReadOnly {
		return nil, nil, &ReadOnlyError{a.cfg.Backing}
	}
	a.changing.Lock()
	master, err := a.master()
	if err != nil {
		a.changing.Unlock()
		return nil, nil, err
	}
	return master, a.changing.Unlock, nil
}

// plan is a rotation that was thought through.
type plan struct {
	from      keymgr.Wrap
	to        KeyVersion
	operation string
	provider  keymgr.Provider
	done      bool // every master key is wrapped so already
}

// plan finds out what a rotation is to do, and asks the vault for the version.
func (a *keyAdmin) plan(ctx context.Context, keyring *keymgr.Keyring, p KeyParams) (plan, error) {
	from, err := a.choose(keyring.Wraps(), p)
	if err != nil {
		return plan{}, err
	}
	r := plan{from: from, operation: p.Operation, to: KeyVersion{AKI: p.To}}
	if r.operation == "" {
		r.operation = from.Operation
	}
	if r.to.AKI == "" {
		r.to.AKI = from.AKI
	}
	if r.provider, err = a.providers.find(r.to.AKI, r.operation); err != nil {
		return r, err
	}
	info, err := r.provider.Describe(ctx)
	if err != nil {
		return r, err
	}
	r.to = KeyVersion{info.KeyID, r.provider.KeyID(), info.Version}
	r.done = true
	for _, mk := range keyring.MasterKeys() {
		for _, w := range mk.Wraps {
			if w.KeyID == from.KeyID {
				r.done = r.done && w.AKI == r.to.AKI && w.Version == r.to.Version && w.Operation == r.operation
			}
		}
	}
	return r, nil
}

// choose is the wrap that a rotation replaces: the one that is named, the
// only one, or the one of the key that is to be taken.
func (a *keyAdmin) choose(wraps []keymgr.Wrap, p KeyParams) (keymgr.Wrap, error) {
	name := p.From
	if name == "" && len(wraps) == 1 {
		return wraps[0], nil
	}
	if name == "" {
		name = p.To
	}
	if name != "" {
		if w, ok := a.find(wraps, name); ok {
			return w, nil
		}
	}
	if p.From != "" {
		return keymgr.Wrap{}, &unknownKeyError{p.From}
	}
	var ids []string
	for _, w := range wraps {
		ids = append(ids, w.KeyID)
	}
	return keymgr.Wrap{}, &AmbiguousKeyError{ids}
}

// find is the wrap under a key that is named with or without a version.
func (a *keyAdmin) find(wraps []keymgr.Wrap, aki string) (keymgr.Wrap, bool) {
	aki = a.normal(aki)
	i := slices.IndexFunc(wraps, func(w keymgr.Wrap) bool { return sameKey(w.KeyID, aki) })
	if i < 0 {
		return keymgr.Wrap{}, false
	}
	return wraps[i], true
}

// normal is an identifier in the form that the keyring has it in.
func (a *keyAdmin) normal(aki string) string {
	if p, err := a.providers.find(aki, keymgr.OpWrap); err == nil {
		return p.KeyID()
	}
	return aki
}

// sameKey reports whether an identifier names the key at keyID, which has no
// version, or a version of it. A vault does not mind the case of names.
func sameKey(keyID, aki string) bool {
	if strings.HasPrefix(keyID, "https://") {
		keyID, aki = strings.ToLower(keyID), strings.ToLower(aki)
	}
	rest, ok := strings.CutPrefix(aki, keyID)
	return ok && (rest == "" || versionIn(rest) != "")
}

// versionIn is the version in what follows the key in an identifier: "/" or
// "?version=" and 32 hexadecimal digits.
func versionIn(rest string) string {
	for _, mark := range []string{"?version=", "/"} {
		v, ok := strings.CutPrefix(rest, mark)
		if ok && len(v) == 32 && strings.Trim(strings.ToLower(v), "0123456789abcdef") == "" {
			return v
		}
	}
	return ""
}

type unknownKeyError struct{ aki string }

func (e *unknownKeyError) Error() string { return "the volume is not wrapped by " + e.aki }
func (e *unknownKeyError) Unwrap() error { return keymgr.ErrUnknownKey }

// rotate wraps the master keys under the newest version of a key, or under
// another key. action says who wants it.
func (a *keyAdmin) rotate(ctx context.Context, action string, by *control.Peer, p KeyParams) (KeyChange, error) {
	began := time.Now()
	change, err := a.tryRotate(ctx, p)
	e := keyEvent{Action: action, By: by, KeyID: p.To, Err: err, Took: time.Since(began)}
	if e.KeyID == "" {
		e.KeyID = p.From
	}
	if change.After != nil {
		e.KeyID, e.Version = change.After.KeyID, change.After.Version
	}
	a.tell(e)
	return change, err
}

func (a *keyAdmin) tryRotate(ctx context.Context, p KeyParams) (KeyChange, error) {
	master, end, err := a.begin()
	if err != nil {
		return KeyChange{}, err
	}
	defer end()
	r, err := a.plan(ctx, master.Keyring(), p)
	if err != nil {
		return KeyChange{}, err
	}
	before := version(r.from)
	if r.done { // by a key that opens the volume, or it is a failure all the same
		err = master.Check(ctx, r.from.KeyID, r.provider)
	} else if err = master.Rewrap(ctx, r.from.KeyID, r.provider); err == nil {
		a.taken(master, r.provider, r.operation)
	}
	if err != nil {
		return KeyChange{}, err
	}
	return summary(master, !r.done, &before, r.provider.KeyID()), nil
}

// taken is called when a key has been proven and wraps the master keys.
func (a *keyAdmin) taken(master *keymgr.MasterKeys, p keymgr.Provider, operation string) {
	a.providers.keep(p.KeyID(), operation, p)
	a.providers.retain(master.Keyring())
	for _, w := range master.Keyring().Wraps() {
		if w.AKI == p.KeyID() {
			a.watch.note(w.KeyID, nil)
		}
	}
}

// summary describes the keyring after a change. aki is the key that is meant.
func summary(master *keymgr.MasterKeys, changed bool, before *KeyVersion, aki string) KeyChange {
	keyring := master.Keyring()
	c := KeyChange{Changed: changed, Before: before, MasterKeys: len(keyring.MasterKeys()), Generation: keyring.Generation()}
	for _, w := range keyring.Wraps() {
		if w.AKI == aki {
			v := version(w)
			c.After = &v
		}
	}
	return c
}

func version(w keymgr.Wrap) KeyVersion { return KeyVersion{w.KeyID, w.AKI, w.Version} }

// add lets one more key open the volume.
func (a *keyAdmin) add(ctx context.Context, by *control.Peer, p KeyParams) (c KeyChange, err error) {
	began := time.Now()
	defer func() {
		e := keyEvent{Action: MethodKeyAdd, By: by, KeyID: p.To, Err: err, Took: time.Since(began)}
		if c.After != nil {
			e.KeyID, e.Version = c.After.KeyID, c.After.Version
		}
		a.tell(e)
	}()
	master, end, err := a.begin()
	if err != nil {
		return c, err
	}
	defer end()
	operation := p.Operation
	if operation == "" {
		operation = keymgr.OpWrap
	}
	provider, err := a.providers.find(p.To, operation)
	if err != nil {
		return c, err
	}
	if err := master.AddKey(ctx, provider); err != nil {
		return c, err
	}
	a.taken(master, provider, operation)
	return summary(master, true, nil, provider.KeyID()), nil
}

// remove lets a key open the volume no longer. One of the others must have
// been seen to open it.
func (a *keyAdmin) remove(ctx context.Context, by *control.Peer, p KeyParams) (c KeyChange, err error) {
	began := time.Now()
	id := p.From
	defer func() {
		a.tell(keyEvent{Action: MethodKeyRemove, By: by, KeyID: id, Err: err, Took: time.Since(began)})
	}()
	master, end, err := a.begin()
	if err != nil {
		return c, err
	}
	defer end()
	w, ok := a.find(master.Keyring().Wraps(), p.From)
	if !ok {
		return c, &unknownKeyError{p.From}
	}
	id = w.KeyID
	if err := a.proveOther(ctx, master, w.KeyID); err != nil {
		return c, err
	}
	if err := master.RemoveKey(w.KeyID); err != nil {
		return c, err
	}
	a.providers.retain(master.Keyring())
	before := version(w)
	return summary(master, true, &before, ""), nil
}

// proveOther has some other key than this one open the volume.
func (a *keyAdmin) proveOther(ctx context.Context, master *keymgr.MasterKeys, keyID string) error {
	var failed []error
	wraps := master.Keyring().Wraps()
	for _, w := range wraps {
		if w.KeyID == keyID {
			continue
		}
		provider, err := a.providers.get(w.AKI)
		if err == nil {
			err = master.Check(ctx, w.KeyID, provider)
		}
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return keymgr.ErrLastKey
	}
	return &StrandedError{keyID, errors.Join(failed...)}
}

// rotateMaster makes a new master key, under all keys of the one before.
func (a *keyAdmin) rotateMaster(ctx context.Context, by *control.Peer) (before, after keymgr.MasterKeyID, err error) {
	began := time.Now()
	defer func() {
		e := keyEvent{Action: MethodMasterKeyRotate, By: by, Err: err, Took: time.Since(began)}
		if err == nil {
			e.MasterKey = after.String()
		}
		a.tell(e)
	}()
	master, end, err := a.begin()
	if err != nil {
		return before, after, err
	}
	defer end()
	before = master.Keyring().Active().ID
	var providers []keymgr.Provider
	for _, w := range master.Keyring().Wraps() {
		p, err := a.providers.find(w.AKI, w.Operation)
		if err != nil {
			return before, after, err
		}
		providers = append(providers, p)
	}
	after, err = master.RotateMasterKey(ctx, providers...)
	return before, after, err
}
