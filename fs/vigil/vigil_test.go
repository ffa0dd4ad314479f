package vigil

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wish is a bound in memory.
type wish struct {
	kept, closed     bool
	keeps            int
	keepErr, dropErr error
}

func (w *wish) Keep() error {
	w.keeps++
	w.kept = w.keepErr == nil
	return w.keepErr
}

func (w *wish) Drop() error {
	w.kept = w.kept && w.dropErr != nil
	return w.dropErr
}

func (w *wish) Close() error {
	w.kept, w.closed = false, true
	return nil
}

// watched is a Vigil whose windows the test ends.
func watched(w *wish) (v *Vigil, endWindow func() bool) {
	var pending func()
	v = newVigil(w, func(_ time.Duration, f func()) { pending = f })
	return v, func() bool {
		f := pending
		if pending = nil; f == nil {
			return false
		}
		f()
		return true
	}
}

func come(v *Vigil, times int) {
	for range times {
		v.Came()
	}
}

// TestWindows: processors are kept awake from the end of a dense window to that
// of the third in a row which is not, and there is no window where nothing comes.
func TestWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &wish{}
		v, endWindow := watched(w)
		lulls := 0
		for range rapid.IntRange(1, 40).Draw(t, "windows") {
			n := rapid.SampledFrom([]int{0, 1, dense - 1, dense, 3 * dense}).Draw(t, "requests")
			was := w.kept
			come(v, n)
			if began := endWindow(); began != (n > 0 || was) {
				t.Fatalf("a window was under way: %v, with %d requests, kept awake before: %v", began, n, was)
			}
			want := n >= dense
			if lulls++; want {
				lulls = 0
			}
			want = want || was && lulls < quiet
			if w.kept != want || v.Awake() != want || v.Stats().Awake != want {
				t.Fatalf("%d requests, kept awake before: %v, then %v, Awake %v", n, was, w.kept, v.Awake())
			}
		}
		if err := v.Close(); err != nil || w.kept || !w.closed || v.Awake() {
			t.Fatalf("after Close: %v, kept awake %v, closed %v", err, w.kept, w.closed)
		}
		come(v, dense)
		if endWindow(); w.kept {
			t.Fatal("kept awake after Close")
		}
	})
}

// TestRefused: a kernel that refuses is asked once, and one that does not take
// a wish back has the device closed, which does.
func TestRefused(t *testing.T) {
	refusal := errors.New("no")
	w := &wish{keepErr: refusal}
	v, endWindow := watched(w)
	for range 5 {
		come(v, dense)
		endWindow()
	}
	if w.keeps != 1 || v.Awake() || v.Stats().Err != refusal {
		t.Errorf("asked %d times, awake %v, %v", w.keeps, v.Awake(), v.Stats().Err)
	}
	w = &wish{dropErr: refusal}
	v, endWindow = watched(w)
	for range 2 {
		come(v, dense)
		for endWindow() {
		}
	}
	if w.keeps != 1 || w.kept || !w.closed || v.Awake() || v.Stats().Err != refusal {
		t.Errorf("asked %d times, kept awake %v, closed %v, awake %v, %v", w.keeps, w.kept, w.closed, v.Awake(), v.Stats().Err)
	}
}

// TestTotal: the time awake is all told, what is under way included.
func TestTotal(t *testing.T) {
	v, endWindow := watched(&wish{})
	last := v.Stats().Total
	if last != 0 {
		t.Errorf("%v before anything came", last)
	}
	for range 3 {
		come(v, dense)
		endWindow()
		time.Sleep(time.Microsecond)
		under := v.Stats().Total
		for endWindow() {
		}
		done := v.Stats().Total
		if under <= last || done < under || v.Stats().Total != done {
			t.Errorf("%v, then %v under way, %v, %v", last, under, done, v.Stats().Total)
		}
		last = done
	}
}

func TestNone(t *testing.T) {
	var v *Vigil
	v.Came()
	if v.Awake() || v.Stats() != (Stats{}) || v.Close() != nil {
		t.Error("a nil Vigil does something")
	}
}

// TestManyCome has requests come from many goroutines while windows end: under
// the race detector, and no window is lost or doubled.
func TestManyCome(t *testing.T) {
	var windows atomic.Int32
	v := newVigil(&wish{}, func(_ time.Duration, f func()) {
		if windows.Add(1) > 1 {
			t.Error("two windows at a time")
		}
		go func() {
			time.Sleep(100 * time.Microsecond)
			windows.Add(-1)
			f()
		}()
	})
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 2000 {
				come(v, 5)
				_ = v.Awake()
				_ = v.Stats()
			}
		})
	}
	users.Wait()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
