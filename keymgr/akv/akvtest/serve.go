package akvtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake"
)

var discard = log.New(io.Discard, "", 0)

// vaultError is an error as Key Vault answers it.
type vaultError struct {
	status  int
	code    string
	inner   string
	message string
}

func (e *vaultError) Error() string { return e.code + ": " + e.message }

func forbidden(inner, message string) *vaultError {
	return &vaultError{http.StatusForbidden, "Forbidden", inner, message}
}

func notFound(message string) *vaultError {
	return &vaultError{http.StatusNotFound, "KeyNotFound", "", message}
}

func writeVaultError(w http.ResponseWriter, e *vaultError) {
	body := map[string]any{"code": e.code, "message": e.message + "\r\n" + Marker}
	if e.inner != "" {
		body["innererror"] = map[string]any{"code": e.inner}
	}
	writeJSON(w, e.status, map[string]any{"error": body})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// requestKind is one kind of request: the name that tests use, the call of
// azkeys that it belongs to.
type requestKind struct{ name, api string }

var requestKinds = map[string]requestKind{
	"GET keys":       {"get", "Client.GetKey"},
	"GET deleted":    {"getDeleted", "Client.GetDeletedKey"},
	"GET versions":   {"list", "Client.NewListKeyPropertiesVersionsPager"},
	"POST wrapkey":   {"wrapKey", "Client.WrapKey"},
	"POST unwrapkey": {"unwrapKey", "Client.UnwrapKey"},
	"POST encrypt":   {"encrypt", "Client.Encrypt"},
	"POST decrypt":   {"decrypt", "Client.Decrypt"},
}

// understand finds out what a request asks for.
func understand(r *http.Request) (kind requestKind, key, version string, ok bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 2 {
		return kind, "", "", false
	}
	key = parts[1]
	what := ""
	switch {
	case parts[0] == "deletedkeys" && len(parts) == 2:
		what = "deleted"
	case parts[0] == "keys" && len(parts) == 3 && parts[2] == "versions":
		return requestKinds[r.Method+" versions"], key, "", r.Method == http.MethodGet
	case parts[0] == "keys" && len(parts) <= 3 && r.Method == http.MethodGet:
		what = "keys"
	case parts[0] == "keys":
		what = strings.ToLower(parts[len(parts)-1])
	}
	if parts[0] == "keys" && len(parts) >= 3 && (what == "keys" || len(parts) == 4) {
		version = parts[2]
	}
	kind, ok = requestKinds[r.Method+" "+what]
	return kind, key, version, ok
}

// ServeHTTP answers as the vault: challenge, faults, permissions, then the
// request itself through azkeys/fake.
func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-ms-request-id", "9f6c0a3e-0000-4000-8000-000000000001")
	w.Header().Set("x-ms-keyvault-service-version", "1.9.0.0")
	if !v.s.directory.valid(r, v.s.resource(v.host)) {
		if !v.s.strike(w, r, v.host, challengeRequest) {
			v.challenge(w)
		}
		return
	}
	kind, key, version, ok := understand(r)
	if !ok {
		writeVaultError(w, &vaultError{http.StatusMethodNotAllowed, "MethodNotAllowed", "", "the test vault does not do that"})
		return
	}
	v.s.record(Request{v.host, kind.name, key, version})
	if v.s.strike(w, r, v.host, kind.name) {
		return
	}
	if inner, denied := v.denies(kind.name); denied {
		writeVaultError(w, forbidden(inner, "Caller is not authorized to perform action on resource."))
		return
	}
	v.forward(w, r, kind.api)
}

