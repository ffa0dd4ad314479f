package akv

import (
	"os"

	"github.com/akvfs/akvfs/keymgr"
)

// variables are those of the environment that this package reads.
var variables = []string{
	EnvDNSSuffix, EnvCAFile, EnvResource, EnvAPIVersion,
	"AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_TOKEN_CREDENTIALS",
	"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD",
	"AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "AZURE_FEDERATED_TOKEN_FILE",
}

// Remembering is Open for a process whose environment forgets its secrets: the
// opener that it returns goes by the environment of now, whenever it is
// called, so that a key of another vault can be opened with the credentials
// that the process was started with. The secret is the very string that the
// credentials made of it hold, not a copy.
func Remembering() keymgr.Opener {
	seen := environment{}
	for _, name := range variables {
		seen[name] = os.Getenv(name)
	}
	return func(keyID string, opts keymgr.ProviderOptions) (keymgr.Provider, error) {
		p, err := New(keyID, Config{ProviderOptions: opts, Getenv: seen.get})
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}

// environment is what variables had for values. Its text shows none.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// String keeps %v from showing secrets.
func (e environment) String() string { return "environment" }

// GoString keeps %#v from showing secrets.
func (e environment) GoString() string { return e.String() }
