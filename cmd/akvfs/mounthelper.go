package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/metrics"
)

// helperName is the name under which mount(8) starts this program for file
// systems of the type akvfs.
const helperName = "mount.akvfs"

// dispatch makes a command line of what the program was called with: by the
// name of the mount helper it is that command.
func dispatch(argv []string) []string {
	if len(argv) > 0 && filepath.Base(argv[0]) == helperName {
		return append([]string{helperName}, argv[1:]...)
	}
	return argv[min(1, len(argv)):]
}

// helperFlags are those with which mount(8) calls its helpers.
type helperFlags struct {
	options         []string
	sloppy, fake    bool
	read            bool
	kind, elsewhere string
}

// newMountHelper is `mount -t akvfs`. It is no command that one would type.
func newMountHelper(a *app) *cobra.Command {
	var h helperFlags
	cmd := &cobra.Command{
		Use:    helperName + " BACKING MOUNTPOINT [-o OPT[,OPT...]]",
		Hidden: true,
		Short:  "Mount a volume for mount(8)",
		Long: `Called by mount(8) for file systems of the type akvfs, from the command line or
from /etc/fstab. Options are those of akvfs mount, and those of fstab that are
for others (auto, noauto, user, _netdev, nofail, x-…, comment=).

The exit status is akvfs's: 11 for a revoked key, for instance.`,
		Example: "  mount -t akvfs /data/enc /var/lib/mongodb\n  mount -t akvfs /data/enc /var/lib/mongodb -o noexec,grace=1h",
		Args:    args("BACKING", "MOUNTPOINT"),
		RunE: func(cmd *cobra.Command, given []string) error {
			cfg := daemon.NewConfig()
			cfg.Metrics = metrics.Unix
			f, err := h.mountFlags(cmd)
			if err != nil {
				return err
			}
			if err := a.configure(cmd, &cfg, f, given); err != nil || h.fake {
				return err
			}
			if err := a.underProject(&cfg); err != nil {
				return err
			}
			return a.mount(cmd.Context(), cfg, f)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&h.options, "options", "o", nil, "mount options, `OPT[,OPT...]`")
	flags.BoolVarP(&h.sloppy, "sloppy", "s", false, "leave out options that are not known")
	flags.BoolVarP(&h.fake, "fake", "f", false, "check the options, and mount nothing")
	flags.BoolVarP(&h.read, "read-only", "r", false, "mount read-only")
	flags.BoolP("rw", "w", false, "mount for reading and writing")
	flags.BoolP("no-mtab", "n", false, "has no effect")
	flags.BoolP("verbose", "v", false, "has no effect")
	flags.StringVarP(&h.kind, "types", "t", "akvfs", "the `TYPE` of the file system")
	flags.StringVarP(&h.elsewhere, "namespace", "N", "", "is not possible")
	return cmd
}

// mountFlags are those of `akvfs mount` that come to the same.
func (h helperFlags) mountFlags(cmd *cobra.Command) (mountFlags, error) {
	if h.elsewhere != "" {
		return mountFlags{}, &usageError{cmd.CommandPath(), errors.New("mounting in another namespace is not possible; use nsenter(1)")}
	}
	if h.kind != "akvfs" && h.kind != "fuse.akvfs" {
		return mountFlags{}, &usageError{cmd.CommandPath(), fmt.Errorf("cannot mount a file system of the type %q", h.kind)}
	}
	f := mountFlags{options: h.options}
	if h.read {
		f.options = append(f.options, "ro")
	}
	if h.sloppy {
		f.options = []string{strings.Join(knownOptions(f.options), ",")}
	}
	return f, nil
}

// knownOptions leaves out options whose names are not known.
func knownOptions(texts []string) []string {
	var known []string
	for _, word := range splitOptions(strings.Join(texts, ",")) {
		name, _, hasValue := strings.Cut(word, "=")
		if isOption(name) || isIgnored(name, hasValue) {
			known = append(known, word)
		}
	}
	return known
}
