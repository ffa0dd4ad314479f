package cluster

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/project"
)

// Enabling says what cluster to enable and how.
type Enabling struct {
	Name    string
	Project string
	Data    string // the dbPath
	Backing string // "": Data

	// OnlyEmpty refuses to encrypt what is there; see convert.Config.
	OnlyEmpty   bool
	Names       string // of a new volume; see daemon.CreateConfig
	JournalSize int64
	Observe     func(convert.Progress) // nil hears nothing
}

// Result is what Enable and Disable have done.
type Result struct {
	Cluster    Cluster        `json:"cluster"`
	Conversion convert.Report `json:"conversion"`
	// Left is where plain files were left that could not be put where the
	// cluster's data directory is; "" as a rule.
	Left string `json:"left,omitempty"`
}

// work is an Enable or a Disable under way.
type work struct {
	Host
	o       Enabling
	c       Cluster
	fresh   bool // there was no record
	project project.Project
}

// Enable encrypts a cluster's files, if there are any, and closes its
// directories to everybody until they are mounted. Interrupted, it goes on when
// it is called again. Errors are a *confdir.NoEntryError for a project that is
// not configured, those of this package, a *daemon.PathError and what
// daemon.InPlace says.
func (h Host) Enable(ctx context.Context, o Enabling) (r Result, err error) {
	w, release, err := h.begin(o)
	if err != nil {
		return r, err
	}
	defer release()
	err = h.Recorded("cluster.enable", w.c.Project, w.c.Name, func() (err error) {
		r, err = w.enable(ctx)
		return err
	})
	return r, err
}

// PlanEnable says what Enable would do, and how long it would take. It changes
// nothing.
func (h Host) PlanEnable(ctx context.Context, o Enabling) (convert.Plan, error) {
	w, release, err := h.begin(o)
	if err != nil {
		return convert.Plan{}, err
	}
	defer release()
	dir, err := w.source()
	if err != nil {
		return convert.Plan{}, err
	}
	if found, err := look(daemon.RoleBacking, dir); err != nil {
		return convert.Plan{}, err
	} else if found == missing { // there is nothing to encrypt, neither here nor there
		dir = w.c.Data
	}
	return w.inPlace(dir).Plan(ctx, convert.Encrypting)
}

