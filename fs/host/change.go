package host

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/akvfs/akvfs/keymgr/project"
)

// MayNotChange names the fields in which a configuration differs from the one
// before it although they are not a Project Owner's to change. An Owner changes
// the key within the same cloud, what belongs to it, and who has a role. With a
// new secret he also says whose that is. Everything else is root's: it names
// files that root would read, identities that are the host's, or where the
// project's secret is sent.
func MayNotChange(before, after project.Config, newSecret bool) []string {
	may := before
	if !after.Embedded() && !before.Embedded() {
		may.KeyID = after.KeyID
	}
	may.KeyOperation, may.SubscriptionID, may.ResourceGroup, may.VaultName = after.KeyOperation, after.SubscriptionID, after.ResourceGroup, after.VaultName
	may.Roles, may.Credential.Expires = after.Roles, after.Credential.Expires
	if newSecret && after.Credential.Kind == project.Secret {
		may.TenantID, may.ClientID = after.TenantID, after.ClientID
		// Where the secret is stored is not in the configuration that is sent.
		may.Credential = project.Credential{Kind: project.Secret, SecretFile: before.Credential.SecretFile, Expires: after.Credential.Expires}
	}
	return differences("", fieldsOf(may), fieldsOf(after))
}

// fieldsOf are a configuration's fields, as its file names them.
func fieldsOf(c project.Config) map[string]any {
	var fields map[string]any
	if data, err := json.Marshal(c); err != nil || json.Unmarshal(data, &fields) != nil {
		return nil
	}
	return fields
}

func differences(prefix string, a, b map[string]any) (names []string) {
	for name := range b {
		if _, both := a[name]; !both {
			a[name] = nil
		}
	}
	for name, x := range a {
		y := b[name]
		inX, isX := x.(map[string]any)
		inY, isY := y.(map[string]any)
		switch {
		case isX || isY:
			names = append(names, differences(prefix+name+".", orEmpty(inX), orEmpty(inY))...)
		case !reflect.DeepEqual(x, y):
			names = append(names, prefix+name)
		}
	}
	slices.Sort(names)
	return names
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// list is an enumeration for people.
func list(names []string) string { return strings.Join(names, ", ") }
