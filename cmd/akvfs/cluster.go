package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/volume"
)

func newCluster(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Enable, mount and disable the encryption of clusters' data directories",
		Long: `Enable the encryption of a database's data directory under a project, mount it
where it was, and disable it again. Configure a project first: "akvfs help
project".

A cluster is one member's data directory on this host. Its dbPath stays what it
is. While nothing is mounted the database's user cannot write there, so that no
plaintext comes to lie beside or inside the volume.`,
		Example: `  akvfs cluster enable rs0 --project acme --data /var/lib/mongodb
  akvfs cluster mount rs0
  akvfs cluster list`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	cmd.AddCommand(newClusterEnable(a), newClusterDisable(a), newClusterList(a), newClusterShow(a), newClusterMount(a), newClusterUnmount(a))
	return cmd
}

func newClusterEnable(a *app) *cobra.Command {
	var f convertFlags
	var o cluster.Enabling
	timeout := daemon.DefaultKeyTimeout
	journalSize := size(journal.DefaultSize)
	cmd := &cobra.Command{
		Use:   "enable NAME --project P --data DIR",
		Short: "Encrypt a data directory under a project, new or with its data in place",
		Long: `Make DIR, a database's dbPath, the cluster NAME under the project P. Stop the
database first. An empty directory becomes an empty volume. Files that are there
are encrypted in place, one by one: each is copied, made durable, read back and
compared, and only then its plain form is removed. There must be free space for
the largest file and the journal. Interrupted, the same command goes on, and
"akvfs cluster disable" goes back.

Without --backing the mount covers the encrypted directory. With it, encrypted
files lie in that directory, and DIR is a bare mount point; files that are there
can only go to a directory on the same file system.

A volume that is in DIR already, or in the backing directory, is taken as it is,
if it is under the project's key.`,
		Example: `  akvfs cluster enable rs0 --project acme --data /var/lib/mongodb --dry-run
  akvfs cluster enable rs0 --project acme --data /var/lib/mongodb
  akvfs cluster enable rs0 --project acme --data /var/lib/mongodb --backing /data/encrypted`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			o.Name, o.JournalSize = given[0], int64(journalSize)
			if err := checkEnable(cmd, o, timeout); err != nil {
				return err
			}
			return a.enable(cmd.Context(), f, o, timeout)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Project, "project", "", "`NAME` of the project (required)")
	flags.StringVar(&o.Data, "data", "", "`DIR` of the database's data, its dbPath (required)")
	flags.StringVar(&o.Backing, "backing", "", "`DIR` for the encrypted files (default that of --data)")
	flags.StringVar(&o.Names, "names", volume.NamesEncrypted, "how file names are stored: `encrypted|plain`")
	flags.Var(&journalSize, "journal-size", "size of the journal; mount -o journal-size=SIZE changes it later")
	flags.DurationVar(&timeout, "key-timeout", timeout, "how long an attempt to reach the key vault may take")
	f.add(cmd)
	flags.BoolVar(&f.trim, "fstrim", false, "have the device drop all free blocks of the file system afterwards")
	_ = cmd.RegisterFlagCompletionFunc("project", a.completeProjects)
	_ = cmd.MarkFlagDirname("data")
	_ = cmd.MarkFlagDirname("backing")
	return cmd
}

func checkEnable(cmd *cobra.Command, o cluster.Enabling, timeout time.Duration) error {
	if o.Project == "" {
		return &usageError{cmd.CommandPath(), errors.New("--project is missing")}
	}
	if o.Data == "" {
		return &usageError{cmd.CommandPath(), errors.New("--data is missing")}
	}
	return checkInit(cmd, daemon.CreateConfig{KeyID: "-", Names: o.Names, KeyOperation: "wrap", JournalSize: o.JournalSize, KeyTimeout: timeout})
}

// enable does or plans an encryption, with progress on a terminal.
func (a *app) enable(ctx context.Context, f convertFlags, o cluster.Enabling, timeout time.Duration) error {
	h, mine, ctx, stop, err := a.clusterWork(ctx, timeout)
	if err != nil {
		return err
	}
	defer stop()
	if !mine && f.trim {
		return errTrim
	}
	if f.dryRun {
		return a.plan(f, func() (convert.Plan, error) {
			if !mine {
				return a.askPlan(ctx, host.MethodClusterEnable, enableParams(o, timeout, true))
			}
			return h.PlanEnable(ctx, o)
		})
	}
	show, end := a.showConversion(f.json)
	var r cluster.Result
	if o.Observe = show; mine {
		r, err = h.Enable(ctx, o)
	} else {
		r, err = a.askWork(ctx, host.MethodClusterEnable, enableParams(o, timeout, false), show)
	}
	end()
	if err != nil {
		return a.stopped(err, "each file is there in full. The same command goes on, and `akvfs cluster disable` goes back")
	}
	if f.json {
		err = a.printJSON(r)
	} else {
		err = printEnabled(a.out, r, f.trim)
	}
	if err == nil && f.trim {
		err = a.trim(r.Cluster.Backing, f.json)
	}
	return err
}

// clusterWork prepares this process for keys.
func (a *app) clusterWork(ctx context.Context, timeout time.Duration) (cluster.Host, bool, context.Context, context.CancelFunc, error) {
	h, mine, err := a.mine()
	if err != nil {
		return h, false, nil, nil, err
	}
	if err := harden(crypto.HardenProcess); err != nil {
		return h, false, nil, nil, err
	}
	h.KeyTimeout = timeout
	ctx, stop := interruptible(ctx)
	return h, mine, ctx, stop, nil
}

func (a *app) plan(f convertFlags, do func() (convert.Plan, error)) error {
	p, err := do()
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON(p)
	}
	return printPlan(a.out, p)
}

