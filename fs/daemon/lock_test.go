package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr"
)

// clocks are both of a daemon's clocks, in the hand of a test, and the ticks of
// its loop.
type clocks struct {
	mu    sync.Mutex
	now   instant
	ticks chan time.Time
	waits chan time.Duration // what the loop waits for
}

// takeClocks gives a fixture clocks that stand still, and a loop that waits
// until tick. The volume's master key was made long before what they show: it
// is not to be rotated for that.
func (f *fixture) takeClocks() *clocks {
	c := &clocks{
		now:   instant{wall: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)},
		ticks: make(chan time.Time), waits: make(chan time.Duration, 1),
	}
	read := func() instant {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.now
	}
	f.cfg.MasterKeyPeriod = 0
	f.cfg.Now = func() time.Time { return read().wall }
	f.cfg.Uptime = func() time.Duration { return read().up }
	f.cfg.After = func(d time.Duration) <-chan time.Time {
		c.waits <- d
		return c.ticks
	}
	return c
}

func (c *clocks) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.up += d
	c.now.wall = c.now.wall.Add(d)
}

func (c *clocks) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.wall = c.now.wall.Add(by)
}

// tick has the loop make one round, and returns when that is done.
func (c *clocks) tick() (next time.Duration) {
	c.ticks <- time.Time{}
	return <-c.waits
}

// scene is a mounted volume whose keys are checked when the test says so.
type scene struct {
	*fixture
	*clocks
	d *Daemon
}

