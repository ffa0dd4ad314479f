package akv

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// writeFile makes a file of a test's own.
func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newCertificate makes a client certificate, as PEM with its key.
func newCertificate(t testing.TB) (*x509.Certificate, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "akvfs"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return cert, text
}

// TestCredentials: each kind opens the vault, and is refused when the directory
// does not know it.
func TestCredentials(t *testing.T) {
	cert, certText := newCertificate(t)
	for _, c := range []struct {
		name   string
		kind   kind
		grant  func(c *cloud) // makes the directory know it
		given  func(t *testing.T, c *cloud, o *keymgr.CredentialOptions)
		code   string // without the grant
		refuse keymgr.Class
	}{
		{name: "secret in a file", kind: kindSecret, code: "AADSTS7000215",
			grant: func(c *cloud) { c.Directory().AddSecret(c.Directory().ClientID, "a secret") },
			given: func(t *testing.T, c *cloud, o *keymgr.CredentialOptions) {
				o.ClientSecretFile = writeFile(t, "secret", "a secret\n")
			}},
		{name: "secret in the environment", kind: kindSecret, code: "AADSTS7000215",
			grant: func(c *cloud) { c.Directory().AddSecret(c.Directory().ClientID, "other") },
			given: func(_ *testing.T, c *cloud, _ *keymgr.CredentialOptions) { c.env["AZURE_CLIENT_SECRET"] = "other" }},
		{name: "certificate", kind: kindCertificate, code: "AADSTS700213",
			grant: func(c *cloud) { c.Directory().AddCertificate(c.Directory().ClientID, cert) },
			given: func(t *testing.T, c *cloud, o *keymgr.CredentialOptions) {
				o.ClientCertificateFile = writeFile(t, "client.pem", certText)
			}},
		{name: "certificate named by the environment", kind: kindCertificate, code: "AADSTS700213",
			grant: func(c *cloud) { c.Directory().AddCertificate(c.Directory().ClientID, cert) },
			given: func(t *testing.T, c *cloud, _ *keymgr.CredentialOptions) {
				delete(c.env, "AZURE_CLIENT_SECRET")
				c.env["AZURE_CLIENT_CERTIFICATE_PATH"] = writeFile(t, "client.pem", certText)
				c.env["AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"] = "true"
			}},
		{name: "workload identity", kind: kindWorkload, code: "AADSTS700213",
			grant: func(c *cloud) { c.Directory().AddFederated(c.Directory().ClientID, "a token of the cluster") },
			given: func(t *testing.T, c *cloud, o *keymgr.CredentialOptions) {
				o.FederatedTokenFile = writeFile(t, "token", "a token of the cluster")
			}},
		{name: "workload identity named by the environment", kind: kindWorkload, code: "AADSTS700213",
			grant: func(c *cloud) { c.Directory().AddFederated(c.Directory().ClientID, "a token of the cluster") },
			given: func(t *testing.T, c *cloud, _ *keymgr.CredentialOptions) {
				delete(c.env, "AZURE_CLIENT_SECRET")
				c.env["AZURE_FEDERATED_TOKEN_FILE"] = writeFile(t, "token", "a token of the cluster")
			}},
		{name: "managed identity of a virtual machine", kind: kindManaged, code: "invalid_request",
			grant: func(c *cloud) { c.Directory().AddManaged("") },
			given: func(_ *testing.T, c *cloud, o *keymgr.CredentialOptions) {
				o.ManagedIdentity = true
				delete(c.env, "AZURE_CLIENT_ID")
			}},
		{name: "managed identity of its own name", kind: kindManaged, code: "invalid_request",
			grant: func(c *cloud) { c.Directory().AddManaged("11111111-2222-4333-8444-555555555555") },
			given: func(_ *testing.T, c *cloud, o *keymgr.CredentialOptions) {
				o.ManagedIdentity, o.ClientID = true, "11111111-2222-4333-8444-555555555555"
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cl := newCloud(t)
			change := func(cfg *Config) { c.given(t, cl, &cfg.Credentials) }
			p := cl.open(t, change)
			if p.identity.kind != c.kind {
				t.Errorf("it is taken for a %s", p.identity.kind)
			}
			_, err := p.Wrap(t.Context(), master)
			expect(t, err, keymgr.Credentials, c.code)
			cl.silent(t, err.Error())
			c.grant(cl)
			mustUnwrap(t, p, mustWrap(t, p))
		})
	}
}

