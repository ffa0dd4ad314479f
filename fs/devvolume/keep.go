package devvolume

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/fusefs"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// tetherVariable tells a process that it is a keeper, and which descriptor
// ties it to the process that wants the volume.
const tetherVariable = "AKVFS_TETHER_FD"

// keyBits is the smallest size that there is: keys are made for each volume.
const keyBits = 2048

// DefaultJournal is the size of a throwaway volume's journal, in bytes.
const DefaultJournal = 16 << 20

// unmountWait is how long those who use the mount at the end may take to go.
const unmountWait = time.Second

// endWait is how long a detached volume may take to end.
const endWait = 500 * time.Millisecond

// Config says what volume a keeper makes. The zero value will do.
type Config struct {
	Dir         string // where its directory goes; "": the temporary directory
	Names       string // as daemon.CreateConfig's
	JournalSize int64  // bytes; 0 is DefaultJournal
	// Mount is how it is mounted; its directories, openers and timing of keys
	// are the keeper's. nil: the defaults.
	Mount *daemon.Config
}

// Refusal says why there is no volume, in the keeper's words.
type Refusal struct {
	Code   int    `json:"code"`
	Text   string `json:"text"`
	Unable bool   `json:"unable,omitempty"` // this host cannot mount, as an UnableError says
}

func (r *Refusal) Error() string { return r.Text }

// message is what a keeper says: first its place or a refusal, at the end what
// it came to. Then it closes its side.
type message struct {
	Place   *Place   `json:"place,omitempty"`
	Refusal *Refusal `json:"refusal,omitempty"`
	Busy    string   `json:"busy,omitempty"`  // who used the mount at the end
	Error   string   `json:"error,omitempty"` // what could not be removed
}

// Inherited is what ties a keeper to be to the process that started it, nil in
// any other process.
func Inherited() *os.File {
	fd, err := strconv.Atoi(os.Getenv(tetherVariable))
	if err != nil || fd < 3 {
		return nil
	}
	if err := os.Unsetenv(tetherVariable); err != nil {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "tether")
}

// keeper is the state of Keep.
type keeper struct {
	cfg   Config
	words *json.Encoder
	place Place
	lock  *os.File // held until the process ends
}

// Keep makes and mounts a volume, tells so, and removes it once the other side
// of the tether is closed or a SIGTERM comes. explain words a failure.
func Keep(tether *os.File, cfg Config, explain func(error) Refusal) error {
	conn, err := net.FileConn(tether)
	if err = errors.Join(err, tether.Close()); err != nil {
		return err
	}
	defer conn.Close()
	if err := os.Chdir("/"); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, conn) // ends when the other side does
	}()
	k := &keeper{cfg: cfg, words: json.NewEncoder(conn)}
	d, err := k.start(ctx)
	if err != nil {
		r := explain(err)
		r.Unable = r.Unable || unable(err)
		return errors.Join(k.words.Encode(message{Refusal: &r}), err)
	}
	// If nobody listens any more, ctx has ended, too.
	_ = k.words.Encode(message{Place: &k.place})
	select {
	case <-ctx.Done():
	case <-d.Stopping(): // somebody unmounted it
		<-ctx.Done()
	}
	return k.end(d)
}

func unable(err error) bool {
	_, mount := errors.AsType[*fusefs.MountError](err)
	_, device := errors.AsType[*UnableError](err)
	return mount || device
}

// start makes a volume and mounts it, or leaves nothing.
func (k *keeper) start(ctx context.Context) (d *daemon.Daemon, err error) {
	if err := crypto.HardenProcess(); err != nil {
		return nil, err
	}
	parent := k.cfg.Dir
	if parent == "" {
		parent = os.TempDir()
	}
	sweep(ctx, parent)
	if k.place, k.lock, err = newPlace(parent); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.place.remove(context.WithoutCancel(ctx)))
		}
	}()
	if err := k.create(ctx); err != nil {
		return nil, err
	}
	return daemon.Start(ctx, k.mountConfig())
}

func openers() keymgr.Openers { return keymgr.Openers{file.Scheme: file.OpenProvider} }

// create makes the key store and the volume.
func (k *keeper) create(ctx context.Context) error {
	path, _, err := file.ParseKeyID(k.place.KeyID)
	if err != nil {
		return err
	}
	if _, err := file.Create(path, file.Options{Bits: keyBits}); err != nil {
		return err
	}
	journal := k.cfg.JournalSize
	if journal == 0 {
		journal = DefaultJournal
	}
	_, err = daemon.Create(ctx, daemon.CreateConfig{
		Backing: k.place.Backing, KeyID: k.place.KeyID, Names: k.cfg.Names, JournalSize: journal,
		Openers: openers(), StateDir: k.place.StateDir,
	})
	return err
}

func (k *keeper) mountConfig() daemon.Config {
	cfg := daemon.NewConfig()
	if k.cfg.Mount != nil {
		cfg = *k.cfg.Mount
	}
	cfg.Backing, cfg.Mountpoint, cfg.Openers = k.place.Backing, k.place.Mountpoint, openers()
	cfg.RunDir, cfg.StateDir = k.place.RunDir, k.place.StateDir
	return cfg
}

// end unmounts, by force if need be, removes everything and tells how that went.
func (k *keeper) end(d *daemon.Daemon) error {
	ctx := context.Background()
	var m message
	err := d.Unmount(ctx, unmountWait)
	if busy, ok := errors.AsType[*daemon.BusyError](err); ok {
		m.Busy = busy.Error()
		err = k.place.detach(ctx)
		awaitDone(d)
	}
	if err := errors.Join(err, k.place.remove(ctx)); err != nil {
		m.Error = err.Error()
	}
	_ = k.words.Encode(m) // the other side may be gone
	return nil
}

func awaitDone(d *daemon.Daemon) {
	select {
	case <-d.Done():
	case <-time.After(endWait):
	}
}
