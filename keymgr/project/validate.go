package project

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
	"github.com/akvfs/akvfs/keymgr/file"
)

// suffixes are those of the environments' vaults and Managed HSMs.
var suffixes = map[Environment][]string{
	Public: {"vault.azure.net", "managedhsm.azure.net"},
	China:  {"vault.azure.cn", "managedhsm.azure.cn"},
	USGov:  {"vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net"},
}

// problems collects what is wrong.
type problems []Problem

func (p *problems) add(field, format string, a ...any) {
	*p = append(*p, Problem{field, fmt.Sprintf(format, a...)})
}

// Validate finds everything that is wrong with a configuration without asking
// anybody. Errors are an *InvalidError.
func (c Config) Validate() error {
	var p problems
	if c.Version != Version {
		p.add("version", "is %d; this akvfs knows %d", c.Version, Version)
	}
	c.checkCharacters(&p)
	if c.KeyOperation != "" && c.KeyOperation != keymgr.OpWrap && c.KeyOperation != keymgr.OpEncrypt {
		p.add("key_operation", "is wrap or encrypt")
	}
	switch {
	case len(p) > 0:
	case c.KeyID == "":
		p.add("key_id", "is missing")
	case c.Embedded():
		c.checkEmbedded(&p)
	default:
		c.checkEnvironment(&p)
		c.checkKey(&p)
		c.checkAzure(&p)
		c.checkCredential(&p)
	}
	c.Roles.check(&p)
	if len(p) > 0 {
		return &InvalidError{Problems: p}
	}
	return nil
}

// fields are all that hold text, by the names that they have in the file.
func (c Config) fields() map[string]string {
	return map[string]string{
		"environment": string(c.Environment), "authority_host": c.AuthorityHost, "dns_suffix": c.DNSSuffix, "ca_file": c.CAFile,
		"tenant_id": c.TenantID, "client_id": c.ClientID, "subscription_id": c.SubscriptionID,
		"resource_group": c.ResourceGroup, "vault_name": c.VaultName, "key_id": c.KeyID, "key_operation": c.KeyOperation,
		"credential.kind": string(c.Credential.Kind), "credential.secret_file": c.Credential.SecretFile,
		"credential.secret_credential": c.Credential.SecretCredential, "credential.certificate_file": c.Credential.CertificateFile,
		"credential.certificate_password_file": c.Credential.PasswordFile, "credential.token_file": c.Credential.TokenFile,
		"credential.expires": c.Credential.Expires,
	}
}

// checkCharacters keeps out what a terminal or a log would not show as it is.
func (c Config) checkCharacters(p *problems) {
	all := c.fields()
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range all {
			if !yield(name) {
				return
			}
		}
	}) {
		value := all[name]
		if len(value) > 1024 || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			p.add(name, "is too long or holds a character that cannot be printed")
		}
	}
}

func (c Config) checkEmbedded(p *problems) {
	if _, _, err := file.ParseKeyID(c.KeyID); err != nil {
		p.add("key_id", "is no file:///PATH of an embedded key store")
	}
	if c.KeyOperation == keymgr.OpEncrypt {
		p.add("key_operation", "is wrap for an embedded key store")
	}
	for name, value := range c.fields() {
		if value != "" && name != "key_id" && name != "key_operation" {
			p.add(name, "belongs to Azure, and the key is in an embedded key store")
		}
	}
	slices.SortFunc(*p, func(a, b Problem) int { return strings.Compare(a.Field, b.Field) })
}

func (c Config) checkEnvironment(p *problems) {
	switch c.Environment {
	case Public, China, USGov:
		if c.AuthorityHost != "" {
			p.add("authority_host", "belongs to a private environment")
		}
		if c.DNSSuffix != "" {
			p.add("dns_suffix", "belongs to a private environment")
		}
	case Private:
		u, err := url.Parse(c.AuthorityHost)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			p.add("authority_host", "is the https URL of the private cloud's directory")
		}
		host, _, _ := strings.Cut(c.DNSSuffix, ":")
		if !domain.MatchString(host) {
			p.add("dns_suffix", "is what the names of the private cloud's vaults end in")
		}
	default:
		p.add("environment", "is public, china, usgov or private")
	}
	if c.CAFile != "" && !strings.HasPrefix(c.CAFile, "/") {
		p.add("ca_file", "is an absolute path")
	}
}

