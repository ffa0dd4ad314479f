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

// Sizes of the files of the small-block loads, in MiB.
const (
	overwriteMiB = 64   // per job
	appendMiB    = 4096 // more than can be appended in the time
)

// fio runs one job file's worth of flags and returns what it measured.
func (b *bench) fio(ctx context.Context, dir string, flags ...string) (*fioJob, error) {
	out := filepath.Join(b.scratch, b.Kind()+".fio.json")
	if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	args := append([]string{"--name=job", "--directory=" + dir, "--ioengine=psync", "--thread", "--group_reporting", "--fallocate=none",
		"--randrepeat=0", "--output-format=json", "--output=" + out}, flags...)
	if _, err := (rig.Command{Path: "fio", Args: args, Dir: b.scratch}).Run(ctx); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return parseFio(data)
}

// prepare writes the files that a load then reads or overwrites.
func (b *bench) prepare(ctx context.Context, dir string, jobs, mib int) error {
	_, err := b.fio(ctx, dir, "--rw=write", "--bs=1m", "--end_fsync=1", fmt.Sprintf("--numjobs=%d", jobs), fmt.Sprintf("--size=%dm", mib))
	return err
}

func (b *bench) runtime() string { return fmt.Sprintf("--runtime=%d", b.Seconds) }

func fioAppend(jobs int) func(context.Context, *bench, string) ([]sample, error) {
	return func(ctx context.Context, b *bench, dir string) ([]sample, error) {
		j, err := b.fio(ctx, dir, "--rw=write", "--bs=4k", "--fdatasync=1", fmt.Sprintf("--numjobs=%d", jobs),
			fmt.Sprintf("--size=%dm", appendMiB), b.runtime())
		return j.synced(err)
	}
}

func fioOverwrite(jobs int) func(context.Context, *bench, string) ([]sample, error) {
	return func(ctx context.Context, b *bench, dir string) ([]sample, error) {
		if err := b.prepare(ctx, dir, jobs, overwriteMiB); err != nil {
			return nil, err
		}
		j, err := b.fio(ctx, dir, "--rw=randwrite", "--bs=4k", "--overwrite=1", "--fdatasync=1", "--time_based", fmt.Sprintf("--numjobs=%d", jobs),
			fmt.Sprintf("--size=%dm", overwriteMiB), b.runtime())
		return j.synced(err)
	}
}

func fioSequentialWrite(ctx context.Context, b *bench, dir string) ([]sample, error) {
	j, err := b.fio(ctx, dir, "--rw=write", "--bs=1m", "--end_fsync=1", fmt.Sprintf("--size=%dm", b.FileMiB))
	return j.rate(err, j.writeSide())
}

func fioSequentialRead(ctx context.Context, b *bench, dir string) ([]sample, error) {
	if err := b.prepareCold(ctx, dir); err != nil {
		return nil, err
	}
	j, err := b.fio(ctx, dir, "--rw=read", "--bs=1m", fmt.Sprintf("--size=%dm", b.FileMiB))
	return j.rate(err, j.readSide())
}

func fioRandomRead(ctx context.Context, b *bench, dir string) ([]sample, error) {
	if err := b.prepareCold(ctx, dir); err != nil {
		return nil, err
	}
	j, err := b.fio(ctx, dir, "--rw=randread", "--bs=4k", fmt.Sprintf("--size=%dm", b.FileMiB), b.runtime())
	return j.ops(err, j.readSide())
}

func fioRandomWrite(ctx context.Context, b *bench, dir string) ([]sample, error) {
	if err := b.prepare(ctx, dir, 1, b.FileMiB); err != nil {
		return nil, err
	}
	j, err := b.fio(ctx, dir, "--rw=randwrite", "--bs=4k", "--overwrite=1", "--time_based", fmt.Sprintf("--size=%dm", b.FileMiB), b.runtime())
	return j.ops(err, j.writeSide())
}

func (b *bench) prepareCold(ctx context.Context, dir string) error {
	if err := b.prepare(ctx, dir, 1, b.FileMiB); err != nil {
		return err
	}
	return b.cold(ctx)
}

// fioSide is one direction of a job.
type fioSide struct {
	IOs   int64   `json:"total_ios"`
	IOPS  float64 `json:"iops"`
	Bytes float64 `json:"bw_bytes"` // per second
}

// fioJob is the part of fio's JSON that is looked at.
type fioJob struct {
	Error int     `json:"error"`
	Read  fioSide `json:"read"`
	Write fioSide `json:"write"`
	Sync  struct {
		Lat struct {
			Percentile map[string]float64 `json:"percentile"` // ns
		} `json:"lat_ns"`
	} `json:"sync"`
}

func parseFio(data []byte) (*fioJob, error) {
	var out struct {
		Jobs []fioJob `json:"jobs"`
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("fio's output: %w", err)
	}
	if len(out.Jobs) != 1 {
		return nil, fmt.Errorf("fio reports %d groups, not 1", len(out.Jobs))
	}
	if out.Jobs[0].Error != 0 {
		return nil, fmt.Errorf("fio reports error %d", out.Jobs[0].Error)
	}
	return &out.Jobs[0], nil
}

func (j *fioJob) readSide() fioSide {
	if j == nil {
		return fioSide{}
	}
	return j.Read
}

func (j *fioJob) writeSide() fioSide {
	if j == nil {
		return fioSide{}
	}
	return j.Write
}

// synced reports writes a second, each of them synced, and what a sync takes.
func (j *fioJob) synced(err error) ([]sample, error) {
	samples, err := j.ops(err, j.writeSide())
	if err != nil {
		return nil, err
	}
	for _, p := range []struct{ metric, percentile string }{{"sync median", "50.000000"}, {"sync p99", "99.000000"}, {"sync p99.9", "99.900000"}} {
		ns, ok := j.Sync.Lat.Percentile[p.percentile]
		if !ok {
			return nil, fmt.Errorf("fio reports no %s", p.metric)
		}
		samples = append(samples, sample{p.metric, "µs", ns / 1000})
	}
	return samples, nil
}

func (j *fioJob) ops(err error, s fioSide) ([]sample, error) {
	if err == nil && s.IOs == 0 {
		err = errors.New("fio did nothing")
	}
	return []sample{{"", "/s", s.IOPS}}, err
}

func (j *fioJob) rate(err error, s fioSide) ([]sample, error) {
	if err == nil && s.IOs == 0 {
		err = errors.New("fio did nothing")
	}
	return []sample{{"", "MiB/s", s.Bytes / (1 << 20)}}, err
}