// TestAppServiceIdentity uses the endpoint that the environment names, which
// azidentity reads by itself.
func TestAppServiceIdentity(t *testing.T) {
	c := newCloud(t)
	c.Directory().AddManaged("")
	delete(c.env, "AZURE_CLIENT_ID")
	for _, line := range c.IdentityEnv() {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	direct := func(cfg *Config) {
		cfg.Credentials.ManagedIdentity = true
		cfg.Dial = c.dialPlain
	}
	p := c.open(t, direct)
	mustUnwrap(t, p, mustWrap(t, p))
	c.Directory().RevokeTokens()
	c.Inject(akvtest.Fault{Vault: "identity", Status: 500, Raw: akvtest.Marker})
	_, err := c.open(t, direct, budget(3*time.Second)).Wrap(t.Context(), master)
	expect(t, err, keymgr.Unreachable, "HTTP500")
}

// bareEnvironment takes away what azidentity's chain reads by itself.
func bareEnvironment(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no Azure CLI
	for _, name := range []string{
		"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE",
		"AZURE_TOKEN_CREDENTIALS", "IDENTITY_ENDPOINT", "MSI_ENDPOINT",
	} {
		t.Setenv(name, "") // restores it afterwards
		must(t, os.Unsetenv(name))
	}
}

// TestNoCredentials: a host that is no virtual machine of Azure's, with nothing
// configured.
func TestNoCredentials(t *testing.T) {
	bareEnvironment(t)
	c := newCloud(t)
	c.env = map[string]string{"AKVFS_CA_FILE": c.env["AKVFS_CA_FILE"]}
	_, err := c.open(t, func(cfg *Config) {
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, metadataHost) {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EHOSTUNREACH}
			}
			return c.Dial(ctx, network, address)
		}
	}).Wrap(t.Context(), master)
	expect(t, err, keymgr.Credentials, CodeNoCredential)
	c.silent(t, err.Error())
}

// TestAmbientChain: the chain of azidentity is left to find what the
// environment does not name, here a managed identity.
func TestAmbientChain(t *testing.T) {
	bareEnvironment(t)
	// Of its own, since a process shares managed identities' tokens.
	client := uuid.NewString()
	t.Setenv("AZURE_CLIENT_ID", client)
	c := newCloud(t)
	c.env = map[string]string{"AKVFS_CA_FILE": c.env["AKVFS_CA_FILE"]}
	_, err := c.open(t).Wrap(t.Context(), master)
	expect(t, err, keymgr.Credentials, "invalid_request")
	c.silent(t, err.Error())
	c.Directory().AddManaged(client)
	p := c.open(t)
	if p.identity.kind != kindAmbient {
		t.Errorf("it is taken for a %s", p.identity.kind)
	}
	mustUnwrap(t, p, mustWrap(t, p))
	c.Directory().RevokeTokens()
	mustUnwrap(t, p, mustWrap(t, p))
	// Once it has worked, its absence is a failure of the network.
	c.Directory().RevokeTokens()
	c.Inject(akvtest.Fault{Vault: "identity", Status: 503, Raw: akvtest.Marker})
	p.cfg.Timeout = time.Second
	_, err = p.Describe(t.Context())
	if ke := keyError(t, err); ke.Class == keymgr.Revoked || ke.Class == keymgr.Invalid {
		t.Error(err)
	}
}

