package akvtest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Key types.
const (
	RSA    = "RSA"
	RSAHSM = "RSA-HSM"
	OctHSM = "oct-HSM" // in a Managed HSM
	EC     = "EC"      // that cannot wrap
)

// retention is how long a deleted key can be recovered.
const retention = 90 * 24 * time.Hour

// KeySpec says what key to make. The zero value is RSA of 2048 bits, good for
// every operation.
type KeySpec struct {
	Type string
	Bits int
	Ops  []string // "wrapKey", "unwrapKey", "encrypt", "decrypt"; empty: all
}

// Vault is a vault or a Managed HSM of a Server. Its methods are the owner's
// acts in Azure. They take a key's name and, where one is named, a version;
// "" is the newest. Safe for concurrent use.
type Vault struct {
	s      *Server
	host   string // with the port, if clients use one
	keys   map[string]*key
	denied map[string]string // request ("get", "unwrapKey"; "*") → inner code
}

type key struct {
	spec     KeySpec
	versions []*version // oldest first
	deleted  time.Time
}

type version struct {
	id        string
	rsa       *rsa.PrivateKey
	aes       []byte
	enabled   bool
	created   time.Time
	updated   time.Time
	notBefore time.Time
	expires   time.Time
}

// Errors of the owner's acts.
var (
	ErrNoKey     = errors.New("there is no such key")
	ErrNoVersion = errors.New("the key has no such version")
	ErrKeyThere  = errors.New("there is such a key already")
)

// Host is the vault's name as clients use it.
func (v *Vault) Host() string { return v.host }

// URL is the vault's.
func (v *Vault) URL() string { return "https://" + v.host }

// KeyID is the identifier of a key, with the version if one is given.
func (v *Vault) KeyID(name string, version ...string) string {
	return strings.Join(append([]string{v.URL(), "keys", name}, version...), "/")
}