// begin takes the locks and finds out what is asked for.
func (h Host) begin(o Enabling) (w *work, release func(), err error) {
	if err := h.clusters().CheckName(o.Name); err != nil {
		return nil, nil, err
	}
	// Before its lock is taken, which would make directories.
	if _, err := h.Projects().Load(o.Project); err != nil {
		return nil, nil, err
	}
	unlockProject, err := h.Projects().Lock(o.Project, true)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := h.clusters().Lock(o.Name, false)
	if err != nil {
		unlockProject()
		return nil, nil, err
	}
	release = func() { unlock(); unlockProject() }
	w = &work{Host: h, o: o}
	if w.project, err = h.Projects().Load(o.Project); err == nil {
		err = w.find()
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return w, release, nil
}

// find is the record that there is, or the one that is to be.
func (w *work) find() error {
	data, err := place(daemon.RoleData, w.o.Data)
	if err != nil {
		return err
	}
	asked := Config{Version: Version, Project: w.o.Project, Data: data, Backing: data, State: StateEnabling}
	if w.o.Backing != "" {
		if asked.Backing, err = place(daemon.RoleBacking, w.o.Backing); err != nil {
			return err
		}
	}
	if err := checkApart(asked); err != nil {
		return err
	}
	w.c, err = w.Load(w.o.Name)
	if _, absent := errors.AsType[*confdir.NoEntryError](err); absent {
		w.c, w.fresh = Cluster{w.o.Name, asked}, true
		return w.checkOthers()
	}
	if err != nil {
		return err
	}
	for _, f := range []struct{ what, is, asked string }{
		{"project", w.c.Project, asked.Project}, {"data directory", w.c.Data, asked.Data}, {"backing directory", w.c.Backing, asked.Backing},
	} {
		if f.is != f.asked {
			return &OtherError{w.c.Name, f.what, f.is, f.asked}
		}
	}
	if w.c.State == StateEnabled {
		return &EnabledError{w.c.Name}
	}
	return nil
}

// place is a path without symbolic links, which the directory itself must not
// be either. It may be missing.
func place(role daemon.Role, path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := realPath(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &daemon.PathError{Role: role, Path: path, Problem: daemon.ProblemMissing}
	}
	return real, err
}

func checkApart(c Config) error {
	switch {
	case inside(c.Data, c.Backing):
		return &daemon.PathError{Role: daemon.RoleData, Path: c.Data, Problem: daemon.ProblemInsideBacking}
	case inside(c.Backing, c.Data):
		return &daemon.PathError{Role: daemon.RoleBacking, Path: c.Backing, Problem: daemon.ProblemInsideMount}
	}
	return c.validate()
}

func (w *work) checkOthers() error {
	all, bad, err := w.List()
	if err == nil && len(bad) > 0 {
		err = bad[0]
	}
	for _, other := range all {
		if err == nil && other.Name != w.c.Name && other.collides(w.c.Config) {
			err = &CollisionError{w.c.Data, other.Name}
		}
	}
	return err
}

func (w *work) inPlace(dir string) daemon.InPlace {
	return daemon.InPlace{
		CreateConfig: daemon.CreateConfig{
			Backing: dir, KeyID: w.project.Config.KeyID, KeyOperation: w.project.Config.Operation(), Cluster: w.c.Name,
			Names: w.o.Names, JournalSize: w.o.JournalSize, KeyTimeout: w.timeout(), Openers: w.Openers(w.c.Project),
			Now: w.Now, StateDir: w.StateDir, By: w.By,
		},
		OnlyEmpty: w.o.OnlyEmpty, Observe: w.o.Observe, Logger: w.Logger,
	}
}

// source is the directory whose files are to be encrypted: the data directory
// or, where that is empty, the backing directory.
func (w *work) source() (string, error) {
	data, err := look(daemon.RoleData, w.c.Data)
	if err != nil {
		return "", err
	}
	if w.c.over() {
		if data == missing {
			return "", &daemon.PathError{Role: daemon.RoleData, Path: w.c.Data, Problem: daemon.ProblemMissing}
		}
		return w.c.Data, nil
	}
	backing, err := look(daemon.RoleBacking, w.c.Backing)
	switch {
	case err != nil:
		return "", err
	case data == missing && backing != encrypted:
		return "", &daemon.PathError{Role: daemon.RoleData, Path: w.c.Data, Problem: daemon.ProblemMissing}
	case data == missing || data == empty:
		if backing == plain {
			return "", &daemon.PathError{Role: daemon.RoleBacking, Path: w.c.Backing, Problem: daemon.ProblemNotEmpty}
		}
		return w.c.Backing, nil
	case backing != missing && backing != empty:
		return "", &daemon.PathError{Role: daemon.RoleBacking, Path: w.c.Backing, Problem: daemon.ProblemNotEmpty}
	}
	return w.c.Data, canRename(w.c.Data, w.c.Backing)
}

// enable goes from wherever the directories stand to the enabled cluster.
func (w *work) enable(ctx context.Context) (r Result, err error) {
	source, err := w.source()
	if err != nil {
		return r, err
	}
	before, err := look(daemon.RoleBacking, source)
	if err != nil {
		return r, err
	}
	w.c.State = StateEnabling
	if err := w.save(w.c); err != nil {
		return r, err
	}
	// Another enable may have looked when our record was not there yet.
	if err := w.checkOthers(); err != nil {
		return r, errors.Join(err, w.forget())
	}
	r.Cluster = w.c
	if r.Conversion, err = w.encrypt(ctx, source); err != nil {
		return r, errors.Join(err, w.forgetUnchanged(source, before))
	}
	if err := w.arrange(source); err != nil {
		return r, err
	}
	w.c.State = StateEnabled
	r.Cluster = w.c
	return r, w.save(w.c)
}

// forget removes the record.
func (w *work) forget() error { return w.clusters().Remove(w.c.Name, recordFile) }

// forgetUnchanged removes a record that was made for what came to nothing.
func (w *work) forgetUnchanged(source string, before content) error {
	if before == missing {
		_ = os.Remove(source) // made for this; if it is empty
	}
	now, err := look(daemon.RoleBacking, source)
	if err != nil || now != before || !w.fresh {
		return nil // what went wrong before is to be told
	}
	return w.forget()
}

// encrypt makes a volume of the directory. One that is there already must be
// under the project's key.
func (w *work) encrypt(ctx context.Context, dir string) (convert.Report, error) {
	c, err := look(daemon.RoleBacking, dir)
	switch {
	case err != nil:
		return convert.Report{}, err
	case c == encrypted && w.fresh && w.o.OnlyEmpty:
		return convert.Report{}, &convert.ProblemsError{Problems: []convert.Problem{{Path: dir, What: "is a volume, where an empty directory was to be"}}}
	case c == encrypted:
		return convert.Report{Direction: convert.Encrypting}, w.adopt(dir)
	case dir != w.c.Data:
		// A database may be running on the empty directory.
		if _, err := daemon.Free(w.c.Data); err != nil {
			return convert.Report{}, err
		}
		if c != converting {
			if err := w.prepare(dir); err != nil {
				return convert.Report{}, err
			}
		}
	}
	return w.inPlace(dir).Encrypt(ctx)
}

// prepare makes an empty backing directory that has the data directory's
// attributes, which the tree's root then gets.
func (w *work) prepare(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Lstat(w.c.Data)
	if err != nil || fi.Mode().Perm() == 0 { // shut by an earlier attempt
		return err
	}
	return dress(dir, fi)
}

// adopt takes a volume that was there before, or that an interrupted call has
// finished.
func (w *work) adopt(dir string) error {
	if _, err := daemon.Free(dir); err != nil {
		return err
	}
	s, err := daemon.Inspect(dir)
	if err != nil {
		return err
	}
	key, err := w.project.Config.BaseKeyID()
	if err != nil {
		return err
	}
	var has []string
	for _, k := range s.AKIs {
		if k.KeyID == key {
			return nil
		}
		has = append(has, k.KeyID)
	}
	return &ForeignKeyError{dir, w.c.Project, key, has}
}

// arrange puts the volume where it belongs and shuts what is to be shut.
func (w *work) arrange(source string) error {
	if !w.c.over() && source == w.c.Data {
		if err := rename(w.c.Data, w.c.Backing); err != nil {
			return err
		}
	}
	if err := guard(w.c.Backing); err != nil {
		return err
	}
	if w.c.over() {
		return nil
	}
	if err := os.Mkdir(w.c.Data, 0); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(shut(w.c.Data), syncDir(filepath.Dir(w.c.Data)))
}

// Shut closes an enabled cluster's directories again, if something or somebody
// has opened them while nothing is mounted, such as a package's installation.
func (h Host) Shut(c Cluster) error {
	if mounted, err := daemon.MountedAt(c.Data); err != nil || mounted {
		return err
	}
	if mounted, err := daemon.MountedAt(c.Backing); err != nil || mounted {
		return err
	}
	if err := guard(c.Backing); err != nil || c.over() {
		return err
	}
	if found, err := look(daemon.RoleData, c.Data); err != nil || found != empty {
		return err // whoever mounts is told
	}
	return shut(c.Data)
}
