package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var allKeyStates = []KeyState{KeyUnknown, KeyAvailable, KeyRevoked, KeyCredentials, KeyUnreachable, KeyMismatch, KeyInvalid}

func round(states ...KeyState) []reply {
	var all []reply
	for i, s := range states {
		a := reply{keyID: fmt.Sprint("key", i), state: s}
		if s != KeyAvailable {
			a.err = errors.New("it is " + string(s))
		}
		all = append(all, a)
	}
	return all
}

// TestJudge is the table in custody.go, for every two keys.
func TestJudge(t *testing.T) {
	asks := map[KeyState]verdict{
		KeyAvailable: opens, KeyUnreachable: silent, KeyUnknown: silent,
		KeyRevoked: refused, KeyCredentials: refused, KeyMismatch: refused, KeyInvalid: refused,
	}
	if judge(nil) != silent {
		t.Error("no answer is no refusal")
	}
	for _, a := range allKeyStates {
		if got := judge(round(a)); got != asks[a] {
			t.Errorf("%s alone: %d", a, got)
		}
		for _, b := range allKeyStates {
			if got, want := judge(round(a, b)), min(asks[a], asks[b]); got != want {
				t.Errorf("%s and %s: %d, want %d", a, b, got, want)
			}
		}
	}
	why := reasons(round(KeyAvailable, KeyRevoked, KeyUnreachable))
	if why != "revoked: it is revoked; unreachable: it is unreachable" {
		t.Error(why)
	}
}

// custodyRun holds a custody against a model of it: sums of silence on each
// clock, and what was asked for by hand.
type custodyRun struct {
	c   custody
	now instant

	locked, byHand bool
	silence        bool          // the last round of those heard while serving was silent
	total          time.Duration // of silence, on the clock that nobody sets
	backed         bool          // the wall clock was set back while silent
}

func TestCustodyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grace := time.Duration(rapid.IntRange(0, 100).Draw(t, "grace")) * time.Minute
		r := &custodyRun{now: instant{wall: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), up: time.Hour}}
		r.c = newCustody(grace, r.now)
		t.Repeat(map[string]func(*rapid.T){
			"time":   r.pass,
			"jump":   r.jump,
			"round":  r.round,
			"lock":   func(*rapid.T) { r.c.lock(true, "by hand", r.now); r.locked, r.byHand = true, true },
			"unlock": func(*rapid.T) { r.unlock() },
			"":       r.check,
		})
	})
}

// pass lets time pass on both clocks alike.
func (r *custodyRun) pass(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 30).Draw(t, "minutes")) * time.Minute
	r.now.up += d
	r.now.wall = r.now.wall.Add(d)
	if r.silence {
		r.total += d
	}
}

// jump sets the wall clock.
func (r *custodyRun) jump(t *rapid.T) {
	d := time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "hours")) * time.Hour
	r.now.wall = r.now.wall.Add(d)
	r.backed = r.backed || r.silence && d < 0
}

func (r *custodyRun) round(t *rapid.T) {
	answers := round(rapid.SliceOfN(rapid.SampledFrom(allKeyStates), 1, 3).Draw(t, "answers")...)
	v := judge(answers)
	fresh := v == silent && !r.silence
	lock := r.c.hear(v, reasons(answers), r.now)
	if r.locked {
		if lock || r.c.waits() == r.byHand {
			t.Fatalf("locked, by hand %v, verdict %d: lock %v, waits %v", r.byHand, v, lock, r.c.waits())
		}
		if v == opens && r.c.waits() {
			r.unlock()
		}
		return
	}
	if v == refused && !lock || v == opens && lock || r.c.waits() {
		t.Fatalf("verdict %d: lock %v, waits %v", v, lock, r.c.waits())
	}
	if fresh {
		r.total, r.backed = 0, false
	}
	r.silence = v == silent
	if r.silence {
		r.checkGrace(t, lock)
	}
	if lock {
		r.c.lock(false, reasons(answers), r.now)
		r.locked, r.silence = true, false
	}
}

