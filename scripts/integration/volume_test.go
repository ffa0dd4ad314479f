//go:build integration

package integration

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// diskSize is that of the sparse image of each disk.
const diskSize = 6 << 30

// patience bounds each step of a test: a program that runs, a mount.
const patience = 3 * time.Minute

// limit bounds a test's calls on the mount, which nothing else can end: after
// it the daemon is killed.
const limit = 6 * time.Minute

// volume is a mounted file system under test, and a scratch directory beside
// it that is no part of it. Its methods end the test on failure.
type volume struct {
	rig.System
	t       *testing.T
	disk    *rig.Disk
	scratch string // on the host's disk
}

// onDisks runs a test on a fresh volume on each kind of disk.
func onDisks(t *testing.T, test func(t *testing.T, v *volume)) {
	for _, fsType := range strings.Split(cmp.Or(os.Getenv("AKVFS_TEST_DISKS"), "ext4,xfs"), ",") {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			test(t, newVolume(t, fsType, rig.Options{}))
		})
	}
}

func newVolume(t *testing.T, fsType string, o rig.Options) *volume {
	t.Helper()
	scratch := newScratch(t)
	return newVolumeOn(t, scratch, newDisk(t, scratch, fsType, diskSize), o)
}

// newDisk makes a disk that lasts until the end of the test.
func newDisk(t *testing.T, base, fsType string, size int64) *rig.Disk {
	t.Helper()
	disk, err := rig.NewDisk(t.Context(), base, fsType, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return disk
}

func newVolumeOn(t *testing.T, scratch string, disk *rig.Disk, o rig.Options) *volume {
	t.Helper()
	v := &volume{t: t, scratch: scratch, disk: disk}
	var err error
	o.Akvfs = cmp.Or(os.Getenv("AKVFS_TEST_BINARY"), filepath.Join(repo, "bin/akvfs"))
	if s := os.Getenv("AKVFS_TEST_OPTIONS"); s != "" {
		o.MountOptions = append(o.MountOptions, strings.Split(s, ",")...)
	}
	kind := cmp.Or(os.Getenv("AKVFS_TEST_SYSTEM"), "akvfs")
	if v.System, err = rig.New(kind, disk.Dir, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.tearDown)
	bound := limit*time.Duration(soak) + 2*soakTime
	watchdog := time.AfterFunc(bound, func() {
		t.Errorf("not done within %v: the daemon is killed", bound)
		v.Abort()
	})
	t.Cleanup(func() { watchdog.Stop() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := v.Init(ctx); err != nil {
		t.Fatal(err)
	}
	v.mustMount()
	return v
}

func (v *volume) tearDown() {
	if v.t.Failed() && v.Log() != "" {
		v.t.Logf("the daemon's log:\n%s", v.Log())
	}
	if err := v.Close(); err != nil {
		v.t.Error(err)
	}
}

// newScratch makes a directory that every user may pass through.
func newScratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(work.Path, strings.NewReplacer("/", "-").Replace(t.Name())+"-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (v *volume) mustMount() {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	begin := time.Now()
	if err := v.Mount(ctx); err != nil {
		v.t.Fatal(err)
	}
	v.t.Logf("mounted in %v", time.Since(begin).Round(time.Millisecond))
}

func (v *volume) mustUnmount() {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	if err := v.Unmount(ctx); err != nil {
		v.t.Fatal(err)
	}
}

func (v *volume) remount() {
	v.t.Helper()
	v.mustUnmount()
	v.mustMount()
}

// mustKill kills the daemon.
func (v *volume) mustKill() {
	v.t.Helper()
	if err := v.Kill(); err != nil {
		v.t.Fatal(err)
	}
}

// start starts a load that runs until the end of the test at the latest.
func (v *volume) start(c rig.Command) *rig.Proc {
	v.t.Helper()
	p, err := rig.Start(c)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() {
		p.Kill()
		if out := p.Output(); v.t.Failed() && out != "" {
			v.t.Logf("%s wrote, at the end:\n%s", c.Path, out[max(0, len(out)-4000):])
		}
	})
	return p
}

// run runs a program and returns its standard output.
func (v *volume) run(c rig.Command) string {
	v.t.Helper()
	out, err := v.try(c)
	if err != nil {
		v.t.Fatal(err)
	}
	return out
}

func (v *volume) try(c rig.Command) (string, error) {
	ctx, cancel := context.WithTimeout(v.t.Context(), patience*time.Duration(soak))
	defer cancel()
	return c.Run(ctx)
}

// let lets a load run for a while; it fails when the load ends before.
func (v *volume) let(p *rig.Proc, d time.Duration) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), d)
	defer cancel()
	if err := p.Wait(ctx); p.Done() {
		v.t.Fatalf("the load ended by itself: %v: %s", err, p.Output())
	}
}

// eventually waits until ok says yes.
func (v *volume) eventually(what string, ok func() bool) {
	v.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) || v.t.Context().Err() != nil {
			v.t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// command is a program without further ado.
func command(path string, args ...string) rig.Command { return rig.Command{Path: path, Args: args} }

// seconds is a duration for a load's command line, soak-fold.
func seconds(n int) string { return strconv.Itoa(n * soak) }
