package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// fixture is a volume under an embedded key store, not mounted yet.
type fixture struct {
	t     *testing.T
	dir   string
	store *file.Store
	cfg   Config
	log   *logText
}

// logText collects what a daemon logs.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "akvfs-daemon")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: dir, log: &logText{}, cfg: NewConfig()}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if f.store, err = file.Create(filepath.Join(dir, "key.json"), file.Options{Bits: 2048}); err != nil {
		t.Fatal(err)
	}
	f.cfg.Backing, f.cfg.Mountpoint, f.cfg.RunDir = mkdir(t, dir, "b"), mkdir(t, dir, "m"), filepath.Join(dir, "run")
	f.cfg.Openers = keymgr.Openers{file.Scheme: file.OpenProvider}
	// No check by itself, which a test would see.
	f.cfg.After = func(time.Duration) <-chan time.Time { return nil }
	f.cfg.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	if _, err := Create(t.Context(), f.create()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) create() CreateConfig {
	return CreateConfig{
		Backing: f.cfg.Backing, KeyID: f.store.KeyID(), Cluster: "rs0", JournalSize: 1 << 20,
		KeyTimeout: time.Minute, Openers: f.cfg.Openers, Now: time.Now,
	}
}

// start mounts, and unmounts when the test ends, if nobody did.
func (f *fixture) start() *Daemon {
	f.t.Helper()
	d, err := Start(f.t.Context(), f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if isClosed(d.Done()) {
			return
		}
		if err := d.Unmount(context.Background(), time.Minute); err != nil {
			f.t.Error(err)
		}
	})
	return d
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("still waiting: %s", what)
	}
}

func TestDaemonLife(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	data := filepath.Join(f.cfg.Mountpoint, "data")
	write(t, data, "hello")
	s := d.Status()
	if s.State != StateMounted || s.Cluster != "rs0" || s.Stopping || s.AKIs[0].State != KeyAvailable || s.PID != os.Getpid() {
		t.Errorf("%+v", s)
	}
	if byPath, err := StatusOf(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint); err != nil || byPath.VolumeID != s.VolumeID || !byPath.Since.Equal(*s.Since) {
		t.Errorf("%+v, %v", byPath, err)
	}
	if _, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Backing, 0); err != nil {
		t.Fatal(err)
	}
	within(t, "Stopping", d.Stopping())
	within(t, "Done", d.Done())
	if d.Err() != nil {
		t.Error(d.Err())
	}
	if err := d.Unmount(t.Context(), 0); err != nil {
		t.Errorf("unmounted twice: %v", err)
	}
	d.Stop()
	if left, err := filepath.Glob(filepath.Join(f.cfg.RunDir, "[^.]*")); err != nil || len(left) != 0 {
		t.Errorf("left in the run directory: %q, %v", left, err)
	}
	f.start()
	if got, err := os.ReadFile(data); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// However many ask at once, in whatever way, there is one end and all hear of it.
func TestUnmountTogether(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			var err error
			switch i % 4 {
			case 0:
				err = d.Unmount(t.Context(), time.Minute)
			case 1:
				d.Stop()
			case 2:
				// It may come too late to find anything.
				_, err = Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, time.Minute)
				if _, ok := errors.AsType[*NotMountedError](err); ok {
					err = nil
				}
			case 3:
				_ = d.Status()
			}
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
	within(t, "Done", d.Done())
}

