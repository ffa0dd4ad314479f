package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/scripts/rig"
)

// params size the loads.
type params struct {
	Seconds  int `json:"seconds"`
	Records  int `json:"records"`
	Threads  int `json:"threads"`
	CacheMiB int `json:"cache_mib"`
	FileMiB  int `json:"file_mib"`
	// Of the volume that snapshots are taken of, and of the list.
	SnapshotMiB   int `json:"snapshot_mib"`
	SnapshotFiles int `json:"snapshot_files"`
	ListFiles     int `json:"list_files"`
	// Awake: processors are kept from deep sleep whatever runs.
	Awake bool `json:"awake"`
}

// sample is one figure.
type sample struct {
	Metric string // "" for the load's own figure
	Unit   string
	Value  float64
}

// bench is one file system, mounted.
type bench struct {
	rig.System
	params
	repo, python string
	scratch      string // beside it, on no file system under test
	akvfs        string // the binary
	loadTimeout  time.Duration
}

// newBench makes and mounts a file system.
func newBench(ctx context.Context, c *config, kind, dir, scratch string) (*bench, error) {
	repo, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	venv, err := rig.Command{Path: filepath.Join(repo, "scripts/setup"), Args: []string{"--venv"}}.Run(ctx)
	if err != nil {
		return nil, err
	}
	s, err := rig.New(kind, dir, rig.Options{Akvfs: c.akvfs, MountOptions: c.mountOptions, Passthrough: c.passthrough})
	if err != nil {
		return nil, err
	}
	b := &bench{System: s, params: c.params, repo: repo, python: filepath.Join(strings.TrimSpace(venv), "bin/python"), scratch: scratch, akvfs: c.akvfs,
		loadTimeout: c.params.timeout()}
	if err := b.Init(ctx); err != nil {
		return nil, err
	}
	if err := b.Mount(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// timeout is how long a load may take, on a disk and processors that others
// use, too.
func (p *params) timeout() time.Duration {
	return 5*time.Minute + 4*time.Duration(p.Seconds)*time.Second +
		time.Duration(p.SnapshotMiB)*snapshotPatience + time.Duration(p.ListFiles)*listPatience
}

func (b *bench) close() {
	if err := b.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// run runs one load in a directory of its own and adds the daemon's peak
// memory. What it leaves to be written is written before the next one starts.
func (b *bench) run(ctx context.Context, name string) ([]sample, error) {
	ctx, cancel := context.WithTimeout(ctx, b.loadTimeout)
	defer cancel()
	watchdog := time.AfterFunc(b.loadTimeout+time.Minute, b.Abort) // a call that hangs knows no context
	defer watchdog.Stop()
	if at, err := rig.MountsAt(b.Dir()); b.PID() > 0 && err == nil && len(at) == 0 { // it was aborted
		if err := b.Mount(ctx); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(b.Dir(), name)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return nil, err
	}
	unix.Sync()
	resetPeak(b.PID())
	samples, err := loadNamed(name).run(ctx, b, dir)
	if peak, ok := peakMemory(b.PID()); ok {
		samples = append(samples, sample{"memory", "MiB", peak})
	}
	err = errors.Join(err, os.RemoveAll(dir))
	unix.Sync()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, b.Log())
	}
	return samples, err
}

// cold remounts and drops the kernel's caches, so that the next read comes
// from the disk and through every layer.
func (b *bench) cold(ctx context.Context) error {
	if err := b.Unmount(ctx); err != nil {
		return err
	}
	if err := b.Mount(ctx); err != nil {
		return err
	}
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// resetPeak lets the kernel count a process's peak memory from now on.
func resetPeak(pid int) {
	if pid > 0 {
		// Without it the peak is that of the whole run: no reason to stop.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// peakMemory is the highest resident memory of a process, in MiB.
func peakMemory(pid int) (mib float64, ok bool) {
	if pid == 0 {
		return 0, false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	return parseMemory(string(status), "VmHWM:")
}

// parseMemory finds a line of /proc/PID/status, in MiB.
func parseMemory(status, field string) (mib float64, ok bool) {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == field && f[2] == "kB" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err == nil
		}
	}
	return 0, false
}
