package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
)

func newMasterKey(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "master-key",
		Short: "Rotate and list the master keys of a volume",
		Long: `Manage the master keys of a volume: those that wrap the keys of its files, and
that the key in the vault wraps.`,
		Example: "  akvfs master-key rotate /var/lib/mongodb --wait\n  akvfs master-key list /var/lib/mongodb",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	cmd.AddCommand(newMasterKeyRotate(a), newMasterKeyList(a))
	return cmd
}

func newMasterKeyRotate(a *app) *cobra.Command {
	var f keyFlags
	var p daemon.MasterKeyParams
	cmd := &cobra.Command{
		Use:   "rotate VOLUME",
		Short: "Make a new master key and bring all file keys under it",
		Long: `Make a new master key for VOLUME. New files are under it at once. The keys of all
other files are wrapped anew in the background, and then the old master key is
retired. No data is written, only 512 bytes of each file's header.

--wait returns when the old master key is retired; the work then goes on as
fast as it can, and shows its progress on a terminal. If the command is
interrupted, or the daemon ends, the work is resumed. A volume that is not
mounted is always waited for.

A mounted volume does this by itself every 90 days (-o master-key-period=).`,
		Example:           "  akvfs master-key rotate /var/lib/mongodb\n  akvfs master-key rotate /data/enc --wait --json",
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			var c daemon.MasterKeyChange
			err := a.keyCall(ctx, f, given[0], daemon.MethodMasterKeyRotate, p, &c, a.showRewrap(f.json))
			if err != nil {
				return a.stopped(err, "what a new master key leaves to do is done by the daemon, or after the next mount")
			}
			if f.json {
				return a.printJSON(c)
			}
			return printMasterKeyChange(a.out, given[0], c)
		},
	}
	cmd.Flags().BoolVar(&p.Wait, "wait", false, "wait until the old master key is retired")
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

// showRewrap shows progress, on a terminal alone and one line at most ten
// times a second.
func (a *app) showRewrap(quiet bool) func(json.RawMessage) {
	terminal, ok := a.err.(*os.File)
	if ok {
		_, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		ok = err == nil
	}
	if quiet || !ok {
		return nil
	}
	var last time.Time
	return func(raw json.RawMessage) {
		var s daemon.RewrapStatus
		if json.Unmarshal(raw, &s) != nil || s.Running && time.Since(last) < 100*time.Millisecond {
			return
		}
		last = time.Now()
		fmt.Fprintf(a.err, "\r\033[K%s", rewrapText(&s))
		if !s.Running {
			fmt.Fprintln(a.err)
		}
	}
}

func printMasterKeyChange(w io.Writer, name string, c daemon.MasterKeyChange) error {
	fmt.Fprintf(w, "%s: master key %s is active; %s was before.\n", name, c.MasterKey, c.Before)
	if c.Rewrap == nil || c.Rewrap.Running || c.Rewrap.To != c.MasterKey {
		_, err := fmt.Fprintln(w, "File keys are re-wrapped in the background; `akvfs status` shows how far that is.")
		return err
	}
	_, err := fmt.Fprintf(w, "File keys: %s.\n", rewrapText(c.Rewrap))
	return err
}

// rewrapText is a walk's progress or result.
func rewrapText(s *daemon.RewrapStatus) string {
	text := fmt.Sprintf("%d of %d files re-wrapped, %d bytes written", s.Rewrapped, s.Files, s.Bytes)
	switch {
	case s.Running:
		return text + " so far"
	case s.Error != "":
		return text + "; not finished: " + s.Error
	case s.Finished != nil:
		text += fmt.Sprintf(" in %v", s.Finished.Sub(s.Started).Round(10*time.Millisecond))
	}
	return text
}

func newMasterKeyList(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:               "list VOLUME",
		Short:             "List the master keys of a volume",
		Example:           "  akvfs master-key list /var/lib/mongodb\n  akvfs master-key list /data/enc --json",
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
			return printMasterKeys(a.out, l)
		},
	}
	f.addJSON(cmd)
	return cmd
}

func printMasterKeys(w io.Writer, l daemon.KeyListing) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MASTER KEY\tSTATE\tMADE\tWRAPPED BY")
	for _, mk := range l.MasterKeys {
		state := "active"
		if !mk.Active {
			state = "being retired"
		}
		for i, k := range mk.Wraps {
			if i == 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s version %s\n", mk.ID, state, clock(mk.Created), k.KeyID, k.Version)
			} else {
				fmt.Fprintf(t, "\t\t\t%s version %s\n", k.KeyID, k.Version)
			}
		}
	}
	if err := t.Flush(); err != nil || l.Rewrap == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nFile keys: %s.\n", rewrapText(l.Rewrap))
	return err
}
