package journal

import (
	"math"
	"slices"
)

// waiter is a caller that waits while another one writes a frame. Each is woken
// by itself: those whose record that frame held, because they are done, and
// one more, to write the next frame. The rest would find nothing to do but wait
// again, and to wake them is dear: it is most of what many small syncs cost.
type waiter struct {
	ticket Ticket
	woken  chan struct{} // closed
	turn   bool          // it was woken to write
}

// never is what waits for its turn to write, whatever is durable.
const never = Ticket(math.MaxUint64)

// await waits until the ticket is durable, it is the caller's turn to write a
// frame, or the journal has failed. The caller looks which, and must write if
// nobody else has begun to: whoever was passed over waits for that frame's end.
// Called with mu held, which is free meanwhile, and writing true.
func (j *Journal) await(t Ticket) {
	w := &waiter{ticket: t, woken: make(chan struct{})}
	j.waiting = append(j.waiting, w)
	j.mu.Unlock()
	<-w.woken
	j.mu.Lock()
	if w.turn {
		j.turns--
	}
}

// pass gives the turn to write to another waiter. Called with mu held by one
// who may have been given it and does not write.
func (j *Journal) pass() {
	if !j.writing {
		j.wakeWaiting()
	}
}

// wakeWaiting wakes those that need not wait any more, first the one whose turn
// it is: the disk is idle until it writes. Called with mu held after a frame.
func (j *Journal) wakeWaiting() {
	next := slices.IndexFunc(j.waiting, func(w *waiter) bool { return w.ticket > j.durable })
	if next >= 0 {
		j.waiting[next].turn = true
		j.turns++
		close(j.waiting[next].woken)
		j.waiting = slices.Delete(j.waiting, next, next+1)
	}
	j.waiting = slices.DeleteFunc(j.waiting, func(w *waiter) bool {
		due := w.ticket <= j.durable || j.err != nil
		if due {
			close(w.woken)
		}
		return due
	})
}
