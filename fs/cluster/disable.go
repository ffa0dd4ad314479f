package cluster

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/snapshot"
)

// Disable makes a cluster's files plain again and puts them where they were.
// Interrupted, it goes on when it is called again. Errors are those of Enable.
func (h Host) Disable(ctx context.Context, name string, observe func(convert.Progress)) (r Result, err error) {
	w, release, err := h.beginDisable(name, observe)
	if err != nil {
		return r, err
	}
	defer release()
	err = h.Recorded("cluster.disable", w.c.Project, name, func() (err error) {
		r, err = w.disable(ctx)
		return err
	})
	return r, err
}

// PlanDisable says what Disable would do, and how long it would take. It
// changes nothing.
func (h Host) PlanDisable(ctx context.Context, name string) (convert.Plan, error) {
	w, release, err := h.beginDisable(name, nil)
	if err != nil {
		return convert.Plan{}, err
	}
	defer release()
	site, _, err := w.site()
	if err != nil {
		return convert.Plan{}, err
	}
	return w.inPlace(site).Plan(ctx, convert.Decrypting)
}

// site is the directory where the volume is, whole or half, and what it holds:
// the backing directory but while what is to become that is still encrypted in
// the data directory.
func (w *work) site() (string, content, error) {
	backing, err := look(daemon.RoleBacking, w.c.Backing)
	if err != nil || w.c.over() || backing == encrypted || backing == converting {
		return w.c.Backing, backing, err
	}
	if mounted, err := daemon.MountedAt(w.c.Data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", 0, err
	} else if mounted {
		return "", 0, &daemon.InUseError{Backing: w.c.Backing, Mountpoint: w.c.Data}
	}
	data, err := look(daemon.RoleData, w.c.Data)
	if err == nil && (data == encrypted || data == converting) {
		return w.c.Data, data, nil
	}
	return w.c.Backing, backing, err
}

