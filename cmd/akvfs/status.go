package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
)

func newStatus(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [VOLUME]",
		Short: "Show a volume, or all that are mounted",
		Long: `Show the state of VOLUME, a backing directory, a mount point or a volume's ID;
without it, of all volumes that this user has mounted, or has a role for. An unmounted volume is
described without its keys: nothing is asked of the vault.

States: unmounted; mounted; grace (the key vault cannot be reached, still
serving); locked (the keys are gone, every access answers ENOKEY).

--json prints one object with VOLUME and an array without it.`,
		Example: `  akvfs status
  akvfs status /var/lib/mongodb
  akvfs status /data/enc --json`,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return nil
			}
			return args("VOLUME")(cmd, given)
		},
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if len(given) == 1 {
				s, err := daemon.StatusOf(ctx, a.runDirFor(given[0]), given[0])
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(s)
				}
				return printStatus(a.out, s)
			}
			all, err := a.statuses(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(all)
			}
			return printStatuses(a.out, all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// statuses describes this user's volumes and, where the user has a role, those
// that root has mounted.
func (a *app) statuses(ctx context.Context) ([]daemon.Status, error) {
	all, err := daemon.Statuses(ctx, a.runDir())
	if err != nil || os.Geteuid() == 0 || a.getenv("AKVFS_RUN_DIR") != "" {
		return all, err
	}
	theirs, err := daemon.Statuses(ctx, systemRunDir)
	if errors.Is(err, fs.ErrPermission) {
		err = nil // no daemon there answers others
	}
	for _, s := range theirs {
		if len(s.AKIs) > 0 {
			all = append(all, s)
		}
	}
	return all, err
}

// printStatuses prints a table with a line for each volume.
func printStatuses(w io.Writer, all []daemon.Status) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "No volume is mounted.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BACKING\tMOUNTPOINT\tSTATE\tCLUSTER\tKEY\tKEY STATE")
	for _, s := range all {
		key, state := "-", "-"
		if len(s.AKIs) > 0 {
			key, state = keyName(s.AKIs[0]), string(s.AKIs[0].State)
		}
		if len(s.AKIs) > 1 {
			key += fmt.Sprintf(" and %d more", len(s.AKIs)-1)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Backing, dash(s.Mountpoint), stateText(s), dash(s.Cluster), key, state)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range all {
		if s.Note != "" {
			fmt.Fprintf(w, "%s: %s\n", s.Backing, s.Note)
		}
		for _, a := range s.Alerts {
			fmt.Fprintf(w, "%s: alert %s (%s): %s\n", s.Backing, a.Name, a.Severity, a.Detail)
		}
	}
	return nil
}

// printStatus prints everything about one volume that a person may ask.
func printStatus(w io.Writer, s daemon.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", a...) }
	row("Backing directory", "%s", s.Backing)
	row("Mount point", "%s", dash(s.Mountpoint))
	row("State", "%s", stateText(s))
	if s.Since != nil {
		row("Since", "%s (process %d)", clock(*s.Since), s.PID)
	}
	printCustody(row, s)
	if s.Note != "" {
		row("Note", "%s", s.Note)
	}
	row("Cluster", "%s", dash(s.Cluster))
	if s.Format == 0 { // a daemon that does not answer
		row("Volume", "%s", s.VolumeID)
	} else {
		row("Volume", "%s (format %d, %s names, made %s)", s.VolumeID, s.Format, s.Names, clock(s.Created))
	}
	if s.CheckInterval != "" {
		row("Key checks", "every %s, %s of grace", s.CheckInterval, s.Grace)
	}
	for _, mk := range s.MasterKeys {
		active := ""
		if mk.Active {
			active = "active, "
		}
		row("Master key", "%s (%smade %s)", mk.ID, active, clock(mk.Created))
	}
	for _, k := range s.AKIs {
		printKey(row, k)
	}
	if s.Rewrap != nil {
		row("File keys", "%s", rewrapText(s.Rewrap))
	}
	if s.Scrub != nil {
		row("Scrub", "%s", scrubText(s.Scrub))
	}
	for _, a := range s.Alerts {
		row("Alert", "%s (%s) since %s: %s", a.Name, a.Severity, clock(a.Since), a.Detail)
	}
	if s.FrozenUntil != nil {
		row("Frozen", "until %s, or `akvfs thaw`", clock(*s.FrozenUntil))
	}
	if s.WritePolicy != "" && s.Stats != nil {
		row("Journal", "%s", journalText(s))
	}
	if s.Processors != nil {
		row("Processors", "%s", processorText(s.Processors))
	}
	if s.Stats != nil {
		row("Integrity errors", "%d", s.Stats.IntegrityErrors)
	}
	return t.Flush()
}

