package fuseloop

import (
	"os"
	"testing"
	"time"
)

// watched is a lookout with a clock that goes on by a microsecond a look, and
// counts them.
func watched(comesAfter time.Duration) (l *lookout, looks *int) {
	var clock time.Time
	looks = new(int)
	l = newLookout(50*time.Microsecond, nil, func() bool { return false })
	l.now = func() time.Time { return clock }
	begin := clock
	l.ready = func() bool {
		if *looks++; clock.Sub(begin) >= comesAfter {
			begin = clock
			return true
		}
		clock = clock.Add(time.Microsecond)
		return false
	}
	return l, looks
}

// TestLookout: it finds what comes soon, each time, and looks for no longer
// than it may.
func TestLookout(t *testing.T) {
	l, looks := watched(10 * time.Microsecond)
	for range 100 {
		l.look()
	}
	if *looks != 100*11 {
		t.Errorf("looked %d times for 100 requests that came after 10 looks", *looks)
	}
	l, looks = watched(time.Hour)
	if l.look(); *looks != 50 {
		t.Errorf("looked %d times in 50 µs", *looks)
	}
}

// TestLookoutInVain: where nothing comes soon it looks at 1 of 63 requests, and
// at each again once something has.
func TestLookoutInVain(t *testing.T) {
	l, looks := watched(time.Hour)
	for range 63 * 20 {
		l.look()
	}
	if n := *looks / 50; n < 20 || n > 30 {
		t.Errorf("looked at %d of 1260 requests", n)
	}
	comes := false
	l.ready = func() bool { comes = true; return true }
	for range 63 {
		l.look()
	}
	if !comes || l.vain != 0 || l.rest != 0 {
		t.Errorf("after success: %d times in vain, %d to leave out", l.vain, l.rest)
	}
}

// TestLookoutWhileOthersWork: a request that is served comes first, also one
// that comes in between.
func TestLookoutWhileOthersWork(t *testing.T) {
	l, looks := watched(time.Hour)
	l.open.Add(1)
	if l.look(); *looks != 0 {
		t.Errorf("looked %d times while a request was served", *looks)
	}
	l.open.Add(-1)
	ready := l.ready
	l.ready = func() bool {
		if *looks == 5 {
			l.open.Add(1)
		}
		return ready()
	}
	if l.look(); *looks > 6 {
		t.Errorf("looked %d times although a request was read", *looks)
	}
	l, looks = watched(0)
	l.needless = func() bool { return true }
	if l.look(); *looks != 0 {
		t.Errorf("looked %d times while processors were kept awake", *looks)
	}
	l, looks = watched(0)
	l.patience = 0
	if l.look(); *looks != 0 {
		t.Errorf("looked %d times without patience", *looks)
	}
}

func TestReadable(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if readable(int(r.Fd())) {
		t.Error("an empty pipe is readable")
	}
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if !readable(int(r.Fd())) {
		t.Error("a pipe with a byte in it is not readable")
	}
	if w.Close(); !readable(int(r.Fd())) {
		t.Error("a pipe that has ended is not readable")
	}
}
