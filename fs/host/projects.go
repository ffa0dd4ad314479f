package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr/project"
)

// Project is one as it is shown: where its secret is, and not what.
type Project struct {
	Name string `json:"name"`
	Path string `json:"path"`
	project.Config
	Clusters []string `json:"clusters"`
	Error    string   `json:"error,omitempty"`
}

// Show describes a project.
func Show(h cluster.Host, p project.Project) Project {
	s := Project{Name: p.Name, Path: p.Path(), Config: p.Config, Clusters: []string{}}
	of, err := h.OfProject(p.Name)
	if err != nil {
		s.Error = err.Error()
	}
	for _, c := range of {
		s.Clusters = append(s.Clusters, c.Name)
	}
	return s
}

// Projects describes all projects that are to be shown; one that cannot be
// read has an error.
func Projects(h cluster.Host, shown func(name string) bool) ([]Project, error) {
	names, err := h.Projects().Names()
	all := []Project{}
	for _, name := range names {
		if !shown(name) {
			continue
		}
		p, err := h.Projects().Load(name)
		s := Show(h, p)
		if s.Name = name; err != nil {
			s.Error = err.Error()
		}
		all = append(all, s)
	}
	return all, err
}

// visible tells of which projects the caller may know.
func (c *call) visible(name string) bool { return c.roleIn(name) >= project.Viewer }

func listProjects(_ context.Context, c *call, _ Of) (any, error) {
	return Projects(c.host, c.visible)
}

func showProject(_ context.Context, c *call, _ Of) (any, error) {
	found, err := c.host.Projects().Load(c.about.Project)
	if err != nil {
		return nil, err
	}
	return Show(c.host, found), nil
}

// configureProject refuses: in a project that is not there nobody has a role,
// so that only root comes this far, who does it without a service.
func configureProject(_ context.Context, c *call, _ Of) (any, error) {
	if err := c.host.Projects().Absent(c.about.Project); err != nil {
		return nil, err
	}
	return nil, c.deny("a new project is root's to configure, without the host's service")
}

// ChangeParams are the parameters of MethodProjectUpdate and
// MethodProjectRotate.
type ChangeParams struct {
	Of
	Before  project.Config `json:"before"` // the configuration that is to be changed
	After   project.Config `json:"after"`
	Secret  []byte         `json:"secret,omitempty"` // to be stored with it
	Timeout string         `json:"timeout"`          // for each answer of the vault
}

// Changed is what came of a change.
type Changed struct {
	Report   project.Report    `json:"report"`
	Failure  *control.Error    `json:"failure,omitempty"` // nothing was stored
	Clusters []cluster.Cluster `json:"clusters"`          // of the project
}

// StaleError says that a project has changed since it was looked at.
type StaleError struct{ Project string }

func (e *StaleError) Error() string {
	return fmt.Sprintf("project %s was changed by somebody else meanwhile", e.Project)
}

// changeProject proves a configuration and stores it.
func changeProject(ctx context.Context, c *call, p ChangeParams) (any, error) {
	defer clear(p.Secret)
	timeout, err := wait(p.Timeout)
	if err != nil {
		return nil, err
	}
	name, projects := c.about.Project, c.host.Projects()
	unlock, err := projects.Lock(name, false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now, err := projects.Load(name)
	if err != nil {
		return nil, err
	}
	if !same(now.Config, p.Before) {
		return nil, &StaleError{name}
	}
	if fields := MayNotChange(now.Config, p.After, p.Secret != nil); len(fields) > 0 {
		return nil, c.deny("a Project Owner who is not root may not change %s of project %s", list(fields), name)
	}
	return c.apply(ctx, name, project.Change{Config: p.After, Secret: p.Secret, Timeout: timeout, Env: c.host.Env})
}

func (c *call) apply(ctx context.Context, name string, change project.Change) (r Changed, err error) {
	err = c.host.Recorded(c.Method, name, "", func() (err error) {
		r.Report, err = c.host.Projects().Apply(ctx, name, change)
		return err
	})
	if _, unproven := errors.AsType[*project.UnprovenError](err); unproven {
		r.Failure = &control.Error{Code: c.service.code(err), Message: err.Error()}
		return r, nil // the report says what to grant
	}
	if err == nil {
		r.Clusters, err = c.host.OfProject(name)
	}
	return r, err
}

func (s *Service) code(err error) string {
	if s.Code == nil {
		return control.CodeFailed
	}
	return s.Code(err)
}

// same reports whether two configurations are equal as they are written.
func same(a, b project.Config) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func disableProject(ctx context.Context, c *call, _ Of) (any, error) {
	snapshots, err := c.host.DisableProject(ctx, c.about.Project)
	return append([]string{}, snapshots...), err
}
