package keymgr

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
)

// CreateKeyring makes a volume's first keys, wraps the master key under every
// provider, proves each wrap, and writes the keyring. It never replaces one
// (ErrKeyringExists). On an error nothing was written, unless the error is
// ReplaceFile's. Wraps are later tried in the providers' order.
func CreateKeyring(ctx context.Context, st Storage, volume uuid.UUID, p ...Provider) (*MasterKeys, error) {
	return createKeyring(ctx, st, volume, time.Now, p)
}

func createKeyring(ctx context.Context, st Storage, volume uuid.UUID, now func() time.Time, providers []Provider) (*MasterKeys, error) {
	switch _, err := st.ReadFile(KeyringFile); {
	case err == nil:
		return nil, ErrKeyringExists
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read %s: %w", KeyringFile, err)
	}
	keys := &MasterKeys{volume: volume, storage: st, now: now, masters: map[MasterKeyID]*master{}}
	kr, err := keys.generate(ctx, providers)
	if err == nil {
		err = st.ReplaceFile(KeyringFile, kr.raw)
	}
	if err != nil {
		keys.Destroy()
		return nil, err
	}
	keys.keyring = kr
	return keys, nil
}

// generate makes the secret and the first master key of a new volume.
func (m *MasterKeys) generate(ctx context.Context, providers []Provider) (*Keyring, error) {
	now := stamp(m.now())
	d := document{Format: keyringFormat, Volume: m.volume, Generation: 1, Created: now, Modified: now}
	var err error
	if m.secret, err = crypto.NewKey(); err != nil {
		return nil, err
	}
	mk, by, err := m.newMasterKey(ctx, providers)
	if err != nil {
		return nil, err
	}
	m.masters[mk.ID] = by
	d.MasterKeys = []MasterKey{mk}
	if d.VolumeSecret, err = wrapSecret(by.key, m.secret, m.volume, mk.ID); err != nil {
		return nil, err
	}
	return d.seal(by.key)
}

// newMasterKey makes a master key that every provider wraps, marked active.
func (m *MasterKeys) newMasterKey(ctx context.Context, providers []Provider) (MasterKey, *master, error) {
	key, err := crypto.NewKey()
	if err != nil {
		return MasterKey{}, nil, err
	}
	by, err := newMaster(key)
	if err != nil {
		key.Destroy()
		return MasterKey{}, nil, err
	}
	mk, err := m.describeMaster(ctx, key, providers)
	if err != nil {
		by.destroy()
		return MasterKey{}, nil, err
	}
	return mk, by, nil
}

func (m *MasterKeys) describeMaster(ctx context.Context, key *crypto.Key, providers []Provider) (MasterKey, error) {
	mk := MasterKey{Created: stamp(m.now()), Active: true}
	if _, err := rand.Read(mk.ID[:]); err != nil {
		return mk, err
	}
	var err error
	if mk.Check, err = checkValue(key, m.volume, mk.ID); err != nil {
		return mk, err
	}
	if len(providers) == 0 {
		return mk, errors.New("a master key needs a key that wraps it; none was given")
	}
	for _, p := range providers {
		if err := m.addWrap(ctx, p, key, &mk); err != nil {
			return mk, err
		}
	}
	return mk, nil
}

// addWrap wraps a master key under one more key.
func (m *MasterKeys) addWrap(ctx context.Context, p Provider, key *crypto.Key, mk *MasterKey) error {
	w, err := wrapMaster(ctx, p, key, m.volume, *mk, m.now())
	if err != nil {
		return err
	}
	if mk.wrapOf(w.KeyID) >= 0 {
		return fmt.Errorf("%w: %s", ErrKeyPresent, w.KeyID)
	}
	mk.Wraps = append(mk.Wraps, w)
	return nil
}

// AddKey lets p open the volume too: every master key is wrapped under it and
// each wrap proven. It is tried after those already there. ErrKeyPresent if
// some version of that key wraps the volume already.
func (m *MasterKeys) AddKey(ctx context.Context, p Provider) error {
	return m.change(func(d *document) error {
		return m.eachMaster(d, func(mk *MasterKey, key *crypto.Key) error {
			return m.addWrap(ctx, p, key, mk)
		})
	})
}

