package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// Conditions that operators are told of.
const (
	alertMasterKeyOld alertName = "master-key-old"
	alertRewrapFailed alertName = "rewrap-failed"
)

// rewrapper brings file keys under the active master key, and retires the
// others once none is left under them.
type rewrapper struct {
	admin *keyAdmin
	vol   *volume.Volume
	rate  int // files a second while nobody waits; 0: as fast as it goes
	log   *slog.Logger

	walk sync.Mutex // one walk at a time; before mu

	mu      sync.Mutex
	status  *RewrapStatus // of the last walk; nil before the first
	err     error         // why that one failed
	hurry   int           // how many wait for its end
	hurried chan struct{} // closed when somebody begins to wait
	changed chan struct{} // closed at each change of status
}

func newRewrapper(admin *keyAdmin, vol *volume.Volume, rate int, log *slog.Logger) *rewrapper {
	return &rewrapper{admin: admin, vol: vol, rate: rate, log: log, hurried: make(chan struct{}), changed: make(chan struct{})}
}

// get is the status now, what is closed when it changes, and how the last walk
// failed.
func (r *rewrapper) get() (now *RewrapStatus, changed <-chan struct{}, failed error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == nil {
		return nil, r.changed, r.err
	}
	s := *r.status
	return &s, r.changed, r.err
}

// set changes the status, and wakes who waits for that.
func (r *rewrapper) set(change func(s *RewrapStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == nil {
		r.status = &RewrapStatus{}
	}
	change(r.status)
	close(r.changed)
	r.changed = make(chan struct{})
}

// urge has walks go as fast as they can until the function it returns is
// called.
func (r *rewrapper) urge() (enough func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hurry++; r.hurry == 1 {
		close(r.hurried)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.hurry--; r.hurry == 0 {
			r.hurried = make(chan struct{})
		}
	}
}

// retiring are the master keys that wait for their file keys to leave them.
func retiring(keyring *keymgr.Keyring) []keymgr.MasterKeyID {
	var old []keymgr.MasterKeyID
	for _, mk := range keyring.MasterKeys() {
		if !mk.Active {
			old = append(old, mk.ID)
		}
	}
	return old
}

// run walks until only the active master key is left.
func (r *rewrapper) run(ctx context.Context) error {
	r.walk.Lock()
	defer r.walk.Unlock()
	for {
		master, err := r.admin.master()
		if err != nil {
			return err
		}
		keyring := master.Keyring()
		old := retiring(keyring)
		if len(old) == 0 {
			return nil
		}
		if err := r.once(ctx, master, keyring.Active().ID, old); err != nil {
			return err
		}
	}
}

// once is one walk, at whose end the old master keys are retired. One that is
// made meanwhile makes another walk necessary.
func (r *rewrapper) once(ctx context.Context, master *keymgr.MasterKeys, active keymgr.MasterKeyID, old []keymgr.MasterKeyID) error {
	r.set(func(s *RewrapStatus) {
		*s = RewrapStatus{Running: true, To: active.String(), Started: r.admin.cfg.Now().UTC()}
		for _, id := range old {
			s.Retiring = append(s.Retiring, id.String())
		}
	})
	began := time.Now()
	p := &pacer{rewrapper: r}
	progress, err := r.vol.Rewrap(ctx, volume.RewrapOptions{Master: active, Pace: p.pace, Progress: r.report})
	if err == nil {
		err = r.retire(master, old)
	}
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	r.set(func(s *RewrapStatus) {
		at := r.admin.cfg.Now().UTC()
		s.Running, s.Finished = false, &at
		if err != nil {
			s.Error = err.Error()
		}
	})
	if ctx.Err() == nil {
		r.admin.tell(keyEvent{Action: "rewrap", MasterKey: active.String(), Err: err, Took: time.Since(began)})
	}
	r.log.Info("file keys re-wrapped", "master_key", active.String(), "files", progress.Files,
		"rewrapped", progress.Rewrapped, "bytes_written", progress.Bytes, "complete", err == nil)
	return err
}

func (r *rewrapper) report(p volume.RewrapProgress) {
	r.set(func(s *RewrapStatus) { s.Files, s.Rewrapped, s.Bytes = p.Files, p.Rewrapped, p.Bytes })
}

// retire takes master keys out of the keyring under which no file key is left.
func (r *rewrapper) retire(master *keymgr.MasterKeys, old []keymgr.MasterKeyID) error {
	r.admin.changing.Lock()
	defer r.admin.changing.Unlock()
	for _, id := range old {
		if err := master.RetireMasterKey(id); err != nil {
			return err
		}
	}
	return nil
}

// await sends word of progress until a master key is retired and the walk that
// did so has ended, or has failed.
func (r *rewrapper) await(ctx context.Context, id keymgr.MasterKeyID, event func(any) error) error {
	defer r.urge()()
	for {
		status, changed, failed := r.get()
		master, err := r.admin.master()
		if err != nil {
			return err
		}
		walked := status != nil && slices.Contains(status.Retiring, id.String())
		if !slices.Contains(retiring(master.Keyring()), id) && (!walked || !status.Running) {
			return nil
		}
		if status != nil {
			if walked && !status.Running && failed != nil {
				return failed
			}
			if err := event(status); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// pacer spreads re-wraps over time.
type pacer struct {
	*rewrapper
	owed time.Duration
}

// least is the shortest wait that is worth a timer.
const least = 10 * time.Millisecond

// pace waits after a file was re-wrapped, unless somebody waits for the end.
func (p *pacer) pace(ctx context.Context) error {
	p.mu.Lock()
	hurried := p.hurried
	p.mu.Unlock()
	if p.rate > 0 {
		p.owed += time.Second / time.Duration(p.rate)
	}
	if p.owed < least || isClosed(hurried) {
		return ctx.Err()
	}
	wait := time.NewTimer(p.owed)
	defer wait.Stop()
	p.owed = 0
	select {
	case <-ctx.Done():
	case <-hurried:
	case <-wait.C:
	}
	return ctx.Err()
}

// interrupted tells what ends a walk without anything being wrong.
func interrupted(err error) bool {
	var locked *LockedError
	return errors.Is(err, context.Canceled) || errors.Is(err, keymgr.ErrDestroyed) ||
		errors.Is(err, volume.ErrLocked) || errors.As(err, &locked)
}
