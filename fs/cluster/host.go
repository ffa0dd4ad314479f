package cluster

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/project"
)

const recordFile = "cluster.toml"

// Host is a host with its projects and clusters. Its fields are set before it
// is used and not after.
type Host struct {
	ConfigDir  string
	StateDir   string // for the audit logs; "": none are kept
	RunDir     string
	Env        project.Env
	KeyTimeout time.Duration    // 0: daemon.DefaultKeyTimeout
	Now        func() time.Time // nil: time.Now
	Logger     *slog.Logger     // nil: nothing is logged
	// By is who commands; nil: this process.
	By *control.Peer
}

func (h Host) now() time.Time {
	if h.Now != nil {
		return h.Now()
	}
	return time.Now()
}

func (h Host) timeout() time.Duration {
	if h.KeyTimeout > 0 {
		return h.KeyTimeout
	}
	return daemon.DefaultKeyTimeout
}

// Projects are the host's.
func (h Host) Projects() project.Store { return project.StoreIn(h.ConfigDir) }

func (h Host) clusters() confdir.Dir { return confdir.In(h.ConfigDir, "clusters", "cluster") }

// Openers open keys with a project's credentials.
func (h Host) Openers(projectName string) keymgr.Openers {
	return h.Projects().Openers(projectName, h.Env)
}

// Load reads a cluster's record. Errors are a *confdir.NoEntryError,
// *confdir.NameError, *confdir.UnsafeError or a *RecordError.
func (h Host) Load(name string) (Cluster, error) {
	data, err := h.clusters().Read(name, recordFile)
	if err != nil {
		return Cluster{}, err
	}
	c, err := Parse(data)
	if bad, ok := errors.AsType[*RecordError](err); ok {
		bad.Path = h.clusters().Path(name, recordFile)
	}
	return Cluster{name, c}, err
}

func (h Host) save(c Cluster) error {
	c.Version = Version
	if err := c.validate(); err != nil {
		return err
	}
	data, err := c.encode()
	if err != nil {
		return err
	}
	return h.clusters().Write(c.Name, recordFile, data)
}

// List reads all clusters' records. Those that cannot be used are in bad.
func (h Host) List() (all []Cluster, bad []error, err error) {
	names, err := h.clusters().Names(recordFile)
	for _, name := range names {
		c, err := h.Load(name)
		if err != nil {
			bad = append(bad, err)
		} else {
			all = append(all, c)
		}
	}
	return all, bad, err
}

// Ready is a cluster that can be mounted, and its project. Errors are those of
// Load of both, and a *StateError.
func (h Host) Ready(name string) (Cluster, project.Project, error) {
	c, err := h.Load(name)
	if err != nil {
		return c, project.Project{}, err
	}
	if c.State != StateEnabled {
		return c, project.Project{}, &StateError{name, c.State}
	}
	p, err := h.Projects().Load(c.Project)
	return c, p, err
}

// Owner is the cluster to which a directory belongs: its data directory, its
// backing directory, or a snapshot beside that. Records that cannot be read
// are passed over: ok is then false.
func (h Host) Owner(path string) (c Cluster, ok bool) {
	all, _, err := h.List()
	if err != nil {
		return c, false
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return c, false
	}
	if real, err := realPath(abs); err == nil {
		abs = real
	}
	for _, c := range all {
		if abs == c.Data || abs == c.Backing || inside(abs, snapshot.DefaultDir(c.Backing)) {
			return c, true
		}
	}
	return c, false
}

// realPath is a path without symbolic links before its last component, of
// which nothing is asked: it may be a mount that does not answer.
func realPath(path string) (string, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// Info is what can be told of a cluster.
type Info struct {
	Cluster
	Volume *daemon.Status `json:"volume"` // nil: there is none, or it cannot be read
	Note   string         `json:"note,omitempty"`
}

// Describe tells how a cluster stands. A daemon that does not answer, or a
// volume that cannot be read, is one of the things that it tells.
func (h Host) Describe(ctx context.Context, c Cluster) Info {
	s, err := daemon.StatusOf(ctx, h.RunDir, c.Backing)
	if err != nil {
		return Info{Cluster: c, Note: err.Error()}
	}
	return Info{Cluster: c, Volume: &s, Note: s.Note}
}

// OfProject lists the clusters of a project, those included that are only half
// enabled or disabled. Records that cannot be read are an error: nobody knows
// whose they are.
func (h Host) OfProject(name string) ([]Cluster, error) {
	all, bad, err := h.List()
	if err == nil && len(bad) > 0 {
		err = bad[0]
	}
	var of []Cluster
	for _, c := range all {
		if c.Project == name {
			of = append(of, c)
		}
	}
	return of, err
}

// Govern has a mount go by a project: its credentials, and who has which role.
func (h Host) Govern(cfg *daemon.Config, p project.Project) {
	cfg.Openers = h.Openers(p.Name)
	if os.Geteuid() == 0 {
		cfg.Roles = h.RolesOf(p.Name)
	}
	cfg.CertificateExpiry = p.CertificateExpiry(h.Env)
	if cfg.CredentialExpires.IsZero() {
		cfg.CredentialExpires = p.Config.Credential.ExpiresAt()
	}
}

// RolesOf tells everybody's role in a project as it is configured at the time.
// Nobody has one in a project that cannot be read.
func (h Host) RolesOf(name string) func(control.Peer) project.Role {
	return func(p control.Peer) project.Role {
		now, err := h.Projects().Load(name)
		if err != nil {
			return project.Nobody
		}
		return now.Config.Roles.Of(p.UID, p.Groups)
	}
}
