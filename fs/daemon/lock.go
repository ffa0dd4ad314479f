package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// kernelTime bounds how long a lock waits for the kernel to write back, and
// again for it to drop what it holds.
const kernelTime = 30 * time.Second

const reasonByHand = "locked by hand"

// actionCheck is a keyEvent's, for one call of a vault by the watcher.
const actionCheck = "check"

// Conditions that the watcher tells operators of.
const (
	alertLocked      alertName = "locked"
	alertUnreachable alertName = "vault-unreachable"
	alertGraceEnding alertName = "grace-ending"
	alertKeyLost     alertName = "key-lost" // one of several
)

var errEnding = errors.New("the mount is ending")

// guard keeps what is known of the volume's custody, and sees to it that one
// lock or unlock happens at a time.
type guard struct {
	turn  sync.Mutex // held from the start of a lock or unlock to its end; before mu
	ended bool       // guarded by turn: the mount is gone

	mu      sync.Mutex
	custody custody
}

func (g *guard) get() custody {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.custody
}

// settled is get after a lock or unlock under way.
func (g *guard) settled() custody {
	g.turn.Lock()
	defer g.turn.Unlock()
	return g.get()
}

// with changes the custody.
func (g *guard) with(change func(c *custody)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(&g.custody)
}

// sooner cuts a wait short where the grace period ends first.
func (g *guard) sooner(wait time.Duration) time.Duration {
	const shortest = time.Second // should a clock be a little slow
	if c := g.get(); c.state == StateGrace {
		return min(wait, max(c.left(), shortest))
	}
	return wait
}

// end waits for a lock under way and lets no other begin.
func (g *guard) end() {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.ended = true
}

// fill puts what is known into a status.
func (g *guard) fill(s *Status, now instant) {
	c := g.get()
	since := c.since.UTC()
	s.State, s.StateSince, s.StateReason, s.LockedByHand = c.state, &since, c.why, c.byHand
	if c.state == StateGrace {
		until := now.wall.Add(max(0, c.left()-(now.up-c.heard.up))).UTC()
		s.GraceUntil = &until
	}
}

func (d *Daemon) now() instant { return instant{d.cfg.Now(), d.cfg.Uptime()} }

// heed does what a round of checks asks for. The round may be older than a lock
// by hand, which it then does not change.
func (d *Daemon) heed(round []reply) {
	v, why := judge(round), reasons(round)
	var c custody
	lock := false
	d.guard.with(func(now *custody) {
		if now.state != StateLocked {
			before := now.state
			lock = now.hear(v, why, d.now())
			if now.state != before {
				d.log.Warn("key state of the volume has changed", "state", string(now.state), "before", string(before), "why", why)
			}
		}
		c = *now
	})
	d.warn(round, v, c)
	if !lock {
		return
	}
	if c.state == StateGrace {
		why = fmt.Sprintf("the grace period of %s is over: %s", short(c.grace), why)
	}
	// Its error is in the log and the audit.
	_ = d.lock(why, nil)
}

// warn tells operators of what a round has shown.
func (d *Daemon) warn(round []reply, v verdict, c custody) {
	why, unreachable := reasons(round), false
	for _, a := range round {
		unreachable = unreachable || a.state == KeyUnreachable
	}
	d.alert(alertUnreachable, unreachable, why)
	d.alert(alertKeyLost, v == opens && why != "", why)
	d.alert(alertGraceEnding, c.ending(), fmt.Sprintf("%s left of %s: %s", c.left().Round(time.Second), short(c.grace), why))
}

// lock locks the volume: by is who did so by hand, nil for the daemon itself.
// Whatever fails, the volume is locked when it returns; the error says what was
// lost by it, or what the kernel may still hold.
func (d *Daemon) lock(why string, by *control.Peer) error {
	d.guard.turn.Lock()
	defer d.guard.turn.Unlock()
	if d.guard.ended {
		return errEnding
	}
	began := d.now()
	locked := func() { d.guard.with(func(c *custody) { c.lock(by != nil, why, began) }) }
	if d.guard.get().state == StateLocked {
		locked()
		return nil
	}
	d.log.Warn("locking", "why", why)
	d.thawAlone("the volume was locked")
	d.keys.providers.renew()
	err := d.server.Lock(kernelTime, func() error { return d.volume.Lock(why) })
	d.keys.destroy()
	locked()
	err = errors.Join(err, scrub())
	d.scrubLater(scrubRounds)
	d.tell(keyEvent{Action: MethodLock, By: by, Err: err, Took: d.cfg.Uptime() - began.up})
	d.alert(alertLocked, true, why)
	d.alert(alertGraceEnding, false, "")
	if err != nil {
		return fmt.Errorf("the volume is locked, but %w", err)
	}
	return nil
}

