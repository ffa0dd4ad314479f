package host

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/keymgr/project"
)

func config() project.Config {
	return project.Config{
		Version: 1, Environment: project.Public, TenantID: "t", ClientID: "c", SubscriptionID: "s", ResourceGroup: "g", VaultName: "acme",
		KeyID: "https://acme.vault.azure.net/keys/k", Credential: project.Credential{Kind: project.Secret, SecretFile: "secret-1", Expires: "2031-01-31"},
		Roles: project.Roles{Owners: []string{"alice"}},
	}
}

func TestMayNotChange(t *testing.T) {
	type change func(c *project.Config)
	for _, c := range []struct {
		name   string
		change change
		plain  string // what is refused without a new secret; "*": something
		secret string // and with one
	}{
		{"nothing", func(*project.Config) {}, "", ""},
		{"key", func(c *project.Config) { c.KeyID, c.VaultName = "https://other.vault.azure.net/keys/k", "other" }, "", ""},
		{"operation", func(c *project.Config) { c.KeyOperation = "encrypt" }, "", ""},
		{"place", func(c *project.Config) { c.SubscriptionID, c.ResourceGroup = "x", "y" }, "", ""},
		{"roles", func(c *project.Config) { c.Roles = project.Roles{Viewers: []string{"@ops"}} }, "", ""},
		{"expiry", func(c *project.Config) { c.Credential.Expires = "" }, "", ""},
		{"identity", func(c *project.Config) { c.TenantID, c.ClientID = "x", "y" }, "client_id tenant_id", ""},
		{"embedded", func(c *project.Config) { c.KeyID = "file:///etc/shadow" }, "key_id", "key_id"},
		{"environment", func(c *project.Config) { c.Environment = project.USGov }, "environment", "environment"},
		{"authority", func(c *project.Config) {
			c.AuthorityHost, c.DNSSuffix = "https://evil.example.org/", "evil.example.org"
		}, "authority_host dns_suffix", "authority_host dns_suffix"},
		{"authorities", func(c *project.Config) { c.CAFile = "/tmp/ca.pem" }, "ca_file", "ca_file"},
		{"file of the secret", func(c *project.Config) { c.Credential.SecretFile = "/etc/shadow" }, "credential.secret_file", "credential.secret_file"},
		{"no file of the secret", func(c *project.Config) { c.Credential.SecretFile = "" }, "credential.secret_file", "credential.secret_file"},
		{"systemd's", func(c *project.Config) { c.Credential.SecretCredential = "x" }, "credential.secret_credential", "credential.secret_credential"},
		{"certificate", func(c *project.Config) {
			c.Credential = project.Credential{Kind: project.Certificate, CertificateFile: "/etc/ssl/private/other.pem", PasswordFile: "/x"}
		}, "credential.certificate_file credential.certificate_password_file credential.kind credential.secret_file", "*"},
		{"the host's identity", func(c *project.Config) { c.Credential = project.Credential{Kind: project.Managed} }, "*", "*"},
		{"a workload's", func(c *project.Config) {
			c.Credential = project.Credential{Kind: project.Workload, TokenFile: "/etc/shadow"}
		}, "*", "*"},
	} {
		for newSecret, want := range map[bool]string{false: c.plain, true: c.secret} {
			after := config()
			c.change(&after)
			got := strings.Join(MayNotChange(config(), after, newSecret), " ")
			if got != want && (want != "*" || got == "") {
				t.Errorf("%s, new secret %v: %q, want %q", c.name, newSecret, got, want)
			}
		}
	}
}

// A change that is let through changes nothing that says where a secret goes,
// what file is read, or as whom the host appears.
func TestMayNotChangeProperty(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "a", "/etc/shadow", "https://acme.vault.azure.net/keys/k", "file:///k", "secret-1"})
	draw := func(t *rapid.T, name string) project.Config {
		s := func(field string) string { return text.Draw(t, name+field) }
		return project.Config{
			Version: 1, Environment: project.Environment(s("environment")), AuthorityHost: s("authority"), DNSSuffix: s("suffix"), CAFile: s("ca"),
			TenantID: s("tenant"), ClientID: s("client"), KeyID: s("key"),
			Credential: project.Credential{
				Kind:       rapid.SampledFrom([]project.Kind{"", project.Secret, project.Certificate, project.Managed}).Draw(t, name+"kind"),
				SecretFile: s("secret"), SecretCredential: s("systemd"), CertificateFile: s("certificate"), PasswordFile: s("password"), TokenFile: s("token"),
			},
			Roles: project.Roles{Owners: rapid.SliceOfN(text, 0, 2).Draw(t, name+"owners")},
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		before := draw(t, "before ")
		after := before
		for _, take := range []func(from project.Config){
			func(f project.Config) { after.Environment, after.AuthorityHost = f.Environment, f.AuthorityHost },
			func(f project.Config) { after.DNSSuffix, after.CAFile = f.DNSSuffix, f.CAFile },
			func(f project.Config) { after.TenantID, after.ClientID = f.TenantID, f.ClientID },
			func(f project.Config) { after.KeyID = f.KeyID },
			func(f project.Config) { after.Credential = f.Credential },
			func(f project.Config) { after.Credential.SecretFile = f.Credential.SecretFile },
			func(f project.Config) { after.Roles = f.Roles },
		} {
			if rapid.Bool().Draw(t, "take") {
				take(draw(t, "after "))
			}
		}
		newSecret := rapid.Bool().Draw(t, "new secret")
		if len(MayNotChange(before, after, newSecret)) > 0 {
			return
		}
		files := func(c project.Config) []string {
			return []string{string(c.Environment), c.AuthorityHost, c.DNSSuffix, c.CAFile, c.Credential.SecretFile}
		}
		if !slices.Equal(files(before), files(after)) || before.Embedded() != after.Embedded() || after.Embedded() && before.KeyID != after.KeyID {
			t.Fatalf("%+v became %+v", before, after)
		}
		if before.Credential != after.Credential && (!newSecret || after.Credential != (project.Credential{Kind: project.Secret, SecretFile: before.Credential.SecretFile})) {
			t.Fatalf("%+v became %+v", before.Credential, after.Credential)
		}
		if !newSecret && (before.TenantID != after.TenantID || before.ClientID != after.ClientID) {
			t.Fatalf("another identity without its secret: %+v, %+v", before, after)
		}
	})
}
