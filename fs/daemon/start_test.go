package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/fusefs"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// Each refusal is a typed error, and leaves no mount, no lock, no socket.
func TestStartRefuses(t *testing.T) {
	as := func(problem Problem) func(error) bool {
		return func(err error) bool {
			path, ok := errors.AsType[*PathError](err)
			return ok && path.Problem == problem
		}
	}
	class := func(want keymgr.Class) func(error) bool {
		return func(err error) bool {
			key, ok := errors.AsType[*keymgr.KeyError](err)
			return ok && key.Class == want
		}
	}
	for _, c := range []struct {
		name string
		do   func(f *fixture)
		is   func(error) bool
	}{
		{"no backing directory", func(f *fixture) { f.cfg.Backing += "x" }, as(ProblemMissing)},
		{"no mount point", func(f *fixture) { f.cfg.Mountpoint += "x" }, as(ProblemMissing)},
		{"mount point inside", func(f *fixture) { f.cfg.Mountpoint = mkdir(f.t, f.cfg.Backing, "in") }, as(ProblemInsideBacking)},
		{"backing inside", func(f *fixture) { f.cfg.Mountpoint = f.dir }, as(ProblemInsideMount)},
		{"mount point not empty", func(f *fixture) { write(f.t, filepath.Join(f.cfg.Mountpoint, "x"), "") }, as(ProblemNotEmpty)},
		{"not a volume", func(f *fixture) { f.cfg.Backing, f.cfg.Mountpoint = f.cfg.Mountpoint, mkdir(f.t, f.dir, "n") },
			func(err error) bool { return errors.Is(err, volume.ErrNotVolume) }},
		{"no provider", func(f *fixture) { f.cfg.Openers = nil }, class(keymgr.Invalid)},
		{"key disabled", func(f *fixture) {
			if err := f.store.Disable(""); err != nil {
				f.t.Fatal(err)
			}
		}, class(keymgr.Revoked)},
		{"run directory of others", func(f *fixture) {
			if err := errors.Join(os.Mkdir(f.cfg.RunDir, 0o700), os.Chmod(f.cfg.RunDir, 0o775)); err != nil {
				f.t.Fatal(err)
			}
		}, func(err error) bool { _, ok := errors.AsType[*control.UnsafeDirError](err); return ok }},
		{"run directory cannot be made", func(f *fixture) { f.cfg.RunDir = "/dev/null/run" }, func(err error) bool { return errors.Is(err, unix.ENOTDIR) }},
		{"option for the kernel", func(f *fixture) { f.cfg.KernelOptions = []string{"colour=red"} },
			func(err error) bool { _, ok := errors.AsType[*fusefs.OptionError](err); return ok }},
		{"locked by another", func(f *fixture) {
			lock, err := os.Open(lockFile(f.cfg.Backing))
			if err == nil {
				err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
			}
			if err != nil {
				f.t.Fatal(err)
			}
			f.t.Cleanup(func() { lock.Close() })
		}, func(err error) bool { e, ok := errors.AsType[*InUseError](err); return ok && e.PID == os.Getpid() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			c.do(f)
			_, locked := flockHolder(lockFile(f.cfg.Backing))
			if _, err := Start(t.Context(), f.cfg); !c.is(err) {
				t.Errorf("%T: %v", err, err)
			}
			if mine, err := ours(f.cfg.Mountpoint); mine || err != nil {
				t.Errorf("mounted: %v, %v", mine, err)
			}
			if _, now := flockHolder(lockFile(f.cfg.Backing)); now != locked {
				t.Errorf("locked: %v before, %v now", locked, now)
			}
			if _, entries, err := entriesIn(f.cfg.RunDir); err == nil && len(entries) != 0 {
				t.Errorf("entries: %+v", entries)
			}
		})
	}
}

func TestZeroConfig(t *testing.T) {
	f := newFixture(t)
	f.cfg = Config{Backing: f.cfg.Backing, Mountpoint: f.cfg.Mountpoint, RunDir: f.cfg.RunDir, Openers: f.cfg.Openers}
	d := f.start()
	if s := d.Status(); s.CheckInterval != "15m" || s.Grace != "0s" {
		t.Errorf("%+v", s)
	}
	m, err := topMount(f.cfg.Mountpoint)
	if err != nil || m.Source != DefaultFSName {
		t.Errorf("%+v, %v", m, err)
	}
}

