package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// KeyClient has methods about keys and snapshots called: by the daemon of a volume that is
// mounted, and otherwise in this process, with the volume's lock held and its
// keys opened.
type KeyClient struct {
	RunDir     string
	Openers    keymgr.Openers
	KeyTimeout time.Duration    // 0: DefaultKeyTimeout
	StateDir   string           // for the audit log of volumes that are not mounted; "": none is kept
	Now        func() time.Time // nil: time.Now
	Logger     *slog.Logger     // nil: nothing is logged
	By         *control.Peer    // who commands where no daemon does; nil: this process
}

// Call calls a method for the volume with an ID, a backing directory or a
// mount point. event may be nil.
func (c *KeyClient) Call(ctx context.Context, name, method string, params, result any, event func(json.RawMessage)) error {
	dir, entry, path, err := find(c.RunDir, name)
	if err != nil {
		return err
	}
	if entry.Live {
		return dir.Client(entry.Name).Call(ctx, method, params, result, event)
	}
	if entry.Name != "" { // its daemon was killed
		path = entry.Backing
		if _, err := clearDead(ctx, entry.Mountpoint); err != nil {
			return err
		}
	}
	if mine, err := ours(path); err != nil || mine {
		return errors.Join(err, &MountpointTakenError{path})
	}
	answer, err := c.unmounted(ctx, path, method, &localRequest{params, event})
	if err != nil || result == nil {
		return err
	}
	return remarshal(answer, result)
}

// localRequest is a request within this process.
type localRequest struct {
	params any
	event  func(json.RawMessage)
}

// Params is control.Call's.
func (r *localRequest) Params(into any) error {
	data, err := json.Marshal(r.params)
	if err != nil {
		return err
	}
	return control.DecodeParams(data, into)
}

// Event is control.Call's.
func (r *localRequest) Event(event any) error {
	if r.event == nil {
		return nil
	}
	data, err := json.Marshal(event)
	if err == nil {
		r.event(data)
	}
	return err
}

