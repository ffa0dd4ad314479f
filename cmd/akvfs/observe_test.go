package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/file"
)

// auditLog is the one audit log of a world.
func (w *world) auditLog() string {
	w.t.Helper()
	files, err := filepath.Glob(join(w.dir, "state", "audit", "*.log"))
	w.must(err)
	if len(files) != 1 {
		w.t.Fatalf("audit logs: %v", files)
	}
	return w.read(files[0])
}

// Commands are on record with the process that gave them, be it gone.
func TestAuditLog(t *testing.T) {
	w := newVolume(t)
	if log := w.auditLog(); strings.Count(log, `"action":"init"`) != 3 || !strings.Contains(log, `"key_id":"`+w.keyID()+`"`) {
		t.Error(log)
	}
	w.mount()
	w.ok("status", w.mountpoint)
	cmd := w.command("unmount", w.mountpoint)
	if r := w.finish(cmd); r.code != 0 {
		t.Fatal(r.err)
	}
	var commands []audit.Record
	for line := range strings.Lines(w.auditLog()) {
		var r audit.Record
		w.must(json.Unmarshal([]byte(line), &r))
		if r.Type == audit.TypeCommand && r.Action != "init" {
			commands = append(commands, r)
		}
	}
	if len(commands) != 2 {
		t.Fatalf("%+v", commands)
	}
	for i, r := range commands {
		want := audit.Who{UID: uint32(os.Getuid()), PID: int32(cmd.Process.Pid), Command: "akvfs"}
		if r.Action != "unmount" || *r.By != want || r.Result != []string{audit.ResultBegun, audit.ResultOK}[i] {
			t.Errorf("%+v by %+v", r, r.By)
		}
	}
}

// What cannot be put on record is not done: neither a mount nor an unmount.
func TestAuditLogRefuses(t *testing.T) {
	w := newVolume(t)
	w.must(os.RemoveAll(join(w.dir, "state")))
	w.refused(exitFailed, "What cannot be put on record is not done", "mount", w.backing, w.mountpoint, "-o", "audit-log=/dev/null/x")
	w.refused(exitUsage, "cannot lie in it", "mount", w.backing, w.mountpoint, "-o", "audit-log="+join(w.backing, "x"))
	w.mount("-o", "audit-log=log/audit.log")
	w.must(os.Rename(join(w.dir, "log"), join(w.dir, "away")))
	w.refused(exitFailed, "-o audit-log=FILE", "unmount", w.mountpoint)
	if s := w.status(w.mountpoint); len(s.Alerts) != 1 || s.Alerts[0].Name != alert.AuditFailed {
		t.Errorf("%+v", s.Alerts)
	}
	if out := w.ok("status").out; !strings.Contains(out, "alert audit-failed (critical): ") {
		t.Error(out)
	}
	w.must(os.Rename(join(w.dir, "away"), join(w.dir, "log")))
	w.unmount()
	w.mount("-o", "audit-log=none")
	w.unmount()
	if _, err := os.Stat(join(w.dir, "state", "audit")); err == nil {
		t.Error("an audit log that nobody asked for")
	}
}

// A key that is overdue fires, runs the command without the daemon's secrets,
// and reaches Prometheus through the socket.
func TestAlert(t *testing.T) {
	w := newVolume(t)
	w.env = append(w.env, "AZURE_CLIENT_SECRET=do-not-tell")
	w.mount("--on-alert", `{ cat; env; } >>`+join(w.dir, "hook")+`.new && mv `+join(w.dir, "hook")+`.new `+join(w.dir, "hook"),
		"-o", "check-interval=1s,aki-max-age=1ms")
	eventually(t, "the hook has run", func() bool { _, err := os.Stat(join(w.dir, "hook")); return err == nil })
	heard := w.read(join(w.dir, "hook"))
	line, env, _ := strings.Cut(heard, "\n")
	var e alert.Event
	w.must(json.Unmarshal([]byte(line), &e))
	s := w.status(w.mountpoint)
	if e.Name != alert.KeyNotRotated || e.State != alert.Firing || e.Volume != s.VolumeID || !strings.Contains(e.Detail, w.keyID()) {
		t.Errorf("%+v", e)
	}
	if !strings.Contains(env, "AKVFS_ALERT_NAME=key-not-rotated") || strings.Contains(env, "AZURE") {
		t.Error(env)
	}
	if len(s.Alerts) != 1 || s.Alerts[0] != e.Alert {
		t.Errorf("%+v", s.Alerts)
	}
	socket := join(w.dir, "run", s.VolumeID+".metrics.sock")
	metrics, err := exec.Command("curl", "-fsS", "--unix-socket", socket, "http://akvfs/metrics").Output()
	w.must(err)
	if !strings.Contains(string(metrics), `akvfs_alert_firing{alert="key-not-rotated",severity="warning",volume="`+s.VolumeID+`"} 1`) {
		t.Errorf("%s", metrics)
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(string(metrics))
	if out, err := check.CombinedOutput(); err != nil || strings.Contains(string(out), "akvfs_") {
		t.Errorf("%v\n%s", err, out)
	}
	w.unmount()
}

// TestReadingIsOnRecord: a volume that is read without a mount has its keys
// unwrapped for that, and who had that done is in the log, whatever came of it.
func TestReadingIsOnRecord(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.write(join(w.mountpoint, "data"), "content")
	w.unmount()
	reads := func() (results []string) {
		for line := range strings.Lines(w.auditLog()) {
			var r audit.Record
			w.must(json.Unmarshal([]byte(line), &r))
			if r.Type == audit.TypeCommand && r.Action == daemon.ActionRead {
				results = append(results, r.Result)
			}
		}
		return results
	}
	w.ok("cat", w.backing, "data")
	if got := strings.Join(reads(), " "); got != audit.ResultBegun+" "+audit.ResultOK {
		t.Errorf("the log has %s", got)
	}
	s, err := file.Open(w.store, file.Options{})
	w.must(err)
	w.must(s.Disable(""))
	w.refused(11, "KeyDisabled", "cat", w.backing, "data")
	if got := reads(); len(got) != 4 || got[3] == audit.ResultOK {
		t.Errorf("the log has %s", got)
	}
	w.must(s.Enable(""))
	w.must(os.RemoveAll(join(w.dir, "state")))
	w.write(join(w.dir, "state"), "no directory")
	w.refused(1, "put on record", "cat", w.backing, "data")
	w.must(os.Remove(join(w.dir, "state")))
}
