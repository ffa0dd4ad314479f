package project

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
	"github.com/akvfs/akvfs/keymgr/confdir"
)

const keyName = "mongo"

// scene is a cloud and a store.
type scene struct {
	t      *testing.T
	cloud  *akvtest.Server
	vault  *akvtest.Vault
	store  Store
	config string
}

func newScene(t *testing.T, o akvtest.Options, spec akvtest.KeySpec) *scene {
	t.Helper()
	s, err := akvtest.Start(o)
	must(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	c := &scene{t: t, cloud: s, vault: s.AddVault("acme"), config: t.TempDir()}
	if spec.Type == akvtest.OctHSM {
		c.vault = s.AddHSM("acme")
	}
	_, err = c.vault.CreateKey(keyName, spec)
	must(t, err)
	c.store = StoreIn(c.config)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func (c *scene) env() Env {
	return Env{Dial: c.cloud.Dial, Getenv: func(name string) string {
		if name == "AKVFS_CA_FILE" {
			return c.cloud.CAFile()
		}
		return ""
	}}
}

// right is a configuration with which everything is well.
func (c *scene) right() Config {
	return Config{
		Version: Version, Environment: Public, TenantID: c.cloud.Directory().Tenant, ClientID: c.cloud.Directory().ClientID,
		SubscriptionID: "11111111-2222-3333-4444-555555555555", ResourceGroup: "databases", VaultName: "acme",
		KeyID: c.vault.KeyID(keyName), Credential: Credential{Kind: Secret},
	}
}

func (c *scene) apply(name string, cfg Config, secret string) (Report, error) {
	change := Change{Config: cfg, Timeout: 10 * time.Second, Env: c.env()}
	if secret != "" {
		change.Secret = []byte(secret)
	}
	return c.store.Apply(c.t.Context(), name, change)
}

// marks are a report's answers in their order.
func marks(r Report) string {
	var b strings.Builder
	for _, c := range r.Checks {
		b.WriteString(map[State]string{OK: "+", Failed: "-", NotAsked: "?"}[c.State])
	}
	return b.String()
}

func TestApply(t *testing.T) {
	c := newScene(t, akvtest.Options{}, akvtest.KeySpec{})
	r, err := c.apply("acme", c.right(), c.cloud.Directory().Secret)
	if err != nil || !r.Proven || marks(r) != "++++++++" {
		t.Fatalf("%+v, %v", r, err)
	}
	p, err := c.store.Load("acme")
	must(t, err)
	secret, err := os.ReadFile(p.in(p.Config.Credential.SecretFile))
	if err != nil || string(secret) != c.cloud.Directory().Secret {
		t.Errorf("%v", err)
	}
	want := c.right()
	want.Credential.SecretFile = p.Config.Credential.SecretFile
	if a, b := encoded(t, p.Config), encoded(t, want); a != b {
		t.Errorf("loaded\n%s\nnot\n%s", a, b)
	}
	for path, mode := range map[string]os.FileMode{
		filepath.Dir(p.Path()): 0o700 | os.ModeDir, p.Path(): 0o600, p.in(p.Config.Credential.SecretFile): 0o600,
	} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	if data, err := os.ReadFile(p.Path()); err != nil || bytes.Contains(data, secret) {
		t.Errorf("the configuration holds the secret, or %v", err)
	}
}

// TestSecretsLeft: a secret that nothing names is removed, also where its
// writer was killed before it had its name.
func TestSecretsLeft(t *testing.T) {
	c := newScene(t, akvtest.Options{}, akvtest.KeySpec{})
	if _, err := c.apply("acme", c.right(), c.cloud.Directory().Secret); err != nil {
		t.Fatal(err)
	}
	p, err := c.store.Load("acme")
	must(t, err)
	for _, left := range []string{"secret-00112233", ".secret-001122333184370505918273645"} {
		must(t, os.WriteFile(p.in(left), []byte("x"), 0o600))
	}
	must(t, c.store.Save("acme", p.Config))
	entries, err := os.ReadDir(filepath.Dir(p.Path()))
	must(t, err)
	for _, e := range entries {
		if e.Name() != configFile && e.Name() != p.Config.Credential.SecretFile {
			t.Errorf("%s is still there", e.Name())
		}
	}
	if len(entries) != 2 {
		t.Errorf("%v", entries)
	}
}

func encoded(t *testing.T, c Config) string {
	t.Helper()
	data, err := c.Encode()
	must(t, err)
	return string(data)
}

// TestEachWrongField: each field that is wrong is found, and nothing is stored.
func TestEachWrongField(t *testing.T) {
	for name, w := range map[string]struct {
		do    func(c *scene, cfg *Config, secret *string)
		marks string       // of the report; "" if the vault is not even asked
		class keymgr.Class // of the error, if it is asked
		says  string
		grant string // permission and role that are named
	}{
		"tenant": {func(_ *scene, cfg *Config, _ *string) { cfg.TenantID = "00000000-0000-4000-8000-000000000000" }, "+-??????", keymgr.Credentials, "tenant", ""},
		"client": {func(_ *scene, cfg *Config, _ *string) { cfg.ClientID = "00000000-0000-4000-8000-000000000000" }, "+-??????", keymgr.Credentials, "AADSTS700016", ""},
		"secret": {func(_ *scene, _ *Config, secret *string) { *secret = "wrong" }, "+-??????", keymgr.Credentials, "AADSTS7000215", ""},
		"expired secret": {func(c *scene, _ *Config, _ *string) {
			c.cloud.Directory().ExpireSecrets(c.cloud.Directory().ClientID)
		}, "+-??????", keymgr.Credentials, "AADSTS7000222", ""},
		"vault": {func(_ *scene, cfg *Config, _ *string) {
			cfg.KeyID, cfg.VaultName = "https://other.vault.azure.net/keys/mongo", "other"
		}, "-???????", keymgr.Unreachable, "no such host", ""},
		"key":          {func(_ *scene, cfg *Config, _ *string) { cfg.KeyID += "x" }, "++-?????", keymgr.Revoked, "KeyNotFound", ""},
		"version":      {func(_ *scene, cfg *Config, _ *string) { cfg.KeyID += "/" + strings.Repeat("0", 32) }, "++-?????", keymgr.Revoked, "KeyNotFound", ""},
		"no get":       {deny("get"), "++-??+++", keymgr.Revoked, "ForbiddenByPolicy", "get, Key Vault Crypto Service Encryption User"},
		"no list":      {deny("list"), "+++++-++", keymgr.Revoked, "ForbiddenByPolicy", "list, Key Vault Crypto Service Encryption User"},
		"no wrapKey":   {deny("wrapKey"), "++++++-+", keymgr.Revoked, "ForbiddenByPolicy", "wrapKey, Key Vault Crypto Service Encryption User"},
		"no unwrapKey": {deny("unwrapKey"), "+++++++-", keymgr.Revoked, "ForbiddenByPolicy", "unwrapKey, Key Vault Crypto Service Encryption User"},
		"no encrypt": {func(c *scene, cfg *Config, s *string) {
			cfg.KeyOperation = "encrypt"
			deny("encrypt")(c, cfg, s)
		}, "++++++-+", keymgr.Revoked, "ForbiddenByPolicy", "encrypt, Key Vault Crypto User"},
		"no decrypt": {func(c *scene, cfg *Config, s *string) {
			cfg.KeyOperation = "encrypt"
			deny("decrypt")(c, cfg, s)
		}, "+++++++-", keymgr.Revoked, "ForbiddenByPolicy", "decrypt, Key Vault Crypto User"},
		"disabled": {func(c *scene, _ *Config, _ *string) { must(c.t, c.vault.Disable(keyName, "")) }, "++++-+??", keymgr.Revoked, "KeyDisabled", ""},
		"expired": {func(c *scene, _ *Config, _ *string) {
			must(c.t, c.vault.SetExpires(keyName, "", time.Now().Add(-time.Hour)))
		}, "++++-+??", keymgr.Revoked, "KeyExpired", ""},

		"tenant's form":       {func(_ *scene, cfg *Config, _ *string) { cfg.TenantID = "tenant" }, "", 0, "tenant_id", ""},
		"client's form":       {func(_ *scene, cfg *Config, _ *string) { cfg.ClientID = "client" }, "", 0, "client_id", ""},
		"subscription's form": {func(_ *scene, cfg *Config, _ *string) { cfg.SubscriptionID = "mine" }, "", 0, "subscription_id", ""},
		"resource group":      {func(_ *scene, cfg *Config, _ *string) { cfg.ResourceGroup = "a/b" }, "", 0, "resource_group", ""},
		"vault's name":        {func(_ *scene, cfg *Config, _ *string) { cfg.VaultName = "other" }, "", 0, "vault_name", ""},
		"environment":         {func(_ *scene, cfg *Config, _ *string) { cfg.Environment = China }, "", 0, "environment is china", ""},
		"no environment":      {func(_ *scene, cfg *Config, _ *string) { cfg.Environment = "" }, "", 0, "environment is public", ""},
		"key's form":          {func(_ *scene, cfg *Config, _ *string) { cfg.KeyID = "https://acme.vault.azure.net/secrets/mongo" }, "", 0, "key_id", ""},
		"credential":          {func(_ *scene, cfg *Config, _ *string) { cfg.Credential.Kind = "password" }, "", 0, "credential.kind", ""},
		"expiry":              {func(_ *scene, cfg *Config, _ *string) { cfg.Credential.Expires = "soon" }, "", 0, "credential.expires", ""},
		"owner":               {func(_ *scene, cfg *Config, _ *string) { cfg.Roles.Owners = []string{"no such user"} }, "", 0, "roles.owners", ""},
		"unknown owner":       {func(_ *scene, cfg *Config, _ *string) { cfg.Roles.Owners = []string{"nosuchuser"} }, "", 0, "nosuchuser", ""},
		"control character":   {func(_ *scene, cfg *Config, _ *string) { cfg.ResourceGroup = "a\x1b[2J" }, "", 0, "resource_group is too long or", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newScene(t, akvtest.Options{}, akvtest.KeySpec{})
			cfg, secret := c.right(), c.cloud.Directory().Secret
			w.do(c, &cfg, &secret)
			change := Change{Config: cfg, Secret: []byte(secret), Timeout: 10 * time.Second, Env: c.env()}
			if w.class == keymgr.Unreachable {
				change.Timeout = time.Second // of which it takes all
			}
			r, err := c.store.Apply(t.Context(), "acme", change)
			if err == nil || marks(r) != w.marks {
				t.Fatalf("%s, want %s: %v", marks(r), w.marks, err)
			}
			text := err.Error()
			for _, one := range r.Checks {
				text += one.Detail
				if one.State == Failed && w.grant != "" && one.Permission+", "+one.Role != w.grant {
					t.Errorf("%+v", one)
				}
			}
			if !strings.Contains(text, w.says) || strings.Contains(text, c.cloud.Directory().Secret) || strings.Contains(text, "\x1b") {
				t.Errorf("%q lacks %q", text, w.says)
			}
			if ke, ok := errors.AsType[*keymgr.KeyError](err); w.class != 0 && (!ok || ke.Class != w.class) {
				t.Errorf("%v", err)
			}
			left, err := filepath.Glob(filepath.Join(c.config, "projects", "*"))
			if err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func deny(requests ...string) func(*scene, *Config, *string) {
	return func(c *scene, _ *Config, _ *string) { c.vault.Deny("ForbiddenByPolicy", requests...) }
}

// TestPrivateCloud and Managed HSM are proven, too.
func TestOtherClouds(t *testing.T) {
	private := newScene(t, akvtest.Options{Suffix: "vault.stack.example:8443", Authority: "login.stack.example:9443"}, akvtest.KeySpec{})
	cfg := private.right()
	cfg.Environment, cfg.AuthorityHost, cfg.DNSSuffix = Private, private.cloud.AuthorityURL(), "vault.stack.example:8443"
	if r, err := private.apply("stack", cfg, private.cloud.Directory().Secret); err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	hsm := newScene(t, akvtest.Options{}, akvtest.KeySpec{Type: akvtest.OctHSM})
	hsm.vault.Deny("ForbiddenByRbac", "wrapKey")
	r, err := hsm.apply("hsm", hsm.right(), hsm.cloud.Directory().Secret)
	if err == nil || r.Checks[6].Role != "Managed HSM Crypto Service Encryption User" {
		t.Errorf("%+v, %v", r, err)
	}
}

// A provider takes a configuration that was changed, keeps the one that it has
// when that became nonsense, and needs no file of the secret before.
func TestLive(t *testing.T) {
	c := newScene(t, akvtest.Options{}, akvtest.KeySpec{})
	d := c.cloud.Directory()
	_, err := c.apply("acme", c.right(), d.Secret)
	must(t, err)
	p, err := c.store.Openers("acme", c.env()).Open(c.vault.KeyID(keyName), keymgr.ProviderOptions{})
	must(t, err)
	w, err := p.Wrap(t.Context(), []byte("secret"))
	must(t, err)
	unwraps := func() error {
		_, err := p.Unwrap(t.Context(), w)
		return err
	}
	// A new secret; the old one goes, and all tokens with it.
	d.AddSecret(d.ClientID, "new")
	_, err = c.apply("acme", c.right(), "new")
	must(t, err)
	d.RemoveSecrets(d.ClientID)
	d.AddSecret(d.ClientID, "new")
	d.RevokeTokens()
	check(t, unwraps())
	left, err := filepath.Glob(filepath.Join(c.config, "projects", "acme", "secret-*"))
	if err != nil || len(left) != 1 {
		t.Errorf("secrets: %v, %v", left, err)
	}
	path := filepath.Join(c.config, "projects", "acme", configFile)
	good, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte("nonsense ="), 0o600))
	check(t, unwraps())
	must(t, os.WriteFile(path, good, 0o600))
	p.(keymgr.Renewer).Renew()
	check(t, unwraps())
	// Another identity altogether.
	other := c.right()
	other.ClientID = "99999999-2222-3333-4444-555555555555"
	d.AddSecret(other.ClientID, "theirs")
	_, err = c.apply("acme", other, "theirs")
	must(t, err)
	d.RemoveApplication(d.ClientID)
	d.RevokeTokens()
	check(t, unwraps())
	if p.Name() != "akv" || p.KeyID() != c.vault.KeyID(keyName) {
		t.Errorf("%s %s", p.Name(), p.KeyID())
	}
	if _, err := c.store.Openers("none", c.env()).Open(c.vault.KeyID(keyName), keymgr.ProviderOptions{}); err == nil {
		t.Error("a project that is not there has a provider")
	}
}

// TestCredentials: what others can read is refused, whatever it is.
func TestCredentials(t *testing.T) {
	c := newScene(t, akvtest.Options{}, akvtest.KeySpec{})
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte(c.cloud.Directory().Secret+"\n"), 0o600))
	cfg := c.right()
	cfg.Credential.SecretFile = secret
	_, err := c.apply("acme", cfg, "")
	must(t, err)
	for _, mode := range []os.FileMode{0o604, 0o640, 0o660, 0o602} {
		must(t, os.Chmod(secret, mode))
		_, err := c.apply("other", cfg, "")
		if _, ok := errors.AsType[*confdir.UnsafeError](err); !ok {
			t.Errorf("%o: %v", mode, err)
		}
		p, err := c.store.Openers("acme", c.env()).Open(cfg.KeyID, keymgr.ProviderOptions{})
		if ke, ok := errors.AsType[*keymgr.KeyError](err); !ok || ke.Class != keymgr.Credentials {
			t.Errorf("%o: opened %v, %v", mode, p, err)
		}
	}
	link := secret + "-link"
	must(t, os.Symlink(secret, link))
	must(t, os.Chmod(secret, 0o600))
	cfg.Credential.SecretFile = link
	if _, err := c.apply("other", cfg, ""); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("%v", err)
	}
	cfg.Credential = Credential{Kind: Secret, SecretCredential: "akvfs"}
	if _, err := c.apply("other", cfg, ""); err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY") {
		t.Errorf("%v", err)
	}
	env := c.env()
	ca := env.Getenv
	env.Getenv = func(name string) string {
		if name == "CREDENTIALS_DIRECTORY" {
			return filepath.Dir(secret)
		}
		return ca(name)
	}
	cfg.Credential.SecretCredential = "secret"
	if _, err := c.store.Apply(t.Context(), "other", Change{Config: cfg, Timeout: 10 * time.Second, Env: env}); err != nil {
		t.Error(err)
	}
}

