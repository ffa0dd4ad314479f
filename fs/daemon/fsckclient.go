package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/fsck"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// FsckRequest says how Fsck is to check a volume.
type FsckRequest struct {
	FsckParams
	NoKey  bool
	Repair bool
	// AcceptLoss and Cluster are those of fsck.Options.
	AcceptLoss bool
	Cluster    *string
	Salvage    *fsck.Salvage
	Progress   func(volume.ScrubProgress) // nil: never
}

// alone reports whether it takes a volume that is not mounted.
func (r *FsckRequest) alone() bool { return r.NoKey || r.Repair || r.Salvage != nil }

// Fsck checks the volume with an ID, a backing directory or a mount point: by
// its daemon if it is mounted, and otherwise in this process, which is put on
// record. The report is nil only where nothing was checked. Errors are those of
// fsck.Run and of Call, and an *InUseError where what is asked for takes a
// volume that is not mounted.
func (c *KeyClient) Fsck(ctx context.Context, name string, r FsckRequest) (*fsck.Report, error) {
	dir, entry, path, err := find(c.RunDir, name)
	if err != nil {
		return nil, err
	}
	if entry.Live {
		if r.alone() {
			return nil, &InUseError{Backing: entry.Backing, PID: entry.PID}
		}
		report := &fsck.Report{}
		err := dir.Client(entry.Name).Call(ctx, MethodFsck, r.FsckParams, report, func(raw json.RawMessage) {
			var now volume.ScrubProgress
			if json.Unmarshal(raw, &now) == nil && r.Progress != nil {
				r.Progress(now)
			}
		})
		if err != nil {
			return nil, err
		}
		return report, nil
	}
	if entry.Name != "" { // its daemon was killed
		path = entry.Backing
		if _, err := clearDead(ctx, entry.Mountpoint); err != nil {
			return nil, err
		}
	}
	if mine, err := ours(path); err != nil || mine {
		return nil, errors.Join(err, &MountpointTakenError{path})
	}
	return c.fsckUnmounted(ctx, path, r)
}

func (c *KeyClient) fsckUnmounted(ctx context.Context, backing string, r FsckRequest) (report *fsck.Report, err error) {
	path, err := directory(RoleVolume, backing)
	if err != nil {
		return nil, err
	}
	st, err := store.OpenDisk(path)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	cfg := c.config(path)
	opts := fsck.Options{Repair: r.Repair, Salvage: r.Salvage, From: r.From, Jobs: r.Jobs, Rate: r.Rate, Progress: r.Progress, Logger: c.Logger}
	if r.NoKey { // nobody's key is used, and nothing is changed
		report, err = fsck.Run(ctx, st, opts)
		return report, fsckError(path, err)
	}
	opts.AcceptLoss, opts.Cluster, opts.Copies = r.AcceptLoss, r.Cluster, descriptions(path, st)
	opts.Keys = func(ctx context.Context, meta keymgr.Storage, id uuid.UUID) (*keymgr.MasterKeys, error) {
		keys, err := openKeys(ctx, cfg, id, meta, &seen{log: cfg.Logger})
		if err != nil {
			return nil, err
		}
		return keys.master, nil
	}
	info, err := fsck.Identify(st) // without an ID, if that is damaged
	if err != nil {
		return nil, fsckError(path, err)
	}
	accounts, err := unmounted(cfg, info.ID)
	if err != nil {
		return nil, err
	}
	defer accounts.closeAccounts()
	_, err = accounts.recorded(MethodFsck, caller(), func() (any, error) {
		report, err = fsck.Run(ctx, st, opts)
		return nil, fsckError(path, err)
	})
	return report, err
}

// descriptions are the copies of volume.json that the volume's snapshots have.
// Any may be wrong: fsck proves them. What cannot be read is none.
func descriptions(backing string, st store.FS) (copies [][]byte) {
	dirs, err := snapshot.Known(volume.Metadata(st), backing)
	if err != nil {
		dirs = []string{snapshot.DefaultDir(backing)}
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries[:min(len(entries), mostCopies)] {
			name := filepath.Join(dir, e.Name(), volume.MetaDir, volume.InfoFile)
			if fi, err := os.Lstat(name); err != nil || !fi.Mode().IsRegular() || fi.Size() > 1<<16 {
				continue
			}
			if data, err := os.ReadFile(name); err == nil {
				copies = append(copies, data)
			}
		}
	}
	return copies
}

// mostCopies bounds how many snapshots of a directory are asked.
const mostCopies = 100

// fsckError says which volume an error is about, where that helps.
func fsckError(backing string, err error) error {
	switch {
	case errors.Is(err, volume.ErrInUse):
		pid, _ := flockHolder(lockFile(backing))
		return &InUseError{Backing: backing, PID: pid}
	case errors.Is(err, volume.ErrNotVolume):
		return &VolumeError{backing, err}
	}
	return err
}
