package snapshot

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// restoringName says, in a directory that a snapshot is being restored to,
// which one. Until it is gone there is no volume.json.
const restoringName = "restoring.json"

type restoring struct {
	MAC []byte `json:"mac"` // of the manifest
}

// NotEmptyError says that a directory to restore to holds something else.
type NotEmptyError struct{ Dir string }

func (e *NotEmptyError) Error() string { return fmt.Sprintf("%s is not empty", e.Dir) }

// Restore makes a volume of a snapshot, in a directory that is missing or
// empty, or in which an earlier Restore of it was interrupted: that one is
// continued. Blocks are shared where the file system can. No keys are needed.
// The directory is a volume when Restore has returned nil, and durable; before,
// opening it answers volume.ErrRestoring.
//
// Errors are a *NotEmptyError, *DamageError, ctx's or the stores'.
func Restore(ctx context.Context, from *Snapshot, dir string, progress func(Progress)) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	dst, err := openDisk(dir)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := restore(ctx, from, dst, dir, progress); err != nil {
		return err
	}
	parent, err := store.OpenDisk(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return err
	}
	return errors.Join(parent.SyncDir("."), parent.Close())
}

func restore(ctx context.Context, from *Snapshot, dst disk, dir string, progress func(Progress)) error {
	src, err := from.open()
	if err != nil {
		return err
	}
	defer src.Close()
	r := &restorer{src: src, dst: dst, manifest: from.Manifest, report: progress, noted: Progress{Phase: "restore", Total: from.Manifest.Bytes}}
	r.place = func(ctx context.Context, l *listed) error { return copyFile(ctx, dst, src, l.name, l.attr.Size) }
	r.settle = dst.SyncAll
	whole, err := r.begin(dir)
	if err != nil {
		return err
	}
	if !whole {
		if err := r.tree(ctx); err != nil {
			return err
		}
		if err := r.metadata(ctx); err != nil {
			return err
		}
	}
	if err := dst.Unlink(path.Join(volume.MetaDir, restoringName)); err != nil {
		return err
	}
	return dst.SyncDir(volume.MetaDir)
}

// Restoring reports whether a directory is one in which a Restore of a snapshot
// was begun and has not ended.
func Restoring(dir string, m *Manifest) bool {
	st, err := openDisk(dir)
	if err != nil {
		return false
	}
	defer st.Close()
	data, err := volume.Metadata(st).ReadFile(restoringName)
	var begun restoring
	return err == nil && json.Unmarshal(data, &begun) == nil && hmac.Equal(begun.MAC, m.MAC)
}

// restorer restores one snapshot.
type restorer struct {
	src, dst disk
	manifest *Manifest
	// place makes a file with its content, under its name.
	place func(ctx context.Context, l *listed) error
	// settle makes what was placed durable, before it gets the time by which
	// one who continues knows it; nil: nobody will.
	settle func() error
	report func(Progress)
	noted  Progress
}

