package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/project"
)

func newProject(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Configure the key and the credentials that clusters are encrypted with",
		Long: `A project is a key in a vault, the identity by which this host may use it, and
the users who may do what. Clusters are enabled under a project.

A project is one directory, ` + systemConfig + `/projects/NAME: root's alone, with
project.toml and, as the case may be, the client secret. Configuration
management may write project.toml (0600) and name a secret's file elsewhere, or
a systemd credential; "akvfs project update NAME" without any flag then proves
it. AKVFS_CONFIG_DIR moves ` + systemConfig + `.`,
		Example: `  akvfs project configure acme --from acme.toml --secret-file /root/secret
  akvfs project show acme
  akvfs project rotate-credential acme --secret-file /root/new-secret`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	cmd.AddCommand(newProjectConfigure(a), newProjectUpdate(a), newProjectRotate(a), newProjectShow(a), newProjectList(a), newProjectDisable(a))
	return cmd
}

// projectFlags are what a configuration can be changed by.
type projectFlags struct {
	config       project.Config
	environment  string
	kind         string
	secretFile   string
	from         string
	owner, views []string
	timeout      time.Duration
	json         bool
}

// addCredential adds the flags that say who the host is.
func (f *projectFlags) addCredential(cmd *cobra.Command) {
	flags := cmd.Flags()
	c := &f.config.Credential
	flags.StringVar(&f.kind, "credential", "", "what the host is known by: `secret|certificate|managed-identity|workload-identity`")
	flags.StringVar(&f.secretFile, "secret-file", "", "`FILE` with the client secret, its owner's alone; without it, it is asked for")
	flags.StringVar(&c.SecretCredential, "secret-credential", "", "read the client secret from the systemd credential `NAME` whenever it is needed")
	flags.StringVar(&c.CertificateFile, "certificate", "", "`FILE` with the certificate and its private key, PEM or PKCS#12")
	flags.StringVar(&c.PasswordFile, "certificate-password-file", "", "`FILE` with the certificate's password")
	flags.StringVar(&c.TokenFile, "token-file", "", "`FILE` with the token of a workload identity")
	flags.StringVar(&c.Expires, "credential-expires", "", "`DATE` when the secret expires, such as 2027-01-31, which Azure does not tell")
	flags.DurationVar(&f.timeout, "key-timeout", daemon.DefaultKeyTimeout, "how long each answer of the vault may take")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

func (f *projectFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	c := &f.config
	flags.StringVar(&c.KeyID, "key-id", "", "identifier of the `AKI`, the key that wraps the clusters' master keys")
	flags.StringVar(&c.KeyOperation, "key-operation", "", "permission of the vault to use, `wrap|encrypt` (default wrap)")
	flags.StringVar(&f.environment, "environment", "", "Azure's cloud: `public|china|usgov|private` (default public)")
	flags.StringVar(&c.AuthorityHost, "authority-host", "", "`URL` of a private cloud's directory")
	flags.StringVar(&c.DNSSuffix, "dns-suffix", "", "what the names of a private cloud's vaults end in: `SUFFIX[:PORT]`")
	flags.StringVar(&c.CAFile, "ca-file", "", "`FILE` of certificates (PEM) to trust besides the system's")
	flags.StringVar(&c.TenantID, "tenant-id", "", "`ID` of the directory")
	flags.StringVar(&c.ClientID, "client-id", "", "`ID` of the application, or of a managed identity that is not the host's own")
	flags.StringVar(&c.SubscriptionID, "subscription-id", "", "`ID` of the vault's subscription")
	flags.StringVar(&c.ResourceGroup, "resource-group", "", "`NAME` of the vault's resource group")
	flags.StringVar(&c.VaultName, "vault-name", "", "`NAME` of the vault (default that in --key-id)")
	flags.StringArrayVar(&f.owner, "owner", nil, "a Project Owner, `USER|@GROUP`, who may change; may be repeated; '' for none")
	flags.StringArrayVar(&f.views, "viewer", nil, "a Project Viewer, `USER|@GROUP`, who may look; may be repeated; '' for none")
	flags.StringVar(&f.from, "from", "", "begin with the configuration in `FILE`, of the form of project.toml")
	f.addCredential(cmd)
}

// over lays the flags that were given over a configuration.
func (f *projectFlags) over(cmd *cobra.Command, c project.Config) project.Config {
	n := f.config
	for name, set := range map[string]func(){
		"key-id": func() { c.KeyID = n.KeyID }, "key-operation": func() { c.KeyOperation = n.KeyOperation },
		"environment":    func() { c.Environment = project.Environment(f.environment) },
		"authority-host": func() { c.AuthorityHost = n.AuthorityHost }, "dns-suffix": func() { c.DNSSuffix = n.DNSSuffix },
		"ca-file": func() { c.CAFile = n.CAFile }, "tenant-id": func() { c.TenantID = n.TenantID },
		"client-id": func() { c.ClientID = n.ClientID }, "subscription-id": func() { c.SubscriptionID = n.SubscriptionID },
		"resource-group":     func() { c.ResourceGroup = n.ResourceGroup },
		"owner":              func() { c.Roles.Owners = given(f.owner) },
		"viewer":             func() { c.Roles.Viewers = given(f.views) },
		"credential-expires": func() { c.Credential.Expires = n.Credential.Expires },
	} {
		if cmd.Flags().Changed(name) {
			set()
		}
	}
	if cmd.Flags().Changed("vault-name") {
		c.VaultName = n.VaultName
	} else if cmd.Flags().Changed("key-id") || c.VaultName == "" {
		c.VaultName = vaultOf(c.KeyID)
	}
	if c.Environment == "" && !c.Embedded() {
		c.Environment = project.Public
	}
	c.Version = project.Version
	return f.overCredential(cmd, c)
}

// overCredential does so for the credential: one of another kind forgets what
// belonged to the one before.
func (f *projectFlags) overCredential(cmd *cobra.Command, c project.Config) project.Config {
	n, cr := f.config.Credential, &c.Credential
	changed := cmd.Flags().Changed
	kind := cr.Kind
	switch {
	case f.kind != "":
		kind = project.Kind(f.kind)
	case f.secretFile != "" || n.SecretCredential != "":
		kind = project.Secret
	case n.CertificateFile != "":
		kind = project.Certificate
	case n.TokenFile != "":
		kind = project.Workload
	}
	if kind != cr.Kind {
		*cr = project.Credential{Kind: kind, Expires: n.Expires}
	}
	if f.secretFile != "" {
		cr.SecretCredential = ""
	}
	if changed("secret-credential") {
		cr.SecretCredential, cr.SecretFile = n.SecretCredential, ""
	}
	for name, to := range map[string]*string{"certificate": &cr.CertificateFile, "certificate-password-file": &cr.PasswordFile, "token-file": &cr.TokenFile} {
		if changed(name) {
			*to = absolute(map[string]string{"certificate": n.CertificateFile, "certificate-password-file": n.PasswordFile, "token-file": n.TokenFile}[name])
		}
	}
	return c
}

// given are the values of a flag that may be given as ” for none.
func given(values []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(s string) bool { return s == "" })
}

