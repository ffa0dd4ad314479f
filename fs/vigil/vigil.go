// Package vigil keeps a machine's processors from falling asleep while requests
// follow each other closely.
//
// A commit on a mount is two or three requests, for each of which the daemon is
// woken and then the caller: five or six times that a processor which had
// nothing to do is woken, for one write of the disk. That takes it tens of
// microseconds each time where it sleeps deeply, in a virtual machine above
// all, where to sleep is to leave the machine. Linux has a device by which a
// process says how long that may take (PM QoS, /dev/cpu_dma_latency); while it
// says "none", a processor without work waits in a loop and is there at once.
// The price is that such processors look busy to whoever runs the virtual
// machine, and are for the power bill.
//
// So a Vigil says it only while it is worth it: Came counts requests, and while
// 20 or more come in 10 ms processors are kept awake; 30 ms after the last such
// window they may sleep again. What is said goes with the process, however that
// ends.
//
// Locks: Vigil.mu guards what the timer and Close share, and the device. Came
// and Awake take none.
package vigil

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	window = 10 * time.Millisecond
	dense  = 20 // requests in a window that make it worth it
	quiet  = 3  // windows in a row without, after which it ends
)

// bound is a wish for how long a processor may take to wake.
type bound interface {
	Keep() error // makes the wish
	Drop() error // takes it back
	Close() error
}

// Vigil keeps processors awake where that helps. A nil Vigil never does. Came
// and Awake are made to be called at each request; all methods are safe for
// concurrent use.
type Vigil struct {
	bound bound
	after func(time.Duration, func())

	came     atomic.Int64 // requests in this window
	watching atomic.Bool  // a window is under way
	awake    atomic.Bool

	mu     sync.Mutex
	lulls  int // windows in a row that were not dense
	since  time.Time
	total  time.Duration // awake, without what is under way
	closed bool
	err    error // for which it has given up
}

// Open begins without keeping anything awake. Its error is an
// *UnavailableError where processors cannot be kept awake; whoever gets that
// goes on without.
func Open() (*Vigil, error) {
	b, err := openDevice(devicePath, cpuidlePath)
	if err != nil {
		return nil, err
	}
	return newVigil(b, func(d time.Duration, f func()) { time.AfterFunc(d, f) }), nil
}

func newVigil(b bound, after func(time.Duration, func())) *Vigil {
	return &Vigil{bound: b, after: after}
}

// Came says that a request has come.
func (v *Vigil) Came() {
	if v == nil {
		return
	}
	v.came.Add(1)
	if !v.watching.Load() && v.watching.CompareAndSwap(false, true) {
		v.after(window, v.judge)
	}
}

// Awake reports whether processors are kept awake.
func (v *Vigil) Awake() bool { return v != nil && v.awake.Load() }

// judge ends a window, and begins the next one unless it has been quiet.
func (v *Vigil) judge() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	if v.came.Swap(0) >= dense {
		v.lulls = 0
		v.keep()
	} else if v.lulls++; v.lulls >= quiet || !v.awake.Load() {
		v.drop()
		v.lulls = 0
		v.watching.Store(false) // a request that comes just now begins anew
		return
	}
	v.after(window, v.judge)
}

// keep is called with mu held, and so is drop.
func (v *Vigil) keep() {
	if v.awake.Load() || v.err != nil {
		return
	}
	if v.err = v.bound.Keep(); v.err != nil {
		return
	}
	v.since = time.Now()
	v.awake.Store(true)
}

func (v *Vigil) drop() {
	if !v.awake.Load() {
		return
	}
	if v.err = v.bound.Drop(); v.err != nil {
		_ = v.bound.Close() // takes it back, too
	}
	v.total += time.Since(v.since)
	v.awake.Store(false)
}

// Stats tell what a Vigil has done.
type Stats struct {
	Awake bool          // processors are kept awake
	Total time.Duration // for how long they were, all told
	Err   error         // not nil: the kernel has refused, and is not asked again
}

// Stats tells what has been done so far.
func (v *Vigil) Stats() Stats {
	if v == nil {
		return Stats{}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s := Stats{Awake: v.awake.Load(), Total: v.total, Err: v.err}
	if s.Awake {
		s.Total += time.Since(v.since)
	}
	return s
}

// Close lets processors sleep, for good.
func (v *Vigil) Close() error {
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	v.drop()
	if err := v.bound.Close(); !errors.Is(err, os.ErrClosed) { // by drop
		return err
	}
	return nil
}
