package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/highwater"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// Methods that a daemon answers on its control socket. Names are words of the
// command line, with dots for spaces.
const (
	MethodStatus  = "status"
	MethodUnmount = "unmount"
	MethodLock    = "lock"
	MethodUnlock  = "unlock"
)

// Codes of errors on the control socket, besides the protocol's own.
const (
	CodeBusy        = "busy"
	CodeLingering   = "lingering"
	CodeUnfinished  = "unfinished" // unmounted, but not all is committed
	CodeRevoked     = "revoked"
	CodeCredentials = "credentials"
	CodeUnreachable = "unreachable"
	CodeInvalidKey  = "invalid-key"
	CodeIntegrity   = "integrity"
	CodeLocked      = "locked"
	CodeAudit       = "audit" // the audit log cannot be written
)

// UnmountParams are the parameters of MethodUnmount.
type UnmountParams struct {
	Wait string `json:"wait"` // a time such as "5s" to wait for users of the mount
}

func (d *Daemon) methods() map[string]control.Method {
	return d.addKeyMethods(map[string]control.Method{
		MethodStatus:  d.statusMethod,
		MethodUnmount: d.unmountMethod,
		MethodLock:    d.lockMethod,
		MethodUnlock:  d.unlockMethod,

		MethodFsck:           d.fsckMethod,
		MethodFreeze:         d.freezeMethod,
		MethodThaw:           d.thawMethod,
		MethodSnapshotCreate: d.snapshotMethod,
		MethodSnapshotDirs:   d.snapshotDirs,
	})
}

func (d *Daemon) statusMethod(_ context.Context, c *control.Call) (any, error) {
	if err := c.Params(nil); err != nil {
		return nil, err
	}
	return d.Status(), nil
}

// unmountMethod answers once all is committed and let go of.
func (d *Daemon) unmountMethod(ctx context.Context, c *control.Call) (any, error) {
	var p UnmountParams
	if err := c.Params(&p); err != nil {
		return nil, err
	}
	var wait time.Duration
	if p.Wait != "" {
		var err error
		if wait, err = time.ParseDuration(p.Wait); err != nil || wait < 0 {
			return nil, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("%q is no time to wait", p.Wait)}
		}
	}
	d.log.Info("told to unmount", "pid", c.Peer.PID, "uid", c.Peer.UID)
	return struct{}{}, d.Unmount(ctx, wait)
}

// Code sorts an error for the control socket.
func Code(err error) string {
	var unrecorded *audit.Error
	var busy *BusyError
	var lingering *LingeringError
	var unfinished *UnfinishedError
	var key *keymgr.KeyError
	var keyring *keymgr.IntegrityError
	var damaged *volume.IntegrityError
	var rollback *highwater.RollbackError
	var locked *LockedError
	if code := refusalCode(err); code != "" {
		return code
	}
	switch {
	case errors.As(err, &unrecorded):
		return CodeAudit
	case errors.As(err, &busy):
		return CodeBusy
	case errors.As(err, &lingering):
		return CodeLingering
	case errors.As(err, &unfinished):
		return CodeUnfinished
	case errors.As(err, &locked):
		return CodeLocked
	case errors.As(err, &key):
		return keyCode(key.Class)
	case errors.As(err, &keyring), errors.As(err, &damaged), errors.As(err, &rollback):
		return CodeIntegrity
	}
	return control.CodeFailed
}

func keyCode(class keymgr.Class) string {
	switch class {
	case keymgr.Revoked:
		return CodeRevoked
	case keymgr.Credentials:
		return CodeCredentials
	case keymgr.Unreachable:
		return CodeUnreachable
	case keymgr.Mismatch:
		return CodeIntegrity
	}
	return CodeInvalidKey
}
