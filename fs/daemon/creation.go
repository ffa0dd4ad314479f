package daemon

import (
	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr"
)

// actionInit is the command that makes a volume, as the audit log has it.
const actionInit = "init"

// creation keeps account of the making of one volume.
type creation struct {
	accounts *Daemon // nil: not begun
	command  command
	by       control.Peer
}

// begin puts the command on record as soon as the volume has an ID, which is
// before its key is asked for anything that is kept.
func (c *creation) begin(cfg CreateConfig, id uuid.UUID) (err error) {
	accounts, err := unmounted(Config{Backing: cfg.Backing, StateDir: cfg.StateDir, Now: cfg.Now}, id)
	if err != nil {
		return err
	}
	c.accounts, c.by = accounts, commander(cfg.By)
	c.command, err = accounts.begin(actionInit, c.by)
	return err
}

// end tells of the keyring, if there is one, and of how it went.
func (c *creation) end(master *keymgr.MasterKeys, err error) {
	if c.accounts == nil {
		return
	}
	if master != nil {
		active := master.Keyring().Active()
		for _, w := range active.Wraps {
			c.accounts.tell(keyEvent{Action: actionInit, By: &c.by, KeyID: w.KeyID, Version: w.Version, MasterKey: active.ID.String(), Err: err})
		}
	}
	c.accounts.end(c.command, err)
	c.accounts.closeAccounts()
}
