package daemon

import (
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/control"
)

// keyEvent is one thing that was done with a key, or to who may use it.
type keyEvent struct {
	Action    string        // a method's name, or "check", "follow", "rewrap"
	By        *control.Peer // nil: the daemon of its own accord
	KeyID     string        // without version; empty where no AKI is concerned
	Version   string
	MasterKey string // empty where none is concerned
	Err       error
	Took      time.Duration
}

// routine are the actions whose success is worth no line of the log: those
// that the daemon does all the time.
var routine = map[string]bool{"check": true, actionDescribe: true}

// tell reports a key event to whoever keeps account of them: the log, the
// metrics and the audit log. It never fails, and waits for no more than a line
// to be written.
func (d *Daemon) tell(e keyEvent) {
	d.account(e)
	args := []any{"key_id", e.KeyID, "version", e.Version}
	if e.MasterKey != "" {
		args = append(args, "master_key", e.MasterKey)
	}
	if e.By != nil {
		args = append(args, "pid", e.By.PID, "uid", e.By.UID)
	}
	switch {
	case e.Err != nil:
		d.log.Warn(e.Action+" failed", append(args, "error", e.Err)...)
	case routine[e.Action]:
		d.log.Debug(e.Action, args...)
	default:
		d.log.Info(e.Action, args...)
	}
}

// account is tell without the log.
func (d *Daemon) account(e keyEvent) {
	d.observed.count(e)
	_ = d.audit(d.keyRecord(e)) // it is done; the alert tells
}

// alertName names a condition that operators are told of once when it begins
// and once when it ends. Package alert has the table of them.
type alertName = alert.Name

// alert says whether a condition holds, and what of it. Only a change is told.
func (d *Daemon) alert(name alertName, firing bool, detail string) {
	if d.observed != nil {
		d.observed.board.Set(name, firing, detail)
	}
}

// logAlert is the log's part of telling of a change.
func (d *Daemon) logAlert(e alert.Event) {
	args := []any{"name", string(e.Name), "severity", string(e.Severity), "detail", e.Detail}
	switch {
	case e.State == alert.Resolved:
		d.log.Info("alert resolved", append(args, "since", e.Since)...)
	case e.Severity == alert.Critical:
		d.log.Error("alert", args...)
	default:
		d.log.Warn("alert", args...)
	}
}
