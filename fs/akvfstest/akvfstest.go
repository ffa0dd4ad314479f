// Package akvfstest gives a test an encrypted file system of its own.
//
//	func TestDatabase(t *testing.T) {
//		dir := akvfstest.Mount(t)
//		db := open(filepath.Join(dir, "db"))
//		…
//	}
//
// The volume is real: everything that is written to dir is encrypted and
// authenticated, journaled and synced as on a production mount. Its key is in
// an embedded key store, so that nothing but /dev/fuse is needed: no vault, no
// network, no akvfs on the PATH. It works as root, as a user with fusermount3,
// and in a container that has /dev/fuse and may mount.
//
// Mount and its key are gone when the test has ended, also when it fails,
// panics, times out or is killed: a process of its own, this test program
// started again, serves the mount and ends with the test's process. Programs
// that the test leaves running find their files gone; their names are logged.
//
// Where nothing can be mounted, the test is skipped, and the line says why. Set
// AKVFSTEST_REQUIRE=1, as in CI, to have it fail instead.
//
// Importing the package adds an init function that takes over the process if it
// was started to serve a mount. It is for tests only.
package akvfstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/akvfs/akvfs/fs/devvolume"
)

// requireVariable makes what would be skipped fail.
const requireVariable = "AKVFSTEST_REQUIRE"

// configVariable hands Options to the process that serves the mount.
const configVariable = "AKVFSTEST_OPTIONS"

// Options are for New; the zero value will do.
type Options struct {
	Dir         string // where the volume lies; "": the temporary directory
	PlainNames  bool   // do not encrypt names of files
	JournalSize int64  // bytes, from 1 MiB on; 0: 16 MiB
}

// Volume is a mounted throwaway volume.
type Volume struct {
	Dir     string // the mount: files are plain here
	Backing string // and encrypted there
	// KeyID identifies the volume's key, a file:// URL. Package keymgr/file
	// and `akvfs dev-key` disable, rotate or delete it.
	KeyID string
	// Env are variables, NAME=VALUE, with which the akvfs command finds the
	// volume: `akvfs status Dir`.
	Env []string
}

// Mount mounts a new volume for a test and returns its directory.
func Mount(t testing.TB) string {
	t.Helper()
	return New(t, Options{}).Dir
}

// New mounts a new volume for a test.
func New(t testing.TB, opts Options) *Volume {
	t.Helper()
	if err := devvolume.Able(); err != nil {
		unable(t, err)
	}
	config, err := json.Marshal(opts)
	if err != nil {
		t.Fatal(err)
	}
	k, err := devvolume.Start(t.Context(), nil, configVariable+"="+string(config))
	if refusal, ok := errors.AsType[*devvolume.Refusal](err); ok && refusal.Unable {
		unable(t, err)
	}
	if err != nil {
		t.Fatalf("akvfstest: %v", err)
	}
	t.Cleanup(func() { end(t, k) })
	return &Volume{
		Dir: k.Mountpoint, Backing: k.Backing, KeyID: k.KeyID,
		Env: []string{"AKVFS_RUN_DIR=" + k.RunDir, "AKVFS_STATE_DIR=" + k.StateDir},
	}
}

// unable ends a test on a host that cannot mount.
func unable(t testing.TB, err error) {
	t.Helper()
	if os.Getenv(requireVariable) != "" {
		t.Fatalf("akvfstest: %v (%s is set)", err, requireVariable)
	}
	t.Skipf("akvfstest: %v (%s=1 makes this a failure)", err, requireVariable)
}

func end(t testing.TB, k *devvolume.Keeper) {
	t.Helper()
	busy, err := k.Close(context.Background())
	if busy != "" {
		t.Logf("akvfstest: taken away although %s", busy)
	}
	if err != nil {
		t.Errorf("akvfstest: %v", err)
	}
}

// init serves a mount, and nothing else, in a process that New has started.
func init() {
	tether := devvolume.Inherited()
	if tether == nil {
		return
	}
	if err := keep(tether, os.Getenv(configVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func keep(tether *os.File, config string) error {
	var opts Options
	if err := json.Unmarshal([]byte(config), &opts); err != nil {
		return fmt.Errorf("%s: %w", configVariable, err)
	}
	cfg := devvolume.Config{Dir: opts.Dir, JournalSize: opts.JournalSize}
	if opts.PlainNames {
		cfg.Names = "plain"
	}
	return devvolume.Keep(tether, cfg, func(err error) devvolume.Refusal {
		return devvolume.Refusal{Code: 1, Text: err.Error()}
	})
}
