package alert

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// DefaultHookTime bounds one run of a hook's command.
	DefaultHookTime = 30 * time.Second
	// queueLimit bounds the events that wait for the command.
	queueLimit = 64
)

// Hook runs a command for each event, one at a time and in order. Its methods
// are safe for concurrent use.
type Hook struct {
	timeout time.Duration
	log     *slog.Logger
	run     func(ctx context.Context, e Event) (output string, err error)

	mu     sync.Mutex
	queue  []Event
	closed bool
	stats  HookStats

	wake   chan struct{} // holds one token while there may be work
	cancel context.CancelFunc
	done   chan struct{} // closed when the last run has ended
}

// HookStats counts what became of events.
type HookStats struct {
	OK, Failed, TimedOut uint64
	Dropped              uint64 // the queue was full, or the daemon ended
}

// NewHook starts a hook. command is a line for sh; see Command. A timeout of 0
// is DefaultHookTime.
func NewHook(command string, timeout time.Duration, log *slog.Logger) *Hook {
	return newHook(timeout, log, func(ctx context.Context, e Event) (string, error) { return runCommand(ctx, command, e) })
}

func newHook(timeout time.Duration, log *slog.Logger, run func(context.Context, Event) (string, error)) *Hook {
	if timeout <= 0 {
		timeout = DefaultHookTime
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hook{
		timeout: timeout, log: log, run: run,
		wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	go h.work(ctx)
	return h
}

// Notify queues an event. It does not wait.
func (h *Hook) Notify(e Event) {
	h.mu.Lock()
	var dropped []Event
	if h.closed {
		dropped = append(dropped, e)
	} else {
		h.queue = append(h.queue, e)
		if len(h.queue) > queueLimit {
			var old Event
			if h.queue, old = overtaken(h.queue); old.Name != "" {
				dropped = append(dropped, old)
			}
		}
	}
	h.stats.Dropped += uint64(len(dropped))
	h.mu.Unlock()
	h.report(dropped)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// overtaken takes the oldest event out of a queue that a later one of the same
// name makes obsolete. There is none while every name is there but once, which
// bounds the queue as the names are bounded.
func overtaken(queue []Event) (rest []Event, old Event) {
	last := make(map[Name]int, len(queue))
	for i, e := range queue {
		last[e.Name] = i
	}
	for i, e := range queue {
		if last[e.Name] != i {
			return append(queue[:i:i], queue[i+1:]...), e
		}
	}
	return queue, Event{}
}

// report says what no command will hear of.
func (h *Hook) report(dropped []Event) {
	for _, e := range dropped {
		h.log.Error("alert hook was not run: too many events wait for it, or the daemon is ending",
			"name", string(e.Name), "state", string(e.State), "time", e.Time)
	}
}

func (h *Hook) work(ctx context.Context) {
	defer close(h.done)
	for {
		e, closed := h.next()
		switch {
		case e.Name != "":
			h.one(ctx, e)
		case closed:
			return
		default:
			<-h.wake
		}
	}
}

func (h *Hook) next() (e Event, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) > 0 {
		e = h.queue[0]
		h.queue = h.queue[1:]
	}
	return e, h.closed
}

// one runs the command for one event.
func (h *Hook) one(ctx context.Context, e Event) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	output, err := h.run(ctx, e)
	h.mu.Lock()
	switch {
	case err == nil:
		h.stats.OK++
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		h.stats.TimedOut++
	default:
		h.stats.Failed++
	}
	h.mu.Unlock()
	args := []any{"name", string(e.Name), "state", string(e.State), "output", output}
	if err != nil {
		h.log.Error("alert hook failed", append(args, "error", err)...)
		return
	}
	h.log.Info("alert hook ran", args...)
}

// Stats gives the counters.
func (h *Hook) Stats() HookStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stats
}

// Close takes no more events, lets the command run for those that wait, up to
// grace, then kills it and reports what is left.
func (h *Hook) Close(grace time.Duration) {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	select {
	case <-h.done:
	case <-time.After(grace):
		h.mu.Lock()
		left := h.queue
		h.queue = nil
		h.stats.Dropped += uint64(len(left))
		h.mu.Unlock()
		h.report(left)
	}
	h.cancel()
	<-h.done
}
