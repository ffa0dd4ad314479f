//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// stressors are stress-ng's for file systems, as far as they try what a mount
// does at all: see docs/POSIX.md.
var stressors = []string{
	"access", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany", "fallocate", "fcntl", "filename",
	"flock", "fpunch", "fstat", "getdent", "hdd", "inotify", "io", "iomix", "lease", "link", "locka", "lockf", "lockofd", "mknod",
	"open", "readahead", "rename", "revio", "seek", "sendfile", "symlink", "sync-file", "touch", "utime", "xattr",
}

// TestStressNG runs all of stress-ng's stressors at the same time, which check
// what they get, beside a file that must not change.
func TestStressNG(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		steady := filepath.Join(v.Dir(), "steady")
		if err := os.WriteFile(steady, []byte("steady"), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"--timeout", fmt.Sprint(8*soak, "s"), "--verify", "--temp-path", v.Dir()}
		for _, s := range stressors {
			args = append(args, "--"+s, "1")
		}
		c := command("stress-ng", args...)
		c.Dir = v.scratch
		v.run(c)
		v.remount()
		if b, err := os.ReadFile(steady); err != nil || string(b) != "steady" {
			t.Errorf("%q, %v", b, err)
		}
	})
}