// scrubAgain is how long after a lock memory is scrubbed once more, and after
// that again: scrubRounds times in all. What others allocate during a scrub may
// keep it from a piece of free memory, which may hold names. Keys, contents,
// values of attributes and targets of links are not left to chance.
const (
	scrubAgain  = 15 * time.Second
	scrubRounds = 4
)

func (d *Daemon) scrubLater(rounds int) {
	if rounds == 0 || d.guard.get().state != StateLocked {
		return
	}
	time.AfterFunc(scrubAgain, func() {
		d.scrubIfLocked()
		d.scrubLater(rounds - 1)
	})
}

// scrubIfLocked is for the end of whatever may have unwrapped a key: a lock in
// the meantime has not scrubbed away what was still in use.
func (d *Daemon) scrubIfLocked() {
	if d.guard.get().state != StateLocked {
		return
	}
	if err := scrub(); err != nil {
		d.log.Error("memory may still hold what was unwrapped", "error", err)
	}
}

// scrub makes what was destroyed leave memory now, and what libraries have
// copied of it.
func scrub() error {
	crypto.OverwriteFree()
	return crypto.Scrub()
}

// tryUnlock unlocks a volume that was locked for its keys, if one opens it now.
func (d *Daemon) tryUnlock(ctx context.Context) {
	if c := d.guard.get(); !c.waits() {
		return
	}
	if err := d.unlock(ctx, nil); err != nil && ctx.Err() == nil {
		d.log.Info("the volume stays locked", "error", err)
		d.guard.with(func(c *custody) {
			if c.waits() {
				c.why = err.Error()
			}
		})
	}
}

// unlock proves that a key opens the volume and takes up service again. by is
// who asks for it by hand: else a volume that was locked by hand stays so.
// Errors are those of the keys, or of package volume; then it stays locked.
func (d *Daemon) unlock(ctx context.Context, by *control.Peer) (err error) {
	if d.guard.settled().state != StateLocked {
		return nil
	}
	began := d.cfg.Uptime()
	defer func() { d.tellUnlock(by, err, d.cfg.Uptime()-began) }()
	master, err := d.keys.unwrap(ctx, d.cfg, d.info.ID, volume.Metadata(d.store))
	if err != nil {
		return err
	}
	taken := false
	defer func() {
		if !taken {
			master.Destroy()
		}
	}()
	d.guard.turn.Lock()
	defer d.guard.turn.Unlock()
	if c := d.guard.get(); c.state != StateLocked || c.byHand && by == nil {
		return nil // somebody else was faster
	}
	if d.guard.ended {
		return errEnding
	}
	err = d.server.Unlock(func() (err error) {
		taken, err = d.volume.Unlock(master)
		return err
	})
	if err != nil {
		return d.volumeError(err)
	}
	d.keys.replace(master)
	d.guard.with(func(c *custody) { c.unlock(d.now()) })
	d.alert(alertLocked, false, "")
	return nil
}

// tellUnlock reports an attempt to unlock. One of the daemon's own that failed
// is one more check that a key did not pass.
func (d *Daemon) tellUnlock(by *control.Peer, err error, took time.Duration) {
	e := keyEvent{Action: MethodUnlock, By: by, Err: err, Took: took}
	if key, ok := errors.AsType[*keymgr.KeyError](err); ok {
		e.KeyID, e.Version = key.KeyID, key.Version
	}
	if by == nil && err != nil {
		e.Action = actionCheck
	}
	d.tell(e)
}

// lockMethod answers once the volume is locked.
func (d *Daemon) lockMethod(_ context.Context, c *control.Call) (any, error) {
	if err := c.Params(nil); err != nil {
		return nil, err
	}
	return struct{}{}, d.lock(reasonByHand, &c.Peer)
}

// unlockMethod answers once the volume is served again.
func (d *Daemon) unlockMethod(ctx context.Context, c *control.Call) (any, error) {
	defer d.scrubIfLocked()
	if err := c.Params(nil); err != nil {
		return nil, err
	}
	return struct{}{}, d.unlock(ctx, &c.Peer)
}
