package akv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/akvfs/akvfs/keymgr"
)

// Probe is what a vault answered when each thing that a key needs was asked
// for by itself. nil stands for a right answer, ErrNotAsked for what could not
// be asked because something before it failed. All others are *keymgr.KeyError.
type Probe struct {
	Info  keymgr.KeyInfo // what get told; zero if that failed
	Reach error          // vault and directory answer
	Token error          // the directory knows who we are, and the vault takes that
	Get   error          // permission get, and the key is there
	Type  error          // type, size and operations of the key serve
	State error          // enabled, and within its dates by the vault's clock
	List  error          // permission list
	Seal  error          // permission wrapKey, or encrypt
	Open  error          // permission unwrapKey, or decrypt, and the round trip
}

// ErrNotAsked stands for what a Probe could not find out.
var ErrNotAsked = errors.New("not asked, because of what is wrong before it")

// probeBytes is as long as a master key.
const probeBytes = 32

// probed is what one get tells of a key for the requests after it.
type probed struct {
	attributes
	state error
}

// Probe asks the vault for everything that akvfs needs of it, permission by
// permission, so that all that is missing is told at once. It changes nothing.
func (p *Provider) Probe(ctx context.Context) Probe {
	r := Probe{Type: ErrNotAsked, State: ErrNotAsked, List: ErrNotAsked, Seal: ErrNotAsked, Open: ErrNotAsked}
	key, err := call(ctx, p, opDescribe, p.id.Version, func(ctx context.Context, s *session) (probed, error) {
		a, err := p.get(ctx, s, p.id.Version)
		return probed{a, a.usable(traceOf(ctx).vaultTime(p.cfg.Now))}, err
	}, keep)
	failed, _ := errors.AsType[*keymgr.KeyError](err)
	switch {
	case err == nil:
		r.Info = key.KeyInfo
		r.Type, r.State = p.told(key.Version, key.permits(p.cfg.Operation)), p.told(key.Version, key.state)
	case failed != nil && failed.Class == keymgr.Unreachable:
		r.Reach, r.Token, r.Get = err, ErrNotAsked, ErrNotAsked
		return r
	case failed != nil && failed.Class == keymgr.Credentials:
		r.Token, r.Get = err, ErrNotAsked
		return r
	default:
		r.Get = err
		if failed == nil || !IsForbidden(err) {
			return r // there is no such key
		}
	}
	r.List = p.probeList(ctx)
	if err == nil && (r.Type != nil || r.State != nil) {
		return r
	}
	r.Seal, r.Open = p.probeUse(ctx, key.attributes)
	return r
}

// IsForbidden reports whether it is a permission that is missing: the vault
// knows who asks, and may well have the key.
func IsForbidden(err error) bool {
	ke, ok := errors.AsType[*keymgr.KeyError](err)
	if !ok || ke.Class != keymgr.Revoked {
		return false
	}
	a, ok := errors.AsType[*AnswerError](ke.Err)
	return ok && a.Status == http.StatusForbidden
}

// told makes a judgement of the key an error like the vault's.
func (p *Provider) told(version string, err error) error {
	if v, ok := errors.AsType[*verdictError](err); ok {
		return p.fail(opDescribe, version, verdict(*v))
	}
	return err
}

func (p *Provider) probeList(ctx context.Context) error {
	_, err := call(ctx, p, "list", p.id.Version, func(ctx context.Context, s *session) (struct{}, error) {
		traceOf(ctx).asks("list")
		_, err := s.keys.NewListKeyPropertiesVersionsPager(p.id.Name, nil).NextPage(ctx)
		return struct{}{}, err
	}, keep)
	return err
}

// probeUse has the key wrap a random secret and unwrap it again. Where it may
// not wrap, it unwraps nonsense: who may not unwrap hears of that first.
func (p *Provider) probeUse(ctx context.Context, a attributes) (seal, open error) {
	w := keymgr.Wrapped{KeyID: p.id.Base(), Version: a.Version, Operation: p.cfg.Operation, Algorithm: keymgr.AlgRSAOAEP256}
	if alg, err := a.algorithm(); err == nil {
		w.Algorithm = alg
	}
	secret := make([]byte, probeBytes)
	rand.Read(secret)
	w.Ciphertext, seal = call(ctx, p, p.cfg.Operation, a.Version, func(ctx context.Context, s *session) ([]byte, error) {
		return p.transform(ctx, s, sealing[w.Operation], w, bytes.Clone(secret))
	}, keep)
	if seal != nil {
		w.Ciphertext = make([]byte, max(a.Size, minRSABits)/8)
		rand.Read(w.Ciphertext)
	}
	op := opUnwrap
	if w.Operation == keymgr.OpEncrypt {
		op = opDecrypt
	}
	back, open := call(ctx, p, op, a.Version, func(ctx context.Context, s *session) ([]byte, error) {
		return p.transform(ctx, s, opening[w.Operation], w, w.Ciphertext)
	}, zeroUntaken)
	refusal, _ := errors.AsType[*keymgr.KeyError](open)
	switch {
	case seal != nil && refusal != nil && refusal.Class == keymgr.Mismatch:
		open = nil // it was willing
	case seal == nil && open == nil && !bytes.Equal(back, secret):
		open = p.fail(op, a.Version, verdict{keymgr.Mismatch, CodeWrongWrap, errors.New("it unwraps something else than it wrapped")})
	}
	return seal, open
}
