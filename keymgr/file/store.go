package file

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// DefaultBits is the size of a new store's keys.
const DefaultBits = 3072

// Options are for Create and Open; the zero value will do.
type Options struct {
	Bits int              // of a new store's keys: 2048 to 4096; 0 is DefaultBits
	Now  func() time.Time // nil is time.Now

	generate func(bits int) (pkcs8 []byte, err error) // nil is generateRSA; tests have faster ones
}

// Store is a key store's administrative side. Its methods may be called
// concurrently, from any number of processes; each reads the file, edits it,
// and replaces it, or fails and leaves it as it is. Errors are
// *keymgr.KeyError; see the package comment.
type Store struct {
	path     string
	bits     int
	now      func() time.Time
	generate func(bits int) ([]byte, error)
}

// Create makes a key store with one version, enabled and valid for ever. Its
// directory must be there, and the file must not; a file whose key was purged
// may be.
func Create(path string, o Options) (*Store, error) {
	s, err := newStore("create", path, o)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock("create")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.vacant(); err != nil {
		return nil, err
	}
	now := s.now().UTC()
	d := &document{Format: storeFormat, About: about, Type: "RSA", Size: s.bits, Created: now}
	defer d.wipe()
	if err := s.addVersion(d, now); err != nil {
		return nil, s.fail("create", "", keymgr.Invalid, "KeyGeneration", err)
	}
	if err := s.write("create", d); err != nil {
		return nil, err
	}
	return s, nil
}

// Open gives access to a key store, after reading it once.
func Open(path string, o Options) (*Store, error) {
	s, err := newStore("open", path, o)
	if err != nil {
		return nil, err
	}
	d, err := read("open", s.path)
	if err != nil {
		return nil, err
	}
	d.wipe()
	return s, nil
}

func newStore(op, path string, o Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, failure(op, path, keymgr.Invalid, "BadPath", err)
	}
	if _, _, err := ParseKeyID(KeyID(abs)); err != nil || path == "" {
		return nil, failure(op, path, keymgr.Invalid, "BadPath", errors.New("the path cannot be that of a key store"))
	}
	s := &Store{path: abs, bits: o.Bits, now: o.Now, generate: o.generate}
	if s.bits == 0 {
		s.bits = DefaultBits
	}
	if s.bits < minBits || s.bits > maxBits || s.bits%8 != 0 {
		return nil, failure(op, abs, keymgr.Invalid, "BadKeySize", fmt.Errorf("RSA keys have %d to %d bits here, not %d", minBits, maxBits, s.bits))
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.generate == nil {
		s.generate = generateRSA
	}
	return s, nil
}

// Path is the file's absolute path.
func (s *Store) Path() string { return s.path }

// KeyID is the identifier that means the newest usable version.
func (s *Store) KeyID() string { return KeyID(s.path) }

// vacant refuses to create a key where there is one.
func (s *Store) vacant() error {
	_, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.fail("create", "", keymgr.Credentials, "AccessDenied", err)
	}
	d, err := read("create", s.path)
	if err == nil {
		defer d.wipe()
		if !d.Purged.IsZero() {
			return nil
		}
	}
	return s.fail("create", "", keymgr.Invalid, "KeyExists", fs.ErrExist)
}

// addVersion makes a version that is enabled and valid for ever.
func (s *Store) addVersion(d *document, now time.Time) error {
	if len(d.Versions) >= maxVersions {
		return fmt.Errorf("the key has %d versions, and no room for another", maxVersions)
	}
	der, err := s.generate(d.Size)
	if err != nil {
		return err
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	d.Versions = append(d.Versions, version{
		ID: hex.EncodeToString(id[:]), Created: now, Updated: now, Enabled: true, PrivateKey: der,
	})
	return nil
}

func generateRSA(bits int) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	defer wipeRSA(key)
	return x509.MarshalPKCS8PrivateKey(key)
}

// wipeRSA zeroes what can be reached of a private key. The standard library
// keeps more, out of reach of all but crypto.Secretly.
func wipeRSA(key *rsa.PrivateKey) {
	clear(key.D.Bits())
	for _, p := range key.Primes {
		clear(p.Bits())
	}
	if key.Precomputed.Dp != nil {
		clear(key.Precomputed.Dp.Bits())
		clear(key.Precomputed.Dq.Bits())
		clear(key.Precomputed.Qinv.Bits())
	}
}

func (s *Store) fail(op, version string, class keymgr.Class, code string, err error) error {
	ke := failure(op, s.path, class, code, err)
	ke.Version = version
	return ke
}

func (s *Store) lock(op string) (func(), error) {
	unlock, err := lock(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, s.fail(op, "", keymgr.Unreachable, "FileNotFound", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, s.fail(op, "", keymgr.Credentials, "AccessDenied", err)
	case err != nil:
		return nil, s.fail(op, "", keymgr.Unreachable, "LockFailed", err)
	}
	return unlock, nil
}

func (s *Store) write(op string, d *document) error {
	err := write(s.path, d)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return s.fail(op, "", keymgr.Credentials, "AccessDenied", err)
	case err != nil:
		return s.fail(op, "", keymgr.Unreachable, "WriteFailed", err)
	}
	return nil
}
