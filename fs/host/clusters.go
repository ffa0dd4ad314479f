package host

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr/confdir"
)

// Clusters is the result of MethodClusterList.
type Clusters struct {
	Clusters []cluster.Info `json:"clusters"`
}

func listClusters(ctx context.Context, c *call, _ Of) (any, error) {
	// Of which project a record is that cannot be read nobody knows: it is for
	// root to see.
	all, _, err := c.host.List()
	r := Clusters{Clusters: []cluster.Info{}}
	for _, one := range all {
		if c.visible(one.Project) {
			r.Clusters = append(r.Clusters, c.host.Describe(ctx, one))
		}
	}
	return r, err
}

func showCluster(ctx context.Context, c *call, _ Of) (any, error) {
	return c.host.Describe(ctx, c.cluster), nil
}

// ofVolume is the cluster whose volume a call names. A path is compared with
// those on record as it stands: nothing is looked up for the caller.
func (c *call) ofVolume(ctx context.Context) (cluster.Cluster, error) {
	name := c.about.Volume
	id, notID := uuid.Parse(name)
	all, _, err := c.host.List()
	for _, one := range all {
		if name == one.Data || name == one.Backing {
			return one, nil
		}
		if notID == nil && c.volumeID(ctx, one) == id {
			return one, nil
		}
	}
	if err == nil {
		err = &confdir.NoEntryError{Noun: "cluster", Name: "with the " + c.about.String()}
	}
	return cluster.Cluster{}, err
}

// volumeID is that of a cluster's volume, uuid.Nil if it has none.
func (c *call) volumeID(ctx context.Context, of cluster.Cluster) uuid.UUID {
	if v := c.host.Describe(ctx, of).Volume; v != nil {
		if id, err := uuid.Parse(v.VolumeID); err == nil {
			return id
		}
	}
	return uuid.Nil
}

// EnableParams are the parameters of MethodClusterEnable.
type EnableParams struct {
	Of
	Data        string `json:"data"`              // absolute
	Backing     string `json:"backing,omitempty"` // absolute; "": Data
	Names       string `json:"names"`
	JournalSize int64  `json:"journal_size"`
	Timeout     string `json:"timeout"`
	Plan        bool   `json:"plan,omitempty"` // only say what would be done
}

// DisableParams are the parameters of MethodClusterDisable.
type DisableParams struct {
	Of
	Timeout string `json:"timeout"`
	Plan    bool   `json:"plan,omitempty"`
}

// Work is the result of MethodClusterEnable and MethodClusterDisable.
type Work struct {
	Plan   *convert.Plan   `json:"plan,omitempty"`
	Result *cluster.Result `json:"result,omitempty"`
}

// enableCluster makes a caller's own empty directory a cluster, or goes on with
// what was begun.
func enableCluster(ctx context.Context, c *call, p EnableParams) (any, error) {
	timeout, err := wait(p.Timeout)
	if err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if err := c.mayEnable(p); err != nil {
		return nil, err
	}
	c.host.KeyTimeout = timeout
	o := cluster.Enabling{Name: c.about.Cluster, Project: c.about.Project, Data: p.Data, Backing: p.Backing, Names: p.Names, JournalSize: p.JournalSize, Observe: c.observe()}
	// It was looked at with the caller's rights: he may put things into it until root has taken it.
	o.OnlyEmpty = c.Peer.UID != 0
	if p.Plan {
		plan, err := c.host.PlanEnable(ctx, o)
		return Work{Plan: &plan}, err
	}
	r, err := c.host.Enable(ctx, o)
	return Work{Result: &r}, err
}

// check refuses what no directory needs to be looked at for.
func (p EnableParams) check() error {
	why := ""
	switch {
	case slices.ContainsFunc(p.dirs(), func(s string) bool { return !filepath.IsAbs(s) }):
		why = "directories are to be absolute"
	case p.Names != volume.NamesEncrypted && p.Names != volume.NamesPlain:
		why = fmt.Sprintf("names are %s or %s", volume.NamesEncrypted, volume.NamesPlain)
	case p.JournalSize < journal.MinSize:
		why = fmt.Sprintf("the smallest journal has %d bytes", journal.MinSize)
	default:
		return nil
	}
	return &control.Error{Code: control.CodeBadRequest, Message: why}
}

// dirs are those that are named.
func (p EnableParams) dirs() []string {
	if p.Backing == "" {
		return []string{p.Data}
	}
	return []string{p.Data, p.Backing}
}

// maxJournal is the largest journal of a cluster that not root enables, in
// bytes. It is written as root, who has no quota.
const maxJournal = 1 << 30

// mayEnable refuses what is neither the caller's own nor on record.
func (c *call) mayEnable(p EnableParams) error {
	switch {
	case p.JournalSize > maxJournal:
		return c.deny("a journal of more than 1 GiB is root's to make")
	case c.cluster.Name == "":
		return c.ownEmpty(p.dirs()...)
	case p.Data != c.cluster.Data:
		return &cluster.OtherError{Name: c.cluster.Name, What: "data directory", Is: c.cluster.Data, Asked: p.Data}
	case p.Backing != "" && p.Backing != c.cluster.Backing:
		return &cluster.OtherError{Name: c.cluster.Name, What: "backing directory", Is: c.cluster.Backing, Asked: p.Backing}
	}
	return c.stable()
}

func disableCluster(ctx context.Context, c *call, p DisableParams) (any, error) {
	timeout, err := wait(p.Timeout)
	if err != nil {
		return nil, err
	}
	if err := c.stable(); err != nil {
		return nil, err
	}
	c.host.KeyTimeout = timeout
	if p.Plan {
		plan, err := c.host.PlanDisable(ctx, c.about.Cluster)
		return Work{Plan: &plan}, err
	}
	r, err := c.host.Disable(ctx, c.about.Cluster, c.observe())
	return Work{Result: &r}, err
}

// mountCluster refuses: a mount is a process of its own, which systemd or root
// starts and tends.
func mountCluster(_ context.Context, c *call, _ Of) (any, error) {
	return nil, c.deny("a cluster is mounted by root, or by systemd: systemctl start akvfs@%s", c.about.Cluster)
}

// observe passes progress on to the caller.
func (c *call) observe() func(convert.Progress) {
	tell := c.teller()
	return func(p convert.Progress) { tell(p) }
}

// teller sends events, but not more than the caller can see.
func (c *call) teller() func(event any) {
	var last time.Time
	return func(event any) {
		if time.Since(last) >= eventPause {
			last = time.Now()
			_ = c.Event(event) // who has hung up has cancelled the call
		}
	}
}

const eventPause = 100 * time.Millisecond

// stable refuses a cluster with directories on whose way somebody else than
// root could put others in their place.
func (c *call) stable() error {
	for _, dir := range []string{c.cluster.Data, c.cluster.Backing} {
		if err := Stable(dir); err != nil {
			return c.deny("%v: such a cluster is root's to change", err)
		}
	}
	return nil
}

func (c *call) ownEmpty(dirs ...string) error {
	for _, dir := range dirs {
		if err := ownEmpty(c.Peer, dir); err != nil {
			return c.deny("%v: what is not an empty directory of the user's own is root's to name", err)
		}
	}
	return nil
}
