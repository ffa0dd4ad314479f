package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/snapshot"
)

// Snapshot is one as it is listed.
type Snapshot struct {
	Dir string `json:"dir"`
	*snapshot.Manifest
}

// Snapshots is the result of MethodSnapshotList.
type Snapshots struct {
	Snapshots []Snapshot `json:"snapshots"`
	Damaged   []string   `json:"damaged"` // what cannot be read, in sentences
}

// SnapshotParams are the parameters of the methods about one snapshot.
type SnapshotParams struct {
	Of
	Name string `json:"name"`
}

// NoSnapshotError says that a volume has no snapshot of a name.
type NoSnapshotError struct{ Volume, Name string }

func (e *NoSnapshotError) Error() string {
	return fmt.Sprintf("volume %s has no snapshot %q", e.Volume, e.Name)
}

// NoVolumeError says that a cluster's volume cannot be told, so that nobody
// knows which snapshots are its.
type NoVolumeError struct{ Cluster, Why string }

func (e *NoVolumeError) Error() string {
	return fmt.Sprintf("the volume of cluster %s cannot be read: %s", e.Cluster, e.Why)
}

// collections calls do with each directory that may hold snapshots of the
// call's volume, and with the volume's ID, until it says that it is done.
func (c *call) collections(ctx context.Context, do func(in *snapshot.Collection, id uuid.UUID) (done bool, err error)) error {
	id := c.volumeID(ctx, c.cluster)
	if id == uuid.Nil {
		return &NoVolumeError{c.cluster.Name, "whose snapshots these are only root can tell"}
	}
	dirs, err := c.host.SnapshotDirs(ctx, c.cluster)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		in, err := snapshot.OpenCollection(dir, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		done, err := do(in, id)
		in.Close()
		if done || err != nil {
			return err
		}
	}
	return nil
}

// all lists the snapshots of the call's volume, and of no other that has its
// in the same directories.
func (c *call) all(ctx context.Context) (r Snapshots, err error) {
	r = Snapshots{Snapshots: []Snapshot{}, Damaged: []string{}}
	err = c.collections(ctx, func(in *snapshot.Collection, id uuid.UUID) (bool, error) {
		found, damaged, err := in.List()
		for _, s := range found {
			if s.Manifest.Volume == id {
				r.Snapshots = append(r.Snapshots, Snapshot{s.Dir, s.Manifest})
			}
		}
		// Whose a damaged one is nobody knows. Beside the volume it is its.
		if in.Dir == snapshot.DefaultDir(c.cluster.Backing) {
			for _, d := range damaged {
				r.Damaged = append(r.Damaged, d.Error())
			}
		}
		return false, err
	})
	return r, err
}

// with finds a snapshot of the call's volume by its name.
func (c *call) with(ctx context.Context, name string, do func(in *snapshot.Collection, s *snapshot.Snapshot) error) error {
	if err := snapshot.CheckName(name); err != nil {
		return err
	}
	found := false
	err := c.collections(ctx, func(in *snapshot.Collection, id uuid.UUID) (bool, error) {
		s, err := in.Get(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && s.Manifest.Volume != id {
			return false, nil
		}
		if err != nil {
			return true, fmt.Errorf("%s: %w", filepath.Join(in.Dir, name), err)
		}
		found = true
		return true, do(in, s)
	})
	if err == nil && !found {
		err = &NoSnapshotError{c.about.Volume, name}
	}
	return err
}

// recorded does something with a snapshot, on record.
func (c *call) recorded(s *snapshot.Manifest, do func() error) error {
	r := audit.Record{Action: c.Method, Project: c.about.Project, Cluster: c.about.Cluster, Volume: s.Volume.String(), Snapshot: s.Name}
	return c.host.Record(r, do)
}

func listSnapshots(ctx context.Context, c *call, _ Of) (any, error) { return c.all(ctx) }

// ShownSnapshot is the result of MethodSnapshotShow.
type ShownSnapshot struct {
	Snapshot
	Keys daemon.KeyListing `json:"keys"`
}

func showSnapshot(ctx context.Context, c *call, p SnapshotParams) (any, error) {
	var r ShownSnapshot
	err := c.with(ctx, p.Name, func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
		r.Snapshot = Snapshot{s.Dir, s.Manifest}
		client := daemon.KeyClient{RunDir: c.host.RunDir}
		return client.Call(ctx, s.Dir, daemon.MethodKeyList, nil, &r.Keys, nil)
	})
	return r, err
}

// VerifyParams are the parameters of MethodSnapshotVerify.
type VerifyParams struct {
	SnapshotParams
	NoKey   bool   `json:"no_key,omitempty"`
	Resume  bool   `json:"resume,omitempty"`
	Timeout string `json:"timeout"`
}