func (h Host) beginDisable(name string, observe func(convert.Progress)) (*work, func(), error) {
	if _, err := h.Load(name); err != nil { // before its lock is taken, which would make directories
		return nil, nil, err
	}
	unlock, err := h.clusters().Lock(name, false)
	if err != nil {
		return nil, nil, err
	}
	w := &work{Host: h, o: Enabling{Name: name, Observe: observe}}
	if w.c, err = h.Load(name); err == nil {
		w.project, err = h.Projects().Load(w.c.Project)
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return w, unlock, nil
}

func (w *work) disable(ctx context.Context) (r Result, err error) {
	r.Cluster = w.c
	site, found, err := w.site()
	if err != nil {
		return r, err
	}
	if found == encrypted || found == converting {
		if err := w.unused(site); err != nil {
			return r, err
		}
		if r.Conversion, err = w.decrypt(ctx, site, found); err != nil {
			return r, err
		}
	}
	if r.Left, err = w.giveBack(); err != nil {
		return r, err
	}
	return r, w.forget()
}

// unused refuses a volume that is mounted, or in use by anybody.
func (w *work) unused(site string) error {
	mounted, err := daemon.MountedAt(w.c.Data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if mounted {
		return &daemon.InUseError{Backing: w.c.Backing, Mountpoint: w.c.Data}
	}
	_, err = daemon.Free(site)
	return err
}

func (w *work) decrypt(ctx context.Context, site string, found content) (convert.Report, error) {
	if found == encrypted {
		if err := w.rememberSnapshots(ctx); err != nil {
			return convert.Report{}, err
		}
	}
	was := w.c.State
	w.c.State = StateDisabling
	if err := w.save(w.c); err != nil {
		return convert.Report{}, err
	}
	r, err := w.inPlace(site).Decrypt(ctx)
	if err == nil {
		return r, nil
	}
	if now, lookErr := look(daemon.RoleBacking, site); lookErr == nil && now == encrypted {
		w.c.State = was // nothing has come of it
		err = errors.Join(err, w.save(w.c))
	}
	return r, err
}

// giveBack puts plain files where the data directory is. They stay where they
// are if that is another file system.
func (w *work) giveBack() (left string, err error) {
	if w.c.over() {
		return "", nil
	}
	backing, err := look(daemon.RoleBacking, w.c.Backing)
	if err != nil || backing == missing {
		return "", err
	}
	data, err := look(daemon.RoleData, w.c.Data)
	switch {
	case err != nil:
		return "", err
	case data == plain && backing == empty: // the data never left
		return "", nil
	case data == plain:
		return "", &daemon.PathError{Role: daemon.RoleData, Path: w.c.Data, Problem: daemon.ProblemNotEmpty}
	case data == empty:
		if err := unshut(w.c.Data); err != nil {
			return "", err
		}
	}
	same, err := sameDisk(w.c.Backing, w.c.Data)
	if err != nil {
		return "", err
	}
	root, err := isMountRoot(w.c.Backing)
	if err != nil {
		return "", err
	}
	switch {
	case same && !root:
		return "", rename(w.c.Backing, w.c.Data)
	case backing == empty: // there is nothing to put anywhere
		fi, err := os.Lstat(w.c.Backing)
		if err == nil {
			err = dress(w.c.Data, fi)
		}
		return "", err
	}
	return w.c.Backing, nil
}

// rememberSnapshots notes with the project where snapshots of a volume are,
// which outlive it.
func (w *work) rememberSnapshots(ctx context.Context) error {
	site, _, err := w.site()
	if err != nil {
		return err
	}
	dirs, err := w.SnapshotDirs(ctx, Cluster{w.c.Name, Config{Project: w.c.Project, Backing: site}})
	if err != nil {
		return err
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
	return w.Projects().RememberSnapshots(w.c.Project, dirs)
}

// SnapshotDirs lists the directories in which snapshots of a cluster's volume
// are, as far as the volume knows.
func (h Host) SnapshotDirs(ctx context.Context, c Cluster) ([]string, error) {
	client := daemon.KeyClient{RunDir: h.RunDir, Openers: h.Openers(c.Project)}
	var d daemon.SnapshotDirs
	err := client.Call(ctx, c.Backing, daemon.MethodSnapshotDirs, nil, &d, nil)
	return d.Dirs, err
}

// Snapshots lists the snapshots that need a project's key, of its clusters and
// of those that it had. What cannot be looked at is left out.
func (h Host) Snapshots(ctx context.Context, projectName string) ([]string, error) {
	p, err := h.Projects().Load(projectName)
	if err != nil {
		return nil, err
	}
	key, err := p.Config.BaseKeyID()
	if err != nil {
		return nil, err
	}
	dirs, err := h.Projects().SnapshotDirs(projectName)
	if err != nil {
		return nil, err
	}
	of, err := h.OfProject(projectName)
	if err != nil {
		return nil, err
	}
	for _, c := range of {
		more, err := h.SnapshotDirs(ctx, c)
		if err != nil {
			more = []string{snapshot.DefaultDir(c.Backing)}
		}
		dirs = append(dirs, more...)
	}
	slices.Sort(dirs)
	var need []string
	for _, dir := range slices.Compact(dirs) {
		need = append(need, snapshotsUnder(dir, key)...)
	}
	return need, nil
}

// snapshotsUnder lists a collection's snapshots that a key wraps.
func snapshotsUnder(dir, key string) (need []string) {
	c, err := snapshot.OpenCollection(dir, false)
	if err != nil {
		return nil
	}
	defer c.Close()
	all, _, err := c.List()
	if err != nil {
		return nil
	}
	for _, s := range all {
		status, err := daemon.Inspect(s.Dir)
		if err == nil && slices.ContainsFunc(status.AKIs, func(k daemon.AKIStatus) bool { return k.KeyID == key }) {
			need = append(need, filepath.Clean(s.Dir))
		}
	}
	return need
}

// DisableProject removes a project's configuration and its secret. It returns
// the snapshots that still need the key. Errors are a *ProjectInUseError while
// the project has clusters.
func (h Host) DisableProject(ctx context.Context, name string) (snapshots []string, err error) {
	if _, err := h.Projects().Load(name); err != nil {
		return nil, err
	}
	unlock, err := h.Projects().Lock(name, false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	err = h.Recorded("project.disable", name, "", func() error {
		of, err := h.OfProject(name)
		if err != nil {
			return err
		}
		if snapshots, err = h.Snapshots(ctx, name); err != nil {
			return err
		}
		if len(of) == 0 {
			return h.Projects().Remove(name)
		}
		inUse := &ProjectInUseError{Project: name, Snapshots: snapshots}
		for _, c := range of {
			inUse.Clusters = append(inUse.Clusters, c.Name)
		}
		return inUse
	})
	return snapshots, err
}
