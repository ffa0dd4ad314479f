package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/keymgr/file"
)

func newDevKey(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev-key",
		Short: "Manage an embedded key store, for trials, tests and hosts without a network",
		Long: `Manage an embedded key store: a key with versions in the file PATH, which behaves
as a key in a vault does. It is not a vault: who can read the file has the key.

Its key identifier is file://PATH, and file://PATH?version=ID pins a version.`,
		Example: `  akvfs dev-key create /root/key.json
  akvfs init /data/enc --key-id file:///root/key.json
  akvfs dev-key disable /root/key.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	cmd.AddCommand(
		newDevKeyCreate(a), newDevKeyRotate(a), newDevKeyDisable(a), newDevKeyEnable(a),
		newDevKeyExpire(a), newDevKeyDelete(a), newDevKeyRecover(a), newDevKeyShow(a),
	)
	return cmd
}

// storeCommand is a command on the key store at PATH.
func storeCommand(name, short, example string, do func(cmd *cobra.Command, s *file.Store) error) *cobra.Command {
	return &cobra.Command{
		Use:     name + " PATH",
		Short:   short,
		Example: example,
		Args:    args("PATH"),
		RunE: func(cmd *cobra.Command, given []string) error {
			path, err := storePath(given[0])
			if err != nil {
				return err
			}
			s, err := file.Open(path, file.Options{})
			if err != nil {
				return err
			}
			return do(cmd, s)
		},
	}
}

// storePath takes a path, or the identifier that names it.
func storePath(arg string) (string, error) {
	if strings.HasPrefix(arg, file.Scheme+"://") {
		path, _, err := file.ParseKeyID(arg)
		return path, err
	}
	return filepath.Abs(arg)
}

func newDevKeyCreate(a *app) *cobra.Command {
	var bits int
	cmd := &cobra.Command{
		Use:   "create PATH",
		Short: "Make a key store and print its key identifier",
		Example: `  akvfs dev-key create /root/key.json
  akvfs dev-key create ./key.json --bits 2048`,
		Args: args("PATH"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if bits < 2048 || bits > 4096 {
				return &usageError{cmd.CommandPath(), errors.New("--bits must be between 2048 and 4096")}
			}
			path, err := storePath(given[0])
			if err != nil {
				return err
			}
			s, err := file.Create(path, file.Options{Bits: bits})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.err, "This is an embedded key store, not a vault: who can read the file has the key.")
			_, err = fmt.Fprintln(a.out, s.KeyID())
			return err
		},
	}
	cmd.Flags().IntVar(&bits, "bits", file.DefaultBits, "size of the RSA key, 2048 to 4096")
	return cmd
}

func newDevKeyRotate(a *app) *cobra.Command {
	return storeCommand("rotate", "Make a new version of the key and print its ID",
		"  akvfs dev-key rotate /root/key.json",
		func(_ *cobra.Command, s *file.Store) error {
			version, err := s.Rotate()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, version)
			return err
		})
}

func newDevKeyDisable(*app) *cobra.Command {
	var version string
	cmd := storeCommand("disable", "Make the key, or one version, unusable",
		"  akvfs dev-key disable /root/key.json\n  akvfs dev-key disable /root/key.json --version 0123456789abcdef0123456789abcdef",
		func(_ *cobra.Command, s *file.Store) error { return s.Disable(version) })
	versionFlag(cmd, &version)
	return cmd
}

func newDevKeyEnable(*app) *cobra.Command {
	var version, from string
	cmd := storeCommand("enable", "Make the key, or one version, usable again",
		"  akvfs dev-key enable /root/key.json\n  akvfs dev-key enable /root/key.json --from 2030-01-01T00:00:00Z",
		func(cmd *cobra.Command, s *file.Store) error {
			if from != "" {
				at, err := parseTime(cmd, "--from", from)
				if err != nil {
					return err
				}
				if err := s.NotBefore(version, at); err != nil {
					return err
				}
			}
			return s.Enable(version)
		})
	versionFlag(cmd, &version)
	cmd.Flags().StringVar(&from, "from", "", "the `TIME` from which on it is usable (RFC 3339, \"now\" or \"never\" for no limit)")
	return cmd
}

func newDevKeyExpire(*app) *cobra.Command {
	var version, at string
	cmd := storeCommand("expire", "Set when the key, or one version, expires",
		"  akvfs dev-key expire /root/key.json\n  akvfs dev-key expire /root/key.json --at 2030-01-01T00:00:00Z\n  akvfs dev-key expire /root/key.json --at never",
		func(cmd *cobra.Command, s *file.Store) error {
			t, err := parseTime(cmd, "--at", at)
			if err != nil {
				return err
			}
			return s.Expire(version, t)
		})
	versionFlag(cmd, &version)
	cmd.Flags().StringVar(&at, "at", "now", "the `TIME` (RFC 3339, \"now\" or \"never\")")
	return cmd
}

func newDevKeyDelete(*app) *cobra.Command {
	var purge bool
	cmd := storeCommand("delete", "Delete the key; it can be recovered until it is purged",
		"  akvfs dev-key delete /root/key.json\n  akvfs dev-key delete /root/key.json --purge",
		func(_ *cobra.Command, s *file.Store) error {
			if !purge {
				return s.Delete()
			}
			l, err := s.Show()
			if err != nil {
				return err
			}
			if l.Deleted.IsZero() {
				if err := s.Delete(); err != nil {
					return err
				}
			}
			return s.Purge()
		})
	cmd.Flags().BoolVar(&purge, "purge", false, "destroy the key for good: what it wraps is lost")
	return cmd
}

func newDevKeyRecover(*app) *cobra.Command {
	return storeCommand("recover", "Recover a deleted key",
		"  akvfs dev-key recover /root/key.json",
		func(_ *cobra.Command, s *file.Store) error { return s.Recover() })
}

func newDevKeyShow(a *app) *cobra.Command {
	var asJSON bool
	cmd := storeCommand("show", "Show the key's versions and their states",
		"  akvfs dev-key show /root/key.json\n  akvfs dev-key show /root/key.json --json",
		func(_ *cobra.Command, s *file.Store) error {
			l, err := s.Show()
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(l)
			}
			return printListing(a.out, l)
		})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printListing(w io.Writer, l file.Listing) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Key identifier\t%s\n", l.KeyID)
	fmt.Fprintf(t, "Provider\t%s\n", providerText("file"))
	fmt.Fprintf(t, "Key\t%s, %d bits, made %s\n", l.Type, l.Size, clock(l.Created))
	switch {
	case !l.Purged.IsZero():
		fmt.Fprintf(t, "State\tpurged %s\n", clock(l.Purged))
	case !l.Deleted.IsZero():
		fmt.Fprintf(t, "State\tdeleted %s, can be recovered\n", clock(l.Deleted))
	}
	if err := t.Flush(); err != nil || len(l.Versions) == 0 {
		return err
	}
	fmt.Fprintln(t, "\nVERSION\tSTATE\tMADE\tVALID FROM\tEXPIRES")
	for _, v := range l.Versions {
		state := string(v.State)
		if v.Current {
			state += ", current"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.ID, state, clock(v.Created), clockOrDash(v.NotBefore), clockOrDash(v.Expires))
	}
	return t.Flush()
}

func clockOrDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return clock(t)
}

func versionFlag(cmd *cobra.Command, version *string) {
	cmd.Flags().StringVar(version, "version", "", "`ID` of one version; without it, all of them")
}

// parseTime reads RFC 3339; "now" is this moment and "never" no limit.
func parseTime(cmd *cobra.Command, flag, text string) (time.Time, error) {
	switch text {
	case "now":
		return time.Now(), nil
	case "never":
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, &usageError{cmd.CommandPath(), fmt.Errorf("%s wants a time such as 2030-01-01T00:00:00Z, \"now\" or \"never\", not %q", flag, text)}
	}
	return t, nil
}
