package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/scripts/rig"
)

// The sweeps of growth: what a tree costs that has ever more files in it, and
// what a file costs that grows ever larger.
const (
	sweepFiles  = "files"  // a tree against the number of its files
	sweepSparse = "sparse" // one sparse file against its size in MiB
)

var (
	sweptFiles  = []int{10, 1000, 100_000}
	sweptSparse = []int{1, 10, 100, 1000, 10_000, 100_000}
)

// perDir is how many files a directory gets.
const perDir = 1000

func fileSweep(ctx context.Context, b *bench, dir string) (all []sample, err error) {
	for _, n := range sweptFiles {
		g := &growth{b: b, root: filepath.Join(dir, fmt.Sprint(n)), n: n}
		for _, step := range []func(context.Context) error{g.create, g.remount, g.list, g.rewrap, g.unlink} {
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			if err := step(ctx); err != nil {
				return nil, err
			}
		}
		all = append(all, g.samples...)
	}
	return all, nil
}

// growth is one place of the sweep.
type growth struct {
	b       *bench
	root    string
	n       int
	samples []sample
}

func (g *growth) note(metric, unit string, value float64) {
	g.samples = append(g.samples, sample{at(g.n, metric), unit, value})
}

// took notes how long something took, or how many files a second that is.
func (g *growth) took(metric string, begin time.Time) {
	g.note(metric, "files/s", float64(g.n)/time.Since(begin).Seconds())
}

func (g *growth) file(i int) string {
	return filepath.Join(g.root, fmt.Sprintf("d%05d", i/perDir), fmt.Sprintf("file-%07d", i))
}