// TestRenewedSecret: a secret renewed in its file is taken without a restart,
// though the old one has been refused.
func TestRenewedSecret(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	d := c.Directory()
	d.AddSecret(d.ClientID, "first")
	path := writeFile(t, "secret", "first\r\n")
	p := c.open(t, func(cfg *Config) { cfg.Credentials.ClientSecretFile = path })
	w := mustWrap(t, p)
	d.ExpireSecrets(d.ClientID)
	d.RevokeTokens()
	d.AddSecret(d.ClientID, "second")
	must(t, os.WriteFile(path, []byte("second"), 0o600))
	mustUnwrap(t, p, w)
	// A file that is gone is found out when it is needed.
	d.RevokeTokens()
	must(t, os.Remove(path))
	_, err := p.Unwrap(t.Context(), w)
	expect(t, err, keymgr.Credentials, CodeCredentialUnusable)
	must(t, os.WriteFile(path, []byte("second"), 0o600))
	mustUnwrap(t, p, w)
}

// TestRefusalIsConfirmed: tokens that ended before their time cost one more
// token, and a refusal is believed only of a fresh one.
func TestRefusalIsConfirmed(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	p := c.open(t)
	w := mustWrap(t, p)
	c.Directory().RevokeTokens()
	c.ForgetRequests()
	mustUnwrap(t, p, w)
	if n := c.requestsOf("token"); n != 1 {
		t.Errorf("%d tokens", n)
	}
	c.ForgetRequests()
	c.Inject(akvtest.Fault{Status: 401, Code: "Unauthorized"})
	_, err := p.Unwrap(t.Context(), w)
	expect(t, err, keymgr.Credentials, CodeUnauthorized)
	if n := c.requestsOf("token"); n != 1 {
		t.Errorf("%d tokens before the refusal was believed", n)
	}
	c.ClearFaults()
	mustUnwrap(t, p, w)
}

// TestShortLivedTokens: a token that has run out is replaced.
func TestShortLivedTokens(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	p := c.open(t)
	w := mustWrap(t, p)
	c.SetClock(func() time.Time { return time.Now().Add(2 * time.Hour) })
	mustUnwrap(t, p, w)
}

// TestDomainTenant: a tenant may be named by its domain.
func TestDomainTenant(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.env["AZURE_TENANT_ID"] = "contoso.example"
	_, err := c.open(t).Wrap(t.Context(), master)
	expect(t, err, keymgr.Credentials, "AADSTS90002") // the test directory knows no such name
}

// TestIdentify: which credential is meant, and what is refused before anybody
// is asked.
func TestIdentify(t *testing.T) {
	full := map[string]string{
		"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s",
		"AZURE_CLIENT_CERTIFICATE_PATH": "/cert", "AZURE_FEDERATED_TOKEN_FILE": "/token",
	}
	with := func(change ...string) map[string]string {
		env := make(map[string]string)
		for k, v := range full {
			env[k] = v
		}
		for _, line := range change {
			k, v, _ := strings.Cut(line, "=")
			env[k] = v
		}
		return env
	}
	for _, c := range []struct {
		name    string
		options keymgr.CredentialOptions
		env     map[string]string
		kind    kind
		fails   string
	}{
		{"secret first", keymgr.CredentialOptions{}, full, kindSecret, ""},
		{"then a certificate", keymgr.CredentialOptions{}, with("AZURE_CLIENT_SECRET="), kindCertificate, ""},
		{"then a workload's identity", keymgr.CredentialOptions{}, with("AZURE_CLIENT_SECRET=", "AZURE_CLIENT_CERTIFICATE_PATH="), kindWorkload, ""},
		{"then the chain", keymgr.CredentialOptions{}, with("AZURE_CLIENT_SECRET=", "AZURE_CLIENT_CERTIFICATE_PATH=", "AZURE_FEDERATED_TOKEN_FILE="), kindAmbient, ""},
		{"nothing", keymgr.CredentialOptions{}, nil, kindAmbient, ""},
		{"a selected kind", keymgr.CredentialOptions{}, with("AZURE_TOKEN_CREDENTIALS=WorkloadIdentityCredential"), kindWorkload, ""},
		{"a selected kind of the chain's", keymgr.CredentialOptions{}, with("AZURE_TOKEN_CREDENTIALS=AzureCLICredential"), kindAmbient, ""},
		{"production", keymgr.CredentialOptions{}, with("AZURE_TOKEN_CREDENTIALS=prod"), kindSecret, ""},
		{"development", keymgr.CredentialOptions{}, with("AZURE_TOKEN_CREDENTIALS=dev"), kindAmbient, ""},
		{"what is configured goes first", keymgr.CredentialOptions{ManagedIdentity: true}, full, kindManaged, ""},
		{"ids from the environment", keymgr.CredentialOptions{ClientSecretFile: "/s"}, full, kindSecret, ""},
		{"no tenant", keymgr.CredentialOptions{}, with("AZURE_TENANT_ID="), "", "no tenant ID"},
		{"no client", keymgr.CredentialOptions{ClientCertificateFile: "/c"}, with("AZURE_CLIENT_ID="), "", "no client ID"},
		{"two kinds", keymgr.CredentialOptions{ClientSecretFile: "/s", ManagedIdentity: true}, full, "", "more than one kind"},
		{"a password for nothing", keymgr.CredentialOptions{CertificatePassFile: "/p"}, full, "", "but no certificate"},
	} {
		id, err := identify(c.options, func(name string) string { return c.env[name] })
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || id.kind != c.kind {
			t.Errorf("%s: %s, %v", c.name, id.kind, err)
		}
	}
}

