// Command bench runs the same loads on the bare file system, on akvfs, on
// gocryptfs and, if a command for it is given, on a pass-through, on the same
// disk, in one run and in turn: every round runs each load on each of them, in
// an order that rotates. It prints medians and their ratios as a table, and
// writes everything that it measured as JSON.
//
// It measures and does not judge. A load is in loads.go and its neighbours,
// the statistics are in result.go, what is said about the machine is in
// machine.go; the file systems come from package rig.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// config is what the command line says.
type config struct {
	systems, loads    []string
	rounds            int
	params            params
	out, dir, disk    string
	akvfs             string
	mountOptions      []string
	passthrough, note string
	plots             string
	quick             bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*config, error) {
	c := &config{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	systems := f.String("fs", "bare,akvfs,gocryptfs", "file systems, of "+strings.Join(rig.Kinds(), ", "))
	names := f.String("loads", strings.Join(usualLoads(), ","), "loads to run, of "+strings.Join(loadNames(), ", "))
	f.StringVar(&c.plots, "plots", "", "the directory for the plots of the sweeps: threads, sizes, files and sparse")
	options := f.String("mount-options", "", "akvfs: further -o options")
	f.BoolVar(&c.quick, "quick", false, "one short round, 4 minutes at most; without it 25 minutes at most")
	f.IntVar(&c.rounds, "rounds", 0, "rounds (3; quick: 1)")
	f.IntVar(&c.params.Seconds, "seconds", 0, "how long a timed load runs (5; quick: 2)")
	f.IntVar(&c.params.Records, "records", 0, "WiredTiger: records of 1 KiB (200000; quick: 50000)")
	f.IntVar(&c.params.Threads, "threads", 4, "WiredTiger: threads; pgbench: clients")
	f.IntVar(&c.params.CacheMiB, "cache", 64, "WiredTiger: cache in MiB")
	f.IntVar(&c.params.FileMiB, "file", 0, "size of the file that is read and written in sequence, in MiB (1024; quick: 256)")
	f.IntVar(&c.params.SnapshotMiB, "snapshot", 0, "size of the volume that snapshots are taken of, in MiB (1024; quick: 256)")
	f.IntVar(&c.params.SnapshotFiles, "snapshot-files", 1000, "files in it")
	f.IntVar(&c.params.ListFiles, "list", 0, "files to list (100000; quick: 10000)")
	f.BoolVar(&c.params.Awake, "awake", false, "keep processors from deep sleep for all file systems alike, as akvfs does for itself")
	f.StringVar(&c.out, "out", "build/bench.json", "where the JSON goes")
	f.StringVar(&c.dir, "dir", "/var/tmp", "work directory, on the disk to measure")
	f.StringVar(&c.disk, "disk", "host", "host: the work directory's own file system; ext4 or xfs: a fresh one on a loop device in it")
	f.StringVar(&c.akvfs, "akvfs", "bin/akvfs", "the akvfs binary")
	f.StringVar(&c.passthrough, "passthrough", "", "the command that serves {backing} at {mount} in the foreground")
	f.StringVar(&c.note, "note", "", "a word about this run, for the JSON")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	c.systems, c.loads, c.mountOptions = split(*systems), split(*names), split(*options)
	c.defaults()
	return c, c.check()
}

func split(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return s == "" })
}

func (c *config) defaults() {
	rounds, p := 3, params{Seconds: 5, Records: 200000, FileMiB: 1024, SnapshotMiB: 1024, ListFiles: 100000}
	if c.quick {
		rounds, p = 1, params{Seconds: 2, Records: 50000, FileMiB: 256, SnapshotMiB: 256, ListFiles: 10000}
	}
	c.rounds = cmp.Or(c.rounds, rounds)
	c.params.Seconds = cmp.Or(c.params.Seconds, p.Seconds)
	c.params.Records = cmp.Or(c.params.Records, p.Records)
	c.params.FileMiB = cmp.Or(c.params.FileMiB, p.FileMiB)
	c.params.SnapshotMiB = cmp.Or(c.params.SnapshotMiB, p.SnapshotMiB)
	c.params.ListFiles = cmp.Or(c.params.ListFiles, p.ListFiles)
	if c.passthrough != "" && !slices.Contains(c.systems, "passthrough") {
		c.systems = append(c.systems, "passthrough")
	}
}

