package crypto

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"
)

const (
	// MaxShortName is the longest name, in bytes, whose encryption is a file
	// name (255 bytes) too.
	MaxShortName = 175

	maxName = 255 // Linux's NAME_MAX, in bytes
	sivSize = 16
	sivInfo = "names/aes-siv" // of the two AES-256 keys, from a NameCipher's key
)

// A NameError says why an encrypted name was refused: [ErrAuth],
// [ErrDestroyed], or what is wrong with its form.
type NameError struct {
	Encrypted string
	Err       error
}

func (e *NameError) Error() string { return fmt.Sprintf("encrypted name %q: %v", e.Encrypted, e.Err) }
func (e *NameError) Unwrap() error { return e.Err }

var (
	errNameForm = errors.New("it is not a name in canonical base64url")
	errNotName  = errors.New("it decrypts to what is not a file name")
)

// canonical refuses stray last bits.
var canonical = base64.RawURLEncoding.Strict()

// A NameCipher encrypts the elements of paths with AES-SIV (RFC 5297, with two
// 256-bit keys and one associated data, empty). It is deterministic: a name
// has one encryption in a whole volume, whatever its directory, so that a
// lookup is a lookup. What that gives away is that two names are equal, and
// how long a name is. All methods may be called concurrently.
type NameCipher struct {
	siv   atomic.Pointer[subtle.AESSIV] // nil once destroyed
	brief bool                          // see Brief
}

// NewNameCipher returns a cipher under keys derived from k, which stays the
// caller's. The error is [ErrDestroyed].
func NewNameCipher(k *Key) (*NameCipher, error) {
	var err error
	c := &NameCipher{}
	secretly(func() {
		double := make([]byte, subtle.AESSIVKeySize)
		if err = k.expand(double, sivInfo); err != nil {
			return
		}
		var siv *subtle.AESSIV
		siv, err = subtle.NewAESSIV(double) // which keeps and needs these bytes
		c.siv.Store(siv)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Brief makes c take a quarter of the time for a name, and leave what it
// computes with, of names and of its keys, to the collector instead of having
// it erased. It is for a process that ends rather than locks: its memory is
// cleared by the kernel before another gets it. To be called before c is used.
func (c *NameCipher) Brief() { c.brief = true }

// secretly is the function of that name, unless c is brief.
func (c *NameCipher) secretly(f func()) {
	if c.brief {
		f()
		return
	}
	thinOut()
	secretly(f)
}

// Encrypt returns base64url, without padding, of the synthetic IV and the
// encrypted name. Up to MaxShortName bytes of name it is at most 255 bytes
// long. It panics with [ErrDestroyed] after Destroy.
func (c *NameCipher) Encrypt(name string) string {
	siv := c.siv.Load()
	if siv == nil {
		panic(ErrDestroyed)
	}
	var sealed []byte
	var err error
	c.secretly(func() { sealed, err = siv.EncryptDeterministically([]byte(name), nil) })
	if err != nil {
		panic(err) // it has none for a key of the right length and a short name
	}
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// Decrypt returns the name that Encrypt made encrypted from. Exactly one
// string decrypts to a name, and only to one that a directory entry can have:
// 1 to 255 bytes, no slash or NUL, not "." or "..". The error is a
// [*NameError].
func (c *NameCipher) Decrypt(encrypted string) (string, error) {
	name, err := c.decrypt(encrypted)
	if err != nil {
		return "", &NameError{Encrypted: encrypted, Err: err}
	}
	return name, nil
}

func (c *NameCipher) decrypt(encrypted string) (string, error) {
	siv := c.siv.Load()
	if siv == nil {
		return "", ErrDestroyed
	}
	sealed, err := canonical.DecodeString(encrypted)
	if err != nil || strings.ContainsAny(encrypted, "\r\n") { // which the decoder lets pass
		return "", errNameForm
	}
	if len(sealed) <= sivSize || len(sealed) > sivSize+maxName {
		return "", errNameForm
	}
	var plain []byte
	c.secretly(func() { plain, err = siv.DecryptDeterministically(sealed, nil) })
	if err != nil {
		return "", ErrAuth
	}
	name := string(plain)
	if name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", errNotName
	}
	return name, nil
}

// Destroy lets go of the keys; see [Scrub] for when they are erased. An
// operation under way finishes; later ones fail. Idempotent.
func (c *NameCipher) Destroy() { c.siv.Store(nil) }
