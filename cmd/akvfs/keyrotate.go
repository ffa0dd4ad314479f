package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/daemon"
)

func newKeyCheck(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:   "check VOLUME",
		Short: "Ask a volume's keys, and tell what a rotation would do",
		Long: `Have every key of VOLUME unwrap its master key, and tell what "akvfs key rotate"
with the same flags would do. The key that it would take is tried with a random
secret. Nothing is changed.

The exit status is 0 if every key opens the volume and the rotation would
succeed, or change nothing, or, of a volume with several keys, was not told
which to replace (--from); otherwise 1.`,
		Example: `  akvfs key check /var/lib/mongodb
  akvfs key check /data/enc --to https://other.vault.azure.net/keys/mongo --json`,
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			var r daemon.KeyReport
			if err := a.keyCall(ctx, f, given[0], daemon.MethodKeyCheck, f.KeyParams, &r, nil); err != nil {
				return err
			}
			print := func() error { return printReport(a.out, r) }
			if f.json {
				print = func() error { return a.printJSON(r) }
			}
			if err := print(); err != nil {
				return err
			}
			return reportVerdict(r)
		},
	}
	f.addTarget(cmd)
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

// reportVerdict is the exit status of a check whose report was printed.
func reportVerdict(r daemon.KeyReport) error {
	bad := r.Plan.Would == daemon.WouldFail
	for _, k := range r.Keys {
		bad = bad || k.State != daemon.KeyAvailable
	}
	if bad {
		return &reportedError{exitFailed}
	}
	return nil
}

func printReport(w io.Writer, r daemon.KeyReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", a...) }
	for _, k := range r.Keys {
		row("Key", "%s", k.KeyID)
		row("  wraps with version", "%s", versionText(k.Version, k.Pinned))
		row("  newest version", "%s", dash(k.Newest))
		row("  state", "%s", k.State)
		if k.Error != "" {
			row("  error", "%s", k.Error)
		}
		if k.Expires != nil {
			row("  expires", "%s", clock(*k.Expires))
		}
	}
	row("Rotation", "%s", planText(r.Plan))
	return t.Flush()
}

func planText(p daemon.KeyPlan) string {
	switch p.Would {
	case daemon.WouldRotate:
		return fmt.Sprintf("would wrap with %s version %s", p.To.KeyID, p.To.Version)
	case daemon.WouldNothing:
		return "would change nothing: that version wraps already"
	case daemon.WouldAsk:
		return "needs to be told which of the keys to replace: --from AKI"
	}
	return "would fail: " + p.Error
}

func newKeyRotate(a *app) *cobra.Command {
	var f keyFlags
	var all bool
	var projectName string
	cmd := &cobra.Command{
		Use:   "rotate VOLUME | --all",
		Short: "Wrap a volume's master keys under a newer or another key",
		Long: `Wrap the master keys of VOLUME under the newest version of the same key or, with
--to, under another key: of the same vault, of another one, or of the embedded
key store. The new key is proven before the old wrap is dropped, and if the
command is interrupted the volume opens with the old key or the new. If the
newest version wraps already, nothing is changed and the exit status is 0.

--all does every mounted volume, one after another, and stops at the first
failure; with --project those of a project's clusters. A volume with several keys has all of them rotated to their newest
versions; with --to, --from says which.`,
		Example: `  akvfs key rotate /var/lib/mongodb
  akvfs key rotate /var/lib/mongodb --to https://other.vault.azure.net/keys/mongo
  akvfs key rotate --all --project acme`,
		Args: func(cmd *cobra.Command, given []string) error {
			if projectName != "" && !all {
				return &usageError{cmd.CommandPath(), errors.New("--project goes with --all")}
			}
			if all {
				return noArgs(cmd, given)
			}
			return args("VOLUME")(cmd, given)
		},
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if !all {
				return a.changeKeys(cmd, f, given[0], daemon.MethodKeyRotate)
			}
			if err := f.check(cmd); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.rotateAll(ctx, f, projectName)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "rotate every mounted volume, one after another")
	cmd.Flags().StringVar(&projectName, "project", "", "with --all: only clusters of the project `NAME`")
	_ = cmd.RegisterFlagCompletionFunc("project", a.completeProjects)
	f.addTarget(cmd)
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

// rotated is what rotateAll tells of one volume.
type rotated struct {
	Backing    string             `json:"backing"`
	Mountpoint string             `json:"mountpoint"`
	Changes    []daemon.KeyChange `json:"changes"`
	Done       bool               `json:"done"`
	Error      string             `json:"error"`
}

// rotateAll rotates the keys of every mounted volume, and stops at the first
// that fails.
func (a *app) rotateAll(ctx context.Context, f keyFlags, projectName string) error {
	volumes, err := a.volumesOf(ctx, projectName)
	if err != nil {
		return err
	}
	results := []rotated{}
	var failed error
	for _, s := range volumes {
		if s.PID == 0 {
			continue // a killed daemon's
		}
		r := rotated{Backing: s.Backing, Mountpoint: s.Mountpoint, Changes: []daemon.KeyChange{}}
		if failed == nil {
			if failed = a.rotateOne(ctx, f, s, &r); failed != nil {
				r.Error = failed.Error()
			}
			r.Done = failed == nil
		}
		results = append(results, r)
	}
	if f.json {
		return errors.Join(failed, a.printJSON(results))
	}
	return errors.Join(failed, printRotated(a.out, results))
}

// volumesOf describes the mounted volumes of a project's clusters; "" is all.
func (a *app) volumesOf(ctx context.Context, projectName string) ([]daemon.Status, error) {
	volumes, err := daemon.Statuses(ctx, a.runDir())
	if err != nil || projectName == "" {
		return volumes, err
	}
	h, err := a.host()
	if err != nil {
		return nil, err
	}
	if _, err := h.Projects().Load(projectName); err != nil {
		return nil, err
	}
	of, err := h.OfProject(projectName)
	return slices.DeleteFunc(volumes, func(s daemon.Status) bool {
		return !slices.ContainsFunc(of, func(c cluster.Cluster) bool { return c.Backing == s.Backing })
	}), err
}

// rotateOne rotates the key that is meant or, without a word, all keys of a
// volume.
func (a *app) rotateOne(ctx context.Context, f keyFlags, s daemon.Status, r *rotated) error {
	from := []string{f.From}
	if f.From == "" && f.To == "" {
		from = nil
		for _, k := range s.AKIs {
			from = append(from, k.KeyID)
		}
	}
	if len(from) == 0 {
		return fmt.Errorf("the daemon of %s does not tell its keys: %s", s.Backing, s.Note)
	}
	for _, id := range from {
		p := f.KeyParams
		p.From = id
		var c daemon.KeyChange
		if err := a.keyCall(ctx, f, s.Backing, daemon.MethodKeyRotate, p, &c, nil); err != nil {
			return fmt.Errorf("%s: %w", s.Backing, err)
		}
		r.Changes = append(r.Changes, c)
	}
	return nil
}

func printRotated(w io.Writer, all []rotated) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "No volume is mounted.")
		return err
	}
	for _, r := range all {
		for _, c := range r.Changes {
			fmt.Fprintln(w, changeText(r.Backing, c))
		}
		switch {
		case r.Error != "":
			fmt.Fprintf(w, "%s: failed.\n", r.Backing)
		case !r.Done:
			fmt.Fprintf(w, "%s: not done.\n", r.Backing)
		}
	}
	return nil
}
