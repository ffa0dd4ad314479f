package akvtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Directory is the tenant that gives tokens (Microsoft Entra ID). It has one
// application from the start: ClientID with Secret.
type Directory struct {
	Tenant   string
	ClientID string
	Secret   string

	s              *Server
	identitySecret string // of the managed-identity endpoint
	apps           map[string]*application
	tokens         map[string]token
	lifetime       time.Duration
}

type application struct {
	secrets      map[string]bool // secret → has expired
	certificates []*x509.Certificate
	federated    []string
	managed      bool
}

type token struct {
	audience string
	expires  time.Time
}

func newDirectory(s *Server) *Directory {
	d := &Directory{
		Tenant: uuid.NewString(), ClientID: uuid.NewString(), Secret: randomText(),
		s: s, identitySecret: randomText(), lifetime: time.Hour,
		apps: make(map[string]*application), tokens: make(map[string]token),
	}
	d.apps[d.ClientID] = &application{secrets: map[string]bool{d.Secret: false}}
	return d
}

func randomText() string {
	var b [24]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // the system has no random numbers
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// edit changes an application, and makes it if it is not there.
func (d *Directory) edit(client string, f func(*application)) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	a := d.apps[client]
	if a == nil {
		a = &application{secrets: make(map[string]bool)}
		d.apps[client] = a
	}
	f(a)
}

// AddSecret gives an application one more secret.
func (d *Directory) AddSecret(client, secret string) {
	d.edit(client, func(a *application) { a.secrets[secret] = false })
}

// ExpireSecrets ends an application's secrets.
func (d *Directory) ExpireSecrets(client string) {
	d.edit(client, func(a *application) {
		for secret := range a.secrets {
			a.secrets[secret] = true
		}
	})
}

// RemoveSecrets takes an application's secrets away.
func (d *Directory) RemoveSecrets(client string) {
	d.edit(client, func(a *application) { clear(a.secrets) })
}

// AddCertificate registers a certificate for an application.
func (d *Directory) AddCertificate(client string, cert *x509.Certificate) {
	d.edit(client, func(a *application) { a.certificates = append(a.certificates, cert) })
}

// AddFederated lets a token of another issuer stand for an application.
func (d *Directory) AddFederated(client, assertion string) {
	d.edit(client, func(a *application) { a.federated = append(a.federated, assertion) })
}

// AddManaged makes an identity that the managed-identity endpoint knows; "" is
// the host's own.
func (d *Directory) AddManaged(client string) {
	d.edit(client, func(a *application) { a.managed = true })
}

// RemoveApplication takes an application away.
func (d *Directory) RemoveApplication(client string) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	delete(d.apps, client)
}

// RevokeTokens ends all tokens given so far.
func (d *Directory) RevokeTokens() {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	clear(d.tokens)
}

// SetTokenLifetime is for tokens given from now on.
func (d *Directory) SetTokenLifetime(l time.Duration) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.lifetime = l
}

// Tokens are those that are valid, so that tests can look for them in texts.
func (d *Directory) Tokens() []string {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return slices.Collect(maps.Keys(d.tokens))
}

// valid reports whether a request has a token for the audience.
func (d *Directory) valid(r *http.Request, audience string) bool {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	now := d.s.now()
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	t, known := d.tokens[text]
	return ok && known && t.audience == audience && now.Before(t.expires)
}

func (d *Directory) newToken(audience string) (text string, lifetime time.Duration) {
	text = "token-" + randomText()
	now := d.s.now()
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.tokens[text] = token{audience, now.Add(d.lifetime)}
	return text, d.lifetime
}

// oauthError is an error as the directory answers it.
type oauthError struct {
	status int
	code   string
	aadsts int
}

func (e *oauthError) Error() string { return fmt.Sprintf("%s, AADSTS%d", e.code, e.aadsts) }

func writeOAuthError(w http.ResponseWriter, status int, code string, aadsts int) {
	body := map[string]any{
		"error": code, "error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: 0 Correlation ID: 0", aadsts, Marker),
		"trace_id": uuid.NewString(), "correlation_id": uuid.NewString(), "timestamp": "2026-01-01 00:00:00Z",
	}
	if aadsts > 0 {
		body["error_codes"] = []int{aadsts}
	}
	writeJSON(w, status, body)
}

// ServeHTTP answers discovery and token requests.
func (d *Directory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	rest := strings.Join(parts[1:], "/")
	request := "discovery"
	if rest == "oauth2/v2.0/token" {
		request = "token"
	}
	d.s.record(Request{Host: directoryHost, Request: request})
	if d.s.strike(w, r, directoryHost, request) {
		return
	}
	switch {
	case parts[0] == "common" && rest == "discovery/instance":
		d.serveInstance(w, r)
	case parts[0] != d.Tenant:
		writeOAuthError(w, http.StatusBadRequest, "invalid_tenant", 90002)
	case rest == "v2.0/.well-known/openid-configuration":
		base := d.s.AuthorityURL() + d.Tenant
		writeJSON(w, http.StatusOK, map[string]any{
			"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"issuer": base + "/v2.0",
		})
	case request == "token" && r.Method == http.MethodPost:
		d.serveToken(w, r)
	default:
		http.Error(w, Marker, http.StatusNotFound)
	}
}