func TestStopWhileBusy(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	held, err := os.Create(filepath.Join(f.cfg.Mountpoint, "held"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*BusyError](d.Unmount(t.Context(), 10*time.Millisecond)); !ok {
		t.Errorf("unmounted while in use")
	}
	if isClosed(d.Stopping()) {
		t.Error("a refused unmount has begun the end")
	}
	d.Stop()
	within(t, "Stopping", d.Stopping())
	for !strings.Contains(f.log.String(), "still in use") {
		time.Sleep(10 * time.Millisecond)
	}
	if isClosed(d.Done()) || !d.Status().Stopping {
		t.Error("it has ended under those who use it")
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	within(t, "Done", d.Done())
}

// Something mounted over the mount is not taken away with it.
func TestUnmountCovered(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	if err := unix.Mount("none", f.cfg.Mountpoint, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	_, busy := errors.AsType[*BusyError](d.Unmount(t.Context(), 0))
	top, err := topMount(f.cfg.Mountpoint)
	if !busy || err != nil || top.FSType != "tmpfs" {
		t.Errorf("busy: %v; the upper mount is %+v, %v", busy, top, err)
	}
	if err := unix.Unmount(f.cfg.Mountpoint, 0); err != nil {
		t.Fatal(err)
	}
}

func TestStartCancelled(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.cfg.Openers = keymgr.Openers{file.Scheme: func(keyID string, opts keymgr.ProviderOptions) (keymgr.Provider, error) {
		cancel()
		return file.OpenProvider(keyID, opts)
	}}
	if _, err := Start(ctx, f.cfg); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if mine, err := ours(f.cfg.Mountpoint); mine || err != nil {
		t.Errorf("mounted: %v, %v", mine, err)
	}
	if _, ok := flockHolder(lockFile(f.cfg.Backing)); ok {
		t.Error("the volume is still locked")
	}
}

func TestStartTwice(t *testing.T) {
	f := newFixture(t)
	f.start()
	again := f.cfg
	again.Mountpoint = mkdir(t, f.dir, "again")
	for _, runDir := range []string{f.cfg.RunDir, filepath.Join(f.dir, "other-run")} {
		again.RunDir = runDir
		_, err := Start(t.Context(), again)
		if inUse, ok := errors.AsType[*InUseError](err); !ok || inUse.PID != os.Getpid() {
			t.Errorf("with run directory %s: %v", runDir, err)
		}
	}
}

func TestInspectChangesNothing(t *testing.T) {
	f := newFixture(t)
	s, err := Inspect(f.cfg.Backing)
	if err != nil || s.State != StateUnmounted || s.AKIs[0].State != KeyUnknown || s.Names != volume.NamesEncrypted {
		t.Errorf("%+v, %v", s, err)
	}
	f.start()
	if s, err := Inspect(f.cfg.Backing); err != nil || s.State != StateMounted || s.PID != os.Getpid() || s.Note == "" {
		t.Errorf("%+v, %v", s, err)
	}
}

// The key's states as the checks of a mounted volume find them, and what the
// log says of each change, once.
func TestKeyChecks(t *testing.T) {
	f := newFixture(t)
	at := time.Unix(2e9, 0)
	var clock sync.Mutex
	f.cfg.Now = func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return at
	}
	d := f.start()
	path := f.store.Path()
	for i, step := range []struct {
		do    func() error
		state KeyState
		error string
	}{
		{func() error { return nil }, KeyAvailable, ""},
		{func() error { return f.store.Disable("") }, KeyRevoked, "KeyDisabled"},
		{func() error { return nil }, KeyRevoked, "KeyDisabled"},
		{func() error { return f.store.Enable("") }, KeyAvailable, ""},
		{func() error { return os.Rename(path, path+".away") }, KeyUnreachable, "FileNotFound"},
		{func() error { return os.Rename(path+".away", path) }, KeyAvailable, ""},
		{func() error { return os.Chmod(path, 0o644) }, KeyInvalid, "UnsafeFile"},
		{func() error { return os.Chmod(path, 0o600) }, KeyAvailable, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		clock.Lock()
		at = at.Add(time.Minute)
		clock.Unlock()
		d.check(t.Context(), d.keys.current())
		aki := d.Status().AKIs[0]
		if aki.State != step.state || !strings.Contains(aki.Error, step.error) || !aki.Checked.Equal(f.cfg.Now()) {
			t.Errorf("step %d: %+v", i, aki)
		}
	}
	log := f.log.String()
	if n := strings.Count(log, "key is not available"); n != 3 {
		t.Errorf("the log tells of %d losses\n%s", n, log)
	}
	if n := strings.Count(log, "key is available"); n != 3 {
		t.Errorf("the log tells of %d returns\n%s", n, log)
	}
}

// A check that we gave up ourselves says nothing about the key.
func TestCancelledCheck(t *testing.T) {
	w := newWatch(time.Now)
	w.note("k", nil)
	if before, after := w.note("k", &keymgr.KeyError{Class: keymgr.Unreachable, Err: context.Canceled}); before != KeyAvailable || after != KeyAvailable {
		t.Errorf("%s, %s", before, after)
	}
	akis := []AKIStatus{{KeyID: "k", State: KeyUnknown}, {KeyID: "other", State: KeyUnknown}}
	w.fill(akis)
	if akis[0].State != KeyAvailable || akis[1].State != KeyUnknown || akis[1].Checked != nil {
		t.Errorf("%+v", akis)
	}
}

func TestCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&BusyError{}, CodeBusy},
		{&LingeringError{}, CodeLingering},
		{&UnfinishedError{"/m", syscall.EROFS}, CodeUnfinished},
		{&keymgr.KeyError{Class: keymgr.Revoked}, CodeRevoked},
		{&keymgr.KeyError{Class: keymgr.Credentials}, CodeCredentials},
		{&keymgr.KeyError{Class: keymgr.Unreachable}, CodeUnreachable},
		{&keymgr.KeyError{Class: keymgr.Invalid}, CodeInvalidKey},
		{&keymgr.KeyError{Class: keymgr.Mismatch}, CodeIntegrity},
		{&keymgr.IntegrityError{}, CodeIntegrity},
		{&VolumeError{Err: &volume.IntegrityError{}}, CodeIntegrity},
		{errors.New("else"), "failed"},
	} {
		if got := Code(errors.Join(c.err, errors.New("more"))); got != c.want {
			t.Errorf("%v is %q, want %q", c.err, got, c.want)
		}
	}
}