// checkKey finds out whether key, vault and environment belong together.
func (c Config) checkKey(p *problems) {
	id, err := akv.ParseID(c.KeyID, c.suffixes()...)
	if err != nil {
		p.add("key_id", "is not the identifier of a key in an Azure key vault of a known environment")
		return
	}
	if c.Environment == Private != id.Cloud.Private || !id.Cloud.Private && !slices.Contains(suffixes[c.Environment], id.Cloud.Suffix) {
		p.add("environment", "is %s, and the key's vault %s is of another one", c.Environment, id.Host)
	}
	label, _, _ := strings.Cut(id.Host, ".")
	if !strings.EqualFold(c.VaultName, label) {
		p.add("vault_name", "is %q, and the key is in the vault %q", c.VaultName, label)
	}
}

func (c Config) suffixes() []string {
	if c.Environment == Private && c.DNSSuffix != "" {
		return []string{c.DNSSuffix}
	}
	return nil
}

func (c Config) checkAzure(p *problems) {
	managed := c.Credential.Kind == Managed
	if !(managed && c.TenantID == "") && !guid.MatchString(c.TenantID) && !domain.MatchString(c.TenantID) {
		p.add("tenant_id", "is the directory's ID, such as 00000000-0000-0000-0000-000000000000, or its domain")
	}
	if !guid.MatchString(c.ClientID) && !(managed && (c.ClientID == "" || resourceID.MatchString(c.ClientID))) {
		p.add("client_id", "is the application's ID, such as 00000000-0000-0000-0000-000000000000")
	}
	if !guid.MatchString(c.SubscriptionID) {
		p.add("subscription_id", "is the subscription's ID, such as 00000000-0000-0000-0000-000000000000")
	}
	if !resourceGroup.MatchString(c.ResourceGroup) || strings.HasSuffix(c.ResourceGroup, ".") {
		p.add("resource_group", "is the name of the vault's resource group: 1 to 90 letters, digits, _, -, parentheses and periods, none at the end")
	}
}

func (c Config) checkCredential(p *problems) {
	cr := c.Credential
	var needs []string
	switch cr.Kind {
	case Secret:
		needs = []string{"credential.secret_file", "credential.secret_credential"}
		if (cr.SecretFile == "") == (cr.SecretCredential == "") {
			p.add("credential", "needs secret_file or secret_credential, one of them")
		}
	case Certificate:
		needs = []string{"credential.certificate_file", "credential.certificate_password_file"}
		if cr.CertificateFile == "" {
			p.add("credential.certificate_file", "is missing")
		}
	case Workload:
		needs = []string{"credential.token_file"}
		if cr.TokenFile == "" {
			p.add("credential.token_file", "is missing")
		}
	case Managed:
	default:
		p.add("credential.kind", "is secret, certificate, managed-identity or workload-identity")
		return
	}
	all := c.fields()
	for _, name := range []string{
		"credential.secret_file", "credential.secret_credential", "credential.certificate_file",
		"credential.certificate_password_file", "credential.token_file",
	} {
		if all[name] != "" && !slices.Contains(needs, name) {
			p.add(name, "does not belong to a credential of kind %s", cr.Kind)
		}
	}
	if cr.SecretCredential != "" && (!credentialID.MatchString(cr.SecretCredential) || strings.Trim(cr.SecretCredential, ".") == "") {
		p.add("credential.secret_credential", "is not the name of a systemd credential")
	}
	if _, err := time.Parse(time.DateOnly, cr.Expires); cr.Expires != "" && err != nil {
		p.add("credential.expires", "is a date such as 2027-01-31")
	}
}
