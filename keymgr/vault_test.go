package keymgr

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/google/uuid"
)

// vault is a key of a make-believe vault: versions that can be disabled, and
// ways to fail or lie.
type vault struct {
	mu       sync.Mutex
	id       string
	versions []string // oldest first
	disabled map[string]bool
	fail     Class               // of every call, if not zero
	hang     bool                // every call waits for its context
	lie      func([]byte) []byte // what Unwrap gives back instead
	material string              // the keys derive from it
	calls    int
}

func newVault(name string) *vault {
	return &vault{id: "test://" + name + "/key", versions: []string{"v1"}, disabled: map[string]bool{}, material: name}
}

func (v *vault) KeyID() string { return v.id }
func (v *vault) Name() string  { return "test" }

func (v *vault) newest() string { return v.versions[len(v.versions)-1] }

func (v *vault) rotate() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.versions = append(v.versions, fmt.Sprintf("v%d", len(v.versions)+1))
}

// ready fails as a vault would before it looks at what is asked.
func (v *vault) ready(ctx context.Context, op, version string) error {
	v.calls++
	ke := &KeyError{KeyID: v.id, Vault: v.id, Version: version, Op: op}
	switch {
	case v.hang:
		<-ctx.Done()
		ke.Class, ke.Err = Unreachable, ctx.Err()
	case v.fail != 0:
		ke.Class, ke.Code = v.fail, "Injected"
	case v.disabled[version]:
		ke.Class, ke.Code = Revoked, "KeyDisabled"
	default:
		return nil
	}
	return fmt.Errorf("test vault: %w", ke)
}

func (v *vault) aead(version string) cipher.AEAD {
	key := sha256.Sum256([]byte(v.material + "/" + version))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (v *vault) Wrap(ctx context.Context, plaintext []byte) (Wrapped, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	version := v.newest()
	if err := v.ready(ctx, "wrap", version); err != nil {
		return Wrapped{}, err
	}
	return Wrapped{
		KeyID: v.id, Version: version, Operation: OpWrap, Algorithm: AlgRSAOAEP256,
		Ciphertext: v.aead(version).Seal(nil, nil, plaintext, nil),
	}, nil
}

func (v *vault) Unwrap(ctx context.Context, w Wrapped) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.ready(ctx, "unwrap", w.Version); err != nil {
		return nil, err
	}
	ke := &KeyError{Class: Mismatch, KeyID: v.id, Vault: v.id, Version: w.Version, Op: "unwrap"}
	known := false
	for _, have := range v.versions {
		known = known || have == w.Version
	}
	if !known {
		ke.Class, ke.Code = Revoked, "KeyVersionNotFound"
		return nil, ke
	}
	if w.KeyID != v.id || w.Algorithm != AlgRSAOAEP256 || w.Operation != OpWrap {
		ke.Code = "NotMine"
		return nil, ke
	}
	b, err := v.aead(w.Version).Open(nil, nil, w.Ciphertext, nil)
	if err != nil {
		ke.Code, ke.Err = "BadParameter", err
		return nil, ke
	}
	if v.lie != nil {
		return v.lie(b), nil
	}
	return b, nil
}

func (v *vault) Describe(ctx context.Context) (KeyInfo, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.ready(ctx, "describe", v.newest()); err != nil {
		return KeyInfo{}, err
	}
	return KeyInfo{KeyID: v.id, Version: v.newest(), Type: "oct", Size: 256, Enabled: true}, nil
}

// vaults is all the vaults of a test, as an open function.
type vaults []*vault

func (vs vaults) open(keyID string) (Provider, error) {
	for _, v := range vs {
		if v.id == keyID {
			return v, nil
		}
	}
	return nil, &KeyError{Class: Invalid, KeyID: keyID, Code: "UnknownVault", Op: "open"}
}

func (vs vaults) providers() []Provider {
	var ps []Provider
	for _, v := range vs {
		ps = append(ps, v)
	}
	return ps
}

var errInjected = errors.New("injected fault")

// memory is a Storage that can fail at any of ReplaceFile's steps, and holds
// after that what a disk would.
type memory struct {
	mu     sync.Mutex
	files  map[string][]byte
	step   int  // counts steps since failAt was set
	failAt int  // the step that fails; 0 is none
	after  bool // fail after the step was done instead of before
}

func newMemory() *memory { return &memory{files: map[string][]byte{}} }

// replaceSteps is how many steps ReplaceFile has when the file is there.
const replaceSteps = 6

func (m *memory) failNext(step int, after bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step, m.failAt, m.after = 0, step, after
}

// do counts one step and runs it, unless it is the one to fail.
func (m *memory) do(f func()) error {
	m.step++
	if m.failAt == 0 || m.step < m.failAt {
		f()
		return nil
	}
	if m.after && m.step == m.failAt {
		f()
	}
	return errInjected
}

func (m *memory) ReadFile(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return append([]byte(nil), data...), nil
}

func (m *memory) ReplaceFile(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data = append([]byte(nil), data...)
	old, had := m.files[name]
	tmp := name + ".tmp"
	steps := []func(){
		func() { m.files[tmp] = data[:len(data)/2] }, // a torn write
		func() { m.files[tmp] = data },
		func() {}, // fsync
		func() { m.files[name] = data; delete(m.files, tmp) },
		func() {}, // fsync of the directory
	}
	if had {
		steps = append([]func(){func() { m.files[name+".prev"] = old }}, steps...)
	}
	for _, f := range steps {
		if err := m.do(f); err != nil {
			return err
		}
	}
	return nil
}

// copyOf is another disk with the same content and no faults.
func (m *memory) copyOf() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemory()
	for name, data := range m.files {
		c.files[name] = append([]byte(nil), data...)
	}
	return c
}

var (
	testVolume  = uuid.MustParse("6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	otherVolume = uuid.MustParse("6ba7b811-9dad-41d1-80b4-00c04fd430c8")
	testTime    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func testClock() time.Time { return testTime }
