package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/daemon"
)

func newKey(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Rotate, add, remove and check the keys of a volume",
		Long: `Manage the keys in the vault that open a volume. None of these commands touches
a file: they wrap the volume's master keys anew.

A mounted volume's daemon does the work, and whoever uses the mount notices
nothing. A volume that is not mounted is changed directly.`,
		Example: `  akvfs key rotate /var/lib/mongodb
  akvfs key add /var/lib/mongodb https://other-region.vault.azure.net/keys/mongo
  akvfs key usage https://acme.vault.azure.net/keys/mongo --scan /data --scan /backup`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	cmd.AddCommand(newKeyCheck(a), newKeyRotate(a), newKeyAdd(a), newKeyRemove(a), newKeyList(a), newKeyUsage(a))
	return cmd
}

// keyFlags are what the commands about keys have in common.
type keyFlags struct {
	daemon.KeyParams
	timeout time.Duration
	json    bool
}

func (f *keyFlags) addTimeout(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.timeout, "key-timeout", daemon.DefaultKeyTimeout, "how long an attempt to reach the key vault may take, if the volume is not mounted")
}

func (f *keyFlags) addJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// addTarget adds the flags that say which key becomes which.
func (f *keyFlags) addTarget(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.To, "to", "", "the key to rotate to, an `AKI`; without it, the newest version of the same key")
	flags.StringVar(&f.From, "from", "", "the key to rotate, an `AKI`, where the volume has several")
	f.addOperation(cmd)
}

func (f *keyFlags) addOperation(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Operation, "key-operation", "", "the permission to use, wrap or encrypt (default that of the key before)")
}

// check refuses what no volume needs to be asked about.
func (f *keyFlags) check(cmd *cobra.Command) error {
	switch {
	case f.Operation != "" && f.Operation != "wrap" && f.Operation != "encrypt":
		return &usageError{cmd.CommandPath(), fmt.Errorf("--key-operation is wrap or encrypt, not %q", f.Operation)}
	case f.timeout <= 0 && cmd.Flags().Lookup("key-timeout") != nil:
		return &usageError{cmd.CommandPath(), errors.New("--key-timeout must be more than 0")}
	}
	return nil
}

// keyCall has a method about keys called for a volume.
func (a *app) keyCall(ctx context.Context, f keyFlags, name, method string, params, result any, event func(json.RawMessage)) error {
	if method != daemon.MethodKeyList && method != daemon.MethodSnapshotDirs { // the keys of an unmounted volume come into this process
		if err := harden(crypto.HardenProcess); err != nil {
			return err
		}
	}
	c := &daemon.KeyClient{RunDir: a.runDirFor(name), StateDir: a.stateDir(), Openers: a.openersFor(name), KeyTimeout: f.timeout}
	return c.Call(ctx, name, method, params, result, event)
}

// stopped is the end of a command that was interrupted when something may have
// been changed already.
func (a *app) stopped(err error, remains string) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Fprintf(a.err, "akvfs: interrupted; %s\n", remains)
	return &reportedError{exitFailed}
}

func newKeyList(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:   "list VOLUME",
		Short: "List the keys that open a volume",
		Long: `List the keys that open VOLUME, any of which does, in the order in which they are
tried. The states are those of the last check; nothing is asked of a vault.`,
		Example:           "  akvfs key list /var/lib/mongodb\n  akvfs key list /data/enc --json",
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			var l daemon.KeyListing
			if err := a.keyCall(ctx, f, given[0], daemon.MethodKeyList, nil, &l, nil); err != nil {
				return err
			}
			if f.json {
				return a.printJSON(l)
			}
			return printKeys(a.out, l)
		},
	}
	f.addJSON(cmd)
	return cmd
}

func printKeys(w io.Writer, l daemon.KeyListing) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVERSION\tSTATE\tWRAPS SINCE\tPROVIDER")
	for _, mk := range l.MasterKeys {
		for _, k := range mk.Wraps {
			if mk.Active {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.KeyID, versionText(k.Version, k.AKI != k.KeyID), k.State, clock(k.Created), providerText(k.Provider))
			}
		}
	}
	return t.Flush()
}

func versionText(version string, pinned bool) string {
	if pinned {
		return version + " (pinned)"
	}
	return version
}

func newKeyAdd(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:   "add VOLUME AKI",
		Short: "Let one more key open a volume",
		Long: `Let the key AKI open VOLUME besides those that do: the same master keys, wrapped
by a key of another vault or region for the case of a disaster. Any one of the
keys opens the volume, so that it is locked only when all are revoked.`,
		Example:           "  akvfs key add /var/lib/mongodb https://other-region.vault.azure.net/keys/mongo",
		Args:              args("VOLUME", "AKI"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			f.To = given[1]
			return a.changeKeys(cmd, f, given[0], daemon.MethodKeyAdd)
		},
	}
	f.addOperation(cmd)
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

func newKeyRemove(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:   "remove VOLUME AKI",
		Short: "Let a key open a volume no longer",
		Long: `Let the key AKI open VOLUME no longer, whatever version of it wraps. The vault of
that key is not asked. The last key cannot be removed, and neither can one when
no other opens the volume now.`,
		Example:           "  akvfs key remove /var/lib/mongodb https://other-region.vault.azure.net/keys/mongo",
		Args:              args("VOLUME", "AKI"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			f.From = given[1]
			return a.changeKeys(cmd, f, given[0], daemon.MethodKeyRemove)
		},
	}
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

// changeKeys has a method called that answers a KeyChange, and prints it.
func (a *app) changeKeys(cmd *cobra.Command, f keyFlags, name, method string) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	var c daemon.KeyChange
	if err := a.keyCall(ctx, f, name, method, f.KeyParams, &c, nil); err != nil {
		return a.stopped(err, "`akvfs key list` shows which keys open the volume now")
	}
	if f.json {
		return a.printJSON(c)
	}
	_, err := fmt.Fprintln(a.out, changeText(name, c))
	return err
}

// changeText is what a change of keys has done, as a sentence.
func changeText(name string, c daemon.KeyChange) string {
	switch {
	case !c.Changed:
		return fmt.Sprintf("%s: %s version %s wraps already; nothing was changed.", name, c.After.KeyID, c.After.Version)
	case c.Before == nil:
		return fmt.Sprintf("%s: %s version %s opens it, too.", name, c.After.KeyID, c.After.Version)
	case c.After == nil:
		return fmt.Sprintf("%s: %s opens it no longer.", name, c.Before.KeyID)
	case c.Before.KeyID == c.After.KeyID:
		return fmt.Sprintf("%s: %s rotated from version %s to %s.", name, c.After.KeyID, c.Before.Version, c.After.Version)
	}
	return fmt.Sprintf("%s: rotated from %s version %s to %s version %s.", name, c.Before.KeyID, c.Before.Version, c.After.KeyID, c.After.Version)
}
