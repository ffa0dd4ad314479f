package akv

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// DefaultTimeout bounds a call where Config.Timeout does not.
const DefaultTimeout = 30 * time.Second

// Environment variables of this package's own. Those of azidentity (AZURE_*,
// IDENTITY_*, ...), HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are
// honoured too.
const (
	EnvDNSSuffix  = "AKVFS_AKV_DNS_SUFFIX"  // of a private cloud's vaults; several with commas
	EnvCAFile     = "AKVFS_CA_FILE"         // PEM, trusted besides the system's roots
	EnvResource   = "AKVFS_AKV_RESOURCE"    // audience of the tokens, where it is not the DNS suffix
	EnvAPIVersion = "AKVFS_AKV_API_VERSION" // of Key Vault's REST interface, for older private clouds
)

// Config is what a Provider is made from. The zero value is usable: the
// process's environment decides. Empty fields are filled from it.
type Config struct {
	keymgr.ProviderOptions

	// DNSSuffixes are those of private clouds ("vault.example.org", with an
	// optional port); the public ones are always known.
	DNSSuffixes []string
	// CAFile is trusted besides the system's roots.
	CAFile string
	// Resource is the audience that a private cloud's vaults ask tokens for,
	// where that is not their DNS suffix. Tokens are asked for nothing else.
	Resource string
	// APIVersion of the REST interface. Empty: what azkeys speaks.
	APIVersion string
	// Dial replaces the network's, for tests, and goes by no proxy. TLS is
	// verified all the same.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Getenv replaces os.Getenv for the variables that this package reads. It
	// is not asked for those that azidentity reads by itself in the ambient
	// chain and for managed identities.
	Getenv func(string) string
}

// complete fills what is empty, and refuses what cannot be.
func (c Config) complete() (Config, error) {
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Operation == "" {
		c.Operation = keymgr.OpWrap
	}
	if c.Operation != keymgr.OpWrap && c.Operation != keymgr.OpEncrypt {
		return c, fmt.Errorf("the key operation is %q, neither %q nor %q", c.Operation, keymgr.OpWrap, keymgr.OpEncrypt)
	}
	for field, name := range map[*string]string{&c.CAFile: EnvCAFile, &c.Resource: EnvResource, &c.APIVersion: EnvAPIVersion} {
		if *field == "" {
			*field = c.Getenv(name)
		}
	}
	if len(c.DNSSuffixes) == 0 {
		suffixes, err := parseSuffixes(c.Getenv(EnvDNSSuffix))
		if err != nil {
			return c, fmt.Errorf("%s: %w", EnvDNSSuffix, err)
		}
		c.DNSSuffixes = suffixes
	}
	for _, s := range c.DNSSuffixes {
		if err := checkSuffix(s); err != nil {
			return c, err
		}
	}
	return c, nil
}

// authority is the directory that gives tokens for vaults of a cloud.
func (c Config) authority(cloud Cloud) (string, error) {
	for _, a := range []string{c.Credentials.AuthorityHost, c.Getenv("AZURE_AUTHORITY_HOST"), cloud.Authority} {
		if a != "" {
			return a, checkAuthority(a)
		}
	}
	return "", fmt.Errorf("the vault's DNS suffix %s is a private cloud's, whose directory AZURE_AUTHORITY_HOST must name", cloud.Suffix)
}

// roots are the certificates to trust; nil means the system's.
func (c Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(c.CAFile + " holds no certificate")
	}
	return pool, nil
}
