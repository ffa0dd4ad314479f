package keymgr

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// Algorithms that a Wrapped may name. Nothing weaker is ever accepted, on the
// way out or on the way back.
const (
	AlgRSAOAEP256 = "RSA-OAEP-256" // RFC 8017 OAEP with SHA-256 and MGF1-SHA-256
	AlgA256KW     = "A256KW"       // RFC 3394 with an AES-256 key
)

// Operations that a Wrapped may name: which permission of the vault was used.
const (
	OpWrap    = "wrap"    // wrapKey and unwrapKey
	OpEncrypt = "encrypt" // encrypt and decrypt, for policies that grant only those
)

// Provider is one key of one vault: the key-encryption key at the top of the
// hierarchy. Its methods may be called concurrently; they return *KeyError
// (possibly wrapped), and they return within the time that ctx and the
// options allow. Opening one asks the vault nothing.
type Provider interface {
	// KeyID is the identifier as the operator gave it, normalised. It has a
	// version only if the operator pinned one.
	KeyID() string
	// Name is the kind of provider: "akv" or "file".
	Name() string
	// Wrap encrypts plaintext (a master key, 32 bytes) under the pinned or
	// the current version. The result names the version that was used.
	// plaintext stays the caller's.
	Wrap(ctx context.Context, plaintext []byte) (Wrapped, error)
	// Unwrap decrypts what Wrap returned, under the version that w names, with
	// the operation that w names, whatever version is current or pinned. It
	// refuses a w with another KeyID or an algorithm that the key would not
	// have used. A ciphertext that the key refuses is a KeyError of class
	// Mismatch. The result is the caller's to zero.
	Unwrap(ctx context.Context, w Wrapped) ([]byte, error)
	// Describe tells about the pinned or the current version.
	Describe(ctx context.Context) (KeyInfo, error)
}

// Renewer is a Provider that keeps tokens, or whatever else says who the host
// is, from one call to the next.
type Renewer interface {
	// Renew has the next call fetch all of that anew, so that a refusal of
	// it is not one of something old.
	Renew()
}

// Wrapped is a key wrapped by one version of a provider's key.
type Wrapped struct {
	KeyID      string // of the key, never with a version
	Version    string // that wrapped it, never empty
	Operation  string // OpWrap or OpEncrypt
	Algorithm  string // AlgRSAOAEP256 or AlgA256KW
	Ciphertext []byte
}

// KeyInfo describes one version of a key. Times are UTC; a zero time means
// that the vault gave none.
type KeyInfo struct {
	KeyID         string // without version
	Version       string
	Type          string // "RSA", "RSA-HSM", "oct-HSM"
	Size          int    // bits; 0 if the vault does not say
	Enabled       bool
	Created       time.Time
	Updated       time.Time
	NotBefore     time.Time
	Expires       time.Time
	RecoveryLevel string // the vault's own word ("Recoverable+Purgeable"); may be empty
	RecoveryDays  int    // for which a deleted key can be recovered; 0 if the vault does not say
}

// ProviderOptions is what every provider is opened with. The zero value is
// usable: wrap, the provider's default time-out, ambient credentials.
type ProviderOptions struct {
	// Operation is used by Wrap: OpWrap (also if empty) or OpEncrypt. Unwrap
	// uses what the Wrapped names.
	Operation string
	// Timeout bounds each call, its retries included. Zero: the provider's
	// default. A context's earlier deadline holds as well.
	Timeout time.Duration
	// Credentials are for providers that ask for some.
	Credentials CredentialOptions
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger takes what is worth a line (retries, never secrets). Nil: none.
	Logger *slog.Logger
}

// CredentialOptions say who the host is to the vault. The zero value means the
// ambient chain (environment, workload identity, managed identity, CLI).
// Secrets are files, so that they are never in an argument or in this struct's
// text.
type CredentialOptions struct {
	TenantID              string
	ClientID              string // application, or user-assigned managed identity
	ClientSecretFile      string // path; its content without the last newline
	ClientCertificateFile string // path of a PEM or PKCS#12 file with its private key
	CertificatePassFile   string // path; of the certificate's password, if it has one
	FederatedTokenFile    string // path; workload identity
	ManagedIdentity       bool
	AuthorityHost         string // URL; empty: AZURE_AUTHORITY_HOST, or the public cloud
}

// Opener makes a provider of one scheme. It checks the identifier (a KeyError
// of class Invalid) and asks the vault nothing.
type Opener = func(keyID string, opts ProviderOptions) (Provider, error)

// Openers maps a URL scheme ("https", "file") to its provider. The program
// fills it, so that this package needs to know none of them.
type Openers map[string]Opener

// Open makes the provider for keyID. An identifier that is no URL, or of a
// scheme that is not there, is a KeyError of class Invalid.
func (o Openers) Open(keyID string, opts ProviderOptions) (Provider, error) {
	invalid := func(code, format string, a ...any) error {
		return &KeyError{Class: Invalid, KeyID: keyID, Code: code, Op: "open", Err: fmt.Errorf(format, a...)}
	}
	scheme, _, ok := strings.Cut(keyID, "://")
	if !ok {
		return nil, invalid("BadKeyID", "the identifier is not a URL")
	}
	open, ok := o[strings.ToLower(scheme)]
	if !ok {
		return nil, invalid("UnknownScheme", "no key provider for %q, only for %s",
			scheme, strings.Join(slices.Sorted(maps.Keys(o)), ", "))
	}
	if opts.Operation != "" && opts.Operation != OpWrap && opts.Operation != OpEncrypt {
		return nil, invalid("BadOperation", "the key operation is %q, neither %q nor %q",
			opts.Operation, OpWrap, OpEncrypt)
	}
	return open(keyID, opts)
}
