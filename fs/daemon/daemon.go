package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/fusefs"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/vigil"
	"github.com/akvfs/akvfs/fs/volume"
)

// callGrace is how long callers on the control socket get at the end.
const callGrace = 10 * time.Second

// Daemon is a mounted volume. All methods are safe for concurrent use.
type Daemon struct {
	cfg     Config // paths are canonical
	log     *slog.Logger
	info    volume.Info
	store   store.FS
	tracker *store.Tracker // the store, for snapshots
	photos  photographer
	freezer freezer
	keys    *keys
	seen    *seen
	admin   *keyAdmin
	volume  *volume.Volume
	rewraps *rewrapper
	scrubs  scrubber
	socket  *control.Socket
	control *control.Server
	vigil   *vigil.Vigil // nil: processors are not kept awake, because of noVigil
	noVigil string
	server  *fusefs.Server
	device  string // "major:minor" of the mount, as the mount table has it
	started time.Time
	pid     int

	observed   *observed
	refusals   audit.Refusals
	unmounting sync.Mutex // one attempt at a time

	guard    guard
	checking sync.WaitGroup // the loops that check the keys, judge them and tend the master keys
	rotated  chan struct{}  // holds something when there may be file keys to re-wrap
	stopOnce sync.Once
	stopping chan struct{} // closed when the end begins
	ended    chan struct{} // closed when everything is let go of
	done     chan struct{} // closed when callers have been answered, too
	err      error         // of the end; set before ended is closed
}

// Start mounts a volume and returns once the mount is usable. If it fails,
// the mount point and the backing directory are as they were, except that
// what a killed daemon left mounted is gone. ctx ends the attempt, not the
// mount. Errors are a *PathError, *InUseError, *MountpointTakenError,
// *VolumeError around one of package volume's, a *keymgr.KeyError,
// *keymgr.IntegrityError, *fusefs.MountError or *fusefs.OptionError.
func Start(ctx context.Context, cfg Config) (_ *Daemon, err error) {
	cfg = cfg.complete()
	d := &Daemon{
		cfg: cfg, log: cfg.Logger, started: cfg.Now().UTC(), pid: os.Getpid(),
		stopping: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{}),
		rotated: make(chan struct{}, 1),
	}
	d.guard.custody = newCustody(cfg.Grace, d.now())
	defer func() {
		if err == nil {
			return
		}
		if also := d.release(); also != nil {
			err = errors.Join(err, also)
		}
		d.endAccounts("mount", err)
	}()
	for _, step := range []func(context.Context) error{
		d.checkPaths, d.openStore, d.observe, d.recall, d.checkUnused, d.openKeys, d.openVolume, d.beginVigil, d.listen, d.serveMetrics, d.mount,
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	_ = d.audit(d.mountRecord("mount", audit.ResultOK, nil)) // it is mounted; the alert tells
	go d.serve()
	return d, nil
}

// openStore opens the backing directory, which from here on is held by
// descriptor: the mount may cover it.
func (d *Daemon) openStore(context.Context) error {
	st, err := store.OpenDisk(d.cfg.Backing)
	if err != nil {
		return err
	}
	d.store = st
	if d.cfg.wrapStore != nil {
		d.store = d.cfg.wrapStore(st)
	}
	d.tracker = store.NewTracker(d.store)
	d.store = d.tracker
	if err := d.refuseSnapshot(); err != nil {
		return err
	}
	d.photos.backing, d.photos.now = d.cfg.Backing, d.cfg.Now
	d.info, err = volume.ReadInfo(d.store)
	return d.volumeError(err)
}

func (d *Daemon) volumeError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, volume.ErrInUse) {
		pid, _ := flockHolder(lockFile(d.cfg.Backing))
		return &InUseError{Backing: d.cfg.Backing, PID: pid}
	}
	return &VolumeError{d.cfg.Backing, err}
}

func (d *Daemon) openKeys(ctx context.Context) (err error) {
	d.keys, err = openKeys(ctx, d.cfg, d.info.ID, volume.Metadata(d.store), d.seen)
	d.tellOpened(err)
	if err == nil {
		d.admin = &keyAdmin{
			cfg: d.cfg, providers: d.keys.providers, watch: d.keys.watch,
			master: d.masterKeys, keyring: d.keys.keyring, tell: d.tell,
		}
	}
	return err
}

func (d *Daemon) openVolume(context.Context) (err error) {
	d.volume, err = volume.Open(d.store, d.keys.current(), volume.Options{
		ReadOnly:       d.cfg.ReadOnly,
		CommitInterval: d.cfg.CommitInterval,
		JournalSize:    d.cfg.JournalSize,
		Logger:         d.log,
		Admit:          d.seen.journal,
	})
	d.rewraps = newRewrapper(d.admin, d.volume, d.cfg.RewrapRate, d.log)
	return d.volumeError(err)
}

