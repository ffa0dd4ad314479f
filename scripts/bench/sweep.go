package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Sweeps measure one thing against another, for the plots. A sample's metric
// is the place on the horizontal axis.
const (
	sweepThreads = "threads" // appends with fdatasync against jobs
	sweepSizes   = "sizes"   // a cold sequential read against the file's size in MiB
)

var (
	sweptThreads = []int{1, 2, 4, 8, 16}
	sweptMiB     = []int{1, 4, 16, 64, 256, 1024}
)

func threadSweep(ctx context.Context, b *bench, dir string) (all []sample, err error) {
	for _, jobs := range sweptThreads {
		samples, err := fioAppend(jobs)(ctx, b, dir)
		if err != nil {
			return nil, err
		}
		for _, s := range samples {
			s.Metric = at(jobs, s.Metric)
			all = append(all, s)
		}
	}
	return all, nil
}

func sizeSweep(ctx context.Context, b *bench, dir string) (all []sample, err error) {
	for _, mib := range sweptMiB {
		if mib > b.FileMiB {
			break
		}
		if err := errors.Join(b.prepare(ctx, dir, 1, mib), b.cold(ctx)); err != nil {
			return nil, err
		}
		j, err := b.fio(ctx, dir, "--rw=read", "--bs=1m", fmt.Sprintf("--size=%dm", mib))
		samples, err := j.rate(err, j.readSide())
		if err != nil {
			return nil, err
		}
		samples[0].Metric = at(mib, "")
		all = append(all, samples...)
	}
	return all, nil
}

// at is the name of a metric at a place of a sweep.
func at(place int, metric string) string { return strings.TrimSpace(fmt.Sprint(place, " ", metric)) }

// plotFiles are the plots that a report has the figures for.
func (r *report) plotFiles(dir string) error {
	var err error
	if figures := r.swept(sweepThreads, ""); len(figures) > 0 {
		err = errors.Join(err,
			drawing{
				title: "append 4 KiB + fdatasync", x: "jobs", y: "per second", ticks: sweptThreads, curves: figures,
			}.save(filepath.Join(dir, "threads.svg")),
			drawing{
				title: "append 4 KiB + fdatasync, 1 job: how long a sync takes", x: "percentile", y: "µs", log: true, curves: r.percentiles(),
				names: []string{"50", "99", "99.9"},
			}.save(filepath.Join(dir, "fsync.svg")))
	}
	if figures := r.swept(sweepSizes, ""); len(figures) > 0 {
		err = errors.Join(err, drawing{
			title: "sequential read, cold", x: "MiB", y: "MiB per second", ticks: sweptMiB, curves: figures,
		}.save(filepath.Join(dir, "read.svg")))
	}
	for name, d := range r.growthPlots() {
		err = errors.Join(err, d.save(filepath.Join(dir, name)))
	}
	return err
}

// swept are the medians of a sweep by file system: of its own figure, or of
// another one that it has at each place.
func (r *report) swept(load, metric string) map[string][]point {
	places := map[string][]int{sweepThreads: sweptThreads, sweepSizes: sweptMiB, sweepFiles: sweptFiles, sweepSparse: sweptSparse}[load]
	figures := map[string][]point{}
	for _, x := range places {
		res := r.find(load, at(x, metric))
		if res == nil {
			continue
		}
		for _, system := range r.Systems {
			if y, ok := res.Median[system]; ok {
				figures[r.heading(system)] = append(figures[r.heading(system)], point{X: float64(x), Y: y})
			}
		}
	}
	return figures
}

// percentiles are those of a single job's syncs, numbered from 0.
func (r *report) percentiles() map[string][]point {
	figures := map[string][]point{}
	for i, metric := range []string{"sync median", "sync p99", "sync p99.9"} {
		res := r.find(sweepThreads, at(1, metric))
		if res == nil {
			continue
		}
		for _, system := range r.Systems {
			if y, ok := res.Median[system]; ok {
				figures[r.heading(system)] = append(figures[r.heading(system)], point{X: float64(i), Y: y})
			}
		}
	}
	return figures
}
