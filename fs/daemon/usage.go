package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// KeyUsage tells what still needs the versions of a key.
type KeyUsage struct {
	AKI     string     `json:"aki"` // that was asked for
	Volumes int        `json:"volumes"`
	Uses    []KeyUse   `json:"uses"`
	Unread  []Unread   `json:"unread"` // of which nobody knows what they need
	Scanned []string   `json:"scanned"`
	Asked   *time.Time `json:"asked"`
}

// KeyUse is a master key of a volume that a version of the key wraps.
type KeyUse struct {
	KeyVersion
	Backing    string    `json:"backing"`
	Mountpoint string    `json:"mountpoint"` // "" if unmounted
	VolumeID   string    `json:"volume_id"`
	Cluster    string    `json:"cluster"`
	MasterKey  string    `json:"master_key"`
	Active     bool      `json:"active"`     // whether that is the active master key
	Created    time.Time `json:"created"`    // when it was wrapped
	OtherKeys  int       `json:"other_keys"` // that open it as well
}

// Unread is a place that could not be looked into.
type Unread struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

// Usage finds every volume whose master keys a key wraps: the mounted ones,
// those that a killed daemon left, and those below the directories scan,
// whatever they are. It needs no key and asks no vault. openers only bring
// identifiers into their normal form.
func Usage(ctx context.Context, runDir string, openers keymgr.Openers, aki string, scan []string) (KeyUsage, error) {
	admin := &keyAdmin{providers: newProviders(Config{Openers: openers}.complete())}
	asked := time.Now().UTC()
	u := &usageSearch{
		usage: KeyUsage{AKI: admin.normal(aki), Uses: []KeyUse{}, Unread: []Unread{}, Scanned: scan, Asked: &asked},
		seen:  make(map[string]bool),
	}
	if err := u.mounted(ctx, runDir); err != nil {
		return KeyUsage{}, err
	}
	if err := u.findMounts(); err != nil {
		return KeyUsage{}, err
	}
	for _, dir := range scan {
		path, err := directory(RoleVolume, dir)
		if err != nil {
			return KeyUsage{}, err
		}
		if err := filepath.WalkDir(path, u.visit(ctx)); err != nil {
			return KeyUsage{}, err
		}
	}
	slices.SortStableFunc(u.usage.Uses, func(a, b KeyUse) int { return strings.Compare(a.Backing, b.Backing) })
	return u.usage, nil
}

// usageSearch collects what uses a key.
type usageSearch struct {
	usage  KeyUsage
	seen   map[string]bool // backing directories, and mount points of those mounted
	mounts map[string]bool // every mount point of akvfs
}

// findMounts lists where akvfs is mounted, whoever did it.
func (u *usageSearch) findMounts() error {
	all, err := mountinfo.GetMounts(func(m *mountinfo.Info) (bool, bool) { return m.FSType != fsType, false })
	u.mounts = make(map[string]bool)
	for _, m := range all {
		u.mounts[m.Mountpoint] = true
	}
	return err
}

// mounted looks through a run directory. What a living daemon serves is asked
// of it: the mount may cover the backing directory.
func (u *usageSearch) mounted(ctx context.Context, runDir string) error {
	dir, entries, err := entriesIn(runDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Live {
			u.unmounted(e.Backing)
			continue
		}
		u.seen[e.Backing], u.seen[e.Mountpoint] = true, true
		u.usage.Volumes++
		if err := u.ask(ctx, dir, e); err != nil {
			u.unread(e.Backing, err)
		}
	}
	return nil
}

func (u *usageSearch) ask(ctx context.Context, dir *control.Dir, e control.Entry) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var s Status
	if err := dir.Client(e.Name).Call(ctx, MethodStatus, nil, &s, nil); err != nil {
		return err
	}
	var l KeyListing
	if err := dir.Client(e.Name).Call(ctx, MethodKeyList, nil, &l, nil); err != nil {
		return err
	}
	u.add(s, l)
	return nil
}

// unmounted reads the keyring in a backing directory.
func (u *usageSearch) unmounted(backing string) {
	if u.seen[backing] {
		return
	}
	u.seen[backing] = true
	s, l, err := inspectKeyring(backing)
	if errors.Is(err, volume.ErrIncomplete) {
		return // it holds no data
	}
	u.usage.Volumes++
	if err != nil {
		u.unread(backing, err)
		return
	}
	u.add(s, l)
}

// add notes every wrap of the key in a volume.
func (u *usageSearch) add(s Status, l KeyListing) {
	for _, mk := range l.MasterKeys {
		for _, w := range mk.Wraps {
			if !u.meant(w) {
				continue
			}
			u.usage.Uses = append(u.usage.Uses, KeyUse{
				KeyVersion: KeyVersion{w.KeyID, w.AKI, w.Version}, Backing: s.Backing, Mountpoint: s.Mountpoint,
				VolumeID: s.VolumeID, Cluster: s.Cluster, MasterKey: mk.ID, Active: mk.Active,
				Created: w.Created, OtherKeys: len(mk.Wraps) - 1,
			})
		}
	}
}

// meant reports whether a wrap is under the key, and under its version if one
// was asked for.
func (u *usageSearch) meant(w AKIStatus) bool {
	if !sameKey(w.KeyID, u.usage.AKI) {
		return false
	}
	version := versionIn(u.usage.AKI[len(w.KeyID):])
	return version == "" || strings.EqualFold(version, w.Version)
}

func (u *usageSearch) unread(path string, err error) {
	u.usage.Unread = append(u.usage.Unread, Unread{path, err.Error()})
}

// visit looks for volumes below a directory. It goes into what it finds: a
// volume may lie in another one's directory. It follows no link, and leaves
// out what is mounted by akvfs, whose daemon was asked.
func (u *usageSearch) visit(ctx context.Context) fs.WalkDirFunc {
	return func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			u.unread(path, err)
			return nil
		case !e.IsDir():
			return nil
		}
		if u.mounts[path] {
			if !u.seen[path] {
				u.unread(path, &MountpointTakenError{path})
			}
			return fs.SkipDir
		}
		_, err = os.Lstat(filepath.Join(path, ".akvfs", keymgr.KeyringFile))
		if err == nil {
			u.unmounted(path)
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) { // of that the walk tells
			u.unread(path, err)
		}
		return nil
	}
}
