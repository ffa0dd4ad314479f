package akv

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/akvfs/akvfs/keymgr"
)

// Scheme is the URL scheme of a vault's key identifiers.
const Scheme = "https"

// CodeBadConfiguration says that Config cannot serve.
const CodeBadConfiguration = "BadConfiguration"

// Operations as errors name them.
const (
	opWrap     = keymgr.OpWrap
	opEncrypt  = keymgr.OpEncrypt
	opUnwrap   = "unwrap"
	opDecrypt  = "decrypt"
	opDescribe = "describe"
)

// Provider uses one key of a vault as a key-encryption key. It is safe for
// concurrent use.
type Provider struct {
	cfg       Config
	id        ID
	authority string // URL of the directory
	identity  identity
	http      *http.Client
	courier   courier

	mu      sync.Mutex
	session *session // nil after a refusal
	refused bool     // the session before was
}

var (
	_ keymgr.Provider = (*Provider)(nil)
	_ keymgr.Renewer  = (*Provider)(nil)
)

// Open is the keymgr.Opener of the scheme "https": New with the options and,
// for all else, the environment.
func Open(keyID string, opts keymgr.ProviderOptions) (keymgr.Provider, error) {
	p, err := New(keyID, Config{ProviderOptions: opts})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// New makes a Provider. It asks neither vault nor directory, but reads what
// the credentials need. Errors are *keymgr.KeyError: class Invalid for the
// identifier and the configuration, Credentials for what cannot be read.
func New(keyID string, cfg Config) (*Provider, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, &keymgr.KeyError{Class: keymgr.Invalid, KeyID: printable(keyID), Code: CodeBadConfiguration, Op: "open", Err: err}
	}
	id, err := ParseID(keyID, cfg.DNSSuffixes...)
	if err != nil {
		return nil, err
	}
	p := &Provider{cfg: cfg, id: id}
	refuse := func(class keymgr.Class, code string, err error) (*Provider, error) {
		return nil, p.fail("open", id.Version, verdict{class, code, err})
	}
	if p.authority, err = cfg.authority(id.Cloud); err != nil {
		return refuse(keymgr.Invalid, CodeBadConfiguration, err)
	}
	if p.http, err = cfg.newHTTPClient(); err != nil {
		return refuse(keymgr.Invalid, CodeBadConfiguration, err)
	}
	p.courier = newCourier(p.http)
	if p.identity, err = identify(cfg.Credentials, cfg.Getenv); err != nil {
		return refuse(keymgr.Credentials, CodeCredentialUnusable, err)
	}
	if p.session, err = p.newSession(); err != nil {
		v, _ := errors.AsType[*verdictError](err)
		return refuse(v.class, v.code, v.err)
	}
	return p, nil
}

// KeyID is the identifier in its normal form, with a version only if pinned.
func (p *Provider) KeyID() string { return p.id.String() }

// Name is "akv".
func (p *Provider) Name() string { return "akv" }

// Describe tells about the pinned or the current version, usable or not.
func (p *Provider) Describe(ctx context.Context) (keymgr.KeyInfo, error) {
	return call(ctx, p, opDescribe, p.id.Version, func(ctx context.Context, s *session) (keymgr.KeyInfo, error) {
		a, err := p.get(ctx, s, p.id.Version)
		return a.KeyInfo, err
	}, keep)
}

// Wrap encrypts under the pinned or the current version.
func (p *Provider) Wrap(ctx context.Context, plaintext []byte) (keymgr.Wrapped, error) {
	// A copy, since a call that is given up may still be using it.
	mine := append([]byte(nil), plaintext...)
	return call(ctx, p, p.cfg.Operation, p.id.Version, func(ctx context.Context, s *session) (keymgr.Wrapped, error) {
		w := keymgr.Wrapped{KeyID: p.id.Base(), Operation: p.cfg.Operation}
		a, err := p.getUsable(ctx, s, p.id.Version)
		if err == nil {
			err = a.permits(w.Operation)
		}
		if err != nil {
			return w, err
		}
		w.Version = a.Version
		if w.Algorithm, err = a.algorithm(); err != nil {
			return w, err
		}
		w.Ciphertext, err = p.transform(ctx, s, sealing[w.Operation], w, mine)
		return w, err
	}, func(keymgr.Wrapped, bool) { clear(mine) })
}

// Unwrap decrypts under the version that w names.
func (p *Provider) Unwrap(ctx context.Context, w keymgr.Wrapped) ([]byte, error) {
	op := opUnwrap
	if w.Operation == keymgr.OpEncrypt {
		op = opDecrypt
	}
	if err := p.accept(op, w); err != nil {
		return nil, err
	}
	return call(ctx, p, op, w.Version, func(ctx context.Context, s *session) ([]byte, error) {
		a, err := p.getUsable(ctx, s, w.Version)
		if err == nil {
			err = a.madeBy(w)
		}
		if err != nil {
			return nil, err
		}
		return p.transform(ctx, s, opening[w.Operation], w, w.Ciphertext)
	}, zeroUntaken)
}

// zeroUntaken is the settle of plaintexts.
func zeroUntaken(plain []byte, taken bool) {
	if !taken {
		clear(plain)
	}
}