// lyingProvider wraps well and unwraps something else.
type lyingProvider struct{ keymgr.Provider }

func (p lyingProvider) Unwrap(ctx context.Context, w keymgr.Wrapped) ([]byte, error) {
	plain, err := p.Provider.Unwrap(ctx, w)
	if err == nil {
		plain[0] ^= 1
	}
	return plain, err
}

func TestCreateProvesTheKey(t *testing.T) {
	f := newFixture(t)
	cfg := f.create()
	cfg.Backing = mkdir(t, f.dir, "new")
	cfg.Openers = keymgr.Openers{file.Scheme: func(keyID string, opts keymgr.ProviderOptions) (keymgr.Provider, error) {
		p, err := file.OpenProvider(keyID, opts)
		return lyingProvider{p}, err
	}}
	_, err := Create(t.Context(), cfg)
	if key, ok := errors.AsType[*keymgr.KeyError](err); !ok || key.Class != keymgr.Mismatch {
		t.Errorf("%v", err)
	}
	if entries, err := os.ReadDir(cfg.Backing); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestCreateCancelled(t *testing.T) {
	f := newFixture(t)
	cfg := f.create()
	cfg.Backing = mkdir(t, f.dir, "new")
	for n := range 3 { // at the n-th call of the key
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		cfg.Openers = keymgr.Openers{file.Scheme: func(keyID string, opts keymgr.ProviderOptions) (keymgr.Provider, error) {
			p, err := file.OpenProvider(keyID, opts)
			return &countingProvider{p, func() {
				if calls++; calls > n {
					cancel()
				}
			}}, err
		}}
		if _, err := Create(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at call %d: %v", n, err)
		}
		if entries, err := os.ReadDir(cfg.Backing); err != nil || len(entries) != 0 {
			t.Errorf("cancelled at call %d: left behind %v, %v", n, entries, err)
		}
	}
}

// countingProvider tells of every call before it makes it.
type countingProvider struct {
	keymgr.Provider
	called func()
}

func (p *countingProvider) Wrap(ctx context.Context, b []byte) (keymgr.Wrapped, error) {
	p.called()
	return p.Provider.Wrap(ctx, b)
}

func (p *countingProvider) Unwrap(ctx context.Context, w keymgr.Wrapped) ([]byte, error) {
	p.called()
	return p.Provider.Unwrap(ctx, w)
}
