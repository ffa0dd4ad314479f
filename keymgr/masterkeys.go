package keymgr

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
)

// MasterKeys are a volume's master keys and its secret, in locked memory. All
// methods may be called concurrently.
type MasterKeys struct {
	volume  uuid.UUID
	storage Storage
	now     func() time.Time

	edit      sync.Mutex // held by a change from its start to its end; before mu
	attempted *Keyring   // guarded by edit: a replacement that failed, and may be on the disk all the same

	mu      sync.RWMutex
	keyring *Keyring
	masters map[MasterKeyID]*master // empty once destroyed
	secret  *crypto.Key             // nil once destroyed
}

// master is one unwrapped master key.
type master struct {
	key     *crypto.Key
	fileKEK *crypto.Key // derived from key: wraps file keys
}

func newMaster(key *crypto.Key) (*master, error) {
	kek, err := key.Derive("file-key-wrap")
	if err != nil {
		return nil, err
	}
	return &master{key, kek}, nil
}

func (m *master) destroy() {
	m.key.Destroy()
	m.fileKEK.Destroy()
}

// Volume is the volume whose keys these are.
func (m *MasterKeys) Volume() uuid.UUID { return m.volume }

// Keyring is the generation in effect. It stays readable after Destroy.
func (m *MasterKeys) Keyring() *Keyring {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.keyring
}

// VolumeKey derives the volume's key for one purpose ("names", "journal",
// "xattr") from the volume secret, which no rotation changes. The caller
// destroys it.
func (m *MasterKeys) VolumeKey(purpose string) (*crypto.Key, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.secret == nil {
		return nil, ErrDestroyed
	}
	return m.secret.Derive(purpose)
}

// WrapFileKey wraps a file's key under the active master key, bound to the
// volume and the file. k stays the caller's.
func (m *MasterKeys) WrapFileKey(file [16]byte, k *crypto.Key) (mk [16]byte, wrapped []byte, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	id := m.keyring.doc.active().ID
	active := m.masters[id]
	if active == nil {
		return mk, nil, ErrDestroyed
	}
	wrapped, err = crypto.WrapKey(active.fileKEK, k, m.fileAD(file))
	return id, wrapped, err
}

// UnwrapFileKey is the inverse of WrapFileKey. A wrapped key that was changed,
// or belongs to another file, volume or master key, is an *IntegrityError. The
// caller destroys the key.
func (m *MasterKeys) UnwrapFileKey(file, mk [16]byte, wrapped []byte) (*crypto.Key, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.secret == nil {
		return nil, ErrDestroyed
	}
	by := m.masters[mk]
	if by == nil {
		return nil, &IntegrityError{Volume: m.volume, Reason: fmt.Sprintf(
			"file %x has its key under master key %s, which the keyring does not have", file, MasterKeyID(mk))}
	}
	k, err := crypto.UnwrapKey(by.fileKEK, wrapped, m.fileAD(file))
	if altered(err) {
		return nil, &IntegrityError{Volume: m.volume, Reason: fmt.Sprintf(
			"the key of file %x does not open under master key %s", file, MasterKeyID(mk)), Err: err}
	}
	return k, err
}

// altered tells a wrapped key that is not what was wrapped from what else can
// go wrong with one, such as a want of locked memory.
func altered(err error) bool {
	_, size := errors.AsType[*crypto.SizeError](err)
	return size || errors.Is(err, crypto.ErrAuth)
}

// fileAD is what a wrapped file key is bound to: volume ‖ file.
func (m *MasterKeys) fileAD(file [16]byte) []byte {
	ad := make([]byte, 0, 32)
	ad = append(ad, m.volume[:]...)
	return append(ad, file[:]...)
}

// Destroy zeroes all keys, waiting for the calls under way that use them
// (never for a vault). It is idempotent; every later use is ErrDestroyed.
func (m *MasterKeys) Destroy() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, by := range m.masters {
		by.destroy()
		delete(m.masters, id)
	}
	if m.secret != nil {
		m.secret.Destroy()
		m.secret = nil
	}
}

// secretAD is what the wrapped volume secret is bound to: volume ‖ master key.
func secretAD(volume uuid.UUID, id MasterKeyID) []byte { return append(volume[:], id[:]...) }

// wrapSecret wraps the volume secret under a master key's own key for it.
func wrapSecret(key, secret *crypto.Key, volume uuid.UUID, id MasterKeyID) ([]byte, error) {
	kek, err := key.Derive("volume-secret-wrap")
	if err != nil {
		return nil, err
	}
	defer kek.Destroy()
	return crypto.WrapKey(kek, secret, secretAD(volume, id))
}

// unwrapSecret is the inverse of wrapSecret.
func unwrapSecret(key *crypto.Key, wrapped []byte, volume uuid.UUID, id MasterKeyID) (*crypto.Key, error) {
	kek, err := key.Derive("volume-secret-wrap")
	if err != nil {
		return nil, err
	}
	defer kek.Destroy()
	return crypto.UnwrapKey(kek, wrapped, secretAD(volume, id))
}
