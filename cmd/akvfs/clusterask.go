package main

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/host"
)

// errTrim says that to trim a file system is root's.
var errTrim = fmt.Errorf("--fstrim: %w", fs.ErrPermission)

func enableParams(o cluster.Enabling, timeout time.Duration, plan bool) host.EnableParams {
	return host.EnableParams{
		Of:   host.Of{Project: o.Project, Cluster: o.Name},
		Data: absolute(o.Data), Backing: absolute(o.Backing), Names: o.Names, JournalSize: o.JournalSize, Timeout: timeout.String(), Plan: plan,
	}
}

// askPlan has the host's service say what it would do.
func (a *app) askPlan(ctx context.Context, method string, params any) (convert.Plan, error) {
	var w host.Work
	if err := a.ask(ctx, method, params, &w, nil); err != nil || w.Plan == nil {
		return convert.Plan{}, err
	}
	return *w.Plan, nil
}

// askWork has it do so.
func (a *app) askWork(ctx context.Context, method string, params any, show func(convert.Progress)) (cluster.Result, error) {
	var w host.Work
	if err := askFor(ctx, a, method, params, &w, show); err != nil || w.Result == nil {
		return cluster.Result{}, err
	}
	return *w.Result, nil
}

// clusters describes all that this user may know of. Records that cannot be
// read are in bad.
func (a *app) clusters(ctx context.Context) (infos []cluster.Info, bad []error, err error) {
	h, mine, err := a.mine()
	if err != nil {
		return nil, nil, err
	}
	if !mine {
		var r host.Clusters
		err := a.ask(ctx, host.MethodClusterList, nil, &r, nil)
		return r.Clusters, nil, err
	}
	all, bad, err := h.List()
	infos = []cluster.Info{}
	for _, c := range all {
		infos = append(infos, h.Describe(ctx, c))
	}
	return infos, bad, err
}

func (a *app) showCluster(ctx context.Context, name string) (info cluster.Info, err error) {
	h, mine, err := a.mine()
	if err != nil {
		return info, err
	}
	if !mine {
		err = a.ask(ctx, host.MethodClusterShow, host.Of{Cluster: name}, &info, nil)
		return info, err
	}
	c, err := h.Load(name)
	if err != nil {
		return info, err
	}
	return h.Describe(ctx, c), nil
}
