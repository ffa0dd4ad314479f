package akv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/akvfs/akvfs/keymgr"
)

// kind is a way to be known to the directory.
type kind string

const (
	kindAmbient     kind = "ambient credentials"
	kindSecret      kind = "client secret"
	kindCertificate kind = "client certificate"
	kindWorkload    kind = "workload identity"
	kindManaged     kind = "managed identity"
)

// identity says who this host is. Secrets are read when a credential is made
// of it: from the file at each time, so that a renewed one is taken; from the
// environment once, before the program takes them out of it.
type identity struct {
	kind        kind
	tenant      string
	client      string
	secret      source
	certificate string // path
	password    source
	sendChain   bool
	tokenFile   string // path
}

// source is where a secret comes from: a file, or the value itself if there is
// no path. Its text is not the secret.
type source struct {
	path  string
	value string
}

func (s source) String() string {
	if s.path == "" {
		return "secret from the environment"
	}
	return "secret from " + s.path
}

// GoString keeps %#v from showing the value.
func (s source) GoString() string { return s.String() }

func (s source) set() bool { return s.path != "" || s.value != "" }

// maxCredentialFile is more than any secret, token or certificate needs.
const maxCredentialFile = 1 << 20

// read returns the secret without its last line end.
func (s source) read() (string, error) {
	if s.path == "" {
		return s.value, nil
	}
	b, err := readCredentialFile(s.path)
	if err != nil {
		return "", err
	}
	defer clear(b)
	line := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(line) == 0 {
		return "", fmt.Errorf("%s is empty", s.path)
	}
	return string(line), nil
}

func readCredentialFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCredentialFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxCredentialFile {
		return nil, fmt.Errorf("%s is larger than any credential", path)
	}
	return b, nil
}

// identify decides which credential is meant. What is configured goes before
// the environment; of the environment, the variables of EnvironmentCredential
// and of workload identity are taken here, so that a failure names them alone
// and a new credential can be made when the environment has been cleaned; all
// else is left to azidentity's own chain.
func identify(o keymgr.CredentialOptions, getenv func(string) string) (identity, error) {
	id := identity{tenant: o.TenantID, client: o.ClientID}
	if id.tenant == "" {
		id.tenant = getenv("AZURE_TENANT_ID")
	}
	if id.client == "" {
		id.client = getenv("AZURE_CLIENT_ID")
	}
	configured, err := configuredKind(o)
	switch {
	case err != nil:
		return id, err
	case configured == "":
		id.fromEnvironment(getenv)
	default:
		id.kind = configured
		id.secret = source{path: o.ClientSecretFile}
		id.certificate, id.password = o.ClientCertificateFile, source{path: o.CertificatePassFile}
		id.tokenFile = o.FederatedTokenFile
	}
	return id, id.check()
}

// configuredKind is the one credential that the options name, or none.
func configuredKind(o keymgr.CredentialOptions) (kind, error) {
	var named []kind
	for k, is := range map[kind]bool{
		kindSecret:      o.ClientSecretFile != "",
		kindCertificate: o.ClientCertificateFile != "",
		kindWorkload:    o.FederatedTokenFile != "",
		kindManaged:     o.ManagedIdentity,
	} {
		if is {
			named = append(named, k)
		}
	}
	switch {
	case len(named) > 1:
		return "", errors.New("more than one kind of credential is configured")
	case o.CertificatePassFile != "" && o.ClientCertificateFile == "":
		return "", errors.New("a certificate's password is configured, but no certificate")
	case len(named) == 1:
		return named[0], nil
	}
	return "", nil
}

// fromEnvironment takes azidentity's variables, in azidentity's order.
func (id *identity) fromEnvironment(getenv func(string) string) {
	chain := strings.ToLower(getenv("AZURE_TOKEN_CREDENTIALS"))
	allowed := func(name string) bool { return chain == "" || chain == "prod" || chain == strings.ToLower(name) }
	id.kind = kindAmbient
	switch environment := allowed("EnvironmentCredential"); {
	case environment && getenv("AZURE_CLIENT_SECRET") != "":
		id.kind = kindSecret
		id.secret = source{value: getenv("AZURE_CLIENT_SECRET")}
	case environment && getenv("AZURE_CLIENT_CERTIFICATE_PATH") != "":
		id.kind = kindCertificate
		id.certificate = getenv("AZURE_CLIENT_CERTIFICATE_PATH")
		id.password = source{value: getenv("AZURE_CLIENT_CERTIFICATE_PASSWORD")}
		switch strings.ToLower(getenv("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN")) {
		case "1", "true":
			id.sendChain = true
		}
	case allowed("WorkloadIdentityCredential") && getenv("AZURE_FEDERATED_TOKEN_FILE") != "":
		id.kind = kindWorkload
		id.tokenFile = getenv("AZURE_FEDERATED_TOKEN_FILE")
	}
}

// check finds what is missing before the directory is asked.
func (id identity) check() error {
	if id.kind == kindAmbient || id.kind == kindManaged {
		return nil
	}
	if id.tenant == "" {
		return fmt.Errorf("there is a %s, but no tenant ID (AZURE_TENANT_ID)", id.kind)
	}
	if id.client == "" {
		return fmt.Errorf("there is a %s, but no client ID (AZURE_CLIENT_ID)", id.kind)
	}
	return nil
}

// credential makes azidentity's credential. It asks nobody anything.
func (id identity) credential(o azcore.ClientOptions, privateDirectory bool) (azcore.TokenCredential, error) {
	switch id.kind {
	case kindSecret:
		secret, err := id.secret.read()
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientSecretCredential(id.tenant, id.client, secret, &azidentity.ClientSecretCredentialOptions{
			ClientOptions: o, DisableInstanceDiscovery: privateDirectory,
		})
	case kindCertificate:
		return id.certificateCredential(o, privateDirectory)
	case kindWorkload:
		if _, err := os.Stat(id.tokenFile); err != nil {
			return nil, err
		}
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: o, DisableInstanceDiscovery: privateDirectory,
			TenantID: id.tenant, ClientID: id.client, TokenFilePath: id.tokenFile,
		})
	case kindManaged:
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ClientOptions: o, ID: id.managedID(),
		})
	}
	return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: o, DisableInstanceDiscovery: privateDirectory, TenantID: id.tenant,
	})
}

func (id identity) certificateCredential(o azcore.ClientOptions, privateDirectory bool) (azcore.TokenCredential, error) {
	certs, key, err := id.readCertificate()
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientCertificateCredential(id.tenant, id.client, certs, key, &azidentity.ClientCertificateCredentialOptions{
		ClientOptions: o, DisableInstanceDiscovery: privateDirectory, SendCertificateChain: id.sendChain,
	})
}

// managedID is nil for the host's own identity.
func (id identity) managedID() azidentity.ManagedIDKind {
	switch {
	case id.client == "":
		return nil
	case strings.HasPrefix(id.client, "/"):
		return azidentity.ResourceID(id.client)
	}
	return azidentity.ClientID(id.client)
}