// accept refuses what this key cannot have wrapped, without asking the vault.
func (p *Provider) accept(op string, w keymgr.Wrapped) error {
	id, _, err := parseID(w.KeyID, p.cfg.DNSSuffixes)
	switch {
	case err != nil || id.Version != "" || !id.sameKey(p.id):
		err = judged(keymgr.Mismatch, CodeWrongKey, "it was asked to unwrap for key %q", printable(w.KeyID))
	case !keyVersion.MatchString(w.Version):
		err = judged(keymgr.Mismatch, CodeWrongWrap, "the wrapped key names no version")
	case w.Algorithm != keymgr.AlgRSAOAEP256 && w.Algorithm != keymgr.AlgA256KW:
		err = judged(keymgr.Mismatch, CodeWrongWrap, "it never wraps by %q", w.Algorithm)
	case opening[w.Operation].request == "":
		err = judged(keymgr.Mismatch, CodeWrongWrap, "it has no operation %q", w.Operation)
	case len(w.Ciphertext) == 0:
		err = judged(keymgr.Mismatch, CodeWrongWrap, "there is no ciphertext")
	}
	if err == nil {
		return nil
	}
	v, _ := errors.AsType[*verdictError](err)
	return p.fail(op, w.Version, verdict(*v))
}

// get asks for the attributes of a version, the current one if it is empty.
func (p *Provider) get(ctx context.Context, s *session, version string) (attributes, error) {
	traceOf(ctx).asks("get")
	resp, err := s.keys.GetKey(ctx, p.id.Name, version, nil)
	if err != nil {
		return attributes{}, p.lookForDeleted(ctx, s, err)
	}
	a, err := p.readAttributes(resp.KeyBundle, version)
	traceOf(ctx).uses(a.Version)
	return a, err
}

// getUsable is get for a use of the key.
func (p *Provider) getUsable(ctx context.Context, s *session, version string) (attributes, error) {
	a, err := p.get(ctx, s, version)
	if err != nil {
		return a, err
	}
	return a, a.usable(traceOf(ctx).vaultTime(p.cfg.Now))
}

// lookForDeleted finds out whether a key that is not found was deleted and can
// be recovered. It is a courtesy: any failure of it leaves the error as it is.
func (p *Provider) lookForDeleted(ctx context.Context, s *session, err error) error {
	t := traceOf(ctx)
	missing, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || missing.StatusCode != http.StatusNotFound {
		return err
	}
	answer := answerOf(t, missing)
	if answer.Code == "" {
		return err
	}
	judgement := &verdictError{keymgr.Revoked, answer.code(), answer}
	t.asks("get of the deleted key")
	once := policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1, TryTimeout: p.cfg.tryTimeout()})
	deleted, err := s.keys.GetDeletedKey(once, p.id.Name, nil)
	if err != nil {
		return judgement
	}
	told := *answer
	told.Note = "it was deleted"
	if deleted.DeletedDate != nil {
		told.Note += " at " + deleted.DeletedDate.UTC().Format("2006-01-02 15:04:05 MST")
	}
	if deleted.ScheduledPurgeDate != nil {
		told.Note += " and can be recovered until " + deleted.ScheduledPurgeDate.UTC().Format("2006-01-02 15:04:05 MST")
	}
	return &verdictError{keymgr.Revoked, "KeyDeleted", &told}
}

// transformation is one of the vault's four operations.
type transformation struct {
	request string // its name in the REST interface
	seals   bool
	do      func(context.Context, *azkeys.Client, string, string, azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error)
}

var sealing = map[string]transformation{
	keymgr.OpWrap: {"wrapKey", true, func(ctx context.Context, c *azkeys.Client, name, version string, o azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
		r, err := c.WrapKey(ctx, name, version, o, nil)
		return r.KeyOperationResult, err
	}},
	keymgr.OpEncrypt: {"encrypt", true, func(ctx context.Context, c *azkeys.Client, name, version string, o azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
		r, err := c.Encrypt(ctx, name, version, o, nil)
		return r.KeyOperationResult, err
	}},
}

var opening = map[string]transformation{
	keymgr.OpWrap: {"unwrapKey", false, func(ctx context.Context, c *azkeys.Client, name, version string, o azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
		r, err := c.UnwrapKey(ctx, name, version, o, nil)
		return r.KeyOperationResult, err
	}},
	keymgr.OpEncrypt: {"decrypt", false, func(ctx context.Context, c *azkeys.Client, name, version string, o azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
		r, err := c.Decrypt(ctx, name, version, o, nil)
		return r.KeyOperationResult, err
	}},
}

// transform has the vault do one of its operations with the version and the
// algorithm of w, and checks that it used them. azkeys and all beneath it see
// nothing of a master key: the courier puts it in and takes it out.
func (p *Provider) transform(ctx context.Context, s *session, t transformation, w keymgr.Wrapped, value []byte) ([]byte, error) {
	traceOf(ctx).asks(t.request)
	h := &hidden{seals: t.seals}
	if t.seals {
		h.value = value
		value = h.shown()
	}
	alg := azkeys.EncryptionAlgorithm(w.Algorithm)
	r, err := t.do(withHidden(ctx, h), s.keys, p.id.Name, w.Version, azkeys.KeyOperationParameters{Algorithm: &alg, Value: value})
	if !t.seals {
		r.Result = h.value
	}
	if err == nil {
		_, err = p.checkKID(r.KID, w.Version)
	}
	if err == nil && len(r.Result) == 0 {
		err = judged(keymgr.Unreachable, CodeBadAnswer, "%s answered %s with nothing", p.id.Host, t.request)
	}
	if err != nil {
		clear(r.Result)
		return nil, err
	}
	return r.Result, nil
}

// String names the key; %v of a Provider shows nothing else.
func (p *Provider) String() string { return "akv " + strings.TrimPrefix(p.id.String(), "https://") }

// GoString is String: the fields hold secrets.
func (p *Provider) GoString() string { return p.String() }