// Rewrap replaces the wraps under keyID (without version) by wraps under p: a
// newer version of the same key, or another key. Nothing is dropped before
// every new wrap is proven. ErrUnknownKey if keyID wraps nothing,
// ErrKeyPresent if p is another key that wraps the volume already.
func (m *MasterKeys) Rewrap(ctx context.Context, keyID string, p Provider) error {
	return m.change(func(d *document) error {
		return m.eachMaster(d, func(mk *MasterKey, key *crypto.Key) error {
			at := mk.wrapOf(keyID)
			if at < 0 {
				return fmt.Errorf("%w: %s", ErrUnknownKey, keyID)
			}
			w, err := wrapMaster(ctx, p, key, m.volume, *mk, m.now())
			if err != nil {
				return err
			}
			if other := mk.wrapOf(w.KeyID); other >= 0 && other != at {
				return fmt.Errorf("%w: %s", ErrKeyPresent, w.KeyID)
			}
			mk.Wraps[at] = w
			return nil
		})
	})
}

// RemoveKey lets keyID (without version) open the volume no longer, and leaves
// no copy of its wraps behind. It asks no vault. ErrUnknownKey, ErrLastKey.
func (m *MasterKeys) RemoveKey(keyID string) error {
	return m.changeForGood(func(d *document) error {
		for i := range d.MasterKeys {
			mk := &d.MasterKeys[i]
			at := mk.wrapOf(keyID)
			if at < 0 {
				return fmt.Errorf("%w: %s", ErrUnknownKey, keyID)
			}
			if len(mk.Wraps) == 1 {
				return ErrLastKey
			}
			mk.Wraps = append(mk.Wraps[:at], mk.Wraps[at+1:]...)
		}
		return nil
	})
}

// RotateMasterKey makes a new master key the active one, wrapped and proven
// under providers, which must be those that wrap the old one. File keys under
// older master keys open as before, until RetireMasterKey.
func (m *MasterKeys) RotateMasterKey(ctx context.Context, providers ...Provider) (MasterKeyID, error) {
	var id MasterKeyID
	err := m.change(func(d *document) error {
		mk, by, err := m.newMasterKey(ctx, providers)
		if err != nil {
			return err
		}
		err = m.activate(d, mk, by)
		id = mk.ID
		return err
	})
	return id, err
}

// activate puts a new master key into d and into memory. There it does no harm
// should the change fail later: no file key is under it, and Destroy finds it.
func (m *MasterKeys) activate(d *document, mk MasterKey, by *master) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.secret == nil {
		by.destroy()
		return ErrDestroyed
	}
	old := d.active()
	if err := sameKeys(*old, mk); err != nil {
		by.destroy()
		return err
	}
	wrapped, err := wrapSecret(by.key, m.secret, m.volume, mk.ID)
	if err != nil {
		by.destroy()
		return err
	}
	m.masters[mk.ID] = by
	old.Active = false
	d.VolumeSecret = wrapped
	d.MasterKeys = append([]MasterKey{mk}, d.MasterKeys...)
	return nil
}

// sameKeys demands that two master keys hang from the same keys: a volume
// whose master keys need different vaults would open under neither alone.
func sameKeys(a, b MasterKey) error {
	for _, w := range a.Wraps {
		if b.wrapOf(w.KeyID) < 0 {
			return fmt.Errorf("the new master key is not wrapped by %s, as the old one is", w.KeyID)
		}
	}
	if len(a.Wraps) != len(b.Wraps) {
		return fmt.Errorf("the new master key is wrapped by %d keys, the old one by %d", len(b.Wraps), len(a.Wraps))
	}
	return nil
}

// RetireMasterKey drops a master key under which no file key is left (the
// caller has made sure) and leaves no copy of it behind. The active one is
// refused.
func (m *MasterKeys) RetireMasterKey(id MasterKeyID) error {
	return m.changeForGood(func(d *document) error {
		for i, mk := range d.MasterKeys {
			if mk.ID != id {
				continue
			}
			if mk.Active {
				return fmt.Errorf("master key %s is the active one", id)
			}
			d.MasterKeys = append(d.MasterKeys[:i], d.MasterKeys[i+1:]...)
			return nil
		}
		return fmt.Errorf("the keyring has no master key %s", id)
	})
}

