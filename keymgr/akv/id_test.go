package akv

import (
	"strings"
	"testing"

	"github.com/akvfs/akvfs/keymgr"
)

const someVersion = "0123456789abcdef0123456789abcdef"

func TestParseID(t *testing.T) {
	private := []string{"vault.private.example", "kv.stack.local:8443"}
	for _, c := range []struct{ in, want, authority string }{
		{"https://kv1.vault.azure.net/keys/master-key", "", authorityPublic},
		{"https://kv1.vault.azure.net/keys/master-key/" + someVersion, "", authorityPublic},
		{"https://KV1.Vault.Azure.NET/keys/Master-Key/" + strings.ToUpper(someVersion), "https://kv1.vault.azure.net/keys/Master-Key/" + someVersion, authorityPublic},
		{"HTTPS://kv1.vault.azure.net/Keys/k", "https://kv1.vault.azure.net/keys/k", authorityPublic},
		{"https://hsm-1.managedhsm.azure.net/keys/k", "", authorityPublic},
		{"https://kv1.vault.azure.cn/keys/k", "", authorityChina},
		{"https://hsm1.managedhsm.azure.cn/keys/k", "", authorityChina},
		{"https://kv1.vault.usgovcloudapi.net/keys/k", "", authorityUSGov},
		{"https://hsm1.managedhsm.usgovcloudapi.net/keys/k", "", authorityUSGov},
		{"https://kv1.vault.microsoftazure.de/keys/k", "", authorityGermany},
		{"https://hsm1.managedhsm.microsoftazure.de/keys/k", "", authorityGermany},
		{"https://abc.vault.azure.net/keys/" + strings.Repeat("n", 127), "", authorityPublic},
		{"https://a23456789012345678901234.vault.azure.net/keys/0", "", authorityPublic},
		{"https://kv1.vault.private.example/keys/k", "", ""},
		{"https://kv1.vault.private.example:9443/keys/k", "", ""},
		{"https://1.kv.stack.local:8443/keys/k/" + someVersion, "", ""},
	} {
		id, err := ParseID(c.in, private...)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		want := c.want
		if want == "" {
			want = c.in
		}
		if id.String() != want || id.Cloud.Authority != c.authority || id.Cloud.Private != (c.authority == "") {
			t.Errorf("%s is parsed as %s of %+v", c.in, id, id.Cloud)
		}
		again, err := ParseID(id.String(), private...)
		if err != nil || again != id {
			t.Errorf("%s: its normal form %s is parsed as %+v, %v", c.in, id, again, err)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, c := range []struct{ in, code, says string }{
		{"", CodeBadKeyID, "not an https URL"},
		{"master-key", CodeBadKeyID, "not an https URL"},
		{"kv1.vault.azure.net/keys/k", CodeBadKeyID, "not an https URL"},
		{"https:", CodeBadKeyID, "not an https URL"},
		{"https:///keys/k", CodeBadKeyID, "not an https URL"},
		{"https:kv1.vault.azure.net/keys/k", CodeBadKeyID, "not an https URL"},
		{"https://kv1.vault.azure.net/keys/\x00", CodeBadKeyID, "not a URL"},
		{"https://kv1.vault.azure.net:x/keys/k", CodeBadKeyID, "not a URL"},
		{"https://" + strings.Repeat("x", 2000), CodeBadKeyID, "not a URL"},
		{"http://kv1.vault.azure.net/keys/k", CodeNotHTTPS, `"http"`},
		{"ftp://kv1.vault.azure.net/keys/k", CodeNotHTTPS, `"ftp"`},
		{"https://me:pass@kv1.vault.azure.net/keys/k", CodeBadKeyID, "user name"},
		{"https://kv1.vault.azure.net/keys/k?api-version=7.4", CodeBadKeyID, "query"},
		{"https://kv1.vault.azure.net/keys/k?", CodeBadKeyID, "query"},
		{"https://kv1.vault.azure.net/keys/k#x", CodeBadKeyID, "fragment"},
		{"https://kv1.vault.azure.net/keys/k#", CodeBadKeyID, "fragment"},
		{"https://kv1.vault.azure.net:443/keys/k", CodeUnknownVault, "no port"},
		{"https://kv1.vault.azure.net:/keys/k", CodeUnknownVault, "no port"},
		{"https://kv1.vault.azure.net./keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://vault.azure.net/keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://a.b.vault.azure.net/keys/k", CodeUnknownVault, `"a.b"`},
		{"https://-kv.vault.azure.net/keys/k", CodeUnknownVault, "name of a vault"},
		{"https://kv--1.vault.azure.net/keys/k", CodeUnknownVault, "name of a vault"},
		{"https://1kv.vault.azure.net/keys/k", CodeUnknownVault, "name of a vault"},
		{"https://kv.vault.azure.net/keys/k", CodeUnknownVault, "name of a vault"},
		{"https://a234567890123456789012345.vault.azure.net/keys/k", CodeUnknownVault, "name of a vault"},
		{"https://kv1xvault.azure.net/keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://kv1.vault.azure.net.evil.example/keys/k", CodeUnknownVault, "AKVFS_AKV_DNS_SUFFIX"},
		{"https://example.com/keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://127.0.0.1/keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://[::1]:8443/keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://kv1.kv.stack.local/keys/k", CodeUnknownVault, "no vault of a known cloud"},      // lacks the suffix's port
		{"https://kv1.kv.stack.local:8444/keys/k", CodeUnknownVault, "no vault of a known cloud"}, // has another
		{"https://a.b.vault.private.example/keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://kv1.vault.private.example:0/keys/k", CodeUnknownVault, "no vault of a known cloud"},
		{"https://kv1.vault.azure.net", CodeBadKeyID, "names a vault, but no key"},
		{"https://kv1.vault.azure.net/", CodeBadKeyID, "names a vault, but no key"},
		{"https://kv1.vault.azure.net/keys", CodeBadKeyID, "/keys/NAME"},
		{"https://kv1.vault.azure.net/keys/", CodeBadKeyID, "name of the key"},
		{"https://kv1.vault.azure.net//keys/k", CodeBadKeyID, "names a vault, but no key"},
		{"https://kv1.vault.azure.net/keys/k/", CodeBadKeyID, "version"},
		{"https://kv1.vault.azure.net/keys/k/1", CodeBadKeyID, "version"},
		{"https://kv1.vault.azure.net/keys/k/" + someVersion + "/x", CodeBadKeyID, "/keys/NAME"},
		{"https://kv1.vault.azure.net/keys/k/g123456789abcdef0123456789abcdef", CodeBadKeyID, "version"},
		{"https://kv1.vault.azure.net/keys/a_b", CodeBadKeyID, "name of the key"},
		{"https://kv1.vault.azure.net/keys/a%2db", CodeBadKeyID, "name of the key"},
		{"https://kv1.vault.azure.net/keys/..", CodeBadKeyID, "name of the key"},
		{"https://kv1.vault.azure.net/keys/" + strings.Repeat("n", 128), CodeBadKeyID, "name of the key"},
		{"https://kv1.vault.azure.net/secrets/s", CodeNotAKey, "/secrets"},
		{"https://kv1.vault.azure.net/Secrets/s/" + someVersion, CodeNotAKey, "/secrets"},
		{"https://kv1.vault.azure.net/certificates/c", CodeNotAKey, "/certificates"},
		{"https://kv1.vault.azure.net/deletedkeys/k", CodeNotAKey, "/deletedkeys"},
		{"https://kv1.vault.azure.net/other/k", CodeBadKeyID, "/keys/NAME"},
	} {
		_, err := ParseID(c.in, "vault.private.example", "kv.stack.local:8443")
		if err == nil {
			t.Errorf("%s is accepted", c.in)
			continue
		}
		ke := expect(t, err, keymgr.Invalid, c.code)
		if !strings.Contains(err.Error(), c.says) || ke.Op != "open" {
			t.Errorf("%s: %v; want %q", c.in, err, c.says)
		}
		if strings.Contains(err.Error(), "pass") || strings.Contains(err.Error(), "api-version") {
			t.Errorf("%q repeats what it ought not to", err)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"https://kv1.vault.azure.net/keys/k":      "https://kv1.vault.azure.net/keys/k",
		"https://u:p@kv1.vault.azure.net/keys/k":  "...@kv1.vault.azure.net/keys/k",
		"https://kv1.vault.azure.net/keys/k?sig=": "https://kv1.vault.azure.net/keys/k",
		"https://host/x#token":                    "https://host/x",
		strings.Repeat("y", 300):                  strings.Repeat("y", 256) + "...",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %q", in, got)
		}
	}
}

func TestSuffixes(t *testing.T) {
	got, err := parseSuffixes(" .Vault.Private.Example , kv.local:8443,,")
	if err != nil || strings.Join(got, " ") != "vault.private.example kv.local:8443" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"a b", "x..y", "-x", "vault.example:port", "vault.example:0", "vault.example:70000", "vault/x", "*", "https://vault.example"} {
		if got, err := parseSuffixes(bad); err == nil {
			t.Errorf("%q is taken for the suffixes %q", bad, got)
		}
	}
}

// FuzzParseID: what is accepted names a vault of a known suffix, a valid key,
// and is its own normal form's meaning; what is not is an Invalid KeyError.
func FuzzParseID(f *testing.F) {
	for _, seed := range []string{
		"https://kv1.vault.azure.net/keys/k", "https://kv1.vault.azure.net/keys/k/" + someVersion,
		"https://kv1.vault.azure.net:443/keys/k", "https://u:p@kv1.vault.azure.net/keys/k?x#y",
		"https://kv.private.example:8443/keys/k", "http://x/secrets/y", "https://[::1]/keys/k", "https://%41.vault.azure.net/keys/k",
	} {
		f.Add(seed)
	}
	const suffix = "private.example"
	f.Fuzz(func(t *testing.T, in string) {
		id, err := ParseID(in, suffix)
		if err != nil {
			expectInvalid(t, err)
			return
		}
		again, err := ParseID(id.String(), suffix)
		if err != nil || again != id {
			t.Fatalf("%q: %s is parsed as %s, %v", in, id, again, err)
		}
		if !strings.HasSuffix(hostname(id.Host), "."+id.Cloud.Suffix) || !objectName.MatchString(id.Name) ||
			id.Version != "" && !keyVersion.MatchString(id.Version) || id.Cloud.Private != (id.Cloud.Suffix == suffix) {
			t.Fatalf("%q is accepted as %+v", in, id)
		}
		if strings.ContainsAny(id.String(), "@?# \\%") || strings.Contains(id.Host, ":") && !id.Cloud.Private {
			t.Fatalf("%q is accepted as %s", in, id)
		}
	})
}

func expectInvalid(t *testing.T, err error) {
	t.Helper()
	ke := keyError(t, err)
	if ke.Class != keymgr.Invalid || ke.Code == "" || ke.Err == nil {
		t.Fatalf("%+v", ke)
	}
}

// FuzzParseSuffixes: each suffix that is accepted can be matched by a host.
func FuzzParseSuffixes(f *testing.F) {
	f.Add("vault.example")
	f.Add(".a.b:8443, c")
	f.Add("a..b,:1,*")
	f.Fuzz(func(t *testing.T, list string) {
		suffixes, err := parseSuffixes(list)
		if err != nil {
			return
		}
		for _, s := range suffixes {
			id, err := ParseID("https://kv1."+s+"/keys/k", suffixes...)
			if err != nil || id.Name != "k" {
				t.Fatalf("suffix %q matches nothing: %v", s, err)
			}
		}
	})
}