// The environment's credentials are not the project's.
func TestEnvironmentIsNotAsked(t *testing.T) {
	e := Env{Getenv: func(name string) string { return name }}
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_AUTHORITY_HOST", "AKVFS_AKV_DNS_SUFFIX"} {
		if e.getenv(name) != "" {
			t.Errorf("%s gets through", name)
		}
	}
}

func TestEmbedded(t *testing.T) {
	c := newScene(t, akvtest.Options{}, akvtest.KeySpec{})
	cfg := Config{Version: Version, KeyID: "file://" + filepath.Join(t.TempDir(), "none.json")}
	if r, err := c.apply("trial", cfg, ""); err == nil || marks(r) != "-" {
		t.Errorf("%+v, %v", r, err)
	}
	cfg.TenantID = "11111111-2222-3333-4444-555555555555"
	if _, err := c.apply("trial", cfg, ""); err == nil || !strings.Contains(err.Error(), "tenant_id belongs to Azure") {
		t.Errorf("%v", err)
	}
}

func TestRoles(t *testing.T) {
	r := Roles{Owners: []string{"1001", "@2001"}, Viewers: []string{"nobody", "@2002", "nosuchuser", "@nosuchgroup"}}
	for _, c := range []struct {
		uid    uint32
		groups []uint32
		want   Role
	}{
		{0, nil, Owner}, {1001, nil, Owner}, {5, []uint32{7, 2001}, Owner}, {65534, nil, Viewer}, {5, []uint32{2002}, Viewer},
		{5, nil, Nobody}, {2001, []uint32{1001}, Nobody}, {65534, []uint32{2001}, Owner}, {1 << 31, nil, Nobody},
	} {
		if got := r.Of(c.uid, c.groups); got != c.want {
			t.Errorf("user %d of %v: %v, want %v", c.uid, c.groups, got, c.want)
		}
	}
	if got := strings.Join(r.Unknown(), " "); got != "nosuchuser @nosuchgroup" {
		t.Error(got)
	}
}

