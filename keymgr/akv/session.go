package akv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/akvfs/akvfs/keymgr"
)

// session is a credential, with the tokens that it has cached, and a client.
type session struct {
	keys   *azkeys.Client
	proven atomic.Bool // some call has succeeded with it
}

// newSession reads the secrets anew and starts without any token. mu is held,
// or the Provider is not in use yet.
func (p *Provider) newSession() (*session, error) {
	inner, err := p.identity.credential(p.cfg.clientOptions(p.http, p.authority, true), !knownAuthority(p.authority))
	if err != nil {
		return nil, &verdictError{keymgr.Credentials, CodeCredentialUnusable, err}
	}
	cred := &credential{inner: inner, identity: p.identity, resource: p.cfg.Resource}
	cred.suspect.Store(p.refused)
	o := azkeys.ClientOptions{
		ClientOptions: p.cfg.clientOptions(p.courier, p.authority, false),
		// Then the credential checks the resource instead.
		DisableChallengeResourceVerification: p.cfg.Resource != "",
	}
	o.APIVersion = p.cfg.APIVersion
	keys, err := azkeys.NewClient(p.id.vaultURL(), cred, &o)
	if err != nil {
		return nil, &verdictError{keymgr.Invalid, CodeBadConfiguration, err}
	}
	return &session{keys: keys}, nil
}

// current is the session in use; a new one if there is none.
func (p *Provider) current() (*session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != nil {
		return p.session, nil
	}
	s, err := p.newSession()
	if err == nil {
		p.session, p.refused = s, false
	}
	return s, err
}

// discard ends a session that was refused, if it is still the one in use.
func (p *Provider) discard(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == s {
		p.session, p.refused = nil, true
	}
}

// Renew has the next call read the secrets anew, ask the directory for a new
// token, past all caches, and use new connections.
func (p *Provider) Renew() {
	p.mu.Lock()
	p.session, p.refused = nil, true
	p.mu.Unlock()
	p.http.CloseIdleConnections()
}

// call runs f within the budget and judges its error. A credential that is
// refused gets a second chance with a new session, if the refusal may be due to
// what the old one has cached: tokens end early when a clock was set or a
// sign-in revoked, and a secret may have been renewed in its file. So a refusal
// that is returned is always that of a token or a secret just fetched. settle
// is called when f is done with, late or not; taken tells whether the caller
// has the result.
func call[T any](ctx context.Context, p *Provider, op, version string, f func(context.Context, *session) (T, error), settle func(result T, taken bool)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	t := newTrace(ctx)
	result, err := await(t.ctx, func() (T, error) {
		for again := true; ; again = false {
			s, err := p.current()
			if err != nil {
				return *new(T), err
			}
			result, err := f(t.ctx, s)
			if err == nil {
				s.proven.Store(true)
				return result, nil
			}
			if classify(t, op, err).class != keymgr.Credentials {
				return result, err
			}
			p.discard(s)
			if !again || !s.proven.Load() && !refusesToken(err) {
				return result, err
			}
		}
	}, settle)
	if err == nil {
		return result, nil
	}
	return *new(T), p.fail(op, cmp.Or(version, t.usedVersion()), classify(t, op, err))
}

// refusesToken reports whether it was the vault that refused.
func refusesToken(err error) bool {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && e.StatusCode == http.StatusUnauthorized
}

// await returns when f does or when ctx ends, whichever is first: libraries
// wait for each other's locks without looking at the context. A panic in f (a
// challenge that azkeys cannot parse makes one) is an error.
func await[T any](ctx context.Context, f func() (T, error), settle func(T, bool)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome)
	gone := make(chan struct{})
	go func() {
		var o outcome
		func() {
			defer func() {
				if r := recover(); r != nil {
					o.err = &verdictError{keymgr.Unreachable, CodeBadAnswer, fmt.Errorf("the answer cannot be parsed (%T)", r)}
				}
			}()
			o.value, o.err = f()
		}()
		select {
		case done <- o:
			settle(o.value, true)
		case <-gone:
			settle(o.value, false)
		}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		close(gone)
		return *new(T), ctx.Err()
	}
}

// keep is the settle of results that hold nothing secret.
func keep[T any](T, bool) {}

func (p *Provider) fail(op, version string, v verdict) error {
	ke := &keymgr.KeyError{
		Class: v.class, KeyID: p.id.String(), Vault: p.id.Host, Key: p.id.Name, Version: version,
		Code: v.code, Op: op, Err: v.err,
	}
	if a, ok := errors.AsType[*AnswerError](v.err); ok {
		ke.RetryAfter = a.RetryAfter
	}
	return ke
}
