package akv

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// exitCodes are the command line's for each class; see its manual.
var exitCodes = map[keymgr.Class]int{
	keymgr.Unreachable: 10, keymgr.Revoked: 11, keymgr.Credentials: 12, keymgr.Mismatch: 14, keymgr.Invalid: 2,
}

// failure is one way in which a volume does not open: what happened in Azure
// or on the way to it, and what the provider makes of it.
type failure struct {
	name    string
	happens func(t *testing.T, c *cloud)
	config  func(*Config)
	exit    int
	code    string
	says    string
}

// fault is a happening of one injected answer.
func fault(f akvtest.Fault) func(*testing.T, *cloud) {
	return func(_ *testing.T, c *cloud) { c.Inject(f) }
}

// denied is the 403 that some request gets.
func denied(code string, requests ...string) func(*testing.T, *cloud) {
	return func(_ *testing.T, c *cloud) { c.vault.Deny(code, requests...) }
}

func budget(d time.Duration) func(*Config) {
	return func(cfg *Config) { cfg.Timeout = d }
}

var failures = []failure{
	// The key's state.
	{name: "disabled", exit: 11, code: "KeyDisabled", says: "is revoked (KeyDisabled)",
		happens: func(t *testing.T, c *cloud) { must(t, c.vault.Disable(keyName, "")) }},
	{name: "disabled, by the answer to unwrapKey", exit: 11, code: "KeyDisabled", says: "unwrapKey with HTTP 403 Forbidden, KeyDisabled",
		happens: fault(akvtest.Fault{Request: "unwrapKey", Status: 403, Code: "Forbidden", Inner: "KeyDisabled"})},
	{name: "deleted", exit: 11, code: "KeyDeleted", says: "it was deleted at ",
		happens: func(t *testing.T, c *cloud) { must(t, c.vault.Delete(keyName)) }},
	{name: "deleted and purged", exit: 11, code: "KeyNotFound", says: "HTTP 404 KeyNotFound",
		happens: func(t *testing.T, c *cloud) { must(t, c.vault.Purge(keyName)) }},
	{name: "deleted, and deleted keys may not be listed", exit: 11, code: "KeyNotFound", says: "HTTP 404 KeyNotFound",
		happens: func(t *testing.T, c *cloud) {
			must(t, c.vault.Delete(keyName))
			c.vault.Deny("ForbiddenByRbac", "getDeleted")
		}},
	{name: "being deleted", exit: 11, code: "ObjectIsBeingDeleted", says: "HTTP 409 Conflict, ObjectIsBeingDeleted",
		happens: fault(akvtest.Fault{Request: "get", Status: 409, Code: "Conflict", Inner: "ObjectIsBeingDeleted"})},
	{name: "expired", exit: 11, code: "KeyExpired", says: "it expired at 2020-02-03 04:05:06 UTC; the vault's clock says 20",
		happens: func(t *testing.T, c *cloud) {
			must(t, c.vault.SetExpires(keyName, "", time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)))
		}},
	{name: "not yet valid", exit: 11, code: "KeyNotYetValid", says: "it is valid from 2120-02-03 04:05:06 UTC",
		happens: func(t *testing.T, c *cloud) {
			must(t, c.vault.SetNotBefore(keyName, "", time.Date(2120, 2, 3, 4, 5, 6, 0, time.UTC)))
		}},

	// Permissions: all forms of 403.
	{name: "access policy", exit: 11, code: "ForbiddenByPolicy", says: "get with HTTP 403 Forbidden, ForbiddenByPolicy", happens: denied("ForbiddenByPolicy")},
	{name: "role assignment", exit: 11, code: "ForbiddenByRbac", says: "Forbidden, ForbiddenByRbac", happens: denied("ForbiddenByRbac")},
	{name: "only unwrapKey is taken away", exit: 11, code: "ForbiddenByRbac", says: "unwrapKey with HTTP 403", happens: denied("ForbiddenByRbac", "unwrapKey")},
	{name: "access denied", exit: 11, code: "AccessDenied", says: "Forbidden, AccessDenied", happens: denied("AccessDenied")},
	{name: "bare Forbidden", exit: 11, code: "Forbidden", says: "HTTP 403 Forbidden", happens: denied("")},
	{name: "a 403 nobody has heard of", exit: 11, code: "ForbiddenByMoonPhase", says: "ForbiddenByMoonPhase", happens: denied("ForbiddenByMoonPhase")},
	{name: "unwrapKey is no operation of the key any more", exit: 11, code: "KeyOperationForbidden", says: "KeyOperationForbidden",
		happens: func(t *testing.T, c *cloud) { must(t, c.vault.SetOps(keyName, "encrypt")) }},
	{name: "firewall", exit: 10, code: "ForbiddenByFirewall", says: "is unreachable (ForbiddenByFirewall)", happens: denied("ForbiddenByFirewall")},
	{name: "private link", exit: 10, code: "ForbiddenByConnection", says: "is unreachable (ForbiddenByConnection)", happens: denied("ForbiddenByConnection")},

	// Answers that say nothing about the key.
	{name: "throttled, longer than there is time", exit: 10, code: "Throttled", says: "HTTP 429 Throttled, retry after 1h0m0s",
		happens: fault(akvtest.Fault{Status: 429, Code: "Throttled", RetryAfter: "3600"})},
	{name: "internal error", exit: 10, code: "InternalServerError", says: "before that kv-test.vault.azure.net answered get with HTTP 500 InternalServerError", config: budget(2 * time.Second),
		happens: fault(akvtest.Fault{Status: 500, Code: "InternalServerError"})},
	{name: "unavailable, with Retry-After", exit: 10, code: "ServiceUnavailable", says: "HTTP 503", config: budget(5 * time.Second),
		happens: fault(akvtest.Fault{Status: 503, Code: "ServiceUnavailable", RetryAfter: "60"})},
	{name: "request time-out", exit: 10, code: "HTTP408", says: "no error code of Azure's", config: budget(5 * time.Second),
		happens: fault(akvtest.Fault{Status: 408, Raw: akvtest.Marker, RetryAfter: "60"})},
	{name: "a proxy's 403", exit: 10, code: "HTTP403", says: "HTTP 403 and no error code of Azure's",
		happens: fault(akvtest.Fault{Status: 403, Raw: "<html>" + akvtest.Marker + "</html>"})},
	{name: "a web server's 404", exit: 10, code: "HTTP404", says: "HTTP 404 and no error code",
		happens: fault(akvtest.Fault{Status: 404, Raw: akvtest.Marker})},
	{name: "a redirect", exit: 10, code: "HTTP307", says: "HTTP 307",
		happens: fault(akvtest.Fault{Status: 307, Raw: akvtest.Marker, Location: "https://elsewhere.vault.azure.net/"})},
	{name: "an answer that is no JSON", exit: 10, code: "BadAnswer", says: "makes no sense",
		happens: fault(akvtest.Fault{Request: "get", Raw: akvtest.Marker})},
	{name: "an answer that lacks the key", exit: 10, code: "BadAnswer", says: "without saying what it is",
		happens: fault(akvtest.Fault{Request: "get", Raw: "{}"})},
	{name: "an answer that lacks the key's name", exit: 10, code: "BadAnswer", says: "did not say which key",
		happens: fault(akvtest.Fault{Request: "unwrapKey", Raw: `{"value":"AAAA"}`})},
	{name: "slow", exit: 10, code: "Timeout", says: "is unreachable (Timeout)", config: budget(300 * time.Millisecond),
		happens: fault(akvtest.Fault{Delay: time.Hour})},
	{name: "reset", exit: 10, code: "ConnectionReset", says: "(ConnectionReset)", config: budget(2 * time.Second),
		happens: fault(akvtest.Fault{Reset: true})},
	{name: "expired certificate", exit: 10, code: "TLSFailure", says: "certificate",
		happens: func(_ *testing.T, c *cloud) { c.SetCertificate(akvtest.CertExpired) }},
	{name: "certificate of another host", exit: 10, code: "TLSFailure", says: "another.example",
		happens: func(_ *testing.T, c *cloud) { c.SetCertificate(akvtest.CertWrongName) }},
	{name: "certificate of an unknown authority", exit: 10, code: "TLSFailure", says: "unknown authority",
		happens: func(_ *testing.T, c *cloud) { c.SetCertificate(akvtest.CertUnknownCA) }},
	{name: "old TLS", exit: 10, code: "TLSFailure", says: "protocol version",
		happens: func(_ *testing.T, c *cloud) { c.SetCertificate(akvtest.CertOldTLS) }},
	{name: "DNS", exit: 10, code: "DNSFailure", says: "no such host", config: func(cfg *Config) {
		cfg.Timeout = time.Second
		cfg.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(address)
			return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
		}
	}},
	{name: "nobody listens", exit: 10, code: "ConnectionRefused", says: "connection refused", config: func(cfg *Config) {
		cfg.Timeout = time.Second
		cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:1")
		}
	}},

	// Who we are.
	{name: "wrong secret", exit: 12, code: "AADSTS7000215", says: "HTTP 401 invalid_client, AADSTS7000215; the client secret is wrong",
		happens: func(_ *testing.T, c *cloud) { c.env["AZURE_CLIENT_SECRET"] = "not-the-secret" }},
	{name: "expired secret", exit: 12, code: "AADSTS7000222", says: "the client secret has expired",
		happens: func(_ *testing.T, c *cloud) { c.Directory().ExpireSecrets(c.Directory().ClientID) }},
	{name: "application removed", exit: 12, code: "AADSTS700016", says: "no application of this client ID",
		happens: func(_ *testing.T, c *cloud) { c.Directory().RemoveApplication(c.Directory().ClientID) }},
	{name: "no such tenant", exit: 12, code: "AADSTS90002", says: "there is no such tenant",
		happens: func(_ *testing.T, c *cloud) { c.env["AZURE_TENANT_ID"] = "contoso.example" }},
	{name: "another tenant", exit: 12, code: "WrongTenant", says: "the vault belongs to tenant ",
		happens: func(_ *testing.T, c *cloud) {
			c.env["AZURE_TENANT_ID"] = "00000000-0000-4000-8000-000000000000"
		}},
	{name: "the vault refuses every token", exit: 12, code: "Unauthorized", says: "refuses our credentials (Unauthorized): kv-test.vault.azure.net answered get with HTTP 401",
		happens: fault(akvtest.Fault{Status: 401, Code: "Unauthorized"})},
	{name: "conditional access", exit: 12, code: "AADSTS53003", says: "conditional access refuses it",
		happens: fault(akvtest.Fault{Vault: "directory", Request: "token", Status: 400, Code: "access_denied", Inner: "AADSTS53003"})},

	// The directory is not there, which says nothing about who we are.
	{name: "directory throttles", exit: 10, code: "HTTP429", says: "login.microsoftonline.com answered the request for a token with HTTP 429", config: budget(5 * time.Second),
		happens: fault(akvtest.Fault{Vault: "directory", Status: 429, RetryAfter: "60", Raw: akvtest.Marker})},
	{name: "directory fails", exit: 10, code: "temporarily_unavailable", says: "login.microsoftonline.com answered the request for a token with HTTP 503", config: budget(2 * time.Second),
		happens: fault(akvtest.Fault{Vault: "directory", Status: 503, Code: "temporarily_unavailable"})},
	{name: "directory has a moment", exit: 10, code: "temporarily_unavailable", says: "temporarily_unavailable",
		happens: fault(akvtest.Fault{Vault: "directory", Request: "token", Status: 400, Code: "temporarily_unavailable"})},
	{name: "directory is slow", exit: 10, code: "Timeout", says: "(Timeout)", config: budget(300 * time.Millisecond),
		happens: fault(akvtest.Fault{Vault: "directory", Delay: time.Hour})},
	{name: "directory resets", exit: 10, code: "ConnectionReset", says: "login.microsoftonline.com", config: budget(2 * time.Second),
		happens: fault(akvtest.Fault{Vault: "directory", Reset: true})},
	{name: "a proxy before the directory", exit: 10, code: "HTTP403", says: "no error code of Azure's",
		happens: fault(akvtest.Fault{Vault: "directory", Status: 403, Raw: "<html>" + akvtest.Marker})},
	{name: "the directory answers with no JSON", exit: 10, code: "BadAnswer", says: "makes no sense",
		happens: fault(akvtest.Fault{Vault: "directory", Request: "token", Raw: akvtest.Marker})},

	// Challenges that are none.
	{name: "challenge for another resource", exit: 10, code: "BadChallenge", says: "does not ask for a token in the way of a key vault",
		happens: fault(akvtest.Fault{Request: "challenge", Status: 401, Raw: akvtest.Marker,
			Challenge: `Bearer authorization="https://login.microsoftonline.com/x", resource="https://management.azure.com"`})},
	{name: "challenge that cannot be parsed", exit: 10, code: "BadAnswer", says: "cannot be parsed",
		happens: fault(akvtest.Fault{Request: "challenge", Status: 401, Raw: akvtest.Marker,
			Challenge: `Bearer authorization="nonsense", resource="https://vault.azure.net"`})},

	// The vault answers, but not with our key.
	{name: "other material", exit: 14, code: "BadParameter", says: "does not match (BadParameter)",
		happens: func(t *testing.T, c *cloud) { must(t, c.vault.Replace(keyName, "")) }},
	{name: "answers for another key", exit: 14, code: "WrongKey", says: "answered for another key",
		happens: fault(akvtest.Fault{Request: "unwrapKey", Raw: `{"kid":"https://kv-test.vault.azure.net/keys/other/00000000000000000000000000000000","value":"AAAA"}`})},
	{name: "answers for another version", exit: 14, code: "WrongKey", says: "answered for another key",
		happens: fault(akvtest.Fault{Request: "unwrapKey", Raw: `{"kid":"https://kv-test.vault.azure.net/keys/` + keyName + `/00000000000000000000000000000000","value":"AAAA"}`})},
	{name: "answers for another vault", exit: 14, code: "WrongKey", says: "answered for another key",
		happens: fault(akvtest.Fault{Request: "get", Raw: `{"key":{"kid":"https://kv-best.vault.azure.net/keys/` + keyName + `/00000000000000000000000000000000","kty":"RSA","n":"AAAA"},"attributes":{"enabled":true}}`})},

	// The interface itself.
	{name: "version of the interface", exit: 2, code: "UnsupportedApiVersion", says: "is not a usable key (UnsupportedApiVersion)",
		happens: fault(akvtest.Fault{Request: "unwrapKey", Status: 400, Code: "UnsupportedApiVersion"})},
}