// scrubText tells how the reading and proving of everything goes.
func scrubText(s *daemon.ScrubStatus) string {
	text := "never finished"
	if s.Finished != nil {
		text = "finished " + clock(*s.Finished)
	}
	if s.Running {
		text += fmt.Sprintf("; running: %d objects, %d bytes", s.Objects, s.Bytes)
	}
	if s.Findings > 0 {
		text += fmt.Sprintf("; %d findings", s.Findings)
	}
	if s.Interval == "0s" {
		return text + "; by hand only"
	}
	return text + "; every " + s.Interval
}

// processorText tells whether processors are kept from deep sleep.
func processorText(p *daemon.ProcessorStatus) string {
	switch {
	case p.Reason != "":
		return "may sleep, always: " + p.Reason
	case p.Awake:
		return fmt.Sprintf("kept awake; for %.1f s so far", p.Seconds)
	case p.Seconds > 0:
		return fmt.Sprintf("may sleep; kept awake for %.1f s so far", p.Seconds)
	}
	return "may sleep"
}

// journalText tells how full the journal is, and how it is written.
func journalText(s daemon.Status) string {
	j := s.Stats.Journal
	text := fmt.Sprintf("%d%% in use, %s policy", j.Used*100/max(j.Capacity, 1), s.WritePolicy)
	if !j.Direct {
		text += ", through the page cache (the file system refuses direct I/O)"
	}
	if j.Failed {
		text += "; it has failed, and takes nothing more until the next mount"
	}
	return text
}

// printCustody says why a volume is not served as it should be, or will not be.
func printCustody(row func(name, format string, a ...any), s daemon.Status) {
	if s.StateReason == "" || s.StateSince == nil {
		return
	}
	row("  since", "%s", clock(*s.StateSince))
	row("  because", "%s", s.StateReason)
	switch {
	case s.GraceUntil != nil:
		row("  until", "%s, then it locks", clock(*s.GraceUntil))
	case s.LockedByHand:
		row("  until", "it is unlocked by hand")
	case s.State == daemon.StateLocked:
		row("  until", "a check finds that a key opens it")
	}
}

func printKey(row func(name, format string, a ...any), k daemon.AKIStatus) {
	row("Key", "%s", k.KeyID)
	row("  provider", "%s", providerText(k.Provider))
	row("  version", "%s (%s, %s), wraps since %s", k.Version, k.Operation, k.Algorithm, clock(k.Created))
	if k.Checked == nil {
		row("  state", "%s", k.State)
	} else {
		row("  state", "%s, checked %s", k.State, clock(*k.Checked))
	}
	if k.Error != "" {
		row("  error", "%s", k.Error)
	}
}

// providerText says plainly what is no vault.
func providerText(name string) string {
	switch name {
	case "file":
		return "embedded key store, not a vault"
	case "akv":
		return "Azure Key Vault"
	}
	return name
}

func keyName(k daemon.AKIStatus) string {
	if k.Provider == "file" {
		return k.KeyID + " (embedded key store, not a vault)"
	}
	return k.KeyID
}

func stateText(s daemon.Status) string {
	words := []string{string(s.State)}
	if s.ReadOnly {
		words = append(words, "read-only")
	}
	if s.Stopping {
		words = append(words, "stopping")
	}
	return strings.Join(words, ", ")
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700") }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
