package project

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/file"
)

// Env is what of this process a project's credentials depend on.
type Env struct {
	Getenv func(string) string // for CREDENTIALS_DIRECTORY and a test's CA file; nil: os.Getenv
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// getenv hands on what is no credential: those are the project's alone.
func (e Env) getenv(name string) string {
	switch name {
	case akv.EnvCAFile, akv.EnvResource, akv.EnvAPIVersion, "CREDENTIALS_DIRECTORY":
		if e.Getenv != nil {
			return e.Getenv(name)
		}
		return os.Getenv(name)
	}
	return ""
}

// CredentialError says that a credential of this host cannot be used.
type CredentialError struct{ Err error }

func (e *CredentialError) Error() string { return e.Err.Error() }
func (e *CredentialError) Unwrap() error { return e.Err }

// Credentials say who the host is, as a provider needs it. Errors are a
// *CredentialError: a secret that others can read is one.
func (p Project) Credentials(env Env) (keymgr.CredentialOptions, error) {
	c := p.Config.Credential
	o := keymgr.CredentialOptions{
		TenantID: p.Config.TenantID, ClientID: p.Config.ClientID, AuthorityHost: p.Config.AuthorityHost,
		ManagedIdentity: c.Kind == Managed, FederatedTokenFile: p.in(c.TokenFile),
		ClientCertificateFile: p.in(c.CertificateFile), CertificatePassFile: p.in(c.PasswordFile),
	}
	if p.secret == "" {
		o.ClientSecretFile = p.in(c.SecretFile)
	}
	for _, path := range []string{o.ClientSecretFile, o.ClientCertificateFile, o.CertificatePassFile} {
		if path != "" {
			if err := confdir.CheckPrivate(path); err != nil {
				return o, &CredentialError{err}
			}
		}
	}
	if p.secret != "" {
		o.ClientSecretFile = p.secret
	}
	if c.SecretCredential != "" {
		dir := env.getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return o, &CredentialError{fmt.Errorf("the systemd credential %q is not there: CREDENTIALS_DIRECTORY is not set", c.SecretCredential)}
		}
		o.ClientSecretFile = filepath.Join(dir, c.SecretCredential) // systemd has made it private
		if _, err := os.Stat(o.ClientSecretFile); err != nil {
			return o, &CredentialError{fmt.Errorf("the systemd credential: %w", err)}
		}
	}
	return o, nil
}

// CertificateExpiry tells when the project's certificate expires; see akv.
func (p Project) CertificateExpiry(env Env) func() (time.Time, error) {
	o, err := p.Credentials(env)
	if err != nil {
		return func() (time.Time, error) { return time.Time{}, nil } // the provider says what is wrong with it
	}
	return akv.CertificateExpiry(o, env.getenv)
}

// vault makes the provider of a key in a vault, with the project's credentials.
func (p Project) vault(keyID string, o keymgr.ProviderOptions, env Env) (*akv.Provider, error) {
	credentials, err := p.Credentials(env)
	if err != nil {
		return nil, &keymgr.KeyError{Class: keymgr.Credentials, KeyID: keyID, Code: akv.CodeCredentialUnusable, Op: "open", Err: err}
	}
	o.Credentials = credentials
	return akv.New(keyID, akv.Config{
		ProviderOptions: o, DNSSuffixes: p.Config.suffixes(), CAFile: p.Config.CAFile, Dial: env.Dial, Getenv: env.getenv,
	})
}

// Openers opens keys with a project's credentials. A provider that is open
// takes the project's new configuration when that is changed.
func (s Store) Openers(name string, env Env) keymgr.Openers {
	return keymgr.Openers{
		file.Scheme: file.OpenProvider,
		akv.Scheme: func(keyID string, o keymgr.ProviderOptions) (keymgr.Provider, error) {
			l := &live{store: s, name: name, keyID: keyID, options: o, env: env}
			if _, err := l.current(); err != nil {
				return nil, err
			}
			return l, nil
		},
	}
}

// live is a provider that goes by the configuration as it is now.
type live struct {
	store   Store
	name    string
	keyID   string
	options keymgr.ProviderOptions
	env     Env

	mu    sync.Mutex // guards what is below
	inner *akv.Provider
	seen  stamp
}

var (
	_ keymgr.Provider = (*live)(nil)
	_ keymgr.Renewer  = (*live)(nil)
)

// stamp tells one state of a configuration file from another.
type stamp struct {
	ino          uint64
	size         int64
	mtime, ctime unix.Timespec
}

func (l *live) stamp() stamp {
	var st unix.Stat_t
	if err := unix.Stat(l.store.dir.Path(l.name, configFile), &st); err != nil {
		return stamp{}
	}
	return stamp{st.Ino, st.Size, st.Mtim, st.Ctim}
}

// current is the provider for the configuration as it is now or, if that
// cannot serve, as it was.
func (l *live) current() (*akv.Provider, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.stamp()
	if l.inner != nil && now == l.seen {
		return l.inner, nil
	}
	p, err := l.store.Load(l.name)
	if err == nil {
		var inner *akv.Provider
		if inner, err = p.vault(l.keyID, l.options, l.env); err == nil {
			l.inner, l.seen = inner, now
			return inner, nil
		}
	}
	if l.inner == nil {
		return nil, l.unusable(err)
	}
	l.seen = now
	if l.options.Logger != nil {
		l.options.Logger.Log(context.Background(), slog.LevelWarn, "the project's configuration cannot be used; going on with the one before", "project", l.name, "error", err)
	}
	return l.inner, nil
}

// unusable makes an error of the configuration one of the key.
func (l *live) unusable(err error) error {
	if _, ok := errors.AsType[*keymgr.KeyError](err); ok {
		return err
	}
	return &keymgr.KeyError{Class: keymgr.Credentials, KeyID: l.keyID, Code: akv.CodeCredentialUnusable, Op: "open", Err: err}
}

// changed reports whether the configuration is another than that in use.
func (l *live) changed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stamp() != l.seen
}

// use calls f with the current provider, and again if the credentials were
// refused while they were being replaced.
func use[T any](l *live, f func(*akv.Provider) (T, error)) (T, error) {
	for again := true; ; again = false {
		p, err := l.current()
		if err != nil {
			return *new(T), err
		}
		r, err := f(p)
		refusal, _ := errors.AsType[*keymgr.KeyError](err)
		if refusal == nil || refusal.Class != keymgr.Credentials || !again || !l.changed() {
			return r, err
		}
	}
}

// KeyID is the key's, in its normal form.
func (l *live) KeyID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner.KeyID()
}

// Name is the vault provider's.
func (l *live) Name() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner.Name()
}

// Wrap is keymgr.Provider's.
func (l *live) Wrap(ctx context.Context, plaintext []byte) (keymgr.Wrapped, error) {
	return use(l, func(p *akv.Provider) (keymgr.Wrapped, error) { return p.Wrap(ctx, plaintext) })
}

// Unwrap is keymgr.Provider's.
func (l *live) Unwrap(ctx context.Context, w keymgr.Wrapped) ([]byte, error) {
	return use(l, func(p *akv.Provider) ([]byte, error) { return p.Unwrap(ctx, w) })
}

// Describe is keymgr.Provider's.
func (l *live) Describe(ctx context.Context) (keymgr.KeyInfo, error) {
	return use(l, func(p *akv.Provider) (keymgr.KeyInfo, error) { return p.Describe(ctx) })
}

// Renew is keymgr.Renewer's.
func (l *live) Renew() {
	l.mu.Lock()
	p := l.inner
	l.mu.Unlock()
	p.Renew()
}
