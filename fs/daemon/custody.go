package daemon

import (
	"fmt"
	"strings"
	"time"
)

// What the keys of the active master key say together, and what follows while
// the volume is served. Each key is asked on its own; one that opens the master
// key is enough.
//
//	one at least is available       opens    serve; the others are an alert
//	none is, and one at least is
//	unreachable or unknown          silent   serve through the grace period, then lock
//	every one is revoked, refuses
//	our credentials, is unusable
//	or is other material            refused  lock at once
//
// That credentials are refused counts only once it was confirmed with a fresh
// token, see confirm; until then the key is unknown. A volume that was locked
// for its keys is unlocked by the first round in which a key opens it; one that
// was locked by hand is not asked for, and stays locked.
type verdict int

const (
	opens verdict = iota
	silent
	refused
)

// reply is what one key said in one round of checks.
type reply struct {
	keyID string
	state KeyState
	err   error // nil if the key is available
}

// judge makes one verdict of a round. No answers at all are silence.
func judge(round []reply) verdict {
	v := refused
	for _, a := range round {
		switch a.state {
		case KeyAvailable:
			return opens
		case KeyUnreachable, KeyUnknown:
			v = silent
		}
	}
	if len(round) == 0 {
		return silent
	}
	return v
}

// reasons tells why the keys of a round that are not available are not.
func reasons(round []reply) string {
	var parts []string
	for _, a := range round {
		if a.err != nil {
			parts = append(parts, fmt.Sprintf("%s: %v", a.state, a.err))
		}
	}
	return strings.Join(parts, "; ")
}

// instant is a moment on two clocks: on the one that people set, and on one
// that nobody can, from a start of its own.
type instant struct {
	wall time.Time
	up   time.Duration
}

// custody is what the daemon has made of what the keys said: whether the
// volume is served, since when and why, and how much of the grace period is
// used up. Only time that went by on both clocks counts for that, so that a
// clock that is set, forth or back, locks nothing. It is not safe for
// concurrent use.
type custody struct {
	grace time.Duration // how long silence is put up with

	state  State // StateMounted, StateGrace or StateLocked
	byHand bool  // locked by hand
	since  time.Time
	why    string
	spent  time.Duration // of the grace, in StateGrace
	heard  instant       // the last round, in StateGrace
}

func newCustody(grace time.Duration, now instant) custody {
	return custody{grace: grace, state: StateMounted, since: now.wall}
}

// hear takes the verdict of a round that has just ended, and reports whether
// the volume is to be locked. Only lock makes it so.
func (c *custody) hear(v verdict, why string, now instant) (lock bool) {
	switch {
	case c.state == StateLocked:
		return false
	case v == refused:
		return true
	case v == opens:
		if c.state == StateGrace {
			c.enter(StateMounted, "", now)
		}
		return false
	case c.state == StateMounted:
		c.enter(StateGrace, why, now)
		c.spent = 0
	default:
		c.why = why
		c.spent += max(0, min(now.up-c.heard.up, now.wall.Sub(c.heard.wall)))
	}
	c.heard = now
	return c.left() == 0
}

// waits says that the volume is locked and opens as soon as a key opens it.
func (c *custody) waits() bool { return c.state == StateLocked && !c.byHand }

// lock notes that the volume is being locked. A lock by hand of a volume that
// is locked already makes that one by hand.
func (c *custody) lock(byHand bool, why string, now instant) {
	if c.state != StateLocked {
		c.enter(StateLocked, why, now)
	} else if byHand && !c.byHand {
		c.why = why
	}
	c.byHand = c.byHand || byHand
}

// unlock notes that the volume is served again.
func (c *custody) unlock(now instant) {
	if c.state == StateLocked {
		c.enter(StateMounted, "", now)
		c.byHand = false
	}
}

func (c *custody) enter(s State, why string, now instant) {
	c.state, c.since, c.why = s, now.wall, why
}

// left is what is left of the grace period.
func (c *custody) left() time.Duration { return max(0, c.grace-c.spent) }

// ending says that the grace period is three quarters over.
func (c *custody) ending() bool { return c.state == StateGrace && c.left() <= c.grace/4 }
