package daemon

import "time"

// schedule says when the keys of one volume are checked: once in each slot, an
// interval long, at a point of the slot that is the volume's own and drawn at
// random. So the volumes of a host, mounted together at boot, are spread over
// the interval for as long as they run, and none of them asks more often than
// once a slot. Each check is moved by up to a tenth of the interval.
type schedule struct {
	interval time.Duration
	random   func() float64 // from 0 up to 1
	next     time.Duration  // when the next check is due, on the clock of instant.up
}

func newSchedule(interval, up time.Duration, random func() float64) *schedule {
	// The mount has just had an answer: none is asked for at once, however the
	// first check is moved.
	return &schedule{interval, random, up + time.Duration((0.1+random())*float64(interval))}
}

// wait is how long to wait for the next check. Slots that went by while nobody
// waited, in a suspended host for example, are left out.
func (s *schedule) wait(up time.Duration) time.Duration {
	jitter := time.Duration((s.random() - 0.5) * 0.2 * float64(s.interval))
	due := s.next + jitter
	s.next += s.interval
	if late := up - s.next; late > 0 {
		s.next += (late/s.interval + 1) * s.interval
	}
	return max(0, due-up)
}