// abort ends a mount's connection as the kernel does when its daemon is
// killed.
func (f *fixture) abort(d *Daemon) {
	f.t.Helper()
	control := mkdir(f.t, f.dir, "fusectl")
	if err := unix.Mount("none", control, "fusectl", 0, ""); err != nil {
		f.t.Fatal(err)
	}
	defer unix.Unmount(control, unix.MNT_DETACH)
	_, minor, _ := strings.Cut(d.device, ":")
	if err := os.WriteFile(filepath.Join(control, minor, "abort"), []byte("1"), 0); err != nil {
		f.t.Fatal(err)
	}
	within(f.t, "the aborted daemon's end", d.Done())
}

func TestDeadMount(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	write(t, filepath.Join(f.cfg.Mountpoint, "data"), "x")
	if n, err := clearDead(t.Context(), f.cfg.Mountpoint); n != 0 || err != nil {
		t.Fatalf("cleared a living mount: %d, %v", n, err)
	}
	f.abort(d)
	if !dead(f.cfg.Mountpoint) {
		t.Error("the mount is not dead")
	}
	if path, err := canonical(f.cfg.Mountpoint); err != nil || path != f.cfg.Mountpoint {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := StatusOf(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint); err == nil {
		t.Error("a dead mount without a record has a status")
	}
	f.start()
	if !strings.Contains(f.log.String(), "cleaned up") {
		t.Error(f.log)
	}
	if mounts, err := mountsAt(f.cfg.Mountpoint); err != nil || len(mounts) != 1 {
		t.Errorf("%+v, %v", mounts, err)
	}
	// The write was acknowledged by nobody's sync; the file is whole all the same.
	if data, err := os.ReadFile(filepath.Join(f.cfg.Mountpoint, "data")); err != nil || len(data) > 1 {
		t.Errorf("%q, %v", data, err)
	}
}

func TestUnmountDead(t *testing.T) {
	f := newFixture(t)
	f.abort(f.start())
	result, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, 0)
	if err != nil || !result.Dead {
		t.Errorf("%+v, %v", result, err)
	}
	if _, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, 0); err == nil {
		t.Error("unmounted twice")
	}
}

// With another run directory a mount can be unmounted, but not asked.
func TestUnmountUnknownRunDir(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	other := filepath.Join(f.dir, "other-run")
	held, err := os.Open(f.cfg.Mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Unmount(t.Context(), other, f.cfg.Mountpoint, 0)
	if _, ok := errors.AsType[*BusyError](err); !ok {
		t.Errorf("while in use: %v", err)
	}
	if _, err := StatusOf(t.Context(), other, f.cfg.Mountpoint); err == nil || !strings.Contains(err.Error(), "another run directory") {
		t.Errorf("status: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Unmount(t.Context(), other, f.cfg.Mountpoint, 0); err != nil {
		t.Error(err)
	}
	within(t, "Done", d.Done())
}

// A mount of which another mount namespace has a copy is not ended by an
// unmount here; the daemon serves the copy until it goes, too.
func TestNamespaceHolds(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	write(t, filepath.Join(f.cfg.Mountpoint, "data"), "hello")
	// It must not hold the mounts of tests that run beside this one.
	holder := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`findmnt -rn -t fuse.akvfs -o TARGET | grep -vxF "$(dirname "$1")" | xargs -r umount -i -c -l
		echo ready; read line; cat "$1"`, "sh", filepath.Join(f.cfg.Mountpoint, "data"))
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, len("ready\n"))
	if _, err := out.Read(ready); err != nil {
		t.Fatal(err)
	}
	if err := d.tryUnmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if isClosed(d.Done()) {
		t.Fatal("it has ended")
	}
	if _, ok := errors.AsType[*LingeringError](d.awaitEnd(time.Millisecond)); !ok {
		t.Error("nobody hears of the namespace")
	}
	fmt.Fprintln(in)
	answer := make([]byte, 100)
	n, err := out.Read(answer)
	if err != nil || string(answer[:n]) != "hello" {
		t.Errorf("the namespace reads %q, %v", answer[:n], err)
	}
	if err := holder.Wait(); err != nil {
		t.Error(err)
	}
	within(t, "Done", d.Done())
}