// vaultOf is the vault's name in an identifier; what is wrong with it the
// configuration's check says.
func vaultOf(keyID string) string {
	host, ok := strings.CutPrefix(keyID, "https://")
	if !ok {
		return ""
	}
	host, _, _ = strings.Cut(host, "/")
	name, _, _ := strings.Cut(host, ".")
	return strings.ToLower(name)
}

func newProjectConfigure(a *app) *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:   "configure NAME --key-id AKI",
		Short: "Configure a new project, once its access to the vault is proven",
		Long: `Configure the project NAME. Nothing is stored before the vault has answered: a
token, the key, the list of its versions, and a secret that goes in and comes
out. Each has a line of the report; one that fails says what to grant.

The client secret is asked for without echo, or read from a file that nobody
else can read, or from a systemd credential. It is never an argument.

A key of the embedded key store, file:///PATH, needs nothing of Azure. It is not
a vault, and for trials and tests.`,
		Example: `  akvfs project configure acme --credential secret --key-id $AKI --tenant-id $TENANT --client-id $CLIENT --subscription-id $SUB --resource-group dbs
  akvfs project configure acme --from acme.toml --secret-file /root/secret --owner @dba --viewer @ops
  akvfs project configure trial --key-id file:///root/key.json`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.changeProject(cmd, &f, given[0], host.MethodProjectConfigure)
		},
	}
	f.add(cmd)
	return cmd
}

func newProjectUpdate(a *app) *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change a project's configuration, once the change is proven",
		Long: `Change what the flags name of the project NAME, and leave the rest. The new
configuration is proven as a new project's is, and then takes the place of the
old one at once. Mounted clusters take it at their next check of the key.
Without any flag, the configuration that is there is proven.

Another key: volumes that are there stay under the key that wraps them until
"akvfs key rotate VOLUME --to AKI".`,
		Example: `  akvfs project update acme --viewer @ops --viewer grafana
  akvfs project update acme --key-id https://acme.vault.azure.net/keys/other
  akvfs project update acme`,
		Args:              args("NAME"),
		ValidArgsFunction: a.completeProjects,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.changeProject(cmd, &f, given[0], host.MethodProjectUpdate)
		},
	}
	f.add(cmd)
	return cmd
}

func newProjectRotate(a *app) *cobra.Command {
	var f projectFlags
	cmd := &cobra.Command{
		Use:   "rotate-credential NAME",
		Short: "Put a new secret or certificate in the old one's place, once it is proven",
		Long: `Put a new client secret, or another credential, in the place of that of the
project NAME. The new one is proven first; until then the old one counts.
Mounted clusters take it at their next check of the key, without a remount. Then
the old one can be removed in Azure.

A certificate or a secret's file that was renewed where it is needs no flag: it
is proven, and nothing is changed.`,
		Example: `  akvfs project rotate-credential acme --secret-file /root/new-secret --credential-expires 2028-01-31
  akvfs project rotate-credential acme --certificate /etc/ssl/private/akvfs.pem
  akvfs project rotate-credential acme`,
		Args:              args("NAME"),
		ValidArgsFunction: a.completeProjects,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.changeProject(cmd, &f, given[0], host.MethodProjectRotate)
		},
	}
	f.addCredential(cmd)
	return cmd
}

