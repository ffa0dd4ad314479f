package akv

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// credential guards azidentity's: it asks for tokens within the call's budget,
// only for what may be asked, and marks errors as the directory's.
type credential struct {
	inner    azcore.TokenCredential
	identity identity
	resource string // the one audience allowed; empty: the policy checks it against the host

	// suspect makes the first token bypass azidentity's cache of managed
	// identities' tokens, which all of a process share and which outlives a
	// session.
	suspect atomic.Bool
}

// tokenError says that no token was to be had. Its text is its cause's, which
// holds nothing of an answer's body.
type tokenError struct {
	code     string // ours; empty where seen tells
	ambient  bool   // no credential of the chain is there at all
	seen     exchange
	err      error // of this host's own making
	original error // azidentity's; never shown
}

func (e *tokenError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return "no token"
}

// Unwrap lets contexts' errors be found.
func (e *tokenError) Unwrap() []error { return []error{e.err, e.original} }

// NonRetriable tells azcore that the credential has done its own retries.
func (e *tokenError) NonRetriable() {}

// CodeWrongTenant says that a vault belongs to another tenant than the
// credential, CodeNoCredential that there is none, CodeCredentialUnusable that
// what is configured cannot serve.
const (
	CodeWrongTenant        = "WrongTenant"
	CodeNoCredential       = "NoCredential"
	CodeCredentialUnusable = "CredentialUnusable"
	CodeBadChallenge       = "BadChallenge" // the host does not ask for tokens as a vault does
)

var guid = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// GetToken implements azcore.TokenCredential. It runs on the call's context,
// not on that of the one exchange with the vault that it belongs to: a slow
// directory may use what is left of the budget.
func (c *credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t := traceOf(ctx)
	if t == nil {
		return azcore.AccessToken{}, &tokenError{code: CodeCredentialUnusable, err: errors.New("a token was asked for outside of a call")}
	}
	if c.resource != "" && (len(o.Scopes) != 1 || o.Scopes[0] != c.resource+"/.default") {
		return azcore.AccessToken{}, &tokenError{code: CodeBadChallenge, err: errors.New("the vault asks for tokens of another resource than is configured")}
	}
	if !guid.MatchString(c.identity.tenant) {
		// The tenant is named by its domain; the vault names it by its ID,
		// which azidentity would take for another one.
		o.TenantID = c.identity.tenant
	}
	token, err := c.ask(t.ctx, o)
	if err != nil {
		return azcore.AccessToken{}, c.explain(t, o, err)
	}
	return token, nil
}

// ask gets a token, and a new one if the last was refused.
func (c *credential) ask(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	cached := c.identity.kind == kindManaged || c.identity.kind == kindAmbient
	if c.suspect.CompareAndSwap(true, false) && cached && o.Claims == "" {
		fresh := o
		fresh.Claims = "{}" // the way to tell azidentity; a managed identity's endpoint is sent none
		token, err := c.inner.GetToken(ctx, fresh)
		if err == nil || c.identity.kind == kindManaged {
			return token, err
		}
		// The chain's command-line tools cannot do that, and cache nothing here.
	}
	return c.inner.GetToken(ctx, o)
}

// explain keeps what is known of a failure and leaves azidentity's text behind,
// which may hold the answer's.
func (c *credential) explain(t *trace, o policy.TokenRequestOptions, err error) *tokenError {
	e := &tokenError{original: err, seen: t.lastToken()}
	failed, isFailed := errors.AsType[*azidentity.AuthenticationFailedError](err)
	switch {
	case t.ctx.Err() != nil:
		e.err = t.ctx.Err()
	case c.identity.kind == kindAmbient && !isFailed:
		e.code, e.seen, e.ambient = CodeNoCredential, exchange{}, true
		e.err = errors.New("this host has no credentials: none in the environment, no workload identity, managed identity or signed-in Azure CLI")
	case isFailed && failed.RawResponse != nil && e.seen.answer == nil && e.seen.err == nil:
		e.seen.answer = &AnswerError{Host: "the directory", Request: "the request for a token", Status: failed.RawResponse.StatusCode}
	case e.seen.answer != nil || e.seen.err != nil:
	case guid.MatchString(c.identity.tenant) && o.TenantID != "" && o.TenantID != c.identity.tenant:
		e.code, e.err = CodeWrongTenant, fmt.Errorf("the vault belongs to tenant %s, the %s to tenant %s",
			word(o.TenantID), c.identity.kind, c.identity.tenant)
	default: // nobody was asked, so there is no answer in the text
		e.code, e.err = CodeCredentialUnusable, err
	}
	return e
}