// begin claims the directory, durably: whatever is found in it later is ours.
// whole says that an earlier one came to its end.
func (r *restorer) begin(dir string) (whole bool, err error) {
	meta := volume.Metadata(r.dst)
	if data, err := meta.ReadFile(restoringName); err == nil {
		var old restoring
		if json.Unmarshal(data, &old) != nil || string(old.MAC) != string(r.manifest.MAC) {
			return false, &NotEmptyError{dir}
		}
		_, err := r.dst.Stat(path.Join(volume.MetaDir, volume.InfoFile))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	entries, err := r.dst.ReadDir(".")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name == "lost+found" || e.Name == volume.MetaDir && r.unclaimed() {
			continue
		}
		return false, &NotEmptyError{dir}
	}
	data, err := json.Marshal(restoring{r.manifest.MAC})
	if err != nil {
		return false, err
	}
	if err := store.Disinherit(r.dst, ".", nil); err != nil {
		return false, err
	}
	if err := r.dst.Mkdir(volume.MetaDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	if err := meta.ReplaceFile(restoringName, data); err != nil {
		return false, err
	}
	return false, r.dst.SyncDir(".")
}

// unclaimed says that a begin was interrupted before it claimed anything.
func (r *restorer) unclaimed() bool {
	entries, err := r.dst.ReadDir(volume.MetaDir)
	return err == nil && !slices.ContainsFunc(entries, func(e store.DirEntry) bool { return e.Name != restoringName+".tmp" })
}

const (
	// batchFiles and batchBytes are how much is restored before it is made
	// durable: an end before that costs as much again.
	batchFiles = 2000
	batchBytes = 1 << 30
)

// tree restores every object, directories' attributes last.
func (r *restorer) tree(ctx context.Context) error {
	var dirs, links, batch []listed
	same := map[string]string{}
	size := int64(0)
	flush := func() error {
		full := batch
		batch, size = nil, 0
		return r.batch(ctx, full)
	}
	err := r.manifest.EachObject(r.src, func(o Object, name string) error {
		l, err := o.listed(name)
		switch {
		case err != nil:
			return err
		case l.kind() == unix.S_IFDIR:
			dirs = append(dirs, l)
			return r.directory(&l)
		case o.Same != "":
			links = append(links, l)
			same[name], err = decodePath(o.Same)
			return err
		}
		batch, size = append(batch, l), size+o.Size
		if len(batch) < batchFiles && size < batchBytes {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	for i := range links {
		if err := r.link(same[links[i].name], links[i].name); err != nil {
			return err
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := dress(r.dst, &dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

// link makes a further name of an object. One that is there may be of an
// object that had to be restored again since.
func (r *restorer) link(old, name string) error {
	err := r.dst.Link(old, name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	is, err := r.dst.Stat(old)
	if err != nil {
		return err
	}
	has, err := r.dst.Stat(name)
	if err != nil || has.ID() == is.ID() {
		return err
	}
	if err := r.dst.Unlink(name); err != nil {
		return err
	}
	return r.dst.Link(old, name)
}

// batch restores objects side by side, makes them durable, and then gives them
// their attributes.
func (r *restorer) batch(ctx context.Context, all []listed) error {
	var mu sync.Mutex // guards made and noted
	var made []*listed
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copyWorkers)
	for i := range all {
		l := &all[i]
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			fresh, err := r.object(ctx, l)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if fresh {
				made = append(made, l)
			}
			r.noted.Files++
			r.noted.Bytes += l.attr.Size
			if r.report != nil {
				r.report(r.noted)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if r.settle != nil && len(made) > 0 {
		if err := r.settle(); err != nil {
			return err
		}
	}
	for _, l := range made {
		if err := dress(r.dst, l); err != nil {
			return err
		}
	}
	return nil
}

// listed is an object as a listing would have found it.
func (o *Object) listed(name string) (listed, error) {
	l := listed{name: name, xattrs: o.Xattrs}
	l.attr.Mode, l.attr.UID, l.attr.GID, l.attr.Rdev, l.attr.Size = o.Mode, o.UID, o.GID, o.Rdev, o.Size
	l.attr.Mtime = *when(o.Mtime)
	l.attr.Atime = l.attr.Mtime
	var err error
	if o.Target != "" {
		l.target, err = decodeTarget(o.Target)
	}
	return l, err
}

func (r *restorer) directory(l *listed) error {
	if l.name == "." {
		return nil
	}
	err := r.dst.Mkdir(l.name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// object restores what is no directory, but for its attributes, unless it is
// there: its time of modification is the last that it gets.
func (r *restorer) object(ctx context.Context, l *listed) (fresh bool, err error) {
	attr, err := r.dst.Stat(l.name)
	if err == nil && attr.Mode == l.attr.Mode && attr.Mtime.Equal(l.attr.Mtime) &&
		(l.kind() != unix.S_IFREG || attr.Size == l.attr.Size) {
		return false, nil
	}
	if err == nil {
		err = r.dst.Unlink(l.name)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return false, err
	}
	switch l.kind() {
	case unix.S_IFREG:
		return true, r.place(ctx, l)
	case unix.S_IFLNK:
		return true, r.dst.Symlink(l.target, l.name)
	}
	return true, r.dst.Mknod(l.name, l.attr.Mode&unix.S_IFMT|0o600, l.attr.Rdev)
}

// copyFile copies a file of a size to the same name.
func copyFile(ctx context.Context, dst, src store.FS, name string, size int64) (err error) {
	from, err := src.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	attr, err := from.Stat()
	if err != nil {
		return err
	}
	if attr.Size != size {
		return &DamageError{name, fmt.Sprintf("it has %d bytes, and had %d", attr.Size, size)}
	}
	to, err := dst.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if store.Clone(to, from) == nil {
		return nil
	}
	_, err = copyPart(ctx, to, from, 0, size)
	return errors.Join(err, to.Truncate(size))
}

// metadata restores the volume's own files, its description last.
func (r *restorer) metadata(ctx context.Context) error {
	from, to := volume.Metadata(r.src), volume.Metadata(r.dst)
	if err := r.journal(ctx); err != nil {
		return err
	}
	if err := touch(r.dst, lockName); err != nil {
		return err
	}
	if err := volume.CopyRoot(r.dst, r.src); err != nil {
		return err
	}
	if err := volume.WantJournal(r.dst, r.manifest.Journal); err != nil {
		return err
	}
	keyring, err := from.ReadFile(keymgr.KeyringFile)
	if err == nil {
		err = to.ReplaceFile(keymgr.KeyringFile, keyring)
	}
	if err != nil {
		return err
	}
	info, err := from.ReadFile(volume.InfoFile)
	if err != nil {
		return err
	}
	if err := r.dst.SyncAll(); err != nil {
		return err
	}
	return to.ReplaceFile(volume.InfoFile, info)
}

// journal copies the snapshot's, which holds nothing.
func (r *restorer) journal(ctx context.Context) error {
	dir := volume.JournalDir
	entries, err := r.src.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := store.RemoveAll(r.dst, dir); err != nil {
		return err
	}
	if err := r.dst.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		attr, err := r.src.Stat(name)
		if err == nil {
			err = copyFile(ctx, r.dst, r.src, name, attr.Size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
