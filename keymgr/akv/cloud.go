package akv

import (
	"fmt"
	"net/url"
	"strings"
)

// Cloud is one Azure cloud as its vaults' host names tell it.
type Cloud struct {
	Suffix    string // of the vaults' host names, without a leading dot
	Authority string // URL of the directory; empty for a private cloud
	Private   bool
}

// HSM reports whether a vault is a Managed HSM, as far as its name tells.
func (c Cloud) HSM() bool { return strings.HasPrefix(c.Suffix, "managedhsm.") }

// The directories of the clouds. Key Vault's and Managed HSM's suffixes are
// those of Microsoft's list of national clouds.
const (
	authorityPublic  = "https://login.microsoftonline.com/"
	authorityChina   = "https://login.chinacloudapi.cn/"
	authorityUSGov   = "https://login.microsoftonline.us/"
	authorityGermany = "https://login.microsoftonline.de/"
)

var knownClouds = []Cloud{
	{Suffix: "vault.azure.net", Authority: authorityPublic},
	{Suffix: "managedhsm.azure.net", Authority: authorityPublic},
	{Suffix: "vault.azure.cn", Authority: authorityChina},
	{Suffix: "managedhsm.azure.cn", Authority: authorityChina},
	{Suffix: "vault.usgovcloudapi.net", Authority: authorityUSGov},
	{Suffix: "managedhsm.usgovcloudapi.net", Authority: authorityUSGov},
	{Suffix: "vault.microsoftazure.de", Authority: authorityGermany},
	{Suffix: "managedhsm.microsoftazure.de", Authority: authorityGermany},
}

func knownSuffixes() []string {
	var all []string
	for _, c := range knownClouds {
		all = append(all, c.Suffix)
	}
	return all
}

// knownAuthority reports whether a directory is one of Microsoft's own, about
// which the public instance discovery knows.
func knownAuthority(authority string) bool {
	u, err := url.Parse(authority)
	if err != nil {
		return false
	}
	for _, c := range knownClouds {
		if u.Host == hostOf(c.Authority) {
			return true
		}
	}
	return false
}

func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// checkAuthority accepts the URL of a directory: https, a host, and nothing
// that could hold a secret.
func checkAuthority(authority string) error {
	u, err := url.Parse(authority)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("the authority host is not a URL")
	case u.Scheme != "https":
		return fmt.Errorf("the authority host %s is not https", u.Host)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("the authority host %s has more than a host and a path", u.Host)
	}
	return nil
}

// parseSuffixes takes a list of DNS suffixes apart, as the environment has it:
// separated by commas, each with an optional port.
func parseSuffixes(list string) ([]string, error) {
	var all []string
	for s := range strings.SplitSeq(list, ",") {
		s = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(s), "."))
		if s == "" {
			continue
		}
		if err := checkSuffix(s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func checkSuffix(suffix string) error {
	name, port, pinned := strings.Cut(suffix, ":")
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > 63 || !hostLabel.MatchString(label) {
			return fmt.Errorf("%q is not a DNS suffix", suffix)
		}
	}
	if pinned && !validPort(port) {
		return fmt.Errorf("the port of the DNS suffix %q is none", suffix)
	}
	return nil
}
