package akv

import (
	"math/big"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/akvfs/akvfs/keymgr"
)

// minRSABits is the smallest modulus that may wrap a master key. Key Vault
// makes none smaller, but imports some.
const minRSABits = 2048

// attributes are what a vault tells about one version of a key.
type attributes struct {
	keymgr.KeyInfo
	ops []string // that the key may be used for; empty: the vault did not say
}

// readAttributes checks an answer to "get": it must be about the key, and the
// version if one was asked for.
func (p *Provider) readAttributes(b azkeys.KeyBundle, version string) (attributes, error) {
	if b.Key == nil || b.Key.KID == nil || b.Key.Kty == nil || b.Attributes == nil || b.Attributes.Enabled == nil {
		return attributes{}, judged(keymgr.Unreachable, CodeBadAnswer, "%s described the key without saying what it is", p.id.Host)
	}
	got, err := p.checkKID(b.Key.KID, version)
	if err != nil {
		return attributes{}, err
	}
	a := attributes{KeyInfo: keymgr.KeyInfo{
		KeyID: p.id.Base(), Version: got, Type: word(string(*b.Key.Kty)),
		Size:    new(big.Int).SetBytes(b.Key.N).BitLen(),
		Enabled: *b.Attributes.Enabled,
		Created: utc(b.Attributes.Created), Updated: utc(b.Attributes.Updated),
		NotBefore: utc(b.Attributes.NotBefore), Expires: utc(b.Attributes.Expires),
	}}
	if l := b.Attributes.RecoveryLevel; l != nil {
		a.RecoveryLevel = *l
	}
	if d := b.Attributes.RecoverableDays; d != nil {
		a.RecoveryDays = int(*d)
	}
	for _, op := range b.Key.KeyOps {
		if op != nil {
			a.ops = append(a.ops, string(*op))
		}
	}
	return a, nil
}

func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// checkKID refuses an answer about another key, or about another version than
// was asked for, and returns the version.
func (p *Provider) checkKID(kid *azkeys.ID, version string) (string, error) {
	if kid == nil {
		return "", judged(keymgr.Unreachable, CodeBadAnswer, "%s did not say which key it used", p.id.Host)
	}
	got, _, err := parseID(string(*kid), p.cfg.DNSSuffixes)
	if err != nil || got.Version == "" || !got.sameKey(p.id) || version != "" && got.Version != version {
		return "", judged(keymgr.Mismatch, CodeWrongKey, "%s answered for another key than was asked for", p.id.Host)
	}
	return got.Version, nil
}

// usable judges the key's state by the vault's clock.
func (a attributes) usable(now time.Time) error {
	const layout = "2006-01-02 15:04:05 MST"
	switch {
	case !a.Enabled:
		return judged(keymgr.Revoked, "KeyDisabled", "this version of the key is disabled")
	case !a.Expires.IsZero() && !now.Before(a.Expires):
		return judged(keymgr.Revoked, "KeyExpired", "it expired at %s; the vault's clock says %s",
			a.Expires.Format(layout), now.UTC().Format(layout))
	case !a.NotBefore.IsZero() && now.Before(a.NotBefore):
		return judged(keymgr.Revoked, "KeyNotYetValid", "it is valid from %s; the vault's clock says %s",
			a.NotBefore.Format(layout), now.UTC().Format(layout))
	}
	return nil
}

// Codes of keys that cannot serve, and of wraps that are not the key's.
const (
	CodeKeyType   = "UnsupportedKeyType"
	CodeKeySize   = "KeyTooSmall"
	CodeOperation = "OperationNotPermitted"
	CodeWrongKey  = "WrongKey"
	CodeWrongWrap = "WrongWrap" // not what this key makes
)

// algorithm is how this type of key wraps.
func (a attributes) algorithm() (string, error) {
	switch azkeys.KeyType(a.Type) {
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		if a.Size < minRSABits {
			return "", judged(keymgr.Invalid, CodeKeySize, "its modulus has %d bits; at least %d are needed", a.Size, minRSABits)
		}
		return keymgr.AlgRSAOAEP256, nil
	case azkeys.KeyTypeOct, azkeys.KeyTypeOctHSM:
		return keymgr.AlgA256KW, nil
	}
	return "", judged(keymgr.Invalid, CodeKeyType, "keys of type %s cannot wrap; RSA, RSA-HSM and oct-HSM can", a.Type)
}

// permits finds out whether the key can be used in both directions, so that
// nothing is wrapped that could not be unwrapped.
func (a attributes) permits(operation string) error {
	alg, err := a.algorithm()
	if err != nil {
		return err
	}
	if alg == keymgr.AlgA256KW && operation == keymgr.OpEncrypt {
		return judged(keymgr.Invalid, CodeOperation, "keys of type %s wrap; they do not encrypt by %s", a.Type, alg)
	}
	if len(a.ops) == 0 {
		return nil
	}
	need := []string{"wrapKey", "unwrapKey"}
	if operation == keymgr.OpEncrypt {
		need = []string{"encrypt", "decrypt"}
	}
	for _, op := range need {
		if !slices.Contains(a.ops, op) {
			return judged(keymgr.Invalid, CodeOperation, "the key may not be used for %s (its key operations)", op)
		}
	}
	return nil
}

// madeBy refuses a wrap that this type of key does not make.
func (a attributes) madeBy(w keymgr.Wrapped) error {
	alg, err := a.algorithm()
	if err == nil && alg == w.Algorithm && !(alg == keymgr.AlgA256KW && w.Operation == keymgr.OpEncrypt) {
		return nil
	}
	return judged(keymgr.Mismatch, CodeWrongWrap, "a key of type %s with %d bits does not %s by %s", a.Type, a.Size, w.Operation, w.Algorithm)
}
