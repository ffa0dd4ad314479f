package project

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
	"github.com/akvfs/akvfs/keymgr/file"
)

// Report is what a vault said to everything that a project promises.
type Report struct {
	Project string         `json:"project"`
	KeyID   string         `json:"key_id"`
	Proven  bool           `json:"proven"`
	Checks  []Check        `json:"checks"`
	Key     keymgr.KeyInfo `json:"-"` // as far as it could be read
}

// Check is one line of a Report.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Detail says what was found, or what is wrong.
	Detail string `json:"detail"`
	// Permission is what an access policy has to grant; "" for a check that is
	// not about one, or that went well.
	Permission string `json:"permission,omitempty"`
	// Role is the role of Azure RBAC that has the permission.
	Role string `json:"role,omitempty"`

	err error
}

// State is how a Check went.
type State string

// The states of a Check.
const (
	OK       State = "ok"
	Failed   State = "failed"
	NotAsked State = "not-asked"
)

// The names of the checks, in their order.
const (
	CheckReach = "reach"
	CheckToken = "token"
	CheckGet   = "get"
	CheckType  = "type"
	CheckState = "state"
	CheckList  = "list"
)

// Roles that grant what akvfs needs, with the least besides.
const (
	roleWrap       = "Key Vault Crypto Service Encryption User"
	roleEncrypt    = "Key Vault Crypto User"
	roleHSMWrap    = "Managed HSM Crypto Service Encryption User"
	roleHSMEncrypt = "Managed HSM Crypto User"
)

// UnprovenError says that a project's configuration does not give access.
type UnprovenError struct{ Report Report }

func (e *UnprovenError) Error() string {
	n := 0
	for _, c := range e.Report.Checks {
		if c.State == Failed {
			n++
		}
	}
	return fmt.Sprintf("the configuration of project %s is not proven: %d of %d checks failed", e.Report.Project, n, len(e.Report.Checks))
}

// Unwrap is what went wrong first.
func (e *UnprovenError) Unwrap() error {
	for _, c := range e.Report.Checks {
		if c.State == Failed {
			return c.err
		}
	}
	return nil
}

// Prove asks the vault for a token, for the key, for its versions, and for a
// round trip through its operations. It changes nothing. The error is an
// *UnprovenError with the same report, or a *CredentialError.
func (p Project) Prove(ctx context.Context, timeout time.Duration, env Env) (Report, error) {
	options := keymgr.ProviderOptions{Operation: p.Config.Operation(), Timeout: timeout}
	r := Report{Project: p.Name, KeyID: p.Config.KeyID}
	if p.Config.Embedded() {
		p.proveEmbedded(ctx, options, &r)
	} else if err := p.proveVault(ctx, options, env, &r); err != nil {
		return r, err
	}
	r.Proven = true
	for _, c := range r.Checks {
		r.Proven = r.Proven && c.State == OK
	}
	if !r.Proven {
		return r, &UnprovenError{r}
	}
	return r, nil
}

func (p Project) proveVault(ctx context.Context, o keymgr.ProviderOptions, env Env, r *Report) error {
	provider, err := p.vault(p.Config.KeyID, o, env)
	if bad, ok := errors.AsType[*CredentialError](err); ok {
		return bad
	}
	if err != nil {
		return err
	}
	probe := provider.Probe(ctx)
	r.Key = probe.Info
	seal, open := "wrapKey", "unwrapKey"
	role := roleWrap
	if o.Operation == keymgr.OpEncrypt {
		seal, open, role = "encrypt", "decrypt", roleEncrypt
	}
	if id, err := akv.ParseID(p.Config.KeyID, p.Config.suffixes()...); err == nil && id.Cloud.HSM() {
		role = map[string]string{roleWrap: roleHSMWrap, roleEncrypt: roleHSMEncrypt}[role]
	}
	r.add(CheckReach, probe.Reach, "the vault and the directory answer", "", "")
	r.add(CheckToken, probe.Token, "the directory knows the identity", "", "")
	r.add(CheckGet, probe.Get, "the key can be read", "get", role)
	r.add(CheckType, probe.Type, describeType(probe.Info), "", "")
	r.add(CheckState, probe.State, describeState(probe.Info), "", "")
	r.add(CheckList, probe.List, "its versions can be listed", "list", role)
	r.add(seal, probe.Seal, "a secret goes in", seal, role)
	r.add(open, probe.Open, "and the same comes out", open, role)
	return nil
}

// add notes a check. A permission is named where it is what is missing.
func (r *Report) add(name string, err error, detail, permission, role string) {
	c := Check{Name: name, State: OK, Detail: detail, err: err}
	switch {
	case err == nil:
	case errors.Is(err, akv.ErrNotAsked):
		c.State, c.Detail = NotAsked, err.Error()
	default:
		c.State, c.Detail = Failed, err.Error()
		if akv.IsForbidden(err) {
			c.Permission, c.Role = permission, role
		}
	}
	r.Checks = append(r.Checks, c)
}

func describeType(k keymgr.KeyInfo) string {
	if k.Size == 0 {
		return fmt.Sprintf("the key is of type %s", k.Type)
	}
	return fmt.Sprintf("the key is of type %s with %d bits", k.Type, k.Size)
}

func describeState(k keymgr.KeyInfo) string {
	text := "version " + k.Version + " is enabled"
	if !k.Expires.IsZero() {
		text += " and expires at " + k.Expires.Format("2006-01-02 15:04:05 MST")
	}
	return text
}

func (p Project) proveEmbedded(ctx context.Context, o keymgr.ProviderOptions, r *Report) {
	provider, err := file.OpenProvider(p.Config.KeyID, o)
	if err != nil {
		r.add(CheckGet, err, "", "", "")
		return
	}
	if r.Key, err = provider.Describe(ctx); err != nil {
		r.add(CheckGet, err, "", "", "")
		return
	}
	r.add(CheckGet, nil, "the embedded key store can be read; it is not a vault", "", "")
	secret := make([]byte, 32)
	w, err := provider.Wrap(ctx, secret)
	r.add("wrapKey", err, "a secret goes in", "", "")
	if err == nil {
		_, err = provider.Unwrap(ctx, w)
		r.add("unwrapKey", err, "and comes out", "", "")
	}
}