// An end that takes long by itself is not laid at a namespace's door.
func TestSlowEnd(t *testing.T) {
	d := newFixture(t).start()
	thaw, err := d.volume.Freeze() // which the close waits for
	if err != nil {
		t.Fatal(err)
	}
	if err := d.tryUnmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.server.Wait()
	told := make(chan error, 1)
	go func() { told <- d.awaitEnd(time.Nanosecond) }()
	select {
	case err := <-told:
		t.Errorf("before the end: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	thaw()
	if err := <-told; err != nil {
		t.Error(err)
	}
	within(t, "Done", d.Done())
}

// A volume under two keys opens with either, and its status tells of both.
func TestTwoKeys(t *testing.T) {
	f := newFixture(t)
	second, err := file.Create(filepath.Join(f.dir, "second.json"), file.Options{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	d := f.start()
	provider, err := f.cfg.Openers.Open(second.KeyID(), keymgr.ProviderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.keys.master.AddKey(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	if s := d.Status(); len(s.AKIs) != 2 || s.AKIs[1].KeyID != second.KeyID() || s.AKIs[1].State != KeyUnknown {
		t.Errorf("%+v", s.AKIs)
	}
	if err := d.Unmount(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Delete(); err != nil {
		t.Fatal(err)
	}
	d = f.start()
	s := d.Status()
	if s.AKIs[0].State != KeyRevoked || !strings.Contains(s.AKIs[0].Error, "KeyDeleted") || s.AKIs[1].State != KeyAvailable {
		t.Errorf("%+v", s.AKIs)
	}
	if err := f.store.Recover(); err != nil {
		t.Fatal(err)
	}
	d.check(t.Context(), d.keys.current())
	if s := d.Status(); s.AKIs[0].State != KeyAvailable || s.AKIs[1].State != KeyAvailable {
		t.Errorf("%+v", s.AKIs)
	}
	if err := d.Unmount(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*file.Store{f.store, second} {
		if err := s.Disable(""); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Start(t.Context(), f.cfg)
	all, ok := errors.AsType[*keymgr.UnopenedError](err)
	if !ok || len(all.Errors) != 2 {
		t.Errorf("%v", err)
	}
}

func TestReadOnly(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	data := filepath.Join(f.cfg.Mountpoint, "data")
	write(t, data, "hello")
	if err := d.Unmount(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	f.cfg.ReadOnly = true
	d = f.start()
	if !d.Status().ReadOnly {
		t.Error("the status does not say so")
	}
	if got, err := os.ReadFile(data); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(data, nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v", err)
	}
	if err := os.Remove(data); !errors.Is(err, unix.EROFS) {
		t.Errorf("removing: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	f := newFixture(t)
	notEmpty := mkdir(t, f.dir, "full")
	write(t, filepath.Join(notEmpty, "x"), "")
	plain := filepath.Join(f.dir, "plain")
	write(t, plain, "")
	half := mkdir(t, f.dir, "half")
	mkdir(t, half, ".akvfs")
	write(t, filepath.Join(half, "x"), "")
	for _, c := range []struct {
		backing string
		problem Problem
	}{
		{filepath.Join(f.dir, "none"), ProblemMissing},
		{plain, ProblemNotDirectory},
		{notEmpty, ProblemNotEmpty},
		{half, ProblemIsVolume}, // one that has lost its description
		{f.cfg.Backing, ProblemIsVolume},
	} {
		cfg := f.create()
		cfg.Backing = c.backing
		cfg.Openers = keymgr.Openers{file.Scheme: func(string, keymgr.ProviderOptions) (keymgr.Provider, error) {
			t.Errorf("%s: the key was asked for", c.backing)
			return nil, errors.New("not now")
		}}
		_, err := Create(t.Context(), cfg)
		if path, ok := errors.AsType[*PathError](err); !ok || path.Problem != c.problem {
			t.Errorf("%s: %v, want %q", c.backing, err, c.problem)
		}
	}
	f.start()
	cfg := f.create()
	cfg.Backing = mkdir(t, f.cfg.Mountpoint, "nested")
	_, err := Create(t.Context(), cfg)
	if path, ok := errors.AsType[*PathError](err); !ok || path.Problem != ProblemInsideVolume {
		t.Errorf("nested: %v", err)
	}
}

func TestErrorTexts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&PathError{RoleMountpoint, "/m", ProblemInsideBacking}, "mount point /m lies inside the backing directory"},
		{&BusyError{Mountpoint: "/m"}, "/m is in use"},
		{&InUseError{Backing: "/b"}, "volume /b is in use"},
		{&InUseError{Backing: "/b", PID: 7}, "volume /b is in use (process 7)"},
		{&InUseError{Backing: "/b", Mountpoint: "/m", PID: 7}, "volume /b is mounted at /m already (process 7)"},
		{&NotMountedError{"/m"}, "no akvfs volume is mounted at /m"},
		{&VolumeError{"/b", volume.ErrNotVolume}, "/b: not an akvfs volume"},
		{&LingeringError{"/m"}, "/m is unmounted, but another mount namespace still holds it; the daemon serves until that one lets go"},
		{&MountpointTakenError{"/m"}, "another akvfs volume is mounted at /m, by another user or with another run directory"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("%q, want %q", c.err.Error(), c.want)
		}
	}
}