// What is encoded reads back as it was, whatever the fields hold.
func TestEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~éß漢"\\'#\]\[]{0,20}`)
		c := Config{
			Version: Version, Environment: Public, TenantID: "11111111-2222-3333-4444-555555555555", ClientID: "11111111-2222-3333-4444-555555555556",
			SubscriptionID: "11111111-2222-3333-4444-555555555557", VaultName: "acme", KeyID: "https://acme.vault.azure.net/keys/mongo",
			ResourceGroup: rapid.StringMatching(`[a-zé漢_()-]{1,20}`).Draw(t, "group"),
			CAFile:        "/" + text.Draw(t, "file"), KeyOperation: rapid.SampledFrom([]string{"", "wrap", "encrypt"}).Draw(t, "operation"),
			Credential: Credential{Kind: Certificate, CertificateFile: "/" + text.Draw(t, "certificate"), Expires: rapid.SampledFrom([]string{"", "2027-01-31"}).Draw(t, "expires")},
			Roles:      Roles{Owners: rapid.SliceOfN(rapid.StringMatching(`@?[a-z]{1,8}`), 0, 3).Draw(t, "owners")},
		}
		data, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(data)
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		again, err := back.Encode()
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("%v\n%s\n%s", err, data, again)
		}
	})
}

// Nonsense is refused with a line, not with its own text.
func TestNonsense(t *testing.T) {
	for text, says := range map[string]string{
		"":                               "version is 0",
		"version = 2\n":                  "version is 2",
		"version = 1\nkey_id = \"x\"":    "key_id",
		"version = 1\nsecret = \"abc\"":  "line 2 has the unknown field secret",
		"version = 1\nversion = 1":       "line 2",
		"version = \"1\"":                "line 1",
		"version = 1\n[credential]\nx=1": "line 3 has the unknown field credential.x",
		"\x00\x01\x02":                   "line 1",
		"<xml/>":                         "line 1",
		"version = 1\n[roles]\nowners = \"alice\"\n": "line 3",
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "abc") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzParse: whatever is read is refused or can be written and read again, and
// no error repeats what it read.
func FuzzParse(f *testing.F) {
	f.Add([]byte("version = 1\nkey_id = \"file:///k.json\"\n"))
	f.Add([]byte("version = 1\nenvironment = \"public\"\ntenant_id = \"11111111-2222-3333-4444-555555555555\"\nclient_id = \"11111111-2222-3333-4444-555555555556\"\nsubscription_id = \"11111111-2222-3333-4444-555555555557\"\nresource_group = \"r\"\nvault_name = \"acme\"\nkey_id = \"https://acme.vault.azure.net/keys/k\"\n[credential]\nkind = \"managed-identity\"\n[roles]\nowners = [\"@1\"]\n"))
	f.Add([]byte("version = 1\n[credential]\nkind = \"secret\"\nsecret_file = \"../x\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			if _, ok := errors.AsType[*InvalidError](err); !ok || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Fatalf("%T %q", err, err)
			}
			return
		}
		out, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if again, err := back.Encode(); err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%v\n%s\n%s", err, out, again)
		}
	})
}

// An attempt that was interrupted stores nothing.
func TestInterrupted(t *testing.T) {
	c := newScene(t, akvtest.Options{}, akvtest.KeySpec{})
	c.cloud.Inject(akvtest.Fault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := c.store.Apply(ctx, "acme", Change{Config: c.right(), Secret: []byte(c.cloud.Directory().Secret), Timeout: time.Hour, Env: c.env()})
	if err == nil {
		t.Error("proven")
	}
	if names, err := c.store.Names(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}