// challenge is the 401 that tells where to get a token and for what.
func (v *Vault) challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="%s%s", resource="%s"`,
		v.s.AuthorityURL(), v.s.directory.Tenant, v.s.resource(v.host)))
	writeVaultError(w, &vaultError{http.StatusUnauthorized, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token."})
}

func (v *Vault) denies(request string) (inner string, denied bool) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	for _, r := range []string{"*", strings.ToLower(request)} {
		if inner, denied = v.denied[r]; denied {
			return inner, true
		}
	}
	return "", false
}

// forward has azkeys/fake decode the request, call the vault and encode what it
// returns.
func (v *Vault) forward(w http.ResponseWriter, r *http.Request, api string) {
	transport := fake.NewServerTransport(&fake.Server{
		GetKey: v.getKey, GetDeletedKey: v.getDeletedKey, NewListKeyPropertiesVersionsPager: v.listVersions,
		WrapKey: v.wrapKey, UnwrapKey: v.unwrapKey, Encrypt: v.encrypt, Decrypt: v.decrypt,
	})
	// azkeys/fake panics if the context ends while it works.
	ctx := context.WithValue(context.WithoutCancel(r.Context()), runtime.CtxAPINameKey{}, api)
	resp, err := transport.Do(r.WithContext(ctx))
	if err != nil {
		e, ok := errors.AsType[*vaultError](err)
		if !ok {
			e = &vaultError{http.StatusBadRequest, "BadParameter", "", "the request cannot be read"}
		}
		writeVaultError(w, e)
		return
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// respond makes the two results that the functions of fake.Server have.
func respond[T any](value T, err *vaultError) (r azfake.Responder[T], e azfake.ErrorResponder) {
	if err != nil {
		e.SetError(err)
		return r, e
	}
	r.SetResponse(http.StatusOK, value, nil)
	return r, e
}

func (v *Vault) getKey(_ context.Context, name, id string, _ *azkeys.GetKeyOptions) (azfake.Responder[azkeys.GetKeyResponse], azfake.ErrorResponder) {
	name, id = nameAndVersion(name, id)
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k, one, err := v.lookUp(name, id)
	if err != nil {
		return respond(azkeys.GetKeyResponse{}, err)
	}
	return respond(azkeys.GetKeyResponse{KeyBundle: v.bundle(name, k, one)}, nil)
}

func (v *Vault) getDeletedKey(_ context.Context, name string, _ *azkeys.GetDeletedKeyOptions) (azfake.Responder[azkeys.GetDeletedKeyResponse], azfake.ErrorResponder) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k := v.keys[name]
	if k == nil || k.deleted.IsZero() {
		return respond(azkeys.GetDeletedKeyResponse{}, notFound("Deleted Key not found: "+name))
	}
	b := v.bundle(name, k, k.version(""))
	return respond(azkeys.GetDeletedKeyResponse{DeletedKey: azkeys.DeletedKey{
		Attributes: b.Attributes, Key: b.Key, DeletedDate: to.Ptr(k.deleted),
		RecoveryID:         to.Ptr(v.URL() + "/deletedkeys/" + name),
		ScheduledPurgeDate: to.Ptr(k.deleted.Add(retention)),
	}}, nil)
}

// listVersions lists all versions of a key as one page.
func (v *Vault) listVersions(name string, _ *azkeys.ListKeyPropertiesVersionsOptions) (r azfake.PagerResponder[azkeys.ListKeyPropertiesVersionsResponse]) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k, _, err := v.lookUp(name, "")
	if err != nil {
		r.AddError(err)
		return r
	}
	var page azkeys.KeyPropertiesListResult
	for _, one := range k.versions {
		b := v.bundle(name, k, one)
		page.Value = append(page.Value, &azkeys.KeyProperties{KID: b.Key.KID, Attributes: b.Attributes})
	}
	r.AddPage(http.StatusOK, azkeys.ListKeyPropertiesVersionsResponse{KeyPropertiesListResult: page}, nil)
	return r
}

// nameAndVersion undoes what azkeys/fake's patterns do: the one for the name
// takes slashes too, and so the version.
func nameAndVersion(name, version string) (string, string) {
	name, swallowed, _ := strings.Cut(name, "/")
	return name, cmp.Or(swallowed, version)
}

// lookUp finds a version that is not deleted. s.mu is held.
func (v *Vault) lookUp(name, id string) (*key, *version, *vaultError) {
	k := v.keys[name]
	if k == nil || !k.deleted.IsZero() {
		return nil, nil, notFound("A key with (name/id) " + name + " was not found in this key vault. If you recently deleted this key you may be able to recover it using the correct recovery command.")
	}
	one := k.version(id)
	if one == nil {
		return nil, nil, notFound("A key with (name/id) " + name + "/" + id + " was not found in this key vault.")
	}
	return k, one, nil
}

// bundle describes a version. s.mu is held.
func (v *Vault) bundle(name string, k *key, one *version) azkeys.KeyBundle {
	jwk := &azkeys.JSONWebKey{
		KID: to.Ptr(azkeys.ID(v.KeyID(name, one.id))), Kty: to.Ptr(azkeys.KeyType(k.spec.Type)),
	}
	for _, op := range k.ops() {
		jwk.KeyOps = append(jwk.KeyOps, to.Ptr(azkeys.KeyOperation(op)))
	}
	if one.rsa != nil {
		jwk.N, jwk.E = one.rsa.N.Bytes(), big.NewInt(int64(one.rsa.E)).Bytes()
	}
	return azkeys.KeyBundle{Key: jwk, Attributes: &azkeys.KeyAttributes{
		Enabled: to.Ptr(one.enabled), Created: to.Ptr(one.created), Updated: to.Ptr(one.updated),
		NotBefore: orNil(one.notBefore), Expires: orNil(one.expires),
		RecoveryLevel: to.Ptr("Recoverable+Purgeable"), RecoverableDays: to.Ptr(int32(retention / (24 * time.Hour))),
	}}
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (v *Vault) wrapKey(_ context.Context, name, id string, p azkeys.KeyOperationParameters, _ *azkeys.WrapKeyOptions) (azfake.Responder[azkeys.WrapKeyResponse], azfake.ErrorResponder) {
	r, err := v.operate(name, id, "wrapKey", p)
	return respond(azkeys.WrapKeyResponse{KeyOperationResult: r}, err)
}

func (v *Vault) unwrapKey(_ context.Context, name, id string, p azkeys.KeyOperationParameters, _ *azkeys.UnwrapKeyOptions) (azfake.Responder[azkeys.UnwrapKeyResponse], azfake.ErrorResponder) {
	r, err := v.operate(name, id, "unwrapKey", p)
	return respond(azkeys.UnwrapKeyResponse{KeyOperationResult: r}, err)
}

func (v *Vault) encrypt(_ context.Context, name, id string, p azkeys.KeyOperationParameters, _ *azkeys.EncryptOptions) (azfake.Responder[azkeys.EncryptResponse], azfake.ErrorResponder) {
	r, err := v.operate(name, id, "encrypt", p)
	return respond(azkeys.EncryptResponse{KeyOperationResult: r}, err)
}

func (v *Vault) decrypt(_ context.Context, name, id string, p azkeys.KeyOperationParameters, _ *azkeys.DecryptOptions) (azfake.Responder[azkeys.DecryptResponse], azfake.ErrorResponder) {
	r, err := v.operate(name, id, "decrypt", p)
	return respond(azkeys.DecryptResponse{KeyOperationResult: r}, err)
}

// operate does one of the four operations.
func (v *Vault) operate(name, id, op string, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, *vaultError) {
	name, id = nameAndVersion(name, id)
	now := v.s.now()
	one, err := v.mayOperate(name, id, op, now)
	if err != nil {
		return azkeys.KeyOperationResult{}, err
	}
	if p.Algorithm == nil {
		return azkeys.KeyOperationResult{}, &vaultError{http.StatusBadRequest, "BadParameter", "", "Property 'alg' is required."}
	}
	work := one.seal
	if op == "unwrapKey" || op == "decrypt" {
		work = one.open
	}
	result, failed := work(string(*p.Algorithm), p.Value)
	if failed != nil {
		return azkeys.KeyOperationResult{}, &vaultError{http.StatusBadRequest, "BadParameter", "", failed.Error()}
	}
	return azkeys.KeyOperationResult{KID: to.Ptr(azkeys.ID(v.KeyID(name, one.id))), Result: result}, nil
}

// mayOperate applies Key Vault's rules and returns a copy of the version. Dates
// bind only what makes new ciphertext; disabling binds only what opens it.
func (v *Vault) mayOperate(name, id, op string, now time.Time) (version, *vaultError) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	k, one, err := v.lookUp(name, id)
	if err != nil {
		return version{}, err
	}
	opens := op == "unwrapKey" || op == "decrypt"
	switch {
	case !slices.Contains(k.ops(), op):
		err = forbidden("KeyOperationForbidden", "Operation "+op+" is not permitted on this key.")
	case !one.enabled && opens:
		err = forbidden("KeyDisabled", "Operation "+op+" is not allowed on a disabled key.")
	case !opens && !one.expires.IsZero() && !now.Before(one.expires):
		err = forbidden("KeyExpired", "Operation "+op+" is not allowed on an expired key.")
	case !opens && now.Before(one.notBefore):
		err = forbidden("KeyNotYetValid", "Operation "+op+" is not allowed on a key that is not yet valid.")
	}
	return *one, err
}
