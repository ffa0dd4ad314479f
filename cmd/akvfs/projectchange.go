package main

import (
	"context"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/keymgr/project"
)

// changer changes one project: in this process, or by the host's service.
type changer interface {
	// begin is the configuration as it is before the change.
	begin(ctx context.Context) (project.Config, error)
	apply(ctx context.Context, c project.Change) (host.Changed, error)
	end()
}

// ownProject is one of this user's, who holds its lock meanwhile.
type ownProject struct {
	host         cluster.Host
	name, action string
	unlock       func()
}

func (o *ownProject) begin(context.Context) (c project.Config, err error) {
	if o.unlock, err = lockProject(o.host, o.name, o.action); err != nil {
		return c, err
	}
	if o.action == host.MethodProjectConfigure {
		err = o.host.Projects().Absent(o.name)
	} else {
		var p project.Project
		p, err = o.host.Projects().Load(o.name)
		c = p.Config
	}
	if err != nil {
		o.end()
	}
	return c, err
}

func (o *ownProject) end() { o.unlock() }

func (o *ownProject) apply(ctx context.Context, c project.Change) (r host.Changed, err error) {
	err = o.host.Recorded(o.action, o.name, "", func() (err error) {
		r.Report, err = o.host.Projects().Apply(ctx, o.name, c)
		return err
	})
	if err == nil {
		r.Clusters, err = o.host.OfProject(o.name)
	}
	return r, err
}

// lockProject takes a project's lock, but makes no directory for one that is
// not there.
func lockProject(h cluster.Host, name, action string) (unlock func(), err error) {
	if action != host.MethodProjectConfigure {
		if _, err := h.Projects().Load(name); err != nil {
			return nil, err
		}
	}
	return h.Projects().Lock(name, false)
}

// servedProject is one that the host's service changes, if it is as it was
// before.
type servedProject struct {
	app          *app
	name, action string
	before       project.Config
}

func (s *servedProject) begin(ctx context.Context) (project.Config, error) {
	about := host.Of{Project: s.name}
	if s.action == host.MethodProjectConfigure { // which no service does, and each says why
		return project.Config{}, s.app.ask(ctx, s.action, about, nil, nil)
	}
	var shown host.Project
	err := s.app.ask(ctx, host.MethodProjectShow, about, &shown, nil)
	s.before = shown.Config
	return shown.Config, err
}

func (s *servedProject) end() {}

func (s *servedProject) apply(ctx context.Context, c project.Change) (r host.Changed, err error) {
	params := host.ChangeParams{
		Of: host.Of{Project: s.name}, Before: s.before, After: c.Config, Secret: c.Secret, Timeout: c.Timeout.String(),
	}
	err = s.app.ask(ctx, s.action, params, &r, nil)
	if err == nil && r.Failure != nil {
		err = r.Failure
	}
	return r, err
}