// TestFailures goes through everything that can go wrong with an unwrap, over
// HTTPS and with the real clients.
func TestFailures(t *testing.T) {
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t)
			w := mustWrap(t, c.open(t))
			if f.happens != nil {
				f.happens(t, c)
			}
			var change []func(*Config)
			if f.config != nil {
				change = append(change, f.config)
			}
			plain, err := c.open(t, change...).Unwrap(t.Context(), w)
			if err == nil || plain != nil {
				t.Fatalf("it unwraps: %q, %v", plain, err)
			}
			f.check(t, c, err)
		})
	}
}

func (f failure) check(t *testing.T, c *cloud, err error) {
	ke := keyError(t, err)
	if exitCodes[ke.Class] != f.exit || ke.Code != f.code {
		t.Errorf("class %s (exit %d), code %s; want exit %d, code %s", ke.Class, exitCodes[ke.Class], ke.Code, f.exit, f.code)
	}
	if ke.Vault != c.vault.Host() || ke.Key != keyName || ke.Version != c.version || ke.Op != "unwrap" || ke.KeyID != c.vault.KeyID(keyName) {
		t.Errorf("the facts are %+v", ke)
	}
	text := err.Error()
	for _, say := range []string{f.says, c.vault.Host(), keyName, c.version, f.code} {
		if !strings.Contains(text, say) {
			t.Errorf("%q does not say %q", text, say)
		}
	}
	if strings.ContainsAny(text, "\n\r\t") {
		t.Errorf("%q is more than a line", text)
	}
	c.silent(t, text)
}
