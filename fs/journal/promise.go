package journal

import "slices"

// promise is a caller that went on instead of waiting.
type promise struct {
	ticket Ticket
	done   func(error)
}

// Then has done called, once, when the ticket's record and all before it are
// durable, or with the reason why they will not be: before Then returns or
// after, by the caller or by whoever writes the frame. If nobody writes, the
// caller does, and goes on for as long as others who called Then wait for a
// frame. done must be short, and may not use the journal.
func (j *Journal) Then(t Ticket, done func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pledged = append(j.pledged, promise{t, done})
	j.keepPromises()
	for j.orphaned() {
		j.writeFrame()
	}
}

// keepPromises calls what is due. Called with mu held, which is free meanwhile.
func (j *Journal) keepPromises() {
	var due []promise
	j.pledged = slices.DeleteFunc(j.pledged, func(p promise) bool {
		if p.ticket <= j.durable || j.err != nil {
			due = append(due, p)
			return true
		}
		return false
	})
	if len(due) == 0 {
		return
	}
	durable, err := j.durable, j.err
	j.mu.Unlock()
	defer j.mu.Lock()
	for _, p := range due {
		if p.ticket <= durable {
			p.done(nil)
		} else {
			p.done(err)
		}
	}
}

// orphaned reports whether there are promises and nobody who writes what they
// wait for, or is about to. Called with mu held.
func (j *Journal) orphaned() bool { return len(j.pledged) > 0 && !j.writing && j.turns == 0 }

// leave ends a call that may have written a frame, or was woken to write one.
// It must not keep its own caller waiting for the sake of others. Called with
// mu held, which is free afterwards.
func (j *Journal) leave() {
	if j.orphaned() {
		go j.Then(0, func(error) {})
	}
	j.mu.Unlock()
}
