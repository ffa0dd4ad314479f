package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// AuditNone is a Config.AuditLog that keeps none.
const AuditNone = "none"

// actionOpen is a keyEvent's: a key was asked for at the mount.
const actionOpen = "open"

// callNumbers number the commands that a daemon is told, so that the two lines
// of each can be matched.
type callNumbers struct{ atomic.Uint64 }

// auditPath is where the audit log lies, "" for nowhere. It must not lie in
// the volume, of whose end it tells.
func (d *Daemon) auditPath() (string, error) {
	path := d.cfg.AuditLog
	switch {
	case path == AuditNone, path == "" && d.cfg.StateDir == "":
		return "", nil
	case path == "":
		path = filepath.Join(d.cfg.StateDir, "audit", d.info.ID.String()+".log")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real := resolve(path)
	for dir, problem := range map[string]Problem{d.cfg.Backing: ProblemInsideBacking, d.cfg.Mountpoint: ProblemInsideMount} {
		if dir != "" && inside(real, dir) {
			return "", &PathError{RoleAuditLog, path, problem}
		}
	}
	return path, nil
}

// resolve is canonical for a path whose end may not be there yet.
func resolve(path string) string {
	real, err := canonical(path)
	if err == nil || path == filepath.Dir(path) {
		return real
	}
	return filepath.Join(resolve(filepath.Dir(path)), filepath.Base(path))
}

// audit writes one line, and raises an alert while that fails.
func (d *Daemon) audit(line any) error {
	if d.observed == nil || d.observed.log == nil {
		return nil
	}
	err := d.observed.log.Append(line)
	d.observed.exporter.Audit(err == nil)
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	d.alert(alert.AuditFailed, err != nil, detail)
	return err
}

func (d *Daemon) record(kind, action string, by *control.Peer, err error) audit.Record {
	r := audit.Record{
		Time: d.cfg.Now().UTC(), Type: kind, Action: action, Volume: d.info.ID.String(), Result: audit.ResultOK,
	}
	if by != nil {
		r.By = audit.Process(by.PID, by.UID)
	}
	if err != nil {
		r.Result, r.Class, r.Error = audit.ResultFailed, Code(err), err.Error()
	}
	return r
}

func (d *Daemon) keyRecord(e keyEvent) audit.Record {
	r := d.record(audit.TypeKey, e.Action, e.By, e.Err)
	r.KeyID, r.Version, r.MasterKey = e.KeyID, e.Version, e.MasterKey
	r.Millis = millis(e.Took)
	return r
}

// mountRecord is about this process itself.
func (d *Daemon) mountRecord(action, result string, err error) audit.Record {
	me := caller()
	r := d.record(audit.TypeMount, action, &me, err)
	r.Result = result
	return r
}

// tellOpened reports what the keys said when the volume was to be opened. The
// log has it from whoever asked for the mount.
func (d *Daemon) tellOpened(err error) {
	if err == nil {
		var s Status
		s.describe(d.info, d.keys.keyring())
		d.keys.watch.fill(s.AKIs)
		for _, k := range s.AKIs {
			if k.State == KeyAvailable {
				d.account(keyEvent{Action: actionOpen, KeyID: k.KeyID, Version: k.Version})
			}
		}
		return
	}
	failed := []*keymgr.KeyError{}
	if all, ok := errors.AsType[*keymgr.UnopenedError](err); ok {
		failed = all.Errors
	} else if one, ok := errors.AsType[*keymgr.KeyError](err); ok {
		failed = append(failed, one)
	}
	for _, f := range failed {
		d.account(keyEvent{Action: actionOpen, KeyID: f.KeyID, Version: f.Version, Err: f})
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// unaudited are the methods that change nothing.
var unaudited = map[string]bool{MethodStatus: true, MethodKeyList: true, MethodSnapshotDirs: true}

// audited has every method that may change something put on record before it
// is done, and again with its result. One that cannot be put on record is not
// done.
func (d *Daemon) audited(methods map[string]control.Method) map[string]control.Method {
	all := make(map[string]control.Method, len(methods))
	for name, method := range methods {
		if !unaudited[name] {
			method = d.auditedMethod(method)
		}
		method = d.guardedMethod(method)
		all[name] = method
	}
	return all
}

func (d *Daemon) guardedMethod(method control.Method) control.Method {
	return func(ctx context.Context, c *control.Call) (any, error) {
		if err := d.guarded(c.RawParams(), c); err != nil {
			return nil, err
		}
		return method(ctx, c)
	}
}

func (d *Daemon) auditedMethod(method control.Method) control.Method {
	return func(ctx context.Context, c *control.Call) (any, error) {
		return d.recorded(c.Method, c.Peer, func() (any, error) { return method(ctx, c) })
	}
}

// recorded does what somebody has commanded, between two lines of the log.
func (d *Daemon) recorded(action string, by control.Peer, do func() (any, error)) (any, error) {
	c, err := d.begin(action, by)
	if err != nil {
		return nil, err
	}
	result, err := do()
	d.end(c, err)
	return result, err
}

// command is one that is being done.
type command struct {
	line  audit.Record
	began time.Time
}

// begin writes a command's first line. Its error forbids the command.
func (d *Daemon) begin(action string, by control.Peer) (command, error) {
	r := d.record(audit.TypeCommand, action, &by, nil)
	r.Call, r.Result = d.observed.calls.Add(1), audit.ResultBegun
	return command{r, time.Now()}, d.audit(r)
}

// end writes its second line.
func (d *Daemon) end(c command, err error) {
	r := d.record(audit.TypeCommand, c.line.Action, nil, err)
	r.By, r.Call, r.Millis = c.line.By, c.line.Call, millis(time.Since(c.began))
	_ = d.audit(r) // it is done already; the alert tells
}

// unmounted is as much of a Daemon as keeps account of what is done to a
// volume that no daemon serves: tell and recorded work. closeAccounts ends it.
func unmounted(cfg Config, id uuid.UUID) (*Daemon, error) {
	cfg = cfg.complete()
	cfg.OnAlert = "" // whoever commands sees what goes wrong
	d := &Daemon{cfg: cfg, log: cfg.Logger, info: volume.Info{ID: id}, pid: os.Getpid()}
	return d, d.openAccounts()
}

// commander is who commands: this process, if nobody is named.
func commander(by *control.Peer) control.Peer {
	if by != nil {
		return *by
	}
	return caller()
}

// caller is this process, which commands by itself.
func caller() control.Peer {
	return control.Peer{PID: int32(os.Getpid()), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}
