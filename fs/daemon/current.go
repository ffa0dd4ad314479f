package daemon

import (
	"fmt"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// LockedError says that a volume is locked, and what for.
type LockedError struct {
	Backing string
	Since   time.Time
	Why     string
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("volume %s has been locked since %s: %s", e.Backing, e.Since.Format(time.RFC3339), e.Why)
}

// masterKeys are the master keys in use, for one call of theirs: a lock
// destroys them, and an unlock puts others in their place. While the volume is
// locked it is a *LockedError.
func (d *Daemon) masterKeys() (*keymgr.MasterKeys, error) {
	c := d.guard.get()
	if c.state == StateLocked {
		return nil, &LockedError{d.cfg.Backing, c.since, c.why}
	}
	return d.keys.current(), nil
}
