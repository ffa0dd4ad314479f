package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/snapshot"
)

// mine is this host's projects and clusters and true, if they are this user's,
// and false if it is for the host's service to say what this user may do.
func (a *app) mine() (h cluster.Host, mine bool, err error) {
	h, err = a.host()
	if _, others := errors.AsType[*notOwnError](err); others && os.Geteuid() != 0 {
		return h, false, nil
	}
	return h, err == nil, err
}

// ask has the host's service do what this user may not.
func (a *app) ask(ctx context.Context, method string, params, result any, event func(json.RawMessage)) error {
	path := a.getenv("AKVFS_RUN_DIR")
	if path == "" {
		path = systemRunDir
	}
	dir, err := control.OpenDir(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return &notServedError{path}
	}
	if err != nil {
		return err
	}
	err = dir.Client(host.Name).Call(ctx, method, params, result, event)
	if _, gone := errors.AsType[*control.GoneError](err); gone && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)) {
		return &notServedError{path}
	}
	return err
}

// askFor is ask for work with progress.
func askFor[P any](ctx context.Context, a *app, method string, params, result any, show func(P)) error {
	return a.ask(ctx, method, params, result, func(raw json.RawMessage) {
		var now P
		if show != nil && json.Unmarshal(raw, &now) == nil {
			show(now)
		}
	})
}

// notServedError says that projects and clusters are somebody else's, and that
// nobody does with them what this user has a role for.
type notServedError struct{ dir string }

func (e *notServedError) Error() string {
	return "the projects and clusters of this host are not this user's, and its service does not answer in " + e.dir
}

// served says whether the snapshots of a volume are for the host's service to
// handle: this user may not open the directory that they are in.
func (a *app) served(ctx context.Context, name string) bool {
	any := func(*snapshot.Collection) (bool, error) { return true, nil }
	return os.Geteuid() != 0 && errors.Is(a.collections(ctx, name, any), fs.ErrPermission)
}

// volumeOf names a volume to the host's service. Links are followed here, with
// this user's rights.
func volumeOf(name string) host.Of {
	abs, err := filepath.Abs(name)
	if _, missing := os.Lstat(abs); err != nil || missing != nil && !errors.Is(missing, fs.ErrPermission) {
		return host.Of{Volume: name} // an ID
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	return host.Of{Volume: abs}
}