// changeProject proves a configuration and stores it.
func (a *app) changeProject(cmd *cobra.Command, f *projectFlags, name, action string) error {
	h, mine, err := a.mine()
	if err != nil {
		return err
	}
	if f.timeout <= 0 {
		return &usageError{cmd.CommandPath(), errors.New("--key-timeout must be more than 0")}
	}
	if err := h.Projects().CheckName(name); err != nil {
		return err
	}
	if err := harden(crypto.HardenProcess); err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	var by changer = &ownProject{host: h, name: name, action: action}
	if !mine {
		by = &servedProject{app: a, name: name, action: action}
	}
	before, err := by.begin(ctx)
	if err != nil {
		return err
	}
	defer by.end()
	base := before
	if f.from != "" {
		if base, err = readConfig(f.from); err != nil {
			return err
		}
	}
	change := project.Change{Config: f.over(cmd, base), Timeout: f.timeout, Env: h.Env}
	if action == host.MethodProjectRotate {
		change.Config = f.overCredential(cmd, base)
		if f.config.Credential.Expires != "" || f.secretFile != "" {
			change.Config.Credential.Expires = f.config.Credential.Expires
		}
	}
	if needsSecret(change.Config, f, action) {
		if change.Secret, err = a.readSecret(ctx, cmd, f.secretFile, change.Config.ClientID); err != nil {
			return err
		}
		defer clear(change.Secret)
	}
	changed, err := by.apply(ctx, change)
	return a.reportChange(name, action, base, change.Config, changed, f.json, err)
}

// readConfig reads a configuration that may lack what flags will give.
func readConfig(path string) (project.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return project.Config{}, err
	}
	c, err := project.ParsePartial(data)
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		invalid.Path = path
	}
	return c, err
}

// needsSecret: a new configuration with a secret that is nowhere yet, and one
// that is to be replaced.
func needsSecret(c project.Config, f *projectFlags, action string) bool {
	if f.secretFile != "" {
		return true
	}
	cr := c.Credential
	if c.Embedded() || cr.Kind != project.Secret || cr.SecretCredential != "" {
		return false
	}
	// A file elsewhere is renewed by whoever put it there.
	elsewhere := strings.HasPrefix(cr.SecretFile, "/")
	return cr.SecretFile == "" || action == host.MethodProjectRotate && !elsewhere
}

func newProjectDisable(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "disable NAME",
		Short: "Remove a project that no cluster needs any more",
		Long: `Remove the configuration of the project NAME and its secret from this host. It is
refused while a cluster is enabled under it. Nothing is changed in Azure.

Do not disable or delete the key in the vault before all clusters are disabled
on all hosts, and before no snapshot and no backup is needed any more: they open
with this key only. The command names the snapshots that it knows of.`,
		Example:           "  akvfs project disable acme",
		Args:              args("NAME"),
		ValidArgsFunction: a.completeProjects,
		RunE: func(cmd *cobra.Command, given []string) error {
			h, mine, err := a.mine()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			var snapshots []string
			if mine {
				snapshots, err = h.DisableProject(ctx, given[0])
			} else {
				err = a.ask(ctx, host.MethodProjectDisable, host.Of{Project: given[0]}, &snapshots, nil)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(map[string]any{"project": given[0], "snapshots": append([]string{}, snapshots...)})
			}
			return a.printDisabled(given[0], snapshots)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printDisabled(name string, snapshots []string) error {
	text := fmt.Sprintf("Project %s is disabled: its configuration and credentials are gone from this host.\n", name)
	if len(snapshots) > 0 {
		text += "These snapshots still open with its key only. Do not disable or delete the key in the vault before they are not needed any more:\n  " + strings.Join(snapshots, "\n  ") + "\n"
	} else {
		text += "Before you disable or delete the key in the vault: backups, other hosts and snapshots that were taken elsewhere may still need it.\n"
	}
	_, err := fmt.Fprint(a.out, text)
	return err
}

// completeProjects completes the names of projects.
func (a *app) completeProjects(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	if h, err := a.host(); err == nil && len(given) == 0 {
		names, _ := h.Projects().Names() // what cannot be read is not offered
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// readSecret reads a client secret from a file that is nobody else's, or asks.
func (a *app) readSecret(ctx context.Context, cmd *cobra.Command, path, client string) ([]byte, error) {
	if path == "" {
		return a.askSecret(ctx, cmd, fmt.Sprintf("Client secret of application %s: ", client))
	}
	data, err := confdir.ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	secret := trimLine(data)
	if len(secret) == 0 {
		return nil, &usageError{cmd.CommandPath(), fmt.Errorf("%s is empty", path)}
	}
	return secret, nil
}
