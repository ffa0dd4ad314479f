package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// Methods about snapshots.
const (
	MethodSnapshotCreate = "snapshot.create"
	MethodSnapshotDirs   = "snapshot.directories"
)

// Codes of their errors.
const (
	CodeSnapshotExists = "snapshot-exists"
	CodeSnapshotBusy   = "snapshot-busy"
	CodeSnapshotInside = "snapshot-inside" // the volume
)

// SnapshotParams are the parameters of MethodSnapshotCreate.
type SnapshotParams struct {
	Name string `json:"name"`
	// Dir is the collection, absolute; "": the volume's default.
	Dir string `json:"dir"`
	// MaxHold is for how long writers may wait, such as "500ms"; "": the default.
	MaxHold string `json:"max_hold"`
}

// SnapshotCreated is the result of MethodSnapshotCreate.
type SnapshotCreated struct {
	Dir string `json:"dir"` // of the snapshot
	snapshot.Manifest
}

// SnapshotDirs is the result of MethodSnapshotDirs: where snapshots of the
// volume are.
type SnapshotDirs struct {
	Dirs []string `json:"dirs"`
}

// photographer makes a volume's snapshots, one at a time.
type photographer struct {
	turn    sync.Mutex
	backing string
	now     func() time.Time
}

// create answers MethodSnapshotCreate.
func (p *photographer) create(ctx context.Context, r request, src snapshot.Source) (*SnapshotCreated, error) {
	var params SnapshotParams
	if err := r.Params(&params); err != nil {
		return nil, err
	}
	opts := snapshot.Options{Name: params.Name, Now: p.now}
	if params.MaxHold != "" {
		var err error
		if opts.MaxHold, err = time.ParseDuration(params.MaxHold); err != nil || opts.MaxHold <= 0 {
			return nil, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("%q is no time to wait", params.MaxHold)}
		}
	}
	dir := params.Dir
	if dir == "" {
		dir = snapshot.DefaultDir(p.backing)
	}
	if err := p.separate(dir); err != nil {
		return nil, err
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	c, err := snapshot.OpenCollection(dir, true)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var last time.Time
	opts.Progress = func(now snapshot.Progress) {
		if time.Since(last) >= 100*time.Millisecond {
			last = time.Now()
			_ = r.Event(now) // who has hung up need not know
		}
	}
	if err := snapshot.Remember(volume.Metadata(src.Store.FS), p.backing, dir); err != nil {
		return nil, err
	}
	m, err := snapshot.Create(ctx, src, c, opts)
	if err != nil {
		return nil, err
	}
	return &SnapshotCreated{filepath.Join(dir, m.Name), *m}, nil
}

// separate refuses a collection within the volume.
func (p *photographer) separate(dir string) error {
	if !filepath.IsAbs(dir) {
		return &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("%s is not absolute", dir)}
	}
	if dir == p.backing || inside(dir, p.backing) {
		return &OverlapError{dir, p.backing}
	}
	return nil
}

// OverlapError says that snapshots of a volume were to lie within it.
type OverlapError struct{ Dir, Backing string }

func (e *OverlapError) Error() string {
	return fmt.Sprintf("%s lies in the volume %s: its snapshots cannot", e.Dir, e.Backing)
}

// snapshotMethod answers when the snapshot is durable. What the kernel has of
// the mount in its cache is drawn in before.
func (d *Daemon) snapshotMethod(ctx context.Context, c *control.Call) (any, error) {
	if d.cfg.ReadOnly {
		return nil, &ReadOnlyError{d.cfg.Backing}
	}
	master, err := d.masterKeys()
	if err != nil {
		return nil, err
	}
	if err := d.server.WriteBack(kernelTime); err != nil {
		return nil, err
	}
	created, err := d.photos.create(ctx, c, snapshot.Source{Store: d.tracker, Volume: d.volume, Keys: master})
	if errors.Is(err, volume.ErrLocked) {
		if _, locked := d.masterKeys(); locked != nil {
			err = locked
		}
	}
	if err != nil {
		return nil, err
	}
	d.log.Info("snapshot made", "name", created.Name, "dir", created.Dir, "held_us", created.Held, "took_us", created.Took, "bytes", created.Bytes)
	return created, nil
}

// SnapshotError says that a snapshot was to be mounted for writing, which
// would make it another.
type SnapshotError struct{ Dir string }

func (e *SnapshotError) Error() string { return fmt.Sprintf("%s is a snapshot", e.Dir) }

func (d *Daemon) refuseSnapshot() error {
	if d.cfg.ReadOnly {
		return nil
	}
	_, err := snapshot.ReadManifest(d.store)
	var newer *snapshot.NewerError
	switch {
	case err == nil, errors.Is(err, snapshot.ErrDamaged), errors.As(err, &newer):
		return &SnapshotError{d.cfg.Backing}
	case errors.Is(err, snapshot.ErrNotSnapshot):
		return nil
	}
	return d.volumeError(err) // it may be one
}

func (d *Daemon) snapshotDirs(_ context.Context, c *control.Call) (any, error) {
	if err := c.Params(nil); err != nil {
		return nil, err
	}
	dirs, err := snapshot.Known(volume.Metadata(d.store), d.cfg.Backing)
	return SnapshotDirs{dirs}, err
}

// withSource has the volume open for a snapshot of it.
func (d *detached) withSource(ctx context.Context, r request) (_ any, err error) {
	seen := recall(d.cfg, d.info.ID)
	keys, err := openKeys(ctx, d.cfg, d.info.ID, volume.Metadata(d.st), seen)
	if err != nil {
		return nil, err
	}
	defer keys.destroy()
	tracker := store.NewTracker(d.st)
	v, err := volume.Open(tracker, keys.current(), volume.Options{Logger: d.cfg.Logger, Admit: seen.journal})
	if err != nil {
		return nil, d.claimed(err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	p := &photographer{backing: d.cfg.Backing, now: d.cfg.Now}
	return p.create(ctx, r, snapshot.Source{Store: tracker, Volume: v, Keys: keys.current()})
}
