//go:build integration

package integration

import (
	"encoding/json"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/scripts/rig"
)

// lockable is a WiredTiger database on a volume that can be locked.
type lockable struct {
	*wiredTiger
	a *rig.Akvfs
}

func newLockable(t *testing.T, o rig.Options) *lockable {
	v, a := akvfsVolume(t, "ext4", o)
	w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
	w.run("load", "--records", "50000")
	return &lockable{w, a}
}

// timed runs akvfs and logs how long it took.
func (l *lockable) timed(args ...string) {
	l.v.t.Helper()
	began := time.Now()
	l.v.run(l.a.Command(args...))
	l.v.t.Logf("%s: %v", args[0], time.Since(began).Round(time.Millisecond))
}

// becomes waits for a state, and logs how long that took.
func (l *lockable) becomes(want daemon.State) {
	l.v.t.Helper()
	began := time.Now()
	l.v.eventually(string(want), func() bool {
		var s daemon.Status
		err := json.Unmarshal([]byte(l.v.run(l.a.Command("status", l.a.Dir(), "--json"))), &s)
		return err == nil && s.State == want
	})
	l.v.t.Logf("%s after %v", want, time.Since(began).Round(time.Millisecond))
}

// scene runs a load, takes the volume away under it and gives it back. What
// the load was told to be committed must be there.
func (l *lockable) scene(mode string, stopped bool, away, back func()) {
	l.v.t.Helper()
	load := l.v.start(l.command(mode, "--seconds", "600"))
	l.v.let(load, 3*time.Second)
	if stopped { // it must hold up nothing
		l.signal(load, syscall.SIGSTOP)
	}
	away()
	if stopped {
		l.signal(load, syscall.SIGCONT)
	}
	back()
	load.Kill() // WiredTiger gives up at an error of its log
	l.check()
}

func (l *lockable) signal(p *rig.Proc, s syscall.Signal) {
	l.v.t.Helper()
	if err := syscall.Kill(p.PID(), s); err != nil {
		l.v.t.Fatal(err)
	}
}

// TestLockUnderWiredTiger locks by hand, and by disabling the key, under a
// database.
func TestLockUnderWiredTiger(t *testing.T) {
	l := newLockable(t, rig.Options{MountOptions: []string{"check-interval=1s"}})
	for _, stopped := range []bool{false, true} {
		for _, mode := range []string{"commit", "mixed"} {
			l.scene(mode, stopped, func() { l.timed("lock", l.a.Dir()) }, func() { l.timed("unlock", l.a.Dir()) })
		}
	}
	l.scene("commit", false, func() {
		l.timed("dev-key", "disable", l.a.KeyFile())
		l.becomes(daemon.StateLocked)
	}, func() {
		l.timed("dev-key", "enable", l.a.KeyFile())
		l.becomes(daemon.StateMounted)
	})
	l.v.remount()
	l.check()
}

// TestLockByVaultUnderWiredTiger is the same with the key in a vault, disabled
// and enabled there.
func TestLockByVaultUnderWiredTiger(t *testing.T) {
	c := newCloud(t, "acme/mongo")
	l := newLockable(t, rig.Options{
		KeyID: c.ready.Keys["acme/mongo"], Env: c.env(nil), MountOptions: []string{"check-interval=1s", "key-timeout=5s"},
	})
	for _, mode := range []string{"commit", "mixed"} {
		l.scene(mode, false, func() {
			c.do("key/disable", "vault", "acme", "key", "mongo")
			l.becomes(daemon.StateLocked)
		}, func() {
			c.do("key/enable", "vault", "acme", "key", "mongo")
			l.becomes(daemon.StateMounted)
		})
	}
	l.v.remount()
	l.check()
}