// create makes the files, of 100 bytes, and waits until they are on the disk.
func (g *growth) create(ctx context.Context) error {
	begin := time.Now()
	content := []byte(strings.Repeat("0123456789", 10))
	for i := range g.n {
		if i%perDir == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := os.MkdirAll(filepath.Dir(g.file(i)), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(g.file(i), content, 0o644); err != nil {
			return err
		}
	}
	err := syncOf(g.root)
	g.took("", begin)
	return err
}

func syncOf(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// remount takes the time of a mount that has just been made durable, and what
// the daemon's memory is with nothing open.
func (g *growth) remount(ctx context.Context) error {
	if g.b.PID() == 0 {
		return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	}
	if err := g.b.Unmount(ctx); err != nil {
		return err
	}
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return err
	}
	begin := time.Now()
	if err := g.b.Mount(ctx); err != nil {
		return err
	}
	g.note("mount", "ms", float64(time.Since(begin).Microseconds())/1000)
	g.memory("memory, mounted")
	return nil
}

func (g *growth) memory(metric string) {
	if mib, ok := residentMemory(g.b.PID()); ok {
		g.note(metric, "MiB", mib)
	}
}

// residentMemory is that of a process now, in MiB.
func residentMemory(pid int) (mib float64, ok bool) {
	if pid == 0 {
		return 0, false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	return parseMemory(string(status), "VmRSS:")
}

// list is ls -lR of a tree that nothing is cached of.
func (g *growth) list(ctx context.Context) error {
	begin := time.Now()
	out, err := exec.CommandContext(ctx, "ls", "-lR", g.root).Output()
	if err != nil {
		return err
	}
	g.took("list", begin)
	if lines := strings.Count(string(out), "file-"); lines != g.n {
		return fmt.Errorf("ls -lR lists %d files, not %d", lines, g.n)
	}
	g.memory("memory, listed")
	return nil
}

// rewrap gives the volume a new master key, and every file key a new wrap.
func (g *growth) rewrap(ctx context.Context) error {
	a, ok := g.b.System.(*rig.Akvfs)
	if !ok {
		return nil
	}
	begin := time.Now()
	_, err := a.Run(ctx, "master-key", "rotate", a.Dir(), "--wait")
	g.took("re-wrap", begin)
	return err
}

// unlink removes the files, and waits until that is on the disk.
func (g *growth) unlink(ctx context.Context) error {
	begin := time.Now()
	for i := range g.n {
		if i%perDir == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := os.Remove(g.file(i)); err != nil {
			return err
		}
	}
	err := syncOf(g.root)
	g.took("unlink", begin)
	return err
}

func sparseSweep(ctx context.Context, b *bench, dir string) (all []sample, err error) {
	for _, mib := range sweptSparse {
		name := filepath.Join(dir, fmt.Sprint(mib))
		if err := makeSparse(name, int64(mib)<<20); err != nil {
			return nil, err
		}
		if err := b.cold(ctx); err != nil {
			return nil, err
		}
		samples, err := useSparse(name, int64(mib)<<20)
		if err != nil {
			return nil, err
		}
		for _, s := range samples {
			s.Metric = at(mib, s.Metric)
			all = append(all, s)
		}
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sparseBlocks is how many blocks of a sparse file hold data.
const sparseBlocks = 64

// makeSparse makes a file of a size with data here and there, on the disk.
func makeSparse(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	block := []byte(strings.Repeat("sparse..", 512))
	for i := range int64(sparseBlocks) {
		if _, err := f.WriteAt(block, size/sparseBlocks*i&^4095); err != nil {
			return err
		}
	}
	return f.Sync()
}

// useSparse takes the times of an open, of reads at random, of data and of
// holes alike, and of a truncation to half the size with a sync.
func useSparse(name string, size int64) ([]sample, error) {
	begin := time.Now()
	us := func() float64 {
		defer func() { begin = time.Now() }()
		return float64(time.Since(begin).Nanoseconds()) / 1000
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	samples := []sample{{"open", "µs", us()}}
	r, block, times := rand.New(rand.NewPCG(1, uint64(size))), make([]byte, 4096), []float64{}
	us()
	for range 200 {
		off := r.Int64N(size/4096) * 4096
		if r.IntN(2) == 0 {
			off = size / sparseBlocks * r.Int64N(sparseBlocks) &^ 4095
		}
		if _, err := f.ReadAt(block, off); err != nil {
			return nil, err
		}
		times = append(times, us())
	}
	samples = append(samples, sample{"", "µs", median(times)})
	us()
	if err := errors.Join(f.Truncate(size/2), f.Sync()); err != nil {
		return nil, err
	}
	return append(samples, sample{"truncate", "µs", us()}), nil
}

// growthPlots are the drawings of both sweeps.
func (r *report) growthPlots() map[string]drawing {
	plots := map[string]drawing{}
	for _, p := range []struct {
		file, load, metric, title, x, y string
		ticks                           []int
		log                             bool
	}{
		{"growth-create", sweepFiles, "", "create files of 100 bytes", "files", "files per second", sweptFiles, false},
		{"growth-unlink", sweepFiles, "unlink", "unlink", "files", "files per second", sweptFiles, false},
		{"growth-list", sweepFiles, "list", "ls -lR, cold", "files", "files per second", sweptFiles, false},
		{"growth-mount", sweepFiles, "mount", "mount, cold", "files", "ms", sweptFiles, false},
		{"growth-memory", sweepFiles, "memory, mounted", "the daemon's memory, mounted", "files", "MiB", sweptFiles, false},
		{"growth-listed", sweepFiles, "memory, listed", "the daemon's memory after ls -lR", "files", "MiB", sweptFiles, false},
		{"growth-rewrap", sweepFiles, "re-wrap", "re-wrap all file keys", "files", "files per second", sweptFiles, false},
		{"growth-open", sweepSparse, "open", "open a sparse file, cold", "MiB", "µs", sweptSparse, true},
		{"growth-read", sweepSparse, "", "random read of 4 KiB, cold, median", "MiB", "µs", sweptSparse, true},
		{"growth-truncate", sweepSparse, "truncate", "truncate to half, and fsync", "MiB", "µs", sweptSparse, true},
	} {
		if curves := r.swept(p.load, p.metric); len(curves) > 0 {
			plots[p.file+".svg"] = drawing{title: p.title, x: p.x, y: p.y, ticks: p.ticks, log: p.log, curves: curves}
		}
	}
	return plots
}