// Check asks p to unwrap the active master key from its wrap under keyID
// (without version) and compares it, in constant time, with the one in memory.
// Errors: *KeyError, ErrUnknownKey, ErrDestroyed. It changes nothing.
func (m *MasterKeys) Check(ctx context.Context, keyID string, p Provider) error {
	for {
		retired, err := m.checkActive(ctx, keyID, p)
		if !retired {
			return err
		}
	}
}

// checkActive is Check of the master key that is active when it begins. If
// that one was retired while the vault answered, there is nothing to compare
// with.
func (m *MasterKeys) checkActive(ctx context.Context, keyID string, p Provider) (retired bool, err error) {
	active := m.Keyring().Active()
	at := active.wrapOf(keyID)
	if at < 0 {
		return false, fmt.Errorf("%w: %s", ErrUnknownKey, keyID)
	}
	w := active.Wraps[at]
	got, err := unwrapMaster(ctx, p, w, m.volume, active)
	if err != nil {
		return false, err
	}
	defer got.Destroy()
	m.mu.RLock()
	defer m.mu.RUnlock()
	by := m.masters[active.ID]
	switch {
	case m.secret == nil:
		return false, ErrDestroyed
	case by == nil:
		return true, nil
	case !by.key.Equal(got):
		return false, mismatch(w, "WrongKey", fmt.Errorf("master key %s is not the one in use", active.ID))
	}
	return false, nil
}

// eachMaster calls f with a copy of each master key that lives as long as the
// call, so that vaults may take their time without m.mu.
func (m *MasterKeys) eachMaster(d *document, f func(*MasterKey, *crypto.Key) error) error {
	for i := range d.MasterKeys {
		key, err := m.borrow(d.MasterKeys[i].ID)
		if err != nil {
			return err
		}
		err = f(&d.MasterKeys[i], key)
		key.Destroy()
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *MasterKeys) borrow(id MasterKeyID) (*crypto.Key, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.masters[id] == nil {
		return nil, ErrDestroyed
	}
	return m.masters[id].key.Clone()
}

// change makes the next generation by editing a copy of the present one.
func (m *MasterKeys) change(edit func(*document) error) error {
	m.edit.Lock()
	defer m.edit.Unlock()
	d := m.Keyring().doc.clone()
	if err := edit(&d); err != nil {
		return err
	}
	return m.commit(d)
}

// changeForGood is change for edits whose point is that something is gone: a
// second replacement takes it out of the previous keyring too. If only that
// one fails, the error says so; the next change makes up for it.
func (m *MasterKeys) changeForGood(edit func(*document) error) error {
	if err := m.change(edit); err != nil {
		return err
	}
	if err := m.change(func(*document) error { return nil }); err != nil {
		return fmt.Errorf("done, but the previous keyring still holds what was removed: %w", err)
	}
	return nil
}

// commit seals d as the next generation, replaces the file, and puts it into
// effect. m.edit is held.
func (m *MasterKeys) commit(d document) error {
	before := m.Keyring()
	d.Generation = max(before.Generation(), m.attempted.generation()) + 1
	d.Modified = stamp(m.now())
	key, err := m.borrow(d.active().ID)
	if err != nil {
		return err
	}
	defer key.Destroy()
	next, err := d.seal(key)
	if err != nil {
		return err
	}
	if err := m.unchanged(before); err != nil {
		return err
	}
	if err := m.storage.ReplaceFile(KeyringFile, next.raw); err != nil {
		m.attempted = next
		return fmt.Errorf("replace %s: %w", KeyringFile, err)
	}
	m.attempted = nil
	m.adopt(next)
	return nil
}

// unchanged is ErrConflict unless the file is the one in effect, or one that
// we wrote without learning that it arrived.
func (m *MasterKeys) unchanged(before *Keyring) error {
	data, err := m.storage.ReadFile(KeyringFile)
	if err != nil {
		return fmt.Errorf("read %s: %w", KeyringFile, err)
	}
	if bytes.Equal(data, before.raw) || m.attempted != nil && bytes.Equal(data, m.attempted.raw) {
		return nil
	}
	return ErrConflict
}

// adopt puts next into effect and zeroes the master keys that it lacks.
func (m *MasterKeys) adopt(next *Keyring) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keyring = next
	for id, by := range m.masters {
		if next.doc.master(id) == nil {
			by.destroy()
			delete(m.masters, id)
		}
	}
}
