package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/project"
)

// Name is that of the service's socket in the run directory.
const Name = "host"

// Service answers calls about a host's projects and clusters. Its exported
// fields are set before Server is called and not after.
type Service struct {
	Host cluster.Host
	// Code names the codes of errors; nil: control.CodeFailed for all.
	Code func(error) string

	refusals audit.Refusals
	began    time.Time
}

// Server is what answers on the service's socket.
func (s *Service) Server() *control.Server {
	s.began = time.Now()
	// Who may do what depends on what it is about, which each method finds out.
	return &control.Server{Methods: s.methods(), Authorize: func(control.Peer, string) error { return nil }, Code: s.Code}
}

// Of says what a call is about. With nothing in it, it is about all of which
// the caller may know.
type Of struct {
	Project string `json:"project,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	// Volume is a cluster's data or backing directory, absolute, or the ID of
	// its volume.
	Volume string `json:"volume,omitempty"`
}

func (o Of) of() Of { return o }

// String names it for people.
func (o Of) String() string {
	switch {
	case o.Volume != "":
		return "volume " + audit.Printable(o.Volume, 200)
	case o.Cluster != "":
		return "cluster " + audit.Printable(o.Cluster, 64)
	case o.Project != "":
		return "project " + audit.Printable(o.Project, 64)
	}
	return "the projects of this host"
}

// shape is what a method can be about, and nothing besides: a role in one thing
// would else do for another.
type shape Of

// The shapes; a field that is there is named.
var (
	everything = shape{}
	aProject   = shape{Project: "a project"}
	aCluster   = shape{Cluster: "a cluster"}
	aVolume    = shape{Volume: "a volume"}
	newCluster = shape{Project: "a project", Cluster: "a cluster"}
)

func (s shape) fits(o Of) bool {
	return (s.Project != "") == (o.Project != "") && (s.Cluster != "") == (o.Cluster != "") && (s.Volume != "") == (o.Volume != "")
}

// params are a method's. What a method is about it takes from its call.
type params interface{ of() Of }

// call is one that is permitted.
type call struct {
	*control.Call
	service *Service
	host    cluster.Host // commanded by the caller
	about   Of           // Project is that of the cluster or the volume
	cluster cluster.Cluster
}

// method is one that a role may call.
func method[P params](s *Service, needs project.Role, form shape, do func(ctx context.Context, c *call, p P) (any, error)) control.Method {
	return func(ctx context.Context, wire *control.Call) (any, error) {
		var p P
		if err := wire.Params(&p); err != nil {
			return nil, err
		}
		if !form.fits(p.of()) {
			return nil, &control.Error{Code: control.CodeBadRequest, Message: "this method is about something else than " + p.of().String()}
		}
		c := &call{Call: wire, service: s, host: s.Host, about: p.of()}
		c.host.By = &wire.Peer
		err := c.find(ctx)
		if role := c.role(); role < needs {
			return nil, c.deny("user %d may not do %s with %s: that needs the role %s, and the user has %s", wire.Peer.UID, wire.Method, p.of(), needs, role)
		}
		if err != nil {
			return nil, err
		}
		return do(ctx, c, p)
	}
}

// find completes what a call is about.
func (c *call) find(ctx context.Context) (err error) {
	switch {
	case c.about.Volume != "":
		c.cluster, err = c.ofVolume(ctx)
	case c.about.Cluster != "":
		c.cluster, err = c.host.Load(c.about.Cluster)
		if _, none := errors.AsType[*confdir.NoEntryError](err); none && c.about.Project != "" {
			c.cluster = cluster.Cluster{}
			return nil // it is to be made
		}
		if asked := c.about.Project; err == nil && asked != "" && asked != c.cluster.Project {
			err = &cluster.OtherError{Name: c.cluster.Name, What: "project", Is: c.cluster.Project, Asked: asked}
		}
	default:
		return nil
	}
	if err != nil {
		c.about.Project = ""
		return err
	}
	c.about.Project, c.about.Cluster = c.cluster.Project, c.cluster.Name
	return nil
}

// role is the caller's in what the call is about or, if it is about all, the
// highest that he has anywhere.
func (c *call) role() project.Role {
	if c.Peer.UID == 0 {
		return project.Owner
	}
	if c.about != (Of{}) {
		return c.roleIn(c.about.Project)
	}
	highest := project.Nobody
	names, _ := c.host.Projects().Names() // what cannot be read grants nothing
	for _, name := range names {
		highest = max(highest, c.roleIn(name))
	}
	return highest
}

func (c *call) roleIn(name string) project.Role {
	if c.Peer.UID == 0 {
		return project.Owner
	}
	if name == "" {
		return project.Nobody
	}
	return c.host.RolesOf(name)(c.Peer)
}

// deny refuses a call, and puts that on record.
func (c *call) deny(format string, a ...any) error {
	err := &control.Error{Code: control.CodeDenied, Message: fmt.Sprintf(format, a...)}
	if untold, told := c.service.refusals.Note(c.Peer.UID, time.Since(c.service.began)); told {
		c.host.Refused(c.Peer, c.Method, c.about.Project, c.about.Cluster, untold, err)
	}
	return err
}

// wait reads how long an answer of a vault may take.
func wait(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxWait {
		return 0, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("%q is no time to wait for a vault: more than 0, and %v at most", audit.Printable(text, 40), maxWait)}
	}
	return d, nil
}

// maxWait is how long a caller can have the service wait for a vault.
const maxWait = 10 * time.Minute
