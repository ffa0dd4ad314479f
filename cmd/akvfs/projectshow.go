package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/keymgr/project"
)

// absolute is a path that means the same wherever the daemon is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		return abs
	}
	return path
}

// reportChange prints what was proven and what came of it.
func (a *app) reportChange(name, action string, before, after project.Config, changed host.Changed, asJSON bool, err error) error {
	r := changed.Report
	if asJSON && len(r.Checks) > 0 {
		if also := a.printJSON(r); also != nil {
			return also
		}
	}
	if err != nil && len(r.Checks) > 0 {
		if !asJSON {
			printProof(a.err, after, r)
		}
		code, _ := diagnose(err)
		fmt.Fprintf(a.err, "akvfs: %v\nNothing was saved.\n", err)
		return &reportedError{code}
	}
	if err != nil || asJSON {
		return err
	}
	printProof(a.out, after, r)
	done := map[string]string{
		"project.configure":         "Project %s is configured.\nEnable a cluster: akvfs cluster enable CLUSTER --project %[1]s --data DBPATH\n",
		"project.update":            "Project %s is proven and up to date.\n",
		"project.rotate-credential": "The credential of project %s is proven and in use. The old one can be removed in Azure.\n",
	}[action]
	if _, err := fmt.Fprintf(a.out, done, name); err != nil {
		return err
	}
	return a.tellOldKey(changed.Clusters, before, after)
}

// tellOldKey reminds of volumes that another key still wraps.
func (a *app) tellOldKey(of []cluster.Cluster, before, after project.Config) error {
	if before.KeyID == "" || before.KeyID == after.KeyID {
		return nil
	}
	var err error
	for _, c := range of {
		_, err = fmt.Fprintf(a.out, "Cluster %s is still under %s. Rotate it: akvfs key rotate %s --to %s\n", c.Name, before.KeyID, c.Backing, after.KeyID)
	}
	return err
}

// printProof prints a report, a line for each permission.
func printProof(w io.Writer, c project.Config, r project.Report) {
	for _, check := range r.Checks {
		mark := map[project.State]string{project.OK: "✓", project.Failed: "✗", project.NotAsked: "·"}[check.State]
		fmt.Fprintf(w, "%s %-9s  %s\n", mark, check.Name, check.Detail)
		if check.State == project.Failed {
			for _, line := range remedyOf(c, check) {
				fmt.Fprintf(w, "             %s\n", line)
			}
		}
	}
}

// remedyOf says what to do in Azure about a check that failed.
func remedyOf(c project.Config, check project.Check) []string {
	if c.Embedded() {
		return []string{"See `akvfs dev-key show PATH`; `akvfs dev-key create PATH` makes a key store."}
	}
	if check.Permission != "" {
		return grantLines(c, check)
	}
	switch check.Name {
	case project.CheckReach:
		return []string{"Check the vault's name, and network, DNS, proxy and firewall (the vault's own network rules, too)."}
	case project.CheckToken:
		return []string{"Check tenant ID, client ID and the secret or certificate, and whether it has expired."}
	case project.CheckGet:
		return []string{"See that the key, and the version if one is named, is in this vault and not deleted:", "az keyvault key show --id " + c.KeyID}
	case project.CheckType:
		return []string{"A key of type RSA with at least 2048 bits, good for wrapKey and unwrapKey (or encrypt and decrypt), is needed:",
			fmt.Sprintf("az keyvault key create --vault-name %s --name NAME --kty RSA --size 3072", c.VaultName)}
	case project.CheckState:
		return []string{"Enable the key's version, extend its dates, or make a new one:", "az keyvault key set-attributes --id " + c.KeyID + " --enabled true"}
	}
	return nil
}

