package keymgr

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Class sorts the failures of a key by what they mean for the volume. The zero
// Class is none of them.
type Class int

const (
	// Revoked: the vault answered that the key may not be used: disabled,
	// deleted, expired, not yet valid, gone, or permission taken away.
	Revoked Class = iota + 1
	// Credentials: who we are was refused, before the key was asked for.
	Credentials
	// Unreachable: no answer that says anything about the key: network, DNS,
	// TLS, time-out, throttling, a fault of the server. It may open later.
	Unreachable
	// Invalid: the identifier names no usable key: malformed, an unsupported
	// type or size, an operation that the key does not have.
	Invalid
	// Mismatch: the key is there and answered, but the ciphertext is not one
	// of its own, or holds something else than it should: the keyring was
	// edited, or a key of the same name has other material. It never opens.
	Mismatch
)

// String is the class in one or two words, for a sentence.
func (c Class) String() string {
	switch c {
	case Revoked:
		return "revoked"
	case Credentials:
		return "credentials refused"
	case Unreachable:
		return "unreachable"
	case Invalid:
		return "not a usable key"
	case Mismatch:
		return "does not match"
	}
	return fmt.Sprintf("class %d", int(c))
}

// verdict is the class as the end of a sentence about a key.
func (c Class) verdict() string {
	switch c {
	case Credentials:
		return "refuses our credentials"
	case Mismatch:
		return c.String()
	}
	return "is " + c.String()
}

// KeyError tells what failed with one key of one vault. It holds facts only;
// what to do about them is the command line's to say. It never holds a secret.
type KeyError struct {
	Class   Class
	KeyID   string // the identifier as given
	Vault   string // host name of the vault; for the embedded store its path
	Key     string // name of the key in the vault; may be empty
	Version string // empty where none was asked for or known
	// Since is when this version wrapped the volume's key; zero where it was
	// not about that.
	Since time.Time
	Code  string // the vault's own error code ("KeyDisabled"), or ours
	Op    string // "wrap", "unwrap", "describe", "open"
	// RetryAfter is how long the vault asked us to wait, zero if it did not.
	RetryAfter time.Duration
	Err        error // the cause; may be nil
}

// Error is one sentence with all the facts.
func (e *KeyError) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString("key ")
	if e.Key != "" {
		fmt.Fprintf(&b, "%q ", e.Key)
	} else if e.Vault == "" {
		fmt.Fprintf(&b, "%q ", e.KeyID)
	}
	if e.Version != "" {
		fmt.Fprintf(&b, "version %s ", e.Version)
	}
	if !e.Since.IsZero() {
		fmt.Fprintf(&b, "(in use since %s) ", e.Since.UTC().Format(time.DateOnly))
	}
	if e.Vault != "" {
		fmt.Fprintf(&b, "in %s ", e.Vault)
	}
	b.WriteString(e.Class.verdict())
	if e.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// UnopenedError says that none of several keys opened the volume. Errors is
// ordered, the most telling first, so that errors.As finds that one:
// unreachable (it may open later), mismatch, revoked, credentials, invalid.
type UnopenedError struct {
	Volume uuid.UUID
	Errors []*KeyError
}

// Error lists what each key said.
func (e *UnopenedError) Error() string {
	parts := make([]string, len(e.Errors))
	for i, ke := range e.Errors {
		parts[i] = ke.Error()
	}
	return fmt.Sprintf("none of the %d keys of volume %s opens it: %s",
		len(e.Errors), e.Volume, strings.Join(parts, "; "))
}

// Unwrap returns all errors, the most telling first.
func (e *UnopenedError) Unwrap() []error {
	all := make([]error, len(e.Errors))
	for i, ke := range e.Errors {
		all[i] = ke
	}
	return all
}

// IntegrityError says that the keyring, or a key in it, is not what was
// written for this volume: damaged, edited, taken from elsewhere, or a vault
// gave back other bytes than were wrapped.
type IntegrityError struct {
	File   string // name in the volume's metadata, or "" for a file key
	Volume uuid.UUID
	Reason string
	Err    error // may be nil
}

// Error is one sentence with all the facts.
func (e *IntegrityError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + " ")
	}
	if e.Volume != uuid.Nil {
		fmt.Fprintf(&b, "of volume %s ", e.Volume)
	}
	b.WriteString("fails its integrity check: " + e.Reason)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *IntegrityError) Unwrap() error { return e.Err }

// NewerFormatError says that a keyring was written by a later akvfs.
type NewerFormatError struct {
	File   string
	Format int // of the file
	Known  int // the newest that this akvfs reads
}

// Error is one sentence with all the facts.
func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("%s has format %d; this akvfs reads formats up to %d", e.File, e.Format, e.Known)
}

var (
	// ErrNoKeyring: the volume has no keyring (an init that was interrupted,
	// or a lost file). It matches fs.ErrNotExist too.
	ErrNoKeyring = fmt.Errorf("the volume has no %s: %w", KeyringFile, fs.ErrNotExist)
	// ErrKeyringExists: CreateKeyring never replaces one.
	ErrKeyringExists = fmt.Errorf("the volume has a %s already: %w", KeyringFile, fs.ErrExist)
	// ErrDestroyed: the keys were dropped from memory.
	ErrDestroyed = errors.New("the volume's keys are locked")
	// ErrLastKey: the last key that opens a volume cannot be removed from it.
	ErrLastKey = errors.New("the last key of a volume cannot be removed")
	// ErrUnknownKey: the volume is not wrapped by that key.
	ErrUnknownKey = errors.New("the volume is not wrapped by this key")
	// ErrKeyPresent: the volume is wrapped by that key already.
	ErrKeyPresent = errors.New("the volume is wrapped by this key already")
	// ErrConflict: the stored keyring is not the one that was opened; another
	// process replaced it. Nothing was written.
	ErrConflict = errors.New("the keyring was changed by another process")
)
