package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
)

// A mount, its checks and its end are on record, with who did what.
func TestAuditOfALife(t *testing.T) {
	f := observedFixture(t)
	d := f.start()
	d.tell(keyEvent{Action: "check", KeyID: f.store.KeyID(), Version: "v1", Took: time.Second})
	path := f.auditFile(d)
	if _, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, 0); err != nil {
		t.Fatal(err)
	}
	within(t, "the end", d.Done())
	want := "mount mount begun; key open ok; mount mount ok; key check ok; command unmount begun; command unmount ok; mount unmount ok"
	if got := story(t, path); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	me := audit.Process(int32(os.Getpid()), uint32(os.Getuid()))
	for _, r := range events[audit.Record](t, path) {
		if r.Volume != d.info.ID.String() || r.Time.IsZero() || r.Time.Location() != time.UTC {
			t.Errorf("%+v", r)
		}
		if r.Type != audit.TypeKey && (r.By == nil || *r.By != *me) || r.Type == audit.TypeKey && (r.By != nil || r.KeyID != f.store.KeyID() || r.Version == "") {
			t.Errorf("%+v by %+v", r, r.By)
		}
		if r.Type == audit.TypeCommand && r.Call != 1 {
			t.Errorf("call %d: %+v", r.Call, r)
		}
	}
	if _, err := os.Stat(filepath.Join(f.cfg.RunDir, d.info.ID.String()+".metrics.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the metrics' socket is still there: %v", err)
	}
}

// A key that refuses the mount is on record, and so is the mount's failure.
func TestAuditOfARefusal(t *testing.T) {
	f := observedFixture(t)
	id := f.start().info.ID.String()
	if _, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Disable(""); err != nil {
		t.Fatal(err)
	}
	f.cfg.AuditLog = filepath.Join(f.dir, "named", "audit.log")
	if _, err := Start(t.Context(), f.cfg); err == nil {
		t.Fatal("mounted")
	}
	got := events[audit.Record](t, f.cfg.AuditLog)
	if story(t, f.cfg.AuditLog) != "mount mount begun; key open failed; mount mount failed" ||
		got[1].Class != CodeRevoked || got[2].Class != CodeRevoked || got[1].Volume != id {
		t.Errorf("%+v", got)
	}
}

// An audit log that cannot be opened, or lies in the volume, lets nothing mount.
func TestAuditLogRefused(t *testing.T) {
	f := observedFixture(t)
	for path, problem := range map[string]Problem{
		filepath.Join(f.cfg.Backing, "audit.log"):           ProblemInsideBacking,
		filepath.Join(f.cfg.Mountpoint, "new", "audit.log"): ProblemInsideMount,
	} {
		f.cfg.AuditLog = path
		_, err := Start(t.Context(), f.cfg)
		if e, ok := errors.AsType[*PathError](err); !ok || e.Role != RoleAuditLog || e.Problem != problem {
			t.Errorf("%s: %v", path, err)
		}
	}
	f.cfg.AuditLog = "/dev/null/audit.log"
	if _, err := Start(t.Context(), f.cfg); Code(err) != CodeAudit {
		t.Errorf("%v", err)
	}
	f.cfg.AuditLog = AuditNone
	d := f.start()
	if _, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, 0); err != nil || d.observed.log != nil {
		t.Errorf("without an audit log: %v", err)
	}
}

// The making of a volume is on record, or not done.
func TestAuditOfCreate(t *testing.T) {
	f := newFixture(t)
	cfg := f.create()
	cfg.Backing, cfg.StateDir = mkdir(t, f.dir, "new"), "/dev/null"
	if _, err := Create(t.Context(), cfg); Code(err) != CodeAudit {
		t.Fatalf("%v", err)
	}
	if entries, err := os.ReadDir(cfg.Backing); err != nil || len(entries) != 0 {
		t.Fatalf("it left %v, %v", entries, err)
	}
	cfg.StateDir = filepath.Join(f.dir, "state")
	id, err := Create(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.StateDir, "audit", id.String()+".log")
	if got := story(t, path); got != "command init begun; key init ok; command init ok" {
		t.Error(got)
	}
	key := events[audit.Record](t, path)[1]
	if key.KeyID != f.store.KeyID() || key.Version == "" || key.MasterKey == "" || key.By == nil {
		t.Errorf("%+v", key)
	}
}

// While the audit log cannot be written, commands are refused and checks go
// on; each change of that is told once.
func TestAuditFailsClosed(t *testing.T) {
	f := observedFixture(t)
	f.cfg.AuditLog = filepath.Join(f.dir, "log", "audit.log")
	d := f.start()
	away := filepath.Join(f.dir, "away")
	if err := os.Rename(filepath.Dir(f.cfg.AuditLog), away); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, 0)
		if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != CodeAudit {
			t.Fatalf("%v", err)
		}
	}
	d.tell(keyEvent{Action: "check", KeyID: f.store.KeyID()})
	if s := d.Status(); len(s.Alerts) != 1 || s.Alerts[0].Name != alert.AuditFailed || s.Alerts[0].Severity != alert.Critical {
		t.Errorf("%+v", s.Alerts)
	}
	if text := f.scrape(d); !strings.Contains(text, `akvfs_audit_lines_total{result="failed",`) ||
		!strings.Contains(text, `akvfs_key_checks_total{key_id="`+f.store.KeyID()+`",result="available",`) {
		t.Error(text)
	}
	if err := os.Rename(away, filepath.Dir(f.cfg.AuditLog)); err != nil {
		t.Fatal(err)
	}
	if _, err := Unmount(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, 0); err != nil {
		t.Fatal(err)
	}
	within(t, "the end", d.Done())
	var told []string
	for _, e := range events[alert.Event](t, f.hookFile()) {
		told = append(told, fmt.Sprintf("%s %s", e.Name, e.State))
	}
	if got := strings.Join(told, "; "); got != "audit-failed firing; audit-failed resolved" {
		t.Errorf("the hook heard: %s", got)
	}
	if n := strings.Count(f.log.String(), "name=audit-failed"); n < 2 {
		t.Errorf("%d lines of the log\n%s", n, f.log)
	}
}

// Who may not call is on record, too.
func TestAuditOfStrangers(t *testing.T) {
	f := observedFixture(t)
	d := f.start()
	err := d.authorize(control.Peer{PID: int32(os.Getpid()), UID: 4711}, "unmount\n\x1b[2J")
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeDenied {
		t.Errorf("%v", err)
	}
	all := events[audit.Record](t, f.auditFile(d))
	if r := all[len(all)-1]; r.Result != audit.ResultRefused || r.By.UID != 4711 || r.Action != "unmount??[2J" {
		t.Errorf("%+v", r)
	}
}
