package audit

import (
	"sync"
	"time"
)

// Refusals that one user, and all, can have on record in a while: who is
// refused may not fill the disk.
const (
	RefusalsOfUser = 20
	RefusalsOfAll  = 200
	RefusalWhile   = time.Minute
)

// Refusals counts who was refused in a while. The zero value is ready.
type Refusals struct {
	mu     sync.Mutex // guards what is below
	since  time.Duration
	users  map[uint32]int
	all    int
	untold int // since the last that was put on record
}

// Note tells whether a refusal is to be put on record, and how many were not
// since the last that was. up is a clock that only goes forward.
func (r *Refusals) Note(uid uint32, up time.Duration) (untold int, told bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == nil || up-r.since >= RefusalWhile {
		r.users, r.all, r.since = make(map[uint32]int), 0, up
	}
	r.users[uid]++
	r.all++
	if r.users[uid] > RefusalsOfUser || r.all > RefusalsOfAll {
		r.untold++
		return 0, false
	}
	untold, r.untold = r.untold, 0
	return untold, true
}