func printEnabled(w io.Writer, r cluster.Result, trim bool) error {
	c := r.Cluster
	if n := r.Conversion; n.Files > 0 {
		fmt.Fprintf(w, "Encrypted %d files, %s, in %v (%s/s).\n", n.Files, mib(n.Bytes),
			time.Duration(n.Seconds*float64(time.Second)).Round(time.Second/100), mib(int64(float64(n.Bytes)/n.Seconds)))
		if !trim {
			fmt.Fprintln(w, "The plaintext's blocks are free, not overwritten. On an SSD: fstrim the file system.")
		}
	}
	_, err := fmt.Fprintf(w, "Cluster %s is enabled under project %s.\nMount it: akvfs cluster mount %s\n", c.Name, c.Project, c.Name)
	return err
}

func newClusterDisable(a *app) *cobra.Command {
	var f convertFlags
	timeout := daemon.DefaultKeyTimeout
	cmd := &cobra.Command{
		Use:   "disable NAME",
		Short: "Make a cluster's files plain again, where they were",
		Long: `Decrypt the files of the cluster NAME, with the same care as they were encrypted,
and put them back where its data directory is. Stop the database and unmount the
cluster first. Interrupted, the same command goes on, and "akvfs cluster enable"
goes back.

Snapshots and backups of the cluster stay encrypted and still need the key: do
not disable or delete it in the vault before they are not needed any more.`,
		Example:           "  akvfs cluster disable rs0 --dry-run\n  akvfs cluster disable rs0",
		Args:              args("NAME"),
		ValidArgsFunction: a.completeClusters,
		RunE: func(cmd *cobra.Command, given []string) error {
			if timeout <= 0 {
				return &usageError{cmd.CommandPath(), errors.New("--key-timeout must be more than 0")}
			}
			return a.disable(cmd.Context(), f, given[0], timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "key-timeout", timeout, "how long an attempt to reach the key vault may take")
	f.add(cmd)
	return cmd
}

func (a *app) disable(ctx context.Context, f convertFlags, name string, timeout time.Duration) error {
	h, mine, ctx, stop, err := a.clusterWork(ctx, timeout)
	if err != nil {
		return err
	}
	defer stop()
	params := host.DisableParams{Of: host.Of{Cluster: name}, Timeout: timeout.String(), Plan: f.dryRun}
	if f.dryRun {
		return a.plan(f, func() (convert.Plan, error) {
			if !mine {
				return a.askPlan(ctx, host.MethodClusterDisable, params)
			}
			return h.PlanDisable(ctx, name)
		})
	}
	show, end := a.showConversion(f.json)
	var r cluster.Result
	if mine {
		r, err = h.Disable(ctx, name, show)
	} else {
		r, err = a.askWork(ctx, host.MethodClusterDisable, params, show)
	}
	end()
	if err != nil {
		return a.stopped(err, "each file is there in full. The same command goes on, and `akvfs cluster enable` goes back")
	}
	if f.json {
		return a.printJSON(r)
	}
	return printClusterDisabled(a.out, r)
}

func printClusterDisabled(w io.Writer, r cluster.Result) error {
	c := r.Cluster
	fmt.Fprintf(w, "Decrypted %d files, %s. Cluster %s is disabled.\n", r.Conversion.Files, mib(r.Conversion.Bytes), c.Name)
	if r.Left != "" {
		fmt.Fprintf(w, "The plain files are in %s: %s is on another file system. Copy them (cp -a %s/. %s/), or make that the dbPath.\n", r.Left, c.Data, r.Left, c.Data)
	}
	_, err := fmt.Fprintln(w, "Snapshots and backups of it still need the project's key: keep that in the vault for as long.")
	return err
}

func newClusterList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the clusters of this host",
		Example: "  akvfs cluster list\n  akvfs cluster list --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			infos, bad, err := a.clusters(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(infos)
			} else {
				err = printClusters(a.out, infos)
			}
			return errors.Join(append(bad, err)...)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printClusters(w io.Writer, all []cluster.Info) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "No cluster is enabled.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLUSTER\tPROJECT\tSTATE\tDATA\tBACKING")
	for _, c := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.Name, c.Project, clusterState(c), c.Data, c.Backing)
	}
	return t.Flush()
}

// clusterState is how a cluster is, and how its volume is if it has one.
func clusterState(c cluster.Info) string {
	words := []string{string(c.State)}
	if c.Volume != nil && c.State == cluster.StateEnabled {
		words = append(words, stateText(*c.Volume))
	}
	return strings.Join(words, ", ")
}

func newClusterShow(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show a cluster and its volume",
		Example:           "  akvfs cluster show rs0\n  akvfs cluster show rs0 --json",
		Args:              args("NAME"),
		ValidArgsFunction: a.completeClusters,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			info, err := a.showCluster(ctx, given[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(info)
			}
			return printCluster(a.out, info)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printCluster(w io.Writer, c cluster.Info) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "%s\t%s\n", name, value) }
	row("Cluster name", c.Name)
	row("Project", c.Project)
	row("Data directory", c.Data)
	row("Cluster state", string(c.State))
	if len(c.MountOptions) > 0 {
		row("Mount options", strings.Join(c.MountOptions, ","))
	}
	if c.Volume == nil {
		row("Backing directory", c.Backing)
		row("Note", dash(c.Note))
	}
	if err := t.Flush(); err != nil || c.Volume == nil {
		return err
	}
	return printStatus(w, *c.Volume)
}

// completeClusters completes the names of clusters.
func (a *app) completeClusters(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if h, err := a.host(); err == nil && len(given) == 0 {
		all, _, _ := h.List() // what cannot be read is not offered
		for _, c := range all {
			names = append(names, c.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