func verifySnapshot(ctx context.Context, c *call, p VerifyParams) (any, error) {
	timeout, err := wait(p.Timeout)
	if err != nil {
		return nil, err
	}
	var r *snapshot.Report
	tell := c.teller()
	err = c.with(ctx, p.Name, func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
		return c.recorded(s.Manifest, func() (err error) {
			r, err = Verify(ctx, s, Verification{
				Access: Access{RunDir: c.host.RunDir, StateDir: c.host.StateDir, Openers: c.host.Openers(c.cluster.Project), KeyTimeout: timeout, By: c.host.By},
				NoKey:  p.NoKey, Resume: p.Resume, Progress: func(now snapshot.Progress) { tell(now) },
			})
			return err
		})
	})
	return r, err
}

func deleteSnapshot(ctx context.Context, c *call, p SnapshotParams) (any, error) {
	return struct{}{}, c.with(ctx, p.Name, func(in *snapshot.Collection, s *snapshot.Snapshot) error {
		return c.recorded(s.Manifest, func() error { return in.Delete(s.Manifest.Name) })
	})
}

// PruneParams are the parameters of MethodSnapshotPrune.
type PruneParams struct {
	Of
	Keep      int    `json:"keep"`
	OlderThan string `json:"older_than,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"`
}

// Prunable are those of some snapshots that are older than an age, if that is
// more than 0, and not among the newest to keep; the oldest first.
func Prunable(all []Snapshot, keep int, age time.Duration, now time.Time) (old []Snapshot) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(x, y Snapshot) int { return x.Created.Compare(y.Created) })
	for i, s := range all {
		if i < len(all)-keep && (age <= 0 || now.Sub(s.Created) >= age) {
			old = append(old, s)
		}
	}
	return old
}

// pruneSnapshots answers with an event for each snapshot that is gone.
func pruneSnapshots(ctx context.Context, c *call, p PruneParams) (any, error) {
	var age time.Duration
	var err error
	if p.OlderThan != "" {
		age, err = time.ParseDuration(p.OlderThan)
	}
	if err != nil || age < 0 || p.Keep < 0 || p.Keep == 0 && age == 0 {
		return nil, &control.Error{Code: control.CodeBadRequest, Message: "what to keep is to be said: a number, an age or both"}
	}
	all, err := c.all(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range Prunable(all.Snapshots, p.Keep, age, time.Now()) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !p.DryRun {
			if err := c.recorded(s.Manifest, func() error { return DeleteSnapshot(s) }); err != nil {
				return nil, err
			}
		}
		_ = c.Event(s) // who has hung up has cancelled the call
	}
	return struct{}{}, nil
}

// DeleteSnapshot removes a snapshot that was listed.
func DeleteSnapshot(s Snapshot) error {
	in, err := snapshot.OpenCollection(filepath.Dir(s.Dir), false)
	if err != nil {
		return err
	}
	return errors.Join(in.Delete(s.Name), in.Close())
}

// RestoreParams are the parameters of MethodSnapshotRestore.
type RestoreParams struct {
	SnapshotParams
	Dir string `json:"dir"` // absolute
}

// restoreSnapshot restores to an empty directory of the caller's own, which
// becomes root's: it is a volume's backing directory then.
func restoreSnapshot(ctx context.Context, c *call, p RestoreParams) (any, error) {
	var m *snapshot.Manifest
	tell := c.teller()
	err := c.with(ctx, p.Name, func(_ *snapshot.Collection, s *snapshot.Snapshot) error {
		m = s.Manifest
		if err := c.mayRestore(p.Dir, m); err != nil {
			return err
		}
		return c.recorded(m, func() error {
			if err := take(p.Dir); err != nil {
				return err
			}
			if err := snapshot.Restore(ctx, s, p.Dir, func(now snapshot.Progress) { tell(now) }); err != nil {
				return err
			}
			// What another volume in this place was says nothing about this one.
			return daemon.ForgetSeen(c.host.StateDir, m.Volume, p.Dir)
		})
	})
	if err != nil {
		return nil, err
	}
	return Snapshot{p.Dir, m}, nil
}

// mayRestore refuses a directory that is neither the caller's own nor one in
// which a restoration of this snapshot is to go on, and any of a cluster's.
func (c *call) mayRestore(dir string, m *snapshot.Manifest) error {
	// What says so in a directory of somebody else's, that one may have written.
	if goesOn := Stable(dir) == nil && taken(dir) && snapshot.Restoring(dir, m); !goesOn {
		if err := c.ownEmpty(dir); err != nil {
			return err
		}
	}
	all, bad, err := c.host.List()
	if err == nil && len(bad) > 0 {
		err = bad[0]
	}
	for _, other := range all {
		if err == nil && other.Takes(dir) {
			err = &cluster.CollisionError{Path: dir, Cluster: other.Name}
		}
	}
	return err
}
