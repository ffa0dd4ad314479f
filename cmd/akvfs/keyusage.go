package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
)

func newKeyUsage(a *app) *cobra.Command {
	var scan []string
	var f keyFlags
	cmd := &cobra.Command{
		Use:   "usage AKI",
		Short: "Tell which volumes still need which versions of a key",
		Long: `List every master key of a volume that a version of the key AKI wraps, and say
which versions may be disabled or deleted: of the volumes that are mounted, and
of all that are found below the directories of --scan, mounted or not.

No key is needed, and no vault is asked. Volumes and backups that are elsewhere,
on other hosts or on disks that are not there, are not found.`,
		Example: `  akvfs key usage https://acme.vault.azure.net/keys/mongo
  akvfs key usage https://acme.vault.azure.net/keys/mongo --scan /data --scan /backup --json`,
		Args: args("AKI"),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			u, err := daemon.Usage(ctx, a.runDir(), openers(), given[0], scan)
			if err != nil {
				return err
			}
			if f.json {
				return a.printJSON(u)
			}
			return printUsage(a.out, u)
		},
	}
	cmd.Flags().StringArrayVar(&scan, "scan", nil, "look for volumes below `DIR`; may be given several times")
	f.addJSON(cmd)
	return cmd
}

func printUsage(w io.Writer, u daemon.KeyUsage) error {
	if len(u.Uses) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "VERSION\tVOLUME\tMOUNTED AT\tCLUSTER\tMASTER KEY\tWRAPPED")
		for _, use := range u.Uses {
			state := "active"
			if !use.Active {
				state = "old"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s (%s)\t%s\n", use.Version, use.Backing, dash(use.Mountpoint), dash(use.Cluster), use.MasterKey, state, clock(use.Created))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, line := range usageText(u) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// usageText says in plain words what may be done with the key.
func usageText(u daemon.KeyUsage) []string {
	var lines []string
	for _, p := range u.Unread {
		lines = append(lines, fmt.Sprintf("Could not be read: %s: %s", p.Path, p.Error))
	}
	needed, soleOf := versions(u)
	for _, v := range needed {
		lines = append(lines, fmt.Sprintf("Version %s is needed: do not disable it.%s", v, alone(soleOf[v])))
	}
	looked := fmt.Sprintf("%s looked at: the mounted ones", volumesWere(u.Volumes))
	if len(u.Scanned) > 0 {
		looked += ", and those below " + strings.Join(u.Scanned, ", ")
	}
	lines = append(lines, looked+".")
	subject := "Every other version of this key"
	if len(needed) == 0 {
		subject = "This key"
	}
	switch {
	case len(u.Unread) > 0:
		return append(lines, "Which versions may be disabled cannot be told: not everything could be read.")
	case u.Volumes == 0:
		return append(lines, "Which versions may be disabled cannot be told: name the directories that hold volumes with --scan DIR.")
	}
	return append(lines, subject+" may be disabled, as far as these volumes go.")
}

func volumesWere(n int) string {
	switch n {
	case 0:
		return "No volume was"
	case 1:
		return "One volume was"
	}
	return fmt.Sprintf("%d volumes were", n)
}

// versions lists the versions that are needed, and how many volumes each opens
// that no other key does.
func versions(u daemon.KeyUsage) (needed []string, sole map[string]int) {
	volumes := map[string][]string{}
	for _, use := range u.Uses {
		if !slices.Contains(needed, use.Version) {
			needed = append(needed, use.Version)
		}
		if use.OtherKeys == 0 && !slices.Contains(volumes[use.Version], use.Backing) {
			volumes[use.Version] = append(volumes[use.Version], use.Backing)
		}
	}
	sole = map[string]int{}
	for v, all := range volumes {
		sole[v] = len(all)
	}
	return needed, sole
}

func alone(volumes int) string {
	switch volumes {
	case 0:
		return " Its volumes have another key, too."
	case 1:
		return " One volume has no other key."
	}
	return fmt.Sprintf(" %d volumes have no other key.", volumes)
}
