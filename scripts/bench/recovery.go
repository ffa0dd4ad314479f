package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

const (
	// fullJournal is how full the journal is to be when the daemon is killed,
	// in per cent. At half, a checkpoint begins; a fast load is ahead of it.
	fullJournal = 50
	fillTime    = 10 * time.Second
)

// recoveryTime kills the daemon under a load that fills the journal, and mounts
// the volume again. Other file systems have nothing to show here.
func recoveryTime(ctx context.Context, b *bench, dir string) ([]sample, error) {
	a, ok := b.System.(*rig.Akvfs)
	if !ok {
		return nil, nil
	}
	const jobs = 8
	if err := b.prepare(ctx, dir, jobs, overwriteMiB); err != nil {
		return nil, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// It ends with the mount under it.
		_, _ = b.fio(loading, dir, "--rw=randwrite", "--bs=4k", "--overwrite=1", "--fdatasync=1", "--time_based",
			fmt.Sprintf("--numjobs=%d", jobs), fmt.Sprintf("--size=%dm", overwriteMiB), fmt.Sprintf("--runtime=%d", int(fillTime/time.Second)))
	}()
	fill, err := fillUp(ctx, a, ended)
	if err = errors.Join(err, b.Kill()); err != nil {
		return nil, err
	}
	stop()
	<-ended
	begin := time.Now()
	if err := b.Mount(ctx); err != nil {
		return nil, err
	}
	return []sample{{"", "s", time.Since(begin).Seconds()}, {"journal in use", "%", fill}}, nil
}

// fillUp waits until the journal is full, or the load has ended, and tells how
// full it was last, in per cent.
func fillUp(ctx context.Context, a *rig.Akvfs, ended <-chan struct{}) (fill float64, err error) {
	for {
		out, err := a.Run(ctx, "status", a.Dir(), "--json")
		if err != nil {
			return fill, err
		}
		var status struct {
			Stats struct {
				Journal struct{ Used, Capacity float64 } `json:"journal"`
			} `json:"stats"`
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			return fill, err
		}
		fill = 100 * status.Stats.Journal.Used / max(status.Stats.Journal.Capacity, 1)
		if fill >= fullJournal {
			return fill, nil
		}
		select {
		case <-ended:
			return fill, nil
		case <-ctx.Done():
			return fill, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
