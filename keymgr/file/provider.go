package file

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/keymgr"
)

// Provider uses one key store as a key-encryption key. See keymgr.Provider.
type Provider struct {
	path      string
	version   string // "" unless pinned
	operation string
	now       func() time.Time
}

var _ keymgr.Provider = (*Provider)(nil)

// OpenProvider is the keymgr.Opener of the scheme "file". It does not look at
// the file.
func OpenProvider(keyID string, opts keymgr.ProviderOptions) (keymgr.Provider, error) {
	path, version, err := ParseKeyID(keyID)
	if err != nil {
		return nil, err
	}
	p := &Provider{path: path, version: version, operation: opts.Operation, now: opts.Now}
	if p.operation == "" {
		p.operation = keymgr.OpWrap
	}
	if p.now == nil {
		p.now = time.Now
	}
	return p, nil
}

// KeyID is the identifier, with a version only if it is pinned.
func (p *Provider) KeyID() string {
	if p.version != "" {
		return pinned(p.path, p.version)
	}
	return KeyID(p.path)
}

// Name is "file".
func (p *Provider) Name() string { return Scheme }

// Wrap encrypts under the pinned or the newest usable version.
func (p *Provider) Wrap(ctx context.Context, plaintext []byte) (keymgr.Wrapped, error) {
	var w keymgr.Wrapped
	err := p.use(ctx, p.operation, p.version, func(v *version, key *rsa.PrivateKey) error {
		ct, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, plaintext, nil)
		if err != nil {
			return p.fail(p.operation, v.ID, keymgr.Invalid, "BadPlaintext", err)
		}
		w = keymgr.Wrapped{
			KeyID: KeyID(p.path), Version: v.ID, Operation: p.operation,
			Algorithm: keymgr.AlgRSAOAEP256, Ciphertext: ct,
		}
		return nil
	})
	return w, err
}

// Unwrap decrypts under the version that w names.
func (p *Provider) Unwrap(ctx context.Context, w keymgr.Wrapped) ([]byte, error) {
	op := "unwrap"
	if w.Operation == keymgr.OpEncrypt {
		op = "decrypt"
	}
	if err := p.accept(op, w); err != nil {
		return nil, err
	}
	var plaintext []byte
	err := p.use(ctx, op, w.Version, func(v *version, key *rsa.PrivateKey) error {
		var err error
		plaintext, err = rsa.DecryptOAEP(sha256.New(), nil, key, w.Ciphertext, nil)
		if err != nil {
			return p.fail(op, v.ID, keymgr.Mismatch, "BadCiphertext", errors.New("the ciphertext was not made by this version of the key, or was changed"))
		}
		return nil
	})
	return plaintext, err
}

// accept refuses what this key cannot have wrapped.
func (p *Provider) accept(op string, w keymgr.Wrapped) error {
	switch {
	case w.KeyID != KeyID(p.path):
		return p.fail(op, w.Version, keymgr.Mismatch, "WrongKey", fmt.Errorf("it was asked to unwrap for key %q", w.KeyID))
	case w.Version == "":
		return p.fail(op, "", keymgr.Mismatch, "NoVersion", errors.New("the wrapped key names no version"))
	case w.Algorithm != keymgr.AlgRSAOAEP256:
		return p.fail(op, w.Version, keymgr.Mismatch, "WrongAlgorithm", fmt.Errorf("it never wraps by %q", w.Algorithm))
	case w.Operation != keymgr.OpWrap && w.Operation != keymgr.OpEncrypt:
		return p.fail(op, w.Version, keymgr.Mismatch, "WrongOperation", fmt.Errorf("it has no operation %q", w.Operation))
	}
	return nil
}

// Describe tells about the pinned or the current version, usable or not. A key
// that is deleted or purged, or lacks the pinned version, is a KeyError.
func (p *Provider) Describe(ctx context.Context) (keymgr.KeyInfo, error) {
	d, v, err := p.pick(ctx, "describe", p.version)
	if err != nil {
		return keymgr.KeyInfo{}, err
	}
	defer d.wipe()
	return keymgr.KeyInfo{
		KeyID: KeyID(p.path), Version: v.ID, Type: d.Type, Size: d.Size, Enabled: v.Enabled,
		Created: v.Created, Updated: v.Updated, NotBefore: v.NotBefore, Expires: v.Expires,
		RecoveryLevel: "Recoverable+Purgeable",
	}, nil
}

// use calls f with a usable version and its key, and wipes both.
func (p *Provider) use(ctx context.Context, op, id string, f func(*version, *rsa.PrivateKey) error) (err error) {
	crypto.Secretly(func() { err = p.usePlain(ctx, op, id, f) })
	return err
}

func (p *Provider) usePlain(ctx context.Context, op, id string, f func(*version, *rsa.PrivateKey) error) error {
	d, v, err := p.pick(ctx, op, id)
	if err != nil {
		return err
	}
	defer d.wipe()
	if err := v.unusable(op, p.path, p.now()); err != nil {
		return err
	}
	key, err := parseKey(v.PrivateKey, d.Size)
	if err != nil {
		return p.fail(op, v.ID, keymgr.Invalid, "DamagedFile", err)
	}
	defer wipeRSA(key)
	return f(v, key)
}

// pick reads the store and finds the version with that ID, or the current one
// if id is empty. The caller wipes d.
func (p *Provider) pick(ctx context.Context, op, id string) (d *document, v *version, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, p.fail(op, id, keymgr.Unreachable, "Interrupted", err)
	}
	d, err = read(op, p.path)
	if err != nil {
		return nil, nil, err
	}
	if err := gone(op, p.path, d); err != nil {
		d.wipe()
		return nil, nil, err
	}
	if id == "" {
		return d, d.current(p.now()), nil
	}
	if v = d.find(id); v == nil {
		d.wipe()
		return nil, nil, noVersion(op, p.path, id)
	}
	return d, v, nil
}

// parseKey checks that a private key is what the store says it is. Its errors
// hold none of it.
func parseKey(der []byte, bits int) (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("its private key cannot be read")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() != bits {
		return nil, fmt.Errorf("its private key is not RSA of %d bits", bits)
	}
	return key, nil
}

func (p *Provider) fail(op, version string, class keymgr.Class, code string, err error) error {
	ke := failure(op, p.path, class, code, err)
	ke.KeyID, ke.Version = p.KeyID(), version
	return ke
}