// TestUnreadableCredentials are refused when the provider is made, by class
// Credentials, and name the file but not its content.
func TestUnreadableCredentials(t *testing.T) {
	_, certText := newCertificate(t)
	dir := t.TempDir()
	for name, o := range map[string]keymgr.CredentialOptions{
		"no secret file":       {ClientSecretFile: filepath.Join(dir, "none")},
		"empty secret file":    {ClientSecretFile: writeFile(t, "empty", "\n")},
		"secret is a folder":   {ClientSecretFile: dir},
		"secret is too large":  {ClientSecretFile: writeFile(t, "large", strings.Repeat("x", maxCredentialFile+1))},
		"no certificate file":  {ClientCertificateFile: filepath.Join(dir, "none")},
		"no certificate in it": {ClientCertificateFile: writeFile(t, "text", "hidden-content")},
		"no key in it":         {ClientCertificateFile: writeFile(t, "half", certText[:strings.Index(certText, "-----BEGIN PRIVATE")])},
		"wrong password":       {ClientCertificateFile: writeFile(t, "pem", certText), CertificatePassFile: writeFile(t, "pass", "hidden-content")},
		"no password file":     {ClientCertificateFile: writeFile(t, "pem2", certText), CertificatePassFile: filepath.Join(dir, "none")},
		"no federated token":   {FederatedTokenFile: filepath.Join(dir, "none")},
		"odd tenant":           {TenantID: "a tenant/with parts", ClientSecretFile: writeFile(t, "s", "hidden-content")},
	} {
		if o.TenantID == "" {
			o.TenantID = "contoso.example"
		}
		o.ClientID = "app"
		_, err := New("https://kv-test.vault.azure.net/keys/k", Config{
			ProviderOptions: keymgr.ProviderOptions{Credentials: o},
			Dial:            noDial(t), Getenv: func(string) string { return "" },
		})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		expect(t, err, keymgr.Credentials, CodeCredentialUnusable)
		if strings.Contains(err.Error(), "hidden-content") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSecretsAreNotPrinted: no verb shows what a source holds.
func TestSecretsAreNotPrinted(t *testing.T) {
	id, err := identify(keymgr.CredentialOptions{TenantID: "t", ClientID: "c"}, func(name string) string {
		if name == "AZURE_CLIENT_SECRET" {
			return "never-shown"
		}
		return ""
	})
	must(t, err)
	for _, text := range []string{id.secret.String(), fmt.Sprintf("%v %+v %#v %s", id.secret, id.secret, id.secret, id.secret)} {
		if strings.Contains(text, "never-shown") {
			t.Error(text)
		}
	}
}

func TestManagedID(t *testing.T) {
	for client, want := range map[string]string{
		"": "<nil>", "1234": "azidentity.ClientID", "/subscriptions/x": "azidentity.ResourceID",
	} {
		if got := fmt.Sprintf("%T", identity{client: client}.managedID()); got != want {
			t.Errorf("%q: %s", client, got)
		}
	}
}
