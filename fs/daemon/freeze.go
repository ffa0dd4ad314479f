package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/volume"
)

// Methods that hold a volume still for a snapshot that its disk takes.
const (
	MethodFreeze = "freeze"
	MethodThaw   = "thaw"
)

// Codes of their errors.
const (
	CodeFrozen    = "frozen"
	CodeNotFrozen = "not-frozen"
)

// The times for which a volume may be frozen.
const (
	DefaultFreeze = time.Minute
	LongestFreeze = 10 * time.Minute
)

// FreezeParams are the parameters of MethodFreeze.
type FreezeParams struct {
	Timeout string `json:"timeout"` // such as "30s"
}

// FreezeResult is the result of MethodFreeze.
type FreezeResult struct {
	Until time.Time `json:"until"` // when it thaws by itself
}

// ThawResult is the result of MethodThaw.
type ThawResult struct {
	Frozen string `json:"frozen"` // for how long it was, such as "1.2s"
}

// FrozenError says that a volume is frozen already.
type FrozenError struct {
	Backing string
	Until   time.Time
}

func (e *FrozenError) Error() string {
	return fmt.Sprintf("volume %s is frozen already, until %s", e.Backing, e.Until.Format(time.RFC3339))
}

// ThawedError says that a volume is not frozen, and why not any more.
type ThawedError struct {
	Backing string
	Why     string // "" if it was not frozen at all
}

func (e *ThawedError) Error() string {
	if e.Why == "" {
		return fmt.Sprintf("volume %s is not frozen", e.Backing)
	}
	return fmt.Sprintf("volume %s is not frozen any more: %s", e.Backing, e.Why)
}

// freezer knows whether the volume is frozen.
type freezer struct {
	turn sync.Mutex // held while it is being frozen; before mu

	mu    sync.Mutex  // guards the rest
	thaw  func()      // nil: it is not frozen
	timer *time.Timer // thaws
	since time.Time
	until time.Time
	last  string // why it is not frozen any more
}

// frozen is until when it is; nil if it is not.
func (f *freezer) frozen() *time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.thaw == nil {
		return nil
	}
	until := f.until.UTC()
	return &until
}

// end thaws, if it is frozen, and keeps why. It tells for how long it was.
func (f *freezer) end(why string) (held time.Duration, was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.thaw == nil {
		return 0, false
	}
	f.timer.Stop()
	f.thaw()
	f.thaw, f.last = nil, why
	return time.Since(f.since), true
}

// freeze lets nothing change in the backing directory for at most so long. What
// programs have written is made durable before, at home, where it needs no
// recovery. Keys are not changed meanwhile either.
func (d *Daemon) freeze(timeout time.Duration) (until time.Time, err error) {
	f := &d.freezer
	f.turn.Lock()
	defer f.turn.Unlock()
	if until := f.frozen(); until != nil {
		return *until, &FrozenError{d.cfg.Backing, *until}
	}
	if d.cfg.ReadOnly {
		return until, &ReadOnlyError{d.cfg.Backing}
	}
	if err := d.server.WriteBack(kernelTime); err != nil {
		return until, err
	}
	d.admin.changing.Lock()
	thaw, err := d.volume.Freeze()
	if err != nil {
		d.admin.changing.Unlock()
		if errors.Is(err, volume.ErrLocked) {
			_, err = d.masterKeys()
		}
		return until, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = time.Now()
	f.until = f.since.Add(timeout)
	f.thaw = func() {
		thaw()
		d.admin.changing.Unlock()
	}
	f.timer = time.AfterFunc(timeout, func() { d.thawAlone(fmt.Sprintf("it thawed by itself after %v", timeout)) })
	d.log.Info("frozen", "until", f.until)
	return f.until, nil
}

// thawAlone thaws a volume that nobody has thawed.
func (d *Daemon) thawAlone(why string) {
	if held, was := d.freezer.end(why); was {
		d.log.Warn("thawed, though nobody said so: a snapshot of the disk that was not done by then is like one after a power cut", "why", why, "frozen", held)
	}
}

func (d *Daemon) freezeMethod(_ context.Context, c *control.Call) (any, error) {
	var p FreezeParams
	if err := c.Params(&p); err != nil {
		return nil, err
	}
	timeout, err := time.ParseDuration(p.Timeout)
	if err != nil || timeout <= 0 || timeout > LongestFreeze {
		return nil, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("a volume may be frozen for %v at most, not for %q", LongestFreeze, p.Timeout)}
	}
	until, err := d.freeze(timeout)
	return FreezeResult{until.UTC()}, err
}

func (d *Daemon) thawMethod(_ context.Context, c *control.Call) (any, error) {
	if err := c.Params(nil); err != nil {
		return nil, err
	}
	held, was := d.freezer.end("")
	if was {
		d.log.Info("thawed", "frozen", held)
		return ThawResult{held.String()}, nil
	}
	d.freezer.mu.Lock()
	defer d.freezer.mu.Unlock()
	return nil, &ThawedError{d.cfg.Backing, d.freezer.last}
}

// Freeze has the daemon of a mounted volume hold it still until Thaw, at most
// for so long. Errors are a *NotMountedError, those of find, or a *control.Error.
func Freeze(ctx context.Context, runDir, name string, timeout time.Duration) (until time.Time, err error) {
	var r FreezeResult
	err = callResult(ctx, runDir, name, MethodFreeze, FreezeParams{timeout.String()}, &r)
	return r.Until, err
}

// Thaw lets it change again, and tells for how long it could not. The error has
// CodeNotFrozen if it could already.
func Thaw(ctx context.Context, runDir, name string) (held time.Duration, err error) {
	var r ThawResult
	if err := callResult(ctx, runDir, name, MethodThaw, nil, &r); err != nil {
		return 0, err
	}
	return time.ParseDuration(r.Frozen)
}
