package fsck

import (
	"context"
	"sync"
	"time"
)

// Pacer spreads reads over time: so many bytes a second on the whole, whoever
// reads them.
type Pacer struct {
	rate int64 // bytes a second; 0: no bound

	mu  sync.Mutex // guards due
	due time.Time  // when what was read so far is paid for
}

// NewPacer makes a pacer of a rate in bytes a second; 0 is no bound.
func NewPacer(rate int64) *Pacer { return &Pacer{rate: rate} }

// Pace accounts for n bytes, and waits until they are paid for. The error is
// ctx's.
func (p *Pacer) Pace(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	wait := time.NewTimer(p.take(n, time.Now()))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

// take is how long n bytes are to wait from now on.
func (p *Pacer) take(n int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return p.due.Sub(now)
}