func remarshal(from, into any) error {
	data, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// unmounted answers for a volume in a backing directory.
func (c *KeyClient) unmounted(ctx context.Context, backing, method string, r request) (any, error) {
	path, err := directory(RoleVolume, backing)
	if err != nil {
		return nil, err
	}
	st, err := store.OpenDisk(path)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	d := &detached{cfg: c.config(path), st: st, by: commander(c.By)}
	if d.info, err = volume.ReadInfo(st); err != nil {
		return nil, &VolumeError{path, err}
	}
	switch method {
	case MethodKeyList, MethodKeyCheck:
		return d.look(ctx, method, r)
	case MethodSnapshotDirs:
		dirs, err := snapshot.Known(volume.Metadata(st), path)
		return SnapshotDirs{dirs}, err
	}
	if d.accounts, err = unmounted(d.cfg, d.info.ID); err != nil {
		return nil, err
	}
	defer d.accounts.closeAccounts()
	return d.accounts.recorded(method, commander(c.By), func() (any, error) {
		switch method {
		case MethodMasterKeyRotate:
			return d.withVolume(ctx, method, r)
		case MethodSnapshotCreate:
			return d.withSource(ctx, r)
		}
		return d.withKeys(ctx, method, r)
	})
}

func (c *KeyClient) config(backing string) Config {
	cfg := Config{Backing: backing, Openers: c.Openers, KeyTimeout: c.KeyTimeout, StateDir: c.StateDir, Now: c.Now, Logger: c.Logger}
	return cfg.complete()
}

// detached is a volume that no daemon serves.
type detached struct {
	cfg  Config
	st   store.FS
	info volume.Info
	by   control.Peer

	accounts *Daemon // keeps account of what is done
}

// look does what changes nothing, and needs no lock and no key.
func (d *detached) look(ctx context.Context, method string, r request) (any, error) {
	keyring, err := keymgr.LoadKeyring(volume.Metadata(d.st))
	if err != nil {
		return nil, &VolumeError{d.cfg.Backing, err}
	}
	if method == MethodKeyList {
		return listing(keyring), r.Params(nil)
	}
	var p KeyParams
	if err := r.Params(&p); err != nil {
		return nil, err
	}
	admin := &keyAdmin{cfg: d.cfg, providers: openProviders(d.cfg, keyring)}
	return admin.check(ctx, keyring, nil, p), nil
}

// withKeys holds the volume's lock and has its keys open, but not the volume.
func (d *detached) withKeys(ctx context.Context, method string, r request) (any, error) {
	lock, err := volume.Claim(d.st)
	if err != nil {
		return nil, d.claimed(err)
	}
	defer lock.Close()
	keys, err := openKeys(ctx, d.cfg, d.info.ID, volume.Metadata(d.st), recall(d.cfg, d.info.ID))
	if err != nil {
		return nil, err
	}
	defer keys.destroy()
	return keyMethods[method](&keyHost{admin: d.admin(keys)}, ctx, r, &d.by)
}

func (d *detached) claimed(err error) error {
	if !errors.Is(err, volume.ErrInUse) {
		return &VolumeError{d.cfg.Backing, err}
	}
	pid, _ := flockHolder(lockFile(d.cfg.Backing))
	return &InUseError{Backing: d.cfg.Backing, PID: pid}
}

func (d *detached) admin(keys *keys) *keyAdmin {
	return &keyAdmin{
		cfg: d.cfg, providers: keys.providers, watch: keys.watch, tell: d.accounts.tell, keyring: keys.keyring,
		master: func() (*keymgr.MasterKeys, error) { return keys.current(), nil },
	}
}

// withVolume has the volume open, too, and is done when its file keys are.
func (d *detached) withVolume(ctx context.Context, method string, r request) (_ any, err error) {
	seen := recall(d.cfg, d.info.ID)
	keys, err := openKeys(ctx, d.cfg, d.info.ID, volume.Metadata(d.st), seen)
	if err != nil {
		return nil, err
	}
	defer keys.destroy()
	v, err := volume.Open(d.st, keys.current(), volume.Options{Logger: d.cfg.Logger, Admit: seen.journal})
	if err != nil {
		return nil, d.claimed(err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	admin := d.admin(keys)
	rewraps := newRewrapper(admin, v, 0, d.cfg.Logger)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	begun := false
	host := &keyHost{admin, rewraps, func() {
		begun = true
		go func() { done <- rewraps.run(ctx) }()
	}}
	answer, err := keyMethods[method](host, ctx, &waiting{r}, &d.by)
	if err != nil {
		cancel()
	}
	if begun {
		if also := <-done; err == nil && also != nil {
			err = fmt.Errorf("re-wrapping file keys: %w", also)
		}
	}
	cancel()
	return answer, err
}

// waiting is a request whose caller waits, since nobody else would go on.
type waiting struct{ request }

// Params is the request's, with Wait.
func (w *waiting) Params(into any) error {
	err := w.request.Params(into)
	if p, ok := into.(*MasterKeyParams); ok {
		p.Wait = true
	}
	return err
}

// ActionRead is the command that the audit log has for a volume that is opened
// for reading without a mount.
const ActionRead = "read"

// Read puts on record that a volume which no daemon serves is opened for
// reading, which open does: its keys are unwrapped for that. What cannot be put
// on record is not done.
func (c *KeyClient) Read(backing string, open func() error) error {
	st, err := store.OpenDisk(backing)
	if err != nil {
		return err
	}
	defer st.Close()
	info, err := volume.ReadInfo(st)
	if err != nil {
		return &VolumeError{backing, err}
	}
	accounts, err := unmounted(c.config(backing), info.ID)
	if err != nil {
		return err
	}
	defer accounts.closeAccounts()
	_, err = accounts.recorded(ActionRead, commander(c.By), func() (any, error) { return nil, open() })
	return err
}
