package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/fsck"
	"github.com/akvfs/akvfs/fs/volume"
)

// MethodFsck checks a mounted volume.
const MethodFsck = "fsck"

// FsckParams are the parameters of MethodFsck. Its events are
// volume.ScrubProgress, its result a fsck.Report.
type FsckParams struct {
	From volume.Path `json:"from,omitempty"`
	Jobs int         `json:"jobs,omitempty"`
	Rate int64       `json:"rate,omitempty"` // bytes a second; 0: no bound
}

// ScrubStatus tells of the scrubs of a mounted volume.
type ScrubStatus struct {
	Interval string     `json:"interval"` // "0s": never by itself
	Running  bool       `json:"running"`
	Objects  uint64     `json:"objects"`  // of the scrub that runs
	Bytes    uint64     `json:"bytes"`    // the same
	Finished *time.Time `json:"finished"` // when one came to its end last; nil: never
	Findings int        `json:"findings"` // of that one, and of the one that runs
}

// scrubber knows how the scrubs of a volume stand.
type scrubber struct {
	work sync.WaitGroup // scrubs that run

	mu      sync.Mutex // guards the rest
	kept    scrubState
	cancels map[uint64]context.CancelFunc // of those that run
	begun   uint64
	ended   bool                 // no more begin
	now     volume.ScrubProgress // of the one that runs
	read    uint64               // bytes, by all since the mount
}

// begin lets a scrub begin, unless the mount ends. done follows.
func (s *scrubber) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, nil, context.Canceled
	}
	ctx, cancel := context.WithCancel(ctx)
	if s.cancels == nil {
		s.cancels = map[uint64]context.CancelFunc{}
	}
	s.begun++
	id := s.begun
	s.cancels[id], s.now = cancel, volume.ScrubProgress{}
	s.work.Add(1)
	return ctx, func() {
		cancel()
		s.mu.Lock()
		delete(s.cancels, id)
		s.mu.Unlock()
		s.work.Done()
	}, nil
}

// end ends all scrubs, and waits for that: the volume may be closed then.
func (s *scrubber) end() {
	s.mu.Lock()
	s.ended = true
	for _, cancel := range s.cancels {
		cancel()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// status describes it. every is the schedule.
func (s *scrubber) status(every time.Duration) *ScrubStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &ScrubStatus{Interval: short(every), Running: len(s.cancels) > 0, Findings: max(s.kept.Findings, s.kept.Before)}
	if st.Running {
		st.Objects, st.Bytes = s.now.Objects, s.now.Bytes
	}
	if at := s.kept.Finished; !at.IsZero() {
		st.Finished = &at
	}
	return st
}

// bytesRead is how much scrubs have read since the mount.
func (s *scrubber) bytesRead() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read
}

// progress takes in how far a scrub has come.
func (s *scrubber) progress(last *uint64, p volume.ScrubProgress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read += p.Bytes - *last
	*last = p.Bytes
	s.now = p
}

// change edits what is kept of scrubs, and gives what it is then.
func (s *scrubber) change(edit func(k *scrubState)) scrubState {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.kept)
	return s.kept
}

// scrub is one scrub, whoever wants it.
func (d *Daemon) scrub(ctx context.Context, p FsckParams, progress func(volume.ScrubProgress), found func(fsck.Finding)) (*fsck.Report, error) {
	keys, err := d.masterKeys()
	if err != nil {
		return nil, err
	}
	s := &d.scrubs
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	last := uint64(0)
	report, err := fsck.Scrub(ctx, d.volume, d.store, keys, fsck.Options{
		From: p.From, Jobs: p.Jobs, Rate: p.Rate, Found: found,
		Progress: func(now volume.ScrubProgress) {
			s.progress(&last, now)
			if progress != nil {
				progress(now)
			}
		},
	})
	if errors.Is(err, volume.ErrLocked) {
		if _, locked := d.masterKeys(); locked != nil {
			err = locked
		}
	}
	return report, err
}

// fsckMethod answers with the report, damage or not. One that found none from
// the first object to the last ends the alert of one before.
func (d *Daemon) fsckMethod(ctx context.Context, c *control.Call) (any, error) {
	var p FsckParams
	if err := c.Params(&p); err != nil {
		return nil, err
	}
	if p.Jobs < 0 || p.Rate < 0 {
		return nil, &control.Error{Code: control.CodeBadRequest, Message: "jobs and rate are 0 or more"}
	}
	var told time.Time
	report, err := d.scrub(ctx, p, func(now volume.ScrubProgress) {
		if time.Since(told) >= 100*time.Millisecond {
			told = time.Now()
			_ = c.Event(now) // who has hung up need not know
		}
	}, nil)
	if err != nil {
		return nil, err
	}
	if n := len(report.Findings) + report.Omitted; p.From == "" || n > 0 {
		d.scrubbed(report, n, p.From == "")
	}
	return report, nil
}

// scrubbed takes in how a scrub went that came to its end; whole says that it
// was one from the first object on.
func (d *Daemon) scrubbed(report *fsck.Report, findings int, whole bool) {
	kept := d.scrubs.change(func(k *scrubState) {
		if whole {
			k.Finished, k.Next, k.Before, k.Findings = d.cfg.Now().UTC(), "", 0, 0
		}
		k.Findings += findings
	})
	d.keepScrub(kept)
	d.tellDamage(kept)
	d.log.Info("scrubbed", "objects", report.Objects, "bytes", report.Bytes, "findings", findings)
}

// tellDamage raises, or ends, the alert.
func (d *Daemon) tellDamage(k scrubState) {
	n := max(k.Findings, k.Before)
	detail := ""
	if n > 0 {
		detail = fmt.Sprintf("%d findings; `akvfs fsck` lists them", n)
	}
	d.alert(alert.ScrubDamage, n > 0, detail)
}