// grantLines are the ways to grant a permission, by access policy and by RBAC.
func grantLines(c project.Config, check project.Check) []string {
	who := c.ClientID
	if who == "" {
		who = "PRINCIPAL-ID"
	}
	key := c.KeyID[strings.Index(c.KeyID, "/keys/"):]
	key = strings.Join(strings.SplitN(strings.TrimPrefix(key, "/"), "/", 3)[:2], "/")
	if strings.HasPrefix(check.Role, "Managed HSM") {
		return []string{
			fmt.Sprintf("Grant the role %q of the HSM's local RBAC:", check.Role),
			fmt.Sprintf("az keyvault role assignment create --hsm-name %s --role %q --assignee %s --scope /%s", c.VaultName, check.Role, who, key),
		}
	}
	permissions := "get list wrapKey unwrapKey"
	if c.Operation() == "encrypt" {
		permissions = "get list encrypt decrypt"
	}
	return []string{
		fmt.Sprintf("With access policies, grant the key permission %q:", check.Permission),
		fmt.Sprintf("az keyvault set-policy --subscription %s --resource-group %s --name %s --spn %s --key-permissions %s", c.SubscriptionID, c.ResourceGroup, c.VaultName, who, permissions),
		fmt.Sprintf("With RBAC, grant the role %q:", check.Role),
		fmt.Sprintf("az role assignment create --assignee %s --role %q --scope /subscriptions/%s/resourceGroups/%s/providers/Microsoft.KeyVault/vaults/%s/%s", who, check.Role, c.SubscriptionID, c.ResourceGroup, c.VaultName, key),
	}
}

func newProjectShow(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a project's configuration, without secrets",
		Long: `Show the configuration of the project NAME and its clusters. A secret is never
shown, only where it is. Nothing is asked of the vault: "akvfs project update
NAME" proves what is configured.`,
		Example:           "  akvfs project show acme\n  akvfs project show acme --json",
		Args:              args("NAME"),
		ValidArgsFunction: a.completeProjects,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			s, err := a.showProject(ctx, given[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(s)
			}
			return printProject(a.out, s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) showProject(ctx context.Context, name string) (s host.Project, err error) {
	h, mine, err := a.mine()
	if err != nil {
		return s, err
	}
	if !mine {
		err = a.ask(ctx, host.MethodProjectShow, host.Of{Project: name}, &s, nil)
		return s, err
	}
	p, err := h.Projects().Load(name)
	if err != nil {
		return s, err
	}
	return host.Show(h, p), nil
}

func printProject(w io.Writer, s host.Project) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("Project", s.Name)
	row("Configuration", s.Path)
	row("Environment", string(s.Environment))
	row("Authority host", s.AuthorityHost)
	row("DNS suffix", s.DNSSuffix)
	row("CA file", s.CAFile)
	row("Tenant ID", s.TenantID)
	row("Client ID", s.ClientID)
	row("Subscription ID", s.SubscriptionID)
	row("Resource group", s.ResourceGroup)
	row("Vault", s.VaultName)
	row("Key", s.KeyID)
	row("Operation", s.Operation())
	row("Credential", credentialText(s.Config))
	row("Expires", s.Credential.Expires)
	row("Owners", strings.Join(s.Roles.Owners, ", "))
	row("Viewers", strings.Join(s.Roles.Viewers, ", "))
	row("Clusters", dash(strings.Join(s.Clusters, ", ")))
	row("Error", s.Error)
	return t.Flush()
}

// credentialText says what the host is known by, and where that is.
func credentialText(c project.Config) string {
	cr := c.Credential
	switch {
	case c.Embedded():
		return "none needed: an embedded key store, not a vault"
	case cr.SecretCredential != "":
		return "secret, in the systemd credential " + cr.SecretCredential
	case strings.HasPrefix(cr.SecretFile, "/"):
		return "secret, in " + cr.SecretFile
	case cr.SecretFile != "":
		return "secret, stored with the project"
	case cr.CertificateFile != "":
		return "certificate, in " + cr.CertificateFile
	case cr.TokenFile != "":
		return "workload identity, token in " + cr.TokenFile
	}
	return string(cr.Kind)
}

func newProjectList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the projects of this host",
		Example: "  akvfs project list\n  akvfs project list --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			all, err := a.projects(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(all)
			}
			return printProjects(a.out, all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) projects(ctx context.Context) (all []host.Project, err error) {
	h, mine, err := a.mine()
	switch {
	case err != nil:
		return nil, err
	case !mine:
		err = a.ask(ctx, host.MethodProjectList, nil, &all, nil)
		return all, err
	}
	return host.Projects(h, func(string) bool { return true })
}

func printProjects(w io.Writer, all []host.Project) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "No project is configured.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROJECT\tKEY\tCREDENTIAL\tEXPIRES\tCLUSTERS")
	for _, s := range all {
		if s.Error != "" {
			fmt.Fprintf(t, "%s\t%s\n", s.Name, s.Error)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.KeyID, dash(string(s.Credential.Kind)), dash(s.Credential.Expires), dash(strings.Join(s.Clusters, ", ")))
	}
	return t.Flush()
}