// serveInstance is the discovery that is asked about directories which are not
// known to the client.
func (d *Directory) serveInstance(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": d.s.AuthorityURL() + d.Tenant + "/v2.0/.well-known/openid-configuration",
		"api-version":               r.URL.Query().Get("api-version"),
		"metadata": []any{map[string]any{
			"preferred_network": d.s.o.Authority, "preferred_cache": d.s.o.Authority, "aliases": []string{d.s.o.Authority},
		}},
	})
}

// serveToken is the client-credentials grant of RFC 6749 section 4.4, with the
// assertions of RFC 7523.
func (d *Directory) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		writeOAuthError(w, http.StatusBadRequest, "invalid_request", 900144)
		return
	}
	if e := d.authenticate(r); e != nil {
		writeOAuthError(w, e.status, e.code, e.aadsts)
		return
	}
	audience, ok := strings.CutSuffix(strings.Fields(r.PostForm.Get("scope") + " x")[0], "/.default")
	if !ok {
		writeOAuthError(w, http.StatusBadRequest, "invalid_scope", 70011)
		return
	}
	text, lifetime := d.newToken(audience)
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "expires_in": int(lifetime.Seconds()), "ext_expires_in": int(lifetime.Seconds()), "access_token": text,
	})
}

// authenticate checks a client's secret or assertion.
func (d *Directory) authenticate(r *http.Request) *oauthError {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	client := r.PostForm.Get("client_id")
	app := d.apps[client]
	if app == nil {
		return &oauthError{http.StatusBadRequest, "unauthorized_client", 700016}
	}
	if assertion := r.PostForm.Get("client_assertion"); assertion != "" {
		return app.checkAssertion(client, d.s.AuthorityURL()+d.Tenant+"/oauth2/v2.0/token", assertion)
	}
	expired, known := app.secrets[r.PostForm.Get("client_secret")]
	switch {
	case !known:
		return &oauthError{http.StatusUnauthorized, "invalid_client", 7000215}
	case expired:
		return &oauthError{http.StatusUnauthorized, "invalid_client", 7000222}
	}
	return nil
}

// checkAssertion accepts a federated token, or a JWT that one of the
// certificates has signed.
func (a *application) checkAssertion(client, audience, assertion string) *oauthError {
	if slices.Contains(a.federated, assertion) {
		return nil
	}
	_, err := jwt.Parse(assertion, func(t *jwt.Token) (any, error) {
		thumbprint, err := base64.StdEncoding.DecodeString(fmt.Sprint(t.Header["x5t#S256"]))
		if err != nil {
			return nil, err
		}
		for _, c := range a.certificates {
			sum := sha256.Sum256(c.Raw)
			key, isRSA := c.PublicKey.(*rsa.PublicKey)
			if isRSA && subtle.ConstantTimeCompare(sum[:], thumbprint) == 1 {
				return key, nil
			}
		}
		return nil, errors.New("no such certificate")
	}, jwt.WithValidMethods([]string{"PS256"}), jwt.WithAudience(audience), jwt.WithIssuer(client), jwt.WithSubject(client), jwt.WithExpirationRequired())
	switch {
	case err == nil:
		return nil
	case len(a.certificates) == 0:
		return &oauthError{http.StatusUnauthorized, "invalid_client", 700213}
	}
	return &oauthError{http.StatusUnauthorized, "invalid_client", 700027}
}

// Paths of the managed-identity endpoints: of virtual machines and of App
// Service.
const (
	imdsPath       = "/metadata/identity/oauth2/token"
	appServicePath = "/identity/token"
)

// serveIdentity gives a token to who is on this host.
func (d *Directory) serveIdentity(w http.ResponseWriter, r *http.Request) {
	d.s.record(Request{Host: identityHost, Request: "token"})
	if d.s.strike(w, r, identityHost, "token") {
		return
	}
	q := r.URL.Query()
	known := r.URL.Path == imdsPath && r.Header.Get("Metadata") == "true" ||
		r.URL.Path == appServicePath && r.Header.Get("X-IDENTITY-HEADER") == d.identitySecret
	d.s.mu.Lock()
	app := d.apps[q.Get("client_id")]
	known = known && app != nil && app.managed
	d.s.mu.Unlock()
	if !known {
		writeOAuthError(w, http.StatusBadRequest, "invalid_request", 0)
		return
	}
	text, lifetime := d.newToken(q.Get("resource"))
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": text, "token_type": "Bearer", "resource": q.Get("resource"),
		"expires_in": strconv.Itoa(int(lifetime.Seconds())), "expires_on": strconv.FormatInt(d.s.now().Add(lifetime).Unix(), 10),
	})
}