func newScene(t *testing.T, change ...func(*Config)) *scene {
	f := newFixture(t)
	c := f.takeClocks()
	for _, do := range change {
		do(&f.cfg)
	}
	s := &scene{f, c, f.start()}
	<-c.waits
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// is wants a state, and that the mount behaves like it.
func (s *scene) is(want State) Status {
	s.t.Helper()
	st := s.d.Status()
	if st.State != want {
		s.t.Fatalf("it is %s (%s), not %s", st.State, st.StateReason, want)
	}
	_, err := os.ReadFile(filepath.Join(s.cfg.Mountpoint, "data"))
	if locked := errors.Is(err, syscall.ENOKEY); locked != (want == StateLocked) || err != nil && !locked {
		s.t.Errorf("%s, and a read answers %v", want, err)
	}
	_, err = s.d.masterKeys()
	if _, locked := errors.AsType[*LockedError](err); locked != (want == StateLocked) {
		s.t.Errorf("%s, and there are master keys: %v", want, err)
	}
	return st
}

func (s *scene) away() {
	s.t.Helper()
	s.must(os.Rename(s.store.Path(), s.store.Path()+".away"))
}

func (s *scene) back() {
	s.t.Helper()
	s.must(os.Rename(s.store.Path()+".away", s.store.Path()))
}

// TestRevoked: the round that finds the key disabled locks, the round that
// finds it enabled unlocks, and what was open goes on.
func TestRevoked(t *testing.T) {
	s := newScene(t)
	data := filepath.Join(s.cfg.Mountpoint, "data")
	write(t, data, "hello")
	open, err := os.OpenFile(data, os.O_RDWR, 0)
	s.must(err)
	defer open.Close()
	s.is(StateMounted)
	for range 3 {
		s.must(s.store.Disable(""))
		s.is(StateMounted) // nobody has asked yet
		s.pass(time.Minute)
		at := s.cfg.Now()
		s.tick()
		st := s.is(StateLocked)
		if !strings.Contains(st.StateReason, "KeyDisabled") || !st.StateSince.Equal(at) || st.LockedByHand || st.AKIs[0].State != KeyRevoked {
			t.Errorf("%+v", st)
		}
		s.pass(time.Hour)
		s.tick()
		if st := s.is(StateLocked); !st.StateSince.Equal(at) {
			t.Errorf("locked since %v, or %v", at, st.StateSince)
		}
		if _, err := s.d.keys.current().VolumeKey("names"); !errors.Is(err, keymgr.ErrDestroyed) {
			t.Errorf("the keys are there: %v", err)
		}
		s.must(s.store.Enable(""))
		s.tick()
		if st := s.is(StateMounted); st.StateReason != "" || st.AKIs[0].State != KeyAvailable {
			t.Errorf("%+v", st)
		}
		_, err := open.WriteAt([]byte("H"), 0)
		s.must(errors.Join(err, open.Sync()))
	}
	s.must(open.Close())
	s.must(s.d.Unmount(t.Context(), time.Minute))
	s.d = s.start()
	<-s.waits
	if got, err := os.ReadFile(data); err != nil || string(got) != "Hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestGrace: a key out of reach is put up with for the grace period, however
// the clock is set, and the loop wakes when it ends.
func TestGrace(t *testing.T) {
	s := newScene(t)
	write(t, filepath.Join(s.cfg.Mountpoint, "data"), "hello")
	s.away()
	s.pass(time.Minute)
	at := s.cfg.Now()
	s.tick()
	st := s.is(StateGrace)
	if !strings.Contains(st.StateReason, "FileNotFound") || !st.StateSince.Equal(at) || !st.GraceUntil.Equal(at.Add(DefaultGrace)) {
		t.Errorf("%+v", st)
	}
	s.set(1000 * time.Hour)
	s.tick()
	s.is(StateGrace)
	s.set(-2000 * time.Hour)
	s.tick()
	s.is(StateGrace)
	s.back()
	s.tick()
	if st := s.is(StateMounted); st.GraceUntil != nil || st.StateReason != "" {
		t.Errorf("%+v", st)
	}
	s.away()
	s.tick()
	for range 23 {
		s.pass(time.Hour)
		s.tick()
		s.is(StateGrace)
	}
	s.pass(time.Hour - 10*time.Minute)
	if next := s.tick(); next > 10*time.Minute {
		t.Errorf("with ten minutes of grace left the loop waits %v", next)
	}
	if n := strings.Count(s.log.String(), "grace-ending"); n == 0 {
		t.Error("nobody was told that the grace period is running out")
	}
	s.is(StateGrace)
	s.pass(10 * time.Minute)
	s.tick()
	if st := s.is(StateLocked); !strings.Contains(st.StateReason, "the grace period of 24h is over") || st.GraceUntil != nil {
		t.Errorf("%+v", st)
	}
	s.back()
	s.tick()
	s.is(StateMounted)
}

// TestNoGrace: without a grace period a key out of reach locks at once.
func TestNoGrace(t *testing.T) {
	s := newScene(t, func(c *Config) { c.Grace = 0 })
	write(t, filepath.Join(s.cfg.Mountpoint, "data"), "hello")
	s.away()
	s.tick()
	s.is(StateLocked)
	s.back()
	s.tick()
	s.is(StateMounted)
}

// TestLockByHand goes through the control socket, by each of a volume's names.
func TestLockByHand(t *testing.T) {
	s := newScene(t)
	write(t, filepath.Join(s.cfg.Mountpoint, "data"), "hello")
	for _, name := range []string{s.cfg.Backing, s.cfg.Mountpoint, s.d.Status().VolumeID} {
		s.must(Lock(t.Context(), s.cfg.RunDir, name))
		s.must(Lock(t.Context(), s.cfg.RunDir, name)) // again
		st, err := StatusOf(t.Context(), s.cfg.RunDir, name)
		if s.must(err); st.State != StateLocked || !st.LockedByHand || st.StateReason != reasonByHand {
			t.Errorf("%+v", st)
		}
		s.tick() // the key is there, and that is not asked
		s.is(StateLocked)
		s.must(s.store.Disable(""))
		err = Unlock(t.Context(), s.cfg.RunDir, name)
		if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != CodeRevoked {
			t.Errorf("with a disabled key: %v", err)
		}
		s.is(StateLocked)
		s.must(s.store.Enable(""))
		s.must(Unlock(t.Context(), s.cfg.RunDir, name))
		s.is(StateMounted)
		s.must(Unlock(t.Context(), s.cfg.RunDir, name))
	}
	s.must(s.store.Disable(""))
	s.tick()
	s.is(StateLocked)
	s.must(Lock(t.Context(), s.cfg.RunDir, s.cfg.Backing)) // what locked itself is locked by hand now
	s.must(s.store.Enable(""))
	s.tick()
	s.is(StateLocked)
	s.must(Unlock(t.Context(), s.cfg.RunDir, s.cfg.Backing))
	s.is(StateMounted)
}

// TestEndLocked: a locked volume can be unmounted, and has all its data.
func TestEndLocked(t *testing.T) {
	s := newScene(t)
	data := filepath.Join(s.cfg.Mountpoint, "data")
	for i, end := range []func() error{
		func() error { _, err := Unmount(t.Context(), s.cfg.RunDir, s.cfg.Mountpoint, time.Minute); return err },
		func() error { s.d.Stop(); return nil },
	} {
		write(t, data, "hello")
		s.must(Lock(t.Context(), s.cfg.RunDir, s.cfg.Backing))
		s.must(end())
		within(t, "the end", s.d.Done())
		s.must(s.d.Err())
		if err := s.d.lock("too late", nil); !errors.Is(err, errEnding) {
			t.Errorf("way %d: locked after the end: %v", i, err)
		}
		s.d = s.start()
		<-s.waits
		if got, err := os.ReadFile(data); err != nil || string(got) != "hello" {
			t.Errorf("way %d: %q, %v", i, got, err)
		}
	}
	for _, err := range []error{Lock(t.Context(), s.cfg.RunDir, s.dir), Unlock(t.Context(), s.cfg.RunDir, s.dir)} {
		if _, ok := errors.AsType[*NotMountedError](err); !ok {
			t.Errorf("of no volume: %v", err)
		}
	}
}

// TestUnlockWhereItCannot: a volume whose open file lost its header stays
// locked, says so, and opens when that is mended.
func TestUnlockWhereItCannot(t *testing.T) {
	s := newScene(t)
	data := filepath.Join(s.cfg.Mountpoint, "data")
	write(t, data, "hello")
	open, err := os.Open(data)
	s.must(err)
	defer open.Close()
	s.must(s.store.Disable(""))
	s.tick()
	s.must(s.store.Enable(""))
	var backing string
	entries, err := os.ReadDir(s.cfg.Backing)
	s.must(err)
	for _, e := range entries {
		if e.Type().IsRegular() {
			backing = filepath.Join(s.cfg.Backing, e.Name())
		}
	}
	header, err := os.ReadFile(backing)
	s.must(err)
	f, err := os.OpenFile(backing, os.O_RDWR, 0)
	s.must(err)
	defer f.Close()
	_, err = f.WriteAt(make([]byte, 4096), 0)
	s.must(err)
	s.tick()
	if st := s.is(StateLocked); !strings.Contains(st.StateReason, "header") {
		t.Errorf("%+v", st)
	}
	_, err = f.WriteAt(header[:4096], 0)
	s.must(err)
	s.tick()
	s.is(StateMounted)
}

// TestHandAndLoop: locks and unlocks by hand and by the loop at one time end in
// a state that both agree on.
func TestHandAndLoop(t *testing.T) {
	s := newScene(t)
	write(t, filepath.Join(s.cfg.Mountpoint, "data"), "hello")
	var hands sync.WaitGroup
	for range 3 {
		hands.Go(func() {
			for range 4 {
				if err := errors.Join(Lock(t.Context(), s.cfg.RunDir, s.cfg.Backing), Unlock(t.Context(), s.cfg.RunDir, s.cfg.Backing)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		s.tick()
	}
	hands.Wait()
	s.must(Unlock(t.Context(), s.cfg.RunDir, s.cfg.Backing))
	s.is(StateMounted)
}
