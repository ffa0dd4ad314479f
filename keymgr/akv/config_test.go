package akv

import (
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// TestPrivateCloud: own DNS suffix with a port, own directory, and, as Azure
// Stack has it, an audience that is neither.
func TestPrivateCloud(t *testing.T) {
	for name, o := range map[string]akvtest.Options{
		"with ports":      {Suffix: "vault.stack.example:8443", Authority: "login.stack.example:9443"},
		"without ports":   {Suffix: "vault.stack.example", Authority: "login.stack.example"},
		"with a resource": {Suffix: "vault.stack.example", Authority: "login.stack.example", Resource: "https://vault.tenant.onstack.example/1234"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloudOf(t, o, akvtest.KeySpec{})
			for _, name := range []string{EnvDNSSuffix, "AZURE_AUTHORITY_HOST"} {
				if c.env[name] == "" {
					t.Fatalf("%s is not set", name)
				}
			}
			p := c.open(t)
			mustUnwrap(t, p, mustWrap(t, p))
			for _, r := range c.Requests() {
				if r.Host == "directory" && r.Request != "token" && r.Request != "discovery" {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// TestResourceIsTheOnlyOne: a vault cannot ask for tokens of anything else.
func TestResourceIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	c := newCloudOf(t, akvtest.Options{Suffix: "vault.stack.example", Authority: "login.stack.example", Resource: "https://management.stack.example"}, akvtest.KeySpec{})
	c.env[EnvResource] = "https://vault.tenant.onstack.example/1234"
	_, err := c.open(t).Wrap(t.Context(), master)
	expect(t, err, keymgr.Unreachable, CodeBadChallenge)
	if n := c.requestsOf("token"); n != 0 {
		t.Errorf("%d tokens were given", n)
	}
}

// TestAPIVersion: an older interface can be asked for.
func TestAPIVersion(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.env[EnvAPIVersion] = "7.4"
	p := c.open(t)
	mustUnwrap(t, p, mustWrap(t, p))
}

// TestConfiguration: what cannot serve is refused when the provider is made.
func TestConfiguration(t *testing.T) {
	junk := writeFile(t, "ca.pem", "no certificate")
	for _, c := range []struct {
		name, keyID, says string
		env               map[string]string
		change            func(*Config)
	}{
		{name: "private cloud without a directory", keyID: "https://kv1.vault.stack.example/keys/k", says: "AZURE_AUTHORITY_HOST",
			env: map[string]string{EnvDNSSuffix: "vault.stack.example"}},
		{name: "directory without TLS", says: "not https", env: map[string]string{"AZURE_AUTHORITY_HOST": "http://login.example"}},
		{name: "directory that is no URL", says: "not a URL", env: map[string]string{"AZURE_AUTHORITY_HOST": "login.example"}},
		{name: "directory with a password", says: "more than a host", env: map[string]string{"AZURE_AUTHORITY_HOST": "https://u:hidden@login.example"}},
		{name: "configured directory without TLS", says: "not https",
			change: func(c *Config) { c.Credentials.AuthorityHost = "http://login.example" }},
		{name: "suffix", says: EnvDNSSuffix, env: map[string]string{EnvDNSSuffix: "https://vault.example"}},
		{name: "configured suffix", says: "not a DNS suffix", change: func(c *Config) { c.DNSSuffixes = []string{"a..b"} }},
		{name: "no CA file", says: "no such file", env: map[string]string{EnvCAFile: "/nonexistent/ca.pem"}},
		{name: "CA file without a certificate", says: "holds no certificate", env: map[string]string{EnvCAFile: junk}},
		{name: "operation", says: `"sign"`, change: func(c *Config) { c.Operation = "sign" }},
	} {
		cfg := Config{Getenv: func(name string) string { return c.env[name] }, Dial: noDial(t)}
		if c.change != nil {
			c.change(&cfg)
		}
		keyID := c.keyID
		if keyID == "" {
			keyID = "https://kv1.vault.azure.net/keys/k"
		}
		_, err := New(keyID, cfg)
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		expect(t, err, keymgr.Invalid, CodeBadConfiguration)
		if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestDefaults are those of a program that sets nothing.
func TestDefaults(t *testing.T) {
	p, err := New("https://kv1.vault.azure.cn/keys/k", Config{Getenv: func(string) string { return "" }})
	must(t, err)
	if p.cfg.Timeout != 30*time.Second || p.cfg.Operation != keymgr.OpWrap || p.authority != authorityChina {
		t.Errorf("%s, %s, %s", p.cfg.Timeout, p.cfg.Operation, p.authority)
	}
	p, err = New("https://kv1.vault.azure.cn/keys/k", Config{Getenv: func(name string) string {
		return map[string]string{"AZURE_AUTHORITY_HOST": "https://login.partner.microsoftonline.cn/"}[name]
	}})
	must(t, err)
	if p.authority != "https://login.partner.microsoftonline.cn/" {
		t.Error(p.authority)
	}
}

func TestKnownAuthority(t *testing.T) {
	for authority, want := range map[string]bool{
		authorityPublic: true, authorityUSGov: true, authorityChina: true, authorityGermany: true,
		"https://login.microsoftonline.com": true, "https://login.stack.example/": false,
		"https://login.microsoftonline.com.evil.example/": false, ":": false,
	} {
		if knownAuthority(authority) != want {
			t.Errorf("%s: %v", authority, !want)
		}
	}
}
