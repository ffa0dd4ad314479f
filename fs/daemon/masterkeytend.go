package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// tendInterval bounds how long it takes until a master key's age is looked at
// again, or a walk that failed is begun anew.
const tendInterval = time.Hour

// tendMasterKeys rotates the master key when it is time, and brings file keys
// under it, until ctx ends.
func (d *Daemon) tendMasterKeys(ctx context.Context) {
	for {
		d.tendOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-d.rotated:
		case <-time.After(min(d.cfg.CheckInterval, tendInterval)):
		}
	}
}

func (d *Daemon) tendOnce(ctx context.Context) {
	if d.cfg.ReadOnly {
		return
	}
	master, err := d.masterKeys()
	if err != nil {
		return
	}
	d.rotateIfDue(ctx, master)
	d.scrubIfLocked()
	err = d.rewraps.run(ctx)
	if !interrupted(err) {
		d.alert(alertRewrapFailed, err != nil, text(err))
	}
}

// rotateIfDue makes a new master key if the active one is older than its
// period. A clock that was set back makes it younger, one that was set forward
// makes one rotation due: the next key is dated by the same clock.
func (d *Daemon) rotateIfDue(ctx context.Context, master *keymgr.MasterKeys) {
	active := master.Keyring().Active()
	age := d.cfg.Now().Sub(active.Created)
	if d.cfg.MasterKeyPeriod <= 0 || age < d.cfg.MasterKeyPeriod {
		d.alert(alertMasterKeyOld, false, "")
		return
	}
	_, _, err := d.admin.rotateMaster(ctx, nil)
	if err != nil && !interrupted(err) {
		d.alert(alertMasterKeyOld, true, fmt.Sprintf("master key %s was made %s, and no new one could be: %v",
			active.ID, active.Created.Format(time.DateOnly), err))
	}
	if err == nil {
		d.alert(alertMasterKeyOld, false, "")
	}
}

// kick has tendMasterKeys look again.
func (d *Daemon) kick() {
	select {
	case d.rotated <- struct{}{}:
	default:
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
