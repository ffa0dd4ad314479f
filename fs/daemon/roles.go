package daemon

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/project"
)

// viewers' methods are those that only look. All others are owners'.
var viewersMethods = map[string]bool{
	MethodStatus: true, MethodKeyList: true, MethodKeyCheck: true, MethodSnapshotDirs: true,
}

// RoleFor is the role that a method of a mounted volume needs.
func RoleFor(method string) project.Role {
	if viewersMethods[method] {
		return project.Viewer
	}
	return project.Owner
}

// authorize decides who may call a method: root, the daemon's own user, and
// whoever has the role. Who is refused is put on record.
func (d *Daemon) authorize(p control.Peer, method string) error {
	err := control.Owner(p, method)
	if err != nil && d.cfg.Roles != nil {
		err = Authorize(d.cfg.Roles(p), RoleFor(method), p, method)
	}
	if err != nil {
		if untold, told := d.refusals.Note(p.UID, d.now().up); told {
			r := d.record(audit.TypeCommand, audit.Printable(method, 64), &p, err)
			r.Result, r.Untold = audit.ResultRefused, untold
			_ = d.audit(r) // refused it is, in any case
		}
	}
	return err
}

// Authorize refuses a caller whose role is less than is needed.
func Authorize(has, needs project.Role, p control.Peer, method string) error {
	if has >= needs {
		return nil
	}
	return &control.Error{
		Code:    control.CodeDenied,
		Message: fmt.Sprintf("user %d may not do %s: that needs the role %s, and the user has %s", p.UID, audit.Printable(method, 64), needs, has),
	}
}

// guarded keeps callers with a role from having the daemon, which may be root,
// read or write where they name: its owner's users have no more than they had.
func (d *Daemon) guarded(params json.RawMessage, c *control.Call) error {
	if c.Peer.IsOwner() {
		return nil
	}
	deny := func(format string, a ...any) error {
		err := &control.Error{Code: control.CodeDenied, Message: fmt.Sprintf(format, a...)}
		r := d.record(audit.TypeCommand, c.Method, &c.Peer, err)
		r.Result = audit.ResultRefused
		_ = d.audit(r)
		return err
	}
	var p struct {
		Dir string `json:"dir"`
		To  string `json:"to"`
	}
	if len(params) > 0 && json.Unmarshal(params, &p) != nil {
		return nil // the method says what is wrong with them
	}
	if c.Method == MethodSnapshotCreate && p.Dir != "" {
		known, err := snapshot.Known(volume.Metadata(d.store), d.cfg.Backing)
		if err != nil || !slices.Contains(known, p.Dir) {
			return deny("only root may choose another directory for snapshots than those of the volume: %s", audit.Printable(p.Dir, 200))
		}
	}
	if strings.HasPrefix(strings.ToLower(p.To), "file:") && !d.hasKey(p.To) {
		return deny("only root may name an embedded key store to the daemon")
	}
	return nil
}

// hasKey reports whether a key opens the volume already.
func (d *Daemon) hasKey(aki string) bool {
	return slices.ContainsFunc(d.keys.keyring().Wraps(), func(w keymgr.Wrap) bool { return w.AKI == aki || w.KeyID == aki })
}
