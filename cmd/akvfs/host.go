package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/project"
)

// notOwnError says that projects and clusters are somebody else's to change.
type notOwnError struct{ dir string }

func (e *notOwnError) Error() string {
	return fmt.Sprintf("the projects and clusters in %s are not this user's", e.dir)
}

const systemConfig = "/etc/akvfs"

func (a *app) configDir() string { return daemon.ConfigDir(a.getenv, os.Geteuid()) }

// host is this host's projects and clusters, if they are this user's. Errors
// are a *notOwnError.
func (a *app) host() (h cluster.Host, err error) {
	dir := a.configDir()
	if dir == "" {
		return h, &notOwnError{systemConfig}
	}
	if h.ConfigDir, err = filepath.Abs(dir); err != nil {
		return h, err
	}
	if err := a.ownConfig(h.ConfigDir); err != nil {
		return h, err
	}
	if h.RunDir, err = filepath.Abs(a.runDir()); err != nil {
		return h, err
	}
	if dir := a.stateDir(); dir != "" {
		h.StateDir, err = filepath.Abs(dir)
	}
	h.Env = project.Env{Getenv: a.getenv}
	return h, err
}

// ownConfig refuses a configuration directory of another user, and a missing
// one of this user where the host has one.
func (a *app) ownConfig(dir string) error {
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &notOwnError{dir}
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(systemConfig); err == nil && os.Geteuid() != 0 && a.getenv("AKVFS_CONFIG_DIR") == "" {
			return &notOwnError{systemConfig}
		}
		return nil
	case err != nil:
		return err
	}
	if uid := int(fi.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() && os.Geteuid() != 0 {
		return &notOwnError{dir}
	}
	return nil
}

// openersFor opens keys with the credentials of the project that a volume's
// cluster is in or, if it is in none, with those of the environment.
func (a *app) openersFor(path string) keymgr.Openers {
	if h, err := a.host(); err == nil {
		if c, ok := h.Owner(path); ok {
			return h.Openers(c.Project)
		}
	}
	return openers()
}

// underProject has a mount go by the project of its cluster, if it is in one.
func (a *app) underProject(cfg *daemon.Config) error {
	h, err := a.host()
	if err != nil {
		return nil // a user's own mount has no project
	}
	c, ok := h.Owner(cfg.Backing)
	if !ok {
		return nil
	}
	p, err := h.Projects().Load(c.Project)
	if err != nil {
		return err
	}
	h.Govern(cfg, p)
	return nil
}
