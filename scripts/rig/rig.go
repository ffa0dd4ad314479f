// Package rig sets up file systems to run loads on, for the integration tests
// and the benchmarks: akvfs and, under the same interface, what it is compared
// with.
//
// Its types: WorkDir, a directory that a later run can sweep should this one
// be killed; Disk, a file system on a loop device; System, a directory tree
// that can be mounted, unmounted and have its daemon killed; Proc, a child
// process with a log. Every wait is bounded.
//
// The package knows akvfs only by its command line. It never runs a load, and
// never decides whether one passed. None of its types is safe for concurrent
// use, except a Proc, which may be waited for and killed at the same time, and
// System.Abort.
package rig

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds of the waits for a daemon.
const (
	mountTimeout   = 60 * time.Second
	unmountTimeout = 60 * time.Second
)

// System is a file system under test, made of a base directory of its own.
type System interface {
	// Kind is the name that New takes.
	Kind() string
	// Init creates the empty file system; once, before Mount.
	Init(ctx context.Context) error
	// Mount returns when Dir is usable. It cleans up after Kill.
	Mount(ctx context.Context) error
	// Unmount returns when the daemon has gone.
	Unmount(ctx context.Context) error
	// Kill ends the daemon with SIGKILL and leaves the dead mount as it is.
	Kill() error
	// Abort detaches the mount and ends the daemon whatever else is going on,
	// so that calls which hang in the file system fail. Safe to call beside
	// any other method.
	Abort()
	// Dir is where loads put their files.
	Dir() string
	// Backing is the directory that holds what is stored; Dir itself for bare.
	Backing() string
	// PID is the daemon's, 0 where there is none.
	PID() int
	// Log is what the daemon has written since it was started, for a person.
	Log() string
	// Close unmounts by force; the files stay.
	Close() error
}

// Options are what the kinds need.
type Options struct {
	Akvfs        string   // the akvfs binary
	MountOptions []string // akvfs: further -o options
	InitFlags    []string // akvfs: further flags of init
	KeyID        string   // akvfs: a key identifier; empty: an embedded key store is made in the base directory
	Env          []string // akvfs: further environment
	Passthrough  string   // passthrough: a command that serves {backing} at {mount} in the foreground
}

// Kinds lists what New knows.
func Kinds() []string { return []string{"bare", "akvfs", "gocryptfs", "passthrough"} }

// New makes a System under base, an existing directory.
func New(kind, base string, o Options) (System, error) {
	switch kind {
	case "bare":
		return &Bare{dir: filepath.Join(base, "bare")}, nil
	case "akvfs":
		return newAkvfs(base, o)
	case "gocryptfs":
		return newGocryptfs(base)
	case "passthrough":
		return newPassthrough(base, o.Passthrough)
	}
	return nil, fmt.Errorf("no file system %q; there are %s", kind, strings.Join(slices.Sorted(slices.Values(Kinds())), ", "))
}
