package keymgr

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
)

// OpenOption changes how OpenKeyring works.
type OpenOption func(*openConfig)

type openConfig struct {
	now           func() time.Time
	minGeneration uint64
}

// WithClock sets the clock that dates later changes of the keyring. The
// default is time.Now. Opening itself asks no clock.
func WithClock(now func() time.Time) OpenOption {
	return func(c *openConfig) { c.now = now }
}

// MinGeneration refuses a keyring older than generation n with an
// *IntegrityError: for callers that remember, outside the volume, the newest
// generation they have seen.
func MinGeneration(n uint64) OpenOption {
	return func(c *openConfig) { c.minGeneration = n }
}

// LoadKeyring reads the keyring without any key, so without knowing whether it
// is authentic. Errors: ErrNoKeyring, *IntegrityError, *NewerFormatError, or
// the storage's own.
func LoadKeyring(st Storage) (*Keyring, error) {
	data, err := st.ReadFile(KeyringFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoKeyring
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", KeyringFile, err)
	}
	return ParseKeyring(data)
}

// OpenKeyring unwraps the volume's keys and proves that the keyring is
// authentic and this volume's. open makes the provider of a key identifier as
// the keyring has it; it may refuse one. The wraps are tried in their order,
// each with its share of ctx's time, until one opens.
//
// Errors: those of LoadKeyring; *KeyError when no key opens it (inside an
// *UnopenedError if there are several, the most telling first);
// *IntegrityError when the keyring, or what a vault gave back, is not what was
// written. Nothing is ever written.
func OpenKeyring(ctx context.Context, st Storage, volume uuid.UUID, open func(keyID string) (Provider, error), opts ...OpenOption) (*MasterKeys, error) {
	cfg := openConfig{now: time.Now}
	for _, o := range opts {
		o(&cfg)
	}
	kr, err := LoadKeyring(st)
	if err != nil {
		return nil, err
	}
	if err := admit(kr, volume, cfg); err != nil {
		return nil, err
	}
	keys := &MasterKeys{volume: volume, storage: st, now: cfg.now, keyring: kr, masters: map[MasterKeyID]*master{}}
	if err := keys.unlock(ctx, newUnlocker(volume, open)); err != nil {
		keys.Destroy()
		return nil, err
	}
	return keys, nil
}

// admit refuses what can be refused before a vault is asked.
func admit(kr *Keyring, volume uuid.UUID, cfg openConfig) error {
	reason := ""
	switch {
	case kr.Volume() != volume:
		reason = fmt.Sprintf("it belongs to volume %s", kr.Volume())
	case kr.Generation() < cfg.minGeneration:
		reason = fmt.Sprintf("it is generation %d, older than the %d that was in use", kr.Generation(), cfg.minGeneration)
	default:
		return nil
	}
	return &IntegrityError{File: KeyringFile, Volume: volume, Reason: reason}
}

// unlock fills m from its keyring: the active master key, then the MAC that
// hangs from it, and only then whatever else the keyring says.
func (m *MasterKeys) unlock(ctx context.Context, u *unlocker) error {
	active := m.keyring.doc.active()
	key, err := m.unlockMaster(ctx, u, *active)
	if err != nil {
		return err
	}
	if err := m.authenticate(key); err != nil {
		return err
	}
	m.secret, err = unwrapSecret(key, m.keyring.doc.VolumeSecret, m.volume, active.ID)
	if altered(err) {
		return &IntegrityError{File: KeyringFile, Volume: m.volume, Reason: "the volume secret does not open", Err: err}
	}
	if err != nil {
		return err
	}
	for _, mk := range m.keyring.doc.MasterKeys {
		if mk.Active {
			continue
		}
		if _, err := m.unlockMaster(ctx, u, mk); err != nil {
			return err
		}
	}
	return nil
}

func (m *MasterKeys) unlockMaster(ctx context.Context, u *unlocker, mk MasterKey) (*crypto.Key, error) {
	key, err := u.unlock(ctx, mk)
	if err != nil {
		return nil, err
	}
	by, err := newMaster(key)
	if err != nil {
		key.Destroy()
		return nil, err
	}
	m.masters[mk.ID] = by
	return key, nil
}

// authenticate verifies the MAC over every byte of the file, and that they
// are this volume's.
func (m *MasterKeys) authenticate(active *crypto.Key) error {
	mac, err := m.keyring.doc.computeMAC(active)
	if err != nil {
		return err
	}
	if !hmac.Equal(mac, m.keyring.doc.MAC) {
		return &IntegrityError{File: KeyringFile, Volume: m.volume, Reason: "its authentication code is wrong; it was edited, or is not this volume's"}
	}
	return nil
}

// Prove verifies the MAC of another generation of this volume's keyring, if the
// master key that was active in it is one of these: known is false if not, and
// nothing is proven then. The error is an *IntegrityError.
func (m *MasterKeys) Prove(other *Keyring) (known bool, err error) {
	if other.Volume() != m.volume {
		return true, &IntegrityError{File: KeyringFile, Volume: m.volume, Reason: fmt.Sprintf("it belongs to volume %s", other.Volume())}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	by := m.masters[other.doc.active().ID]
	if by == nil {
		return false, nil
	}
	mac, err := other.doc.computeMAC(by.key)
	if err != nil {
		return true, err
	}
	if !hmac.Equal(mac, other.doc.MAC) {
		return true, &IntegrityError{File: KeyringFile, Volume: m.volume, Reason: "its authentication code is wrong; it was edited, or is not this volume's"}
	}
	return true, nil
}
