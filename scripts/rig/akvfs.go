package rig

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Akvfs is the file system that this project makes, run by its own binary.
type Akvfs struct {
	*daemon
	bin, base, keyFile, keyID string
	o                         Options
}

func newAkvfs(base string, o Options) (*Akvfs, error) {
	if o.Akvfs == "" {
		return nil, errors.New("akvfs: which binary?")
	}
	if _, err := os.Stat(o.Akvfs); err != nil {
		return nil, err
	}
	a := &Akvfs{daemon: newDaemon(base), bin: o.Akvfs, base: base, keyID: o.KeyID, o: o}
	if a.keyID == "" {
		a.keyFile = filepath.Join(base, "key.json")
		a.keyID = "file://" + a.keyFile
	}
	return a, nil
}

// Kind implements System.
func (a *Akvfs) Kind() string { return "akvfs" }

// KeyFile is the embedded key store, empty where the key is elsewhere.
func (a *Akvfs) KeyFile() string { return a.keyFile }

// SetEnv replaces Options.Env from now on.
func (a *Akvfs) SetEnv(env []string) { a.o.Env = env }

// Command is the akvfs binary with arguments, configuration and state under
// the base directory.
func (a *Akvfs) Command(args ...string) Command {
	env := append(os.Environ(),
		"AKVFS_CONFIG_DIR="+filepath.Join(a.base, "config"),
		"AKVFS_STATE_DIR="+filepath.Join(a.base, "state"),
		"AKVFS_RUN_DIR="+filepath.Join(a.base, "run"))
	return Command{Path: a.bin, Args: args, Env: append(env, a.o.Env...)}
}

// Run runs the akvfs binary to its end; a non-zero exit status is an *ExitError.
func (a *Akvfs) Run(ctx context.Context, args ...string) (string, error) {
	return a.Command(args...).Run(ctx)
}

// Init implements System.
func (a *Akvfs) Init(ctx context.Context) error {
	if err := a.makeDirs(); err != nil {
		return err
	}
	if a.keyFile != "" {
		if _, err := a.Run(ctx, "dev-key", "create", a.keyFile); err != nil {
			return err
		}
	}
	_, err := a.Run(ctx, append([]string{"init", a.backing, "--key-id", a.keyID}, a.o.InitFlags...)...)
	return err
}

// Mount implements System. The daemon stays a child, so that its death is seen.
func (a *Akvfs) Mount(ctx context.Context) error {
	options := append([]string{"allow_other"}, a.o.MountOptions...)
	return a.serve(ctx, a.Command("mount", a.backing, a.mount, "--foreground", "-o", strings.Join(options, ",")))
}

// Unmount implements System.
func (a *Akvfs) Unmount(ctx context.Context) error {
	if _, err := a.Run(ctx, "unmount", a.mount); err != nil {
		return err
	}
	return a.gone(ctx)
}