// CreateKey makes a key and returns its first version.
func (v *Vault) CreateKey(name string, spec KeySpec) (string, error) {
	if spec.Type == "" {
		spec.Type = RSA
	}
	first, err := v.s.newVersion(spec)
	if err != nil {
		return "", err
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if v.keys[name] != nil {
		return "", ErrKeyThere
	}
	v.keys[name] = &key{spec: spec, versions: []*version{first}}
	return first.id, nil
}

// Rotate makes a new version and returns it.
func (v *Vault) Rotate(name string) (string, error) {
	k, err := v.find(name)
	if err != nil {
		return "", err
	}
	next, err := v.s.newVersion(k.spec)
	if err != nil {
		return "", err
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k.versions = append(k.versions, next)
	return next.id, nil
}

// Enable and Disable a version.
func (v *Vault) Enable(name, version string) error { return v.setEnabled(name, version, true) }

// Disable a version: it neither wraps nor unwraps.
func (v *Vault) Disable(name, version string) error { return v.setEnabled(name, version, false) }

func (v *Vault) setEnabled(name, id string, to bool) error {
	return v.edit(name, id, func(v *version) { v.enabled = to })
}

// SetExpires sets when a version expires; the zero time is never.
func (v *Vault) SetExpires(name, id string, at time.Time) error {
	return v.edit(name, id, func(v *version) { v.expires = at })
}

// SetNotBefore sets from when a version is valid; the zero time is always.
func (v *Vault) SetNotBefore(name, id string, at time.Time) error {
	return v.edit(name, id, func(v *version) { v.notBefore = at })
}

// SetOps changes what a key may be used for.
func (v *Vault) SetOps(name string, ops ...string) error {
	k, err := v.find(name)
	if err != nil {
		return err
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k.spec.Ops = ops
	return nil
}

// Replace gives a version other material, as if a key of the same name and
// version had come from elsewhere. Azure does not do that.
func (v *Vault) Replace(name, id string) error {
	k, err := v.find(name)
	if err != nil {
		return err
	}
	other, err := v.s.newVersion(k.spec)
	if err != nil {
		return err
	}
	return v.edit(name, id, func(v *version) { v.rsa, v.aes = other.rsa, other.aes })
}

// Delete a key. It can be recovered.
func (v *Vault) Delete(name string) error {
	k, err := v.find(name)
	if err != nil {
		return err
	}
	now := v.s.now()
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k.deleted = now
	return nil
}

// Recover a deleted key.
func (v *Vault) Recover(name string) error {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k := v.keys[name]
	if k == nil || k.deleted.IsZero() {
		return ErrNoKey
	}
	k.deleted = time.Time{}
	return nil
}

// Purge a key for good, deleted or not.
func (v *Vault) Purge(name string) error {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if v.keys[name] == nil {
		return ErrNoKey
	}
	delete(v.keys, name)
	return nil
}

// Deny takes permissions away. code is the inner code of the 403
// ("ForbiddenByPolicy", "ForbiddenByRbac"; "" for a bare Forbidden); requests
// are "get", "list", "wrapKey", "unwrapKey", "encrypt", "decrypt"; none means
// all.
func (v *Vault) Deny(code string, requests ...string) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if len(requests) == 0 {
		requests = []string{"*"}
	}
	for _, r := range requests {
		v.denied[strings.ToLower(r)] = code
	}
}

// Allow gives all permissions back.
func (v *Vault) Allow() {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	clear(v.denied)
}

// Versions of a key, oldest first.
func (v *Vault) Versions(name string) []string {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	var ids []string
	if k := v.keys[name]; k != nil {
		for _, one := range k.versions {
			ids = append(ids, one.id)
		}
	}
	return ids
}

func (v *Vault) find(name string) (*key, error) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if k := v.keys[name]; k != nil && k.deleted.IsZero() {
		return k, nil
	}
	return nil, ErrNoKey
}

// edit changes a version, deleted or not.
func (v *Vault) edit(name, id string, f func(*version)) error {
	now := v.s.now()
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k := v.keys[name]
	if k == nil {
		return ErrNoKey
	}
	one := k.version(id)
	if one == nil {
		return ErrNoVersion
	}
	f(one)
	one.updated = now
	return nil
}

// version is the one with that ID, the newest for "".
func (k *key) version(id string) *version {
	if id == "" {
		return k.versions[len(k.versions)-1]
	}
	at := slices.IndexFunc(k.versions, func(v *version) bool { return v.id == id })
	if at < 0 {
		return nil
	}
	return k.versions[at]
}

func (k *key) ops() []string {
	switch {
	case len(k.spec.Ops) > 0:
		return k.spec.Ops
	case k.spec.Type == OctHSM:
		return []string{"wrapKey", "unwrapKey"}
	}
	return []string{"encrypt", "decrypt", "wrapKey", "unwrapKey", "sign", "verify"}
}

func (s *Server) newVersion(spec KeySpec) (*version, error) {
	now := s.now()
	v := &version{enabled: true, created: now, updated: now}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	v.id = hex.EncodeToString(id[:])
	var err error
	switch spec.Type {
	case RSA, RSAHSM:
		bits := spec.Bits
		if bits == 0 {
			bits = 2048
		}
		v.rsa, err = s.drawRSA(bits)
	case OctHSM:
		v.aes = make([]byte, 32)
		_, err = rand.Read(v.aes)
	case EC:
	default:
		err = fmt.Errorf("there are no keys of type %q", spec.Type)
	}
	return v, err
}

// spareRSA are RSA keys by their size, which all Servers of a process share:
// making one takes longer than most tests. No two versions of one Server have
// the same.
var spareRSA struct {
	sync.Mutex
	keys map[int][]*rsa.PrivateKey
}

// drawRSA is a key that this Server has not drawn before.
func (s *Server) drawRSA(bits int) (*rsa.PrivateKey, error) {
	s.mu.Lock()
	n := s.drawn[bits]
	s.drawn[bits]++
	s.mu.Unlock()
	spareRSA.Lock()
	defer spareRSA.Unlock()
	if spareRSA.keys == nil {
		spareRSA.keys = make(map[int][]*rsa.PrivateKey)
	}
	for len(spareRSA.keys[bits]) <= n {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		spareRSA.keys[bits] = append(spareRSA.keys[bits], key)
	}
	return spareRSA.keys[bits][n], nil
}

// VersionState and KeyState are what State tells.
type VersionState struct {
	ID        string    `json:"id"`
	Enabled   bool      `json:"enabled"`
	Created   time.Time `json:"created"`
	NotBefore time.Time `json:"not_before,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
}

// KeyState is one key of a vault.
type KeyState struct {
	KeyID    string         `json:"key_id"`
	Type     string         `json:"type"`
	Deleted  time.Time      `json:"deleted,omitzero"`
	Versions []VersionState `json:"versions"`
}

// State is every key of the vault, by name.
func (v *Vault) State() map[string]KeyState {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	all := make(map[string]KeyState)
	for _, name := range slices.Sorted(maps.Keys(v.keys)) {
		k := v.keys[name]
		state := KeyState{KeyID: v.KeyID(name), Type: k.spec.Type, Deleted: k.deleted}
		for _, one := range k.versions {
			state.Versions = append(state.Versions, VersionState{one.id, one.enabled, one.created, one.notBefore, one.expires})
		}
		all[name] = state
	}
	return all
}
