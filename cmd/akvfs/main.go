// Command akvfs mounts MongoDB data directories encrypted under a key that
// the customer holds in Azure Key Vault.
//
// Its one job is to turn words of a command line into calls of the packages
// below, and what they answer into sentences, JSON and exit codes: one file
// per command, and errors.go, the only place that knows remedies and exit
// codes. It adds no behaviour that a program using the packages would miss.
// What belongs to a process and not to a library is here: going into the
// background, signals, where the log goes, dropping secrets from the
// environment, and hardening.
//
// A secret is never an argument and never printed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
)

// app is what the commands share: the process around them.
type app struct {
	out, err io.Writer
	getenv   func(string) string
}

func main() {
	useProcessors()
	a := &app{out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	os.Exit(a.run(context.Background(), dispatch(os.Args)))
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var done *reportedError
	if errors.As(err, &done) {
		return done.code
	}
	code := report(a.err, err)
	if cmd.Name() == fsckName {
		code = fsckStatus(code)
	}
	return code
}

// reportedError carries the exit code of a failure that was already reported,
// by a child for instance.
type reportedError struct{ code int }

func (e *reportedError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func (a *app) stateDir() string { return daemon.StateDir(a.getenv, os.Geteuid()) }

func (a *app) runDir() string { return daemon.RunDir(a.getenv, os.Geteuid()) }

// systemRunDir is where root's daemons are.
const systemRunDir = "/run/akvfs"

// runDirFor is the run directory of a volume: this user's or, for one that
// only root has mounted, root's, whose daemons answer those who have a role.
func (a *app) runDirFor(name string) string {
	own := a.runDir()
	if os.Geteuid() == 0 || a.getenv("AKVFS_RUN_DIR") != "" || daemon.Knows(own, name) || !daemon.Knows(systemRunDir, name) {
		return own
	}
	return systemRunDir
}

// interruptible ends with the first SIGINT or SIGTERM; the second kills.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "akvfs",
		Short: "Encrypted MongoDB data directories under a key in Azure Key Vault",
		Long: `akvfs mounts a MongoDB data directory encrypted under a key that you hold in
Azure Key Vault. Without that key there is no mount.

Exit status: 0 done; 1 failed; 2 wrong usage; 10 key vault unreachable;
11 key revoked; 12 credentials refused; 13 not an akvfs volume, or a newer
format; 14 integrity failure; 15 in use; 16 not permitted. ` + "`akvfs fsck`" + ` has
others, as fsck(8).

Environment: AKVFS_RUN_DIR holds the control sockets of mounted volumes
(/run/akvfs for root), AKVFS_STATE_DIR the audit logs and how far each volume
has come (/var/lib/akvfs for root), AKVFS_CONFIG_DIR projects and clusters
(/etc/akvfs for root). Credentials for Azure are those of a cluster's project;
for volumes that are in no cluster they come from AZURE_TENANT_ID,
AZURE_CLIENT_ID, AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH, from
workload or managed identity, or from the Azure CLI.`,
		Example: `  akvfs init /data/enc --key-id https://acme.vault.azure.net/keys/mongo
  akvfs mount /data/enc /var/lib/mongodb
  akvfs status
  akvfs unmount /var/lib/mongodb`,
		SilenceErrors: true,
		SilenceUsage:  true,
		// For noArgs: names within two edits of what was typed.
		SuggestionsMinimumDistance: 2,

		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{cmd.CommandPath(), err}
	})
	root.AddCommand(
		newInit(a), newMount(a), newUnmount(a), newStatus(a), newLock(a), newUnlock(a),
		newKey(a), newMasterKey(a), newSnapshot(a), newFreeze(a), newThaw(a), newFsck(a), newConvert(a), newDevKey(a),
		newDevVolume(a),
		newProject(a), newCluster(a), newServe(a),
		newLs(a), newCat(a), newStat(a), newDu(a), newExport(a),
		newVersion(a), newCompletion(a), newMountHelper(a), newMan(a),
	)
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd() // adds it
	return root
}

// noArgs refuses arguments, and names the commands that may have been meant.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return &usageError{cmd.CommandPath(), fmt.Errorf("unexpected argument %q", args[0])}
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	for i, s := range cmd.SuggestionsFor(args[0]) {
		if i == 0 {
			text += "; did you mean "
		} else {
			text += " or "
		}
		text += fmt.Sprintf("%q", s)
	}
	return &usageError{cmd.CommandPath(), errors.New(text)}
}

// args wants exactly the arguments with these names.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		switch {
		case len(given) < len(names):
			return &usageError{cmd.CommandPath(), fmt.Errorf("%s is missing", names[len(given)])}
		case len(given) > len(names):
			return &usageError{cmd.CommandPath(), fmt.Errorf("unexpected argument %q", given[len(names)])}
		}
		for i, arg := range given {
			if arg == "" {
				return &usageError{cmd.CommandPath(), fmt.Errorf("%s is empty", names[i])}
			}
		}
		return nil
	}
}

// directories completes arguments with directories.
func directories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}
