package project

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
	"github.com/akvfs/akvfs/keymgr/file"
)

// Version is that of the configuration's form.
const Version = 1

// Environment is an Azure cloud.
type Environment string

// The environments.
const (
	Public  Environment = "public"
	China   Environment = "china"
	USGov   Environment = "usgov"
	Private Environment = "private" // by authority host and DNS suffix
)

// Kind is a way to be known to the directory.
type Kind string

// The kinds of credentials.
const (
	Secret      Kind = "secret"
	Certificate Kind = "certificate"
	Managed     Kind = "managed-identity"
	Workload    Kind = "workload-identity"
)

// Config is what is configured of a project, as its file has it. It holds no
// secret.
type Config struct {
	Version       int         `toml:"version" json:"version"`
	Environment   Environment `toml:"environment,omitempty" json:"environment,omitempty"`
	AuthorityHost string      `toml:"authority_host,omitempty" json:"authority_host,omitempty"` // URL; of a private cloud
	DNSSuffix     string      `toml:"dns_suffix,omitempty" json:"dns_suffix,omitempty"`         // of a private cloud's vaults
	CAFile        string      `toml:"ca_file,omitempty" json:"ca_file,omitempty"`               // trusted besides the system's roots

	TenantID       string `toml:"tenant_id,omitempty" json:"tenant_id,omitempty"`
	ClientID       string `toml:"client_id,omitempty" json:"client_id,omitempty"`
	SubscriptionID string `toml:"subscription_id,omitempty" json:"subscription_id,omitempty"`
	ResourceGroup  string `toml:"resource_group,omitempty" json:"resource_group,omitempty"`
	VaultName      string `toml:"vault_name,omitempty" json:"vault_name,omitempty"`

	KeyID        string `toml:"key_id" json:"key_id"`
	KeyOperation string `toml:"key_operation,omitempty" json:"key_operation,omitempty"` // "wrap" or "encrypt"

	Credential Credential `toml:"credential,omitempty" json:"credential,omitzero"`
	Roles      Roles      `toml:"roles,omitempty" json:"roles,omitzero"`
}

// Credential says who the host is to the directory. Paths are absolute, or
// relative to the project's own directory.
type Credential struct {
	Kind             Kind   `toml:"kind,omitempty" json:"kind,omitempty"`
	SecretFile       string `toml:"secret_file,omitempty" json:"secret_file,omitempty"`
	SecretCredential string `toml:"secret_credential,omitempty" json:"secret_credential,omitempty"` // name of a systemd credential
	CertificateFile  string `toml:"certificate_file,omitempty" json:"certificate_file,omitempty"`
	PasswordFile     string `toml:"certificate_password_file,omitempty" json:"certificate_password_file,omitempty"`
	TokenFile        string `toml:"token_file,omitempty" json:"token_file,omitempty"` // of a workload identity
	Expires          string `toml:"expires,omitempty" json:"expires,omitempty"`       // "2027-01-31", which Azure does not tell
}

// Embedded reports whether the key is in an embedded key store and not in a
// vault: then there is nothing of Azure to configure.
func (c Config) Embedded() bool { return strings.HasPrefix(c.KeyID, "file://") }

// BaseKeyID is the key's identifier in its normal form, without a version, as
// keyrings have it.
func (c Config) BaseKeyID() (string, error) {
	if c.Embedded() {
		path, _, err := file.ParseKeyID(c.KeyID)
		return file.KeyID(path), err
	}
	id, err := akv.ParseID(c.KeyID, c.suffixes()...)
	return id.Base(), err
}

// Operation is KeyOperation, or its default.
func (c Config) Operation() string {
	if c.KeyOperation == "" {
		return keymgr.OpWrap
	}
	return c.KeyOperation
}

// ExpiresAt is when the secret expires, as far as the operator has said.
func (c Credential) ExpiresAt() time.Time {
	t, _ := time.Parse(time.DateOnly, c.Expires) // Validate has looked
	return t
}

// Problem is what is wrong with one field.
type Problem struct {
	Field string // as the file has it
	What  string
}

// InvalidError says that a configuration cannot be.
type InvalidError struct {
	Path     string // of the file; "" for a configuration that is not in one
	Problems []Problem
}

func (e *InvalidError) Error() string {
	var parts []string
	for _, p := range e.Problems {
		text := p.What
		if p.Field != "" {
			text = p.Field + " " + text
		}
		parts = append(parts, text)
	}
	text := strings.Join(parts, "; ")
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	return text
}

// Parse reads a configuration strictly: what it does not know it refuses.
// Errors are an *InvalidError.
func Parse(data []byte) (Config, error) {
	c, err := ParsePartial(data)
	if err == nil {
		err = c.Validate()
	}
	return c, err
}

// ParsePartial is Parse for what is still to be completed: it may lack fields.
func ParsePartial(data []byte) (Config, error) {
	var c Config
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, &InvalidError{Problems: []Problem{{What: syntaxError(err)}}}
	}
	return c, nil
}

// syntaxError says where a file is wrong, in one line and without its content.
func syntaxError(err error) string {
	switch e := err.(type) {
	case *toml.DecodeError:
		row, _ := e.Position()
		return fmt.Sprintf("line %d is not what is meant there: %s", row, strings.TrimPrefix(e.Error(), "toml: "))
	case *toml.StrictMissingError:
		row, _ := e.Errors[0].Position()
		return fmt.Sprintf("line %d has the unknown field %s", row, strings.Join(e.Errors[0].Key(), "."))
	}
	return "is not TOML"
}

// Encode is the inverse of Parse.
func (c Config) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# A project of akvfs: see `akvfs help project`. `akvfs project update` proves a change before it counts.\n")
	err := toml.NewEncoder(&b).Encode(c)
	return b.Bytes(), err
}

var (
	guid          = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	domain        = regexp.MustCompile(`(?i)^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
	resourceID    = regexp.MustCompile(`(?i)^/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/\s]+/providers/microsoft\.managedidentity/userassignedidentities/[^/\s]+$`)
	resourceGroup = regexp.MustCompile(`^[\pL\pN_().-]{1,90}$`)
	credentialID  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,255}$`)
)
