package keymgr

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// MasterKeyID names a master key in the keyring and in file headers.
type MasterKeyID [16]byte

// String is the UUID form.
func (id MasterKeyID) String() string { return uuid.UUID(id).String() }

// MarshalText is the UUID form.
func (id MasterKeyID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// UnmarshalText takes the UUID form.
func (id *MasterKeyID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// Wrap is one master key wrapped by one version of one key of a vault.
type Wrap struct {
	Provider   string    `json:"provider"`   // Provider.Name
	AKI        string    `json:"aki"`        // Provider.KeyID: as the operator gave it, with a version if pinned
	KeyID      string    `json:"key_id"`     // without version; unique within a master key
	Version    string    `json:"version"`    // that wrapped it
	Operation  string    `json:"operation"`  // OpWrap or OpEncrypt
	Algorithm  string    `json:"algorithm"`  // AlgRSAOAEP256 or AlgA256KW
	Created    time.Time `json:"created"`    // UTC, whole seconds
	Ciphertext []byte    `json:"ciphertext"` // standard base64 in the file
}

// Wrapped is what the provider needs to unwrap it.
func (w Wrap) Wrapped() Wrapped {
	return Wrapped{KeyID: w.KeyID, Version: w.Version, Operation: w.Operation, Algorithm: w.Algorithm, Ciphertext: w.Ciphertext}
}

// Pinned reports whether the operator named the version.
func (w Wrap) Pinned() bool { return w.AKI != w.KeyID }

// MasterKey is what the keyring tells about a master key.
type MasterKey struct {
	ID      MasterKeyID `json:"id"`
	Created time.Time   `json:"created"` // UTC, whole seconds
	Active  bool        `json:"active"`
	// Check is HMAC-SHA256 of volume ‖ ID under a key derived from the master
	// key: it tells the right 32 bytes from any others.
	Check []byte `json:"check"`
	Wraps []Wrap `json:"wraps"` // in the order in which they are tried
}

// clone is a copy that shares nothing.
func (m MasterKey) clone() MasterKey {
	m.Check = slices.Clone(m.Check)
	m.Wraps = slices.Clone(m.Wraps)
	for i := range m.Wraps {
		m.Wraps[i].Ciphertext = slices.Clone(m.Wraps[i].Ciphertext)
	}
	return m
}

// wrapOf is the index of the wrap under a key, or -1.
func (m MasterKey) wrapOf(keyID string) int {
	return slices.IndexFunc(m.Wraps, func(w Wrap) bool { return w.KeyID == keyID })
}

// document is the keyring as it stands in the file; see codec.go.
type document struct {
	Format       int         `json:"format"`
	Volume       uuid.UUID   `json:"volume"`
	Generation   uint64      `json:"generation"`
	Created      time.Time   `json:"created"`
	Modified     time.Time   `json:"modified"`
	VolumeSecret []byte      `json:"volume_secret"`
	MasterKeys   []MasterKey `json:"master_keys"`
	MAC          []byte      `json:"mac"`
}

// clone is a copy that shares nothing.
func (d document) clone() document {
	d.VolumeSecret = slices.Clone(d.VolumeSecret)
	d.MAC = slices.Clone(d.MAC)
	d.MasterKeys = slices.Clone(d.MasterKeys)
	for i := range d.MasterKeys {
		d.MasterKeys[i] = d.MasterKeys[i].clone()
	}
	return d
}

// active is the active master key; a valid document has exactly one.
func (d *document) active() *MasterKey {
	i := slices.IndexFunc(d.MasterKeys, func(m MasterKey) bool { return m.Active })
	return &d.MasterKeys[i]
}

// master is the master key with an ID, or nil.
func (d *document) master(id MasterKeyID) *MasterKey {
	i := slices.IndexFunc(d.MasterKeys, func(m MasterKey) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return &d.MasterKeys[i]
}

// Keyring is one generation of a volume's keyring. It never changes, so any
// number of goroutines may use it; what it returns is the caller's. That it
// was parsed says nothing about who wrote it: only OpenKeyring verifies that.
type Keyring struct {
	doc document
	raw []byte // the file's exact bytes
}

// Volume is the volume it says it belongs to.
func (k *Keyring) Volume() uuid.UUID { return k.doc.Volume }

// Generation counts the keyring's changes, from 1.
func (k *Keyring) Generation() uint64 { return k.doc.Generation }

// Created is when the volume's first keyring was made.
func (k *Keyring) Created() time.Time { return k.doc.Created }

// Modified is when this generation was made.
func (k *Keyring) Modified() time.Time { return k.doc.Modified }

// Active is the master key that wraps new file keys.
func (k *Keyring) Active() MasterKey { return k.doc.active().clone() }

// MasterKeys lists all master keys, in the order of the file.
func (k *Keyring) MasterKeys() []MasterKey { return k.doc.clone().MasterKeys }

// Wraps lists the keys that open the volume: the active master key's wraps.
func (k *Keyring) Wraps() []Wrap { return k.Active().Wraps }

// generation is 0 for no keyring.
func (k *Keyring) generation() uint64 {
	if k == nil {
		return 0
	}
	return k.doc.Generation
}

// String is one line without any key bytes.
func (k *Keyring) String() string {
	return fmt.Sprintf("keyring of volume %s, generation %d, %d master keys", k.doc.Volume, k.doc.Generation, len(k.doc.MasterKeys))
}