func (c *config) check() error {
	for _, s := range c.systems {
		if !slices.Contains(rig.Kinds(), s) {
			return fmt.Errorf("no file system %q; there are %s", s, strings.Join(rig.Kinds(), ", "))
		}
	}
	for _, l := range c.loads {
		if !slices.Contains(loadNames(), l) {
			return fmt.Errorf("no load %q; there are %s", l, strings.Join(loadNames(), ", "))
		}
	}
	if len(c.systems) == 0 || len(c.loads) == 0 || c.rounds < 1 {
		return errors.New("nothing to do")
	}
	if c.params.Seconds < 1 || c.params.Records < 2000 || c.params.FileMiB < 64 || c.params.Threads < 1 || c.params.CacheMiB < 1 {
		return errors.New("too small: at least 1 second, 2000 records, a file of 64 MiB, 1 thread, 1 MiB of cache")
	}
	if c.params.SnapshotMiB < 64 || c.params.SnapshotFiles < 1 || c.params.SnapshotMiB<<20/c.params.SnapshotFiles < pageBytes || c.params.ListFiles < 1 {
		return errors.New("too small: at least 64 MiB to take snapshots of, in files of a block, and one file to list")
	}
	return nil
}

// run sets up the file systems, measures, and reports.
func run(ctx context.Context, c *config) (err error) {
	if os.Getuid() != 0 {
		return errors.New("this mounts file systems and drops caches: run it as root")
	}
	work, err := rig.NewWorkDir(ctx, c.dir)
	if err != nil {
		return err
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = errors.Join(err, work.Close(cleanup))
	}()
	base := work.Path
	if c.disk != "host" {
		disk, err := rig.NewDisk(ctx, work.Path, c.disk, 32<<30)
		if err != nil {
			return err
		}
		defer disk.Close() // the work directory's clean-up tells of failures
		base = disk.Dir
	}
	if c.params.Awake {
		sleep, err := keepAwake()
		if err != nil {
			return err
		}
		defer sleep()
	}
	report := newReport(c, describe(base))
	if err := measure(ctx, c, base, work.Path, report); err != nil {
		return err
	}
	report.finish()
	fmt.Print(report.table())
	err = report.write(c.out)
	if c.plots != "" {
		err = errors.Join(err, report.plotFiles(c.plots))
	}
	return errors.Join(err, report.failed())
}

// measure mounts all file systems and runs the rounds.
func measure(ctx context.Context, c *config, base, scratch string, report *report) error {
	var benches []*bench
	defer func() {
		for _, b := range benches {
			b.close()
		}
	}()
	for _, kind := range c.systems {
		dir := filepath.Join(base, "fs-"+kind)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		b, err := newBench(ctx, c, kind, dir, scratch)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		benches = append(benches, b)
	}
	turn := 0
	for round := range c.rounds {
		for _, name := range c.loads {
			for _, b := range rotated(benches, turn) {
				begin := time.Now()
				samples, err := b.run(ctx, name)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				report.add(b.Kind(), name, samples, err)
				progress(round, c.rounds, name, b.Kind(), time.Since(begin), samples, err)
			}
			turn++
		}
	}
	return nil
}

// rotated puts another one first at each turn: what comes after a load on
// another file system finds a busier disk.
func rotated[T any](all []T, turn int) []T {
	n := turn % len(all)
	return slices.Concat(all[n:], all[:n])
}

func progress(round, rounds int, load, kind string, took time.Duration, samples []sample, err error) {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "  failed: %v", err)
	}
	for _, s := range samples {
		fmt.Fprintf(&b, "  %s %s %s", s.Metric, number(s.Value), s.Unit)
	}
	fmt.Fprintf(os.Stderr, "round %d/%d %-11s %-11s %5.1f s%s\n", round+1, rounds, load, kind, took.Seconds(), b.String())
}