// maxClones bounds how many volumes with one ID, copies of each other, can be
// mounted at a time.
const maxClones = 100

// listen makes the control socket. Copies of a volume, such as a restored
// snapshot, have its ID: they get a number.
func (d *Daemon) listen(context.Context) error {
	dir, err := control.OpenDir(d.cfg.RunDir, true)
	if err != nil {
		return err
	}
	record := control.Record{
		Volume: d.info.ID.String(), Backing: d.cfg.Backing, Mountpoint: d.cfg.Mountpoint,
		PID: d.pid, Started: d.started,
	}
	listen := dir.Listen
	if d.cfg.Roles != nil {
		listen = dir.ListenPublic
	}
	name := record.Volume
	for i := 2; ; i++ {
		d.socket, err = listen(name, record)
		var inUse *control.InUseError
		if !errors.As(err, &inUse) || inUse.Entry.Backing == d.cfg.Backing || i > maxClones {
			return err
		}
		name = fmt.Sprintf("%s-%d", record.Volume, i)
	}
}

func (d *Daemon) mount(context.Context) (err error) {
	d.server, err = fusefs.Mount(d.volume, d.cfg.Mountpoint, fusefs.Options{
		ReadOnly:   d.cfg.ReadOnly,
		AllowOther: d.cfg.AllowOther,
		FSName:     d.cfg.FSName,
		Extra:      d.cfg.KernelOptions,
		DirectIO:   uncached(d.cfg.Uncached),
		BusyPoll:   d.cfg.BusyPoll,
		Vigil:      d.vigil,
		Operations: &d.observed.ops,
		Logger:     d.log,
	})
	if err != nil {
		return err
	}
	top, err := topMount(d.cfg.Mountpoint)
	if err != nil {
		return &fusefs.MountError{Mountpoint: d.cfg.Mountpoint, Err: err}
	}
	if top == nil || top.FSType != fsType {
		return &fusefs.MountError{Mountpoint: d.cfg.Mountpoint, Err: errors.New("the mount is gone already")}
	}
	d.device = device(top)
	return nil
}

// serve answers until the mount is gone, whoever unmounted it.
func (d *Daemon) serve() {
	d.control = &control.Server{Methods: d.audited(d.methods()), Authorize: d.authorize, Code: Code}
	go func() {
		if err := d.control.Serve(d.socket.UnixListener); err != nil {
			d.log.Error("control socket failed; commands cannot reach this mount", "error", err)
		}
	}()
	d.log.Info("mounted", "volume", d.info.ID.String(), "backing", d.cfg.Backing, "mountpoint", d.cfg.Mountpoint, "read_only", d.cfg.ReadOnly)
	ctx, cancel := context.WithCancel(context.Background())
	d.checking.Go(func() { d.checkLoop(ctx) })
	d.checking.Go(func() { d.assessLoop(ctx) })
	d.checking.Go(func() { d.tendMasterKeys(ctx) })
	d.checking.Go(func() { d.scrubLoop(ctx) })
	d.checking.Go(func() { d.noteLoop(ctx) })
	d.server.Wait()
	d.beginStop()
	d.thawAlone("the volume was unmounted")
	cancel()
	d.scrubs.end()
	d.checking.Wait()
	d.guard.end()
	if err := d.release(); err != nil {
		d.err = &UnfinishedError{d.cfg.Mountpoint, err}
		d.log.Error("unmounted with errors", "error", d.err)
	} else {
		d.log.Info("unmounted; everything is committed", "volume", d.info.ID.String())
	}
	close(d.ended)
	d.control.Close(callGrace)
	d.endAccounts("unmount", d.err)
	close(d.done)
}

// release lets go of everything that Start got hold of, last first. The
// socket goes when the volume can be mounted again.
func (d *Daemon) release() error {
	var errs []error
	if d.server != nil && d.device == "" { // mounted, but not up to serving
		errs = append(errs, d.server.Unmount())
	}
	errs = append(errs, d.vigil.Close())
	if d.volume != nil {
		errs = append(errs, d.volume.Close())
		d.noteSeen()
	}
	if d.keys != nil {
		d.keys.destroy()
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	errs = append(errs, d.observed.stopScrapes())
	if d.socket != nil {
		errs = append(errs, d.socket.Close())
	}
	return errors.Join(errs...)
}

// Stopping is closed when the end has begun: the daemon was told to stop, or
// somebody unmounted.
func (d *Daemon) Stopping() <-chan struct{} { return d.stopping }

// Done is closed when the daemon has ended; Err then tells how.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Err is what the last commit answered. It is to be called after Done.
func (d *Daemon) Err() error { return d.err }

func (d *Daemon) beginStop() { d.stopOnce.Do(func() { close(d.stopping) }) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
