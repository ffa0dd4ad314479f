package devvolume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
)

// dirVariable is Config.Dir of the keepers that the tests start.
const dirVariable = "DEVVOLUME_TEST_DIR"

func TestMain(m *testing.M) {
	tether := Inherited()
	if tether == nil {
		os.Exit(m.Run())
	}
	cfg := Config{Dir: os.Getenv(dirVariable), JournalSize: 1 << 20}
	err := Keep(tether, cfg, func(err error) Refusal { return Refusal{Code: 7, Text: "refused: " + err.Error()} })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// empty wants nothing to be left in a directory.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	mounts, also := mountsIn(dir)
	if err != nil || also != nil || len(left)+len(mounts) > 0 {
		t.Errorf("left are %v, mounted %v; %v, %v", left, mounts, err, also)
	}
}

func start(t *testing.T, dir string) *Keeper {
	t.Helper()
	k, err := Start(t.Context(), nil, dirVariable+"="+dir)
	must(t, err)
	return k
}

func TestKeeper(t *testing.T) {
	dir := t.TempDir()
	k := start(t, dir)
	if filepath.Dir(k.Dir) != dir {
		t.Errorf("it is in %s", k.Dir)
	}
	must(t, os.WriteFile(filepath.Join(k.Mountpoint, "file"), []byte("x"), 0o600))
	s, err := daemon.StatusOf(t.Context(), k.RunDir, k.Mountpoint)
	if err != nil || s.State != daemon.StateMounted || s.PID != k.cmd.Process.Pid {
		t.Errorf("%+v, %v", s, err)
	}
	// Whoever runs as another user may pass, and sees nothing else.
	for path, want := range map[string]fs.FileMode{k.Dir: 0o711, filepath.Dir(k.Backing): 0o700, k.Mountpoint: 0o755} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	busy, err := k.Close(t.Context())
	if busy != "" || err != nil {
		t.Errorf("%q, %v", busy, err)
	}
	empty(t, dir)
}

func TestKeeperBusy(t *testing.T) {
	dir := t.TempDir()
	k := start(t, dir)
	f, err := os.Create(filepath.Join(k.Mountpoint, "held"))
	must(t, err)
	busy, err := k.Close(t.Context())
	if !strings.Contains(busy, "held") || err != nil {
		t.Errorf("%q, %v", busy, err)
	}
	empty(t, dir)
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("what was open answers %v", err)
	}
}

// A mount inside goes with the volume, and what it shows stays.
func TestKeeperWithMountInside(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(elsewhere, "precious"), nil, 0o600))
	k := start(t, dir)
	inside := filepath.Join(k.Mountpoint, "inside")
	must(t, os.Mkdir(inside, 0o700))
	must(t, unix.Mount(elsewhere, inside, "", unix.MS_BIND, ""))
	if _, err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
	empty(t, dir)
	if _, err := os.Stat(filepath.Join(elsewhere, "precious")); err != nil {
		t.Error(err)
	}
}

// What is mounted beside the volume is left, and with it the directory.
func TestKeeperWithMountBeside(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(elsewhere, "precious"), nil, 0o600))
	k := start(t, dir)
	beside := filepath.Join(k.Dir, "beside")
	must(t, os.Mkdir(beside, 0o700))
	must(t, unix.Mount(elsewhere, beside, "", unix.MS_BIND, ""))
	if _, err := k.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "not removed, since something is mounted there: "+beside) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "precious")); err != nil {
		t.Error(err)
	}
	must(t, unix.Unmount(beside, 0))
	must(t, k.remove(t.Context()))
	empty(t, dir)
}

func TestKeeperKilled(t *testing.T) {
	dir := t.TempDir()
	k := start(t, dir)
	must(t, k.cmd.Process.Kill())
	_, err := k.Close(t.Context())
	if _, ok := errors.AsType[*KeeperError](err); !ok || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("%v", err)
	}
	empty(t, dir)
}

// A keeper that is told to end leaves nothing, either.
func TestKeeperTerminated(t *testing.T) {
	dir := t.TempDir()
	k := start(t, dir)
	must(t, k.cmd.Process.Signal(syscall.SIGTERM))
	if busy, err := k.Close(t.Context()); busy != "" || err != nil {
		t.Errorf("%q, %v", busy, err)
	}
	empty(t, dir)
}

// Unmounted by somebody else, the rest goes at the end.
func TestKeeperUnmounted(t *testing.T) {
	dir := t.TempDir()
	k := start(t, dir)
	must(t, unix.Unmount(k.Mountpoint, 0))
	if busy, err := k.Close(t.Context()); busy != "" || err != nil {
		t.Errorf("%q, %v", busy, err)
	}
	empty(t, dir)
}

func TestStartRefused(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	_, err := Start(t.Context(), nil, dirVariable+"="+missing)
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Code != 7 || r.Unable || !strings.HasPrefix(r.Text, "refused: ") || !strings.Contains(r.Text, missing) {
		t.Errorf("%v", err)
	}
}

// An attempt that is interrupted, at whatever moment, leaves nothing.
func TestStartInterrupted(t *testing.T) {
	dir := t.TempDir()
	for after := time.Duration(0); after < 400*time.Millisecond; after += 80 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		k, err := Start(ctx, nil, dirVariable+"="+dir)
		cancel()
		if err == nil {
			_, err = k.Close(t.Context())
			must(t, err)
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", after, err)
		}
		empty(t, dir)
	}
}

// Only what a dead keeper of this user has left is swept away.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	alive, lock, err := newPlace(dir)
	must(t, err)
	defer lock.Close()
	dead, deadLock, err := newPlace(dir)
	must(t, err)
	must(t, deadLock.Close())
	making := placeIn(filepath.Join(dir, prefix+"making"))
	must(t, os.MkdirAll(filepath.Dir(making.lock()), 0o700))
	others, othersLock, err := newPlace(dir)
	must(t, err)
	must(t, othersLock.Close())
	must(t, os.Chown(others.Dir, 65534, 65534))
	target := placeIn(t.TempDir())
	must(t, os.MkdirAll(filepath.Dir(target.lock()), 0o700))
	must(t, os.WriteFile(target.lock(), nil, 0o600))
	must(t, os.Symlink(target.Dir, filepath.Join(dir, prefix+"link")))

	sweep(t.Context(), dir)
	for _, p := range []Place{alive, making, others, target} {
		if !p.exists() {
			t.Errorf("%s is gone", p.Dir)
		}
	}
	if dead.exists() {
		t.Errorf("%s is still there", dead.Dir)
	}
}

func TestAble(t *testing.T) {
	there := func(string) (string, error) { return "/bin/fusermount3", nil }
	missing := func(string) (string, error) { return "", exec.ErrNotFound }
	file := filepath.Join(t.TempDir(), "fuse")
	if err := able(file, 0, missing); err == nil || !strings.Contains(err.Error(), "there is no "+file) {
		t.Error(err)
	}
	must(t, os.WriteFile(file, nil, 0o600))
	for _, c := range []struct {
		uid  int
		look func(string) (string, error)
		says string
	}{{0, missing, ""}, {1000, there, ""}, {1000, missing, "install the package fuse3"}} {
		err := able(file, c.uid, c.look)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d: %v", c.uid, err)
		}
	}
	if err := able(filepath.Dir(file), 0, there); err == nil || !strings.Contains(err.Error(), "load the fuse module") {
		t.Error(err)
	}
}
