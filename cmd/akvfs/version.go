package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/volume"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version string

// buildVersion is the version of this program: the build's, else the commit's.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				modified = "-modified"
			}
		}
	}
	if revision == "" {
		return info.Main.Version
	}
	return "0.0.0-" + revision[:min(12, len(revision))] + modified
}

type versionInfo struct {
	Version string `json:"version"`
	Format  int    `json:"format"` // the newest that it reads
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersion(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version [--json]",
		Short:   "Show the version of akvfs and of its volume format",
		Example: "  akvfs version\n  akvfs version --json",
		Args:    args(),
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{buildVersion(), volume.FormatVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if asJSON {
				return a.printJSON(v)
			}
			_, err := fmt.Fprintf(a.out, "akvfs %s (volume format %d, %s, %s/%s)\n", v.Version, v.Format, v.Go, v.OS, v.Arch)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
