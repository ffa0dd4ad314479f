package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/akvfs/akvfs/scripts/rig"
)

// load is something to run in an empty directory of a file system.
type load struct {
	name  string
	title string // for the table
	run   func(ctx context.Context, b *bench, dir string) ([]sample, error)
}

// loads are all of them, in the order of the table.
func loads() []load {
	return []load{
		{"wiredtiger", "WiredTiger", wiredTiger},
		{"append1", "append 4 KiB + fdatasync, 1 job", fioAppend(1)},
		{"append8", "append 4 KiB + fdatasync, 8 jobs", fioAppend(8)},
		{"overwrite1", "overwrite 4 KiB + fdatasync, 1 job", fioOverwrite(1)},
		{"overwrite8", "overwrite 4 KiB + fdatasync, 8 jobs", fioOverwrite(8)},
		{"seqwrite", "sequential write, with fsync at the end", fioSequentialWrite},
		{"seqread", "sequential read, cold", fioSequentialRead},
		{"randread", "random read 4 KiB, cold", fioRandomRead},
		{"randwrite", "random write 4 KiB, buffered", fioRandomWrite},
		{"sqlite", "SQLite, write-ahead log, each commit synced", sqlite},
		{"pgbench", "PostgreSQL, pgbench", pgbench},
		{"recovery", "mount after the daemon was killed", recoveryTime},
		{"snapshot", "snapshot on XFS", snapshots},
		{"listing", "list files", listing},
		{sweepThreads, "append 4 KiB + fdatasync, by jobs", threadSweep},
		{sweepSizes, "sequential read, cold, by MiB", sizeSweep},
		{sweepFiles, "a tree, by files", fileSweep},
		{sweepSparse, "a sparse file, cold, by MiB", sparseSweep},
	}
}

// usualLoads are all but the sweeps.
func usualLoads() []string { return loadNames()[:len(loads())-4] }

func loadNames() (names []string) {
	for _, l := range loads() {
		names = append(names, l.name)
	}
	return names
}

// loadNamed finds a load that config.check has seen.
func loadNamed(name string) load {
	for _, l := range loads() {
		if l.name == name {
			return l
		}
	}
	panic("no load " + name)
}

// wiredTiger is the bulk load, the mixed load and the commits that wait, on
// one database.
func wiredTiger(ctx context.Context, b *bench, dir string) ([]sample, error) {
	var samples []sample
	for _, mode := range []string{"load", "mixed", "commit"} {
		args := []string{mode, "--home", filepath.Join(dir, "db"), "--ledger", filepath.Join(b.scratch, b.Kind()+".ledger"),
			"--records", fmt.Sprint(b.Records), "--threads", fmt.Sprint(b.Threads), "--seconds", fmt.Sprint(b.Seconds),
			"--cache-mb", fmt.Sprint(b.CacheMiB)}
		out, err := rig.Command{Path: filepath.Join(b.repo, "bin/wtload"), Args: args}.Run(ctx)
		if err != nil {
			return nil, err
		}
		more, err := parseOps(mode, out)
		if err != nil {
			return nil, err
		}
		samples = append(samples, more...)
	}
	return samples, nil
}

// parseOps reads what wtload and sqlite.py print.
func parseOps(metric, out string) ([]sample, error) {
	var r struct {
		Ops float64 `json:"ops_per_second"`
		P50 float64 `json:"p50_us"`
		P99 float64 `json:"p99_us"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return nil, fmt.Errorf("%w in %q", err, out)
	}
	if r.Ops <= 0 {
		return nil, fmt.Errorf("no rate in %q", out)
	}
	samples := []sample{{metric, "/s", r.Ops}}
	if r.P50 > 0 {
		samples = append(samples, sample{join(metric, "median"), "µs", r.P50}, sample{join(metric, "p99"), "µs", r.P99})
	}
	return samples, nil
}

// join names a metric of a metric; "" is the load's own.
func join(metric, of string) string {
	if metric == "" {
		return of
	}
	return metric + " " + of
}

func sqlite(ctx context.Context, b *bench, dir string) ([]sample, error) {
	ledger := filepath.Join(b.scratch, b.Kind()+".sqlite-ledger") // a new database, a new ledger
	if err := os.Remove(ledger); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out, err := rig.Command{Path: b.python, Args: []string{filepath.Join(b.repo, "scripts/loads/sqlite.py"), "run",
		"--db", filepath.Join(dir, "db"), "--ledger", ledger, "--journal", "wal", "--seconds", fmt.Sprint(b.Seconds)}}.Run(ctx)
	if err != nil {
		return nil, err
	}
	return parseOps("", out)
}