// checkGrace: no lock before the grace is over on the clock that nobody sets,
// and with a wall clock that nobody has set back, at the first round after it.
func (r *custodyRun) checkGrace(t *rapid.T, lock bool) {
	over := r.total >= r.c.grace
	if lock && !over {
		t.Fatalf("locked after %v of silence, with a grace of %v", r.total, r.c.grace)
	}
	if !lock && over && !r.backed {
		t.Fatalf("serving after %v of silence, with a grace of %v", r.total, r.c.grace)
	}
}

func (r *custodyRun) unlock() {
	r.c.unlock(r.now)
	if r.locked {
		r.locked, r.byHand, r.silence = false, false, false
	}
}

func (r *custodyRun) check(t *rapid.T) {
	want := StateMounted
	switch {
	case r.locked:
		want = StateLocked
	case r.silence:
		want = StateGrace
	}
	if r.c.state != want || r.c.byHand != r.byHand {
		t.Fatalf("it is %s, by hand %v; want %s, %v", r.c.state, r.c.byHand, want, r.byHand)
	}
	if (r.c.why == "") != (want == StateMounted) {
		t.Fatalf("%s because of %q", want, r.c.why)
	}
}

// TestCustodyGrace is the life of a grace period by example.
func TestCustodyGrace(t *testing.T) {
	now := instant{wall: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	c := newCustody(24*time.Hour, now)
	after := func(up, wall time.Duration) (lock bool) {
		now.up += up
		now.wall = now.wall.Add(wall)
		return c.hear(silent, "no network", now)
	}
	if after(0, 0) || c.state != StateGrace || c.ending() {
		t.Fatalf("%+v", c)
	}
	since := c.since
	after(15*time.Minute, 300*24*time.Hour) // somebody sets the clock ahead
	after(15*time.Minute, -300*24*time.Hour)
	if c.state != StateGrace || c.left() != 24*time.Hour-15*time.Minute || !c.since.Equal(since) {
		t.Errorf("the clock was set: %v left", c.left())
	}
	if after(0, 30*time.Hour) { // the host slept
		t.Error("time that only the wall clock saw counts")
	}
	if after(17*time.Hour+44*time.Minute, 18*time.Hour) || c.ending() {
		t.Errorf("%v left", c.left())
	}
	if after(time.Minute, time.Minute) || !c.ending() {
		t.Errorf("%v left, and no word of it", c.left())
	}
	if !after(6*time.Hour, 6*time.Hour) {
		t.Errorf("%v left", c.left())
	}
	c.lock(false, c.why, now)
	if c.state != StateLocked || c.why != "no network" || c.ending() {
		t.Errorf("%+v", c)
	}
	c.lock(true, "by hand", now)
	if c.waits() || c.hear(opens, "", now) || !strings.Contains(c.why, "hand") {
		t.Error("what was locked by hand opens by itself")
	}
	c.unlock(now)
	if c.state != StateMounted || c.byHand {
		t.Errorf("%+v", c)
	}
}

// TestSchedule: however late it is asked, each slot has one check, on average,
// and 50 volumes that start together are spread over the interval.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rapid.Float64Range(0, 0.999)
		interval := time.Duration(rapid.IntRange(1, 100000).Draw(t, "interval")) * time.Millisecond
		up := time.Duration(rapid.IntRange(0, 1000000).Draw(t, "up")) * time.Millisecond
		start := up
		s := newSchedule(interval, up, func() float64 { return random.Draw(t, "random") })
		for n := range 30 {
			wait := s.wait(up)
			if wait < 0 || wait > 2*interval {
				t.Fatalf("check %d waits %v", n, wait)
			}
			up += wait
			if up+interval/5 < start+time.Duration(n)*interval {
				t.Fatalf("%d checks in %v, at an interval of %v", n+1, up-start, interval)
			}
			up += time.Duration(rapid.IntRange(0, 3).Draw(t, "late")) * interval / 2
		}
	})
}
