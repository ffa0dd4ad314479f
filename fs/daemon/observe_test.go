package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/metrics"
	"github.com/akvfs/akvfs/keymgr"
)

// observedFixture is one with an audit log, a metrics socket and a hook.
func observedFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.cfg.StateDir, f.cfg.Metrics = filepath.Join(f.dir, "state"), metrics.Unix
	f.cfg.OnAlert = fmt.Sprintf("cat >>%q", f.hookFile())
	return f
}

func (f *fixture) hookFile() string { return filepath.Join(f.dir, "hook") }

// auditFile is where the log of the fixture's volume lies by default.
func (f *fixture) auditFile(d *Daemon) string {
	return filepath.Join(f.cfg.StateDir, "audit", d.info.ID.String()+".log")
}

// events reads lines of JSON.
func events[T any](t *testing.T, path string) []T {
	t.Helper()
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []T
	for s := bufio.NewScanner(file); s.Scan(); {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		all = append(all, v)
	}
	return all
}

// story is an audit log in short: type, action and result of each line.
func story(t *testing.T, path string) string {
	var all []string
	for _, r := range events[audit.Record](t, path) {
		all = append(all, fmt.Sprintf("%s %s %s", r.Type, r.Action, r.Result))
	}
	return strings.Join(all, "; ")
}

// scrape reads a daemon's metrics from its Unix socket.
func (f *fixture) scrape(d *Daemon) string {
	f.t.Helper()
	path := filepath.Join(f.cfg.RunDir, d.info.ID.String()+".metrics.sock")
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://akvfs/metrics")
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		f.t.Fatalf("%s, %v\n%s", r.Status, err, text)
	}
	return string(text)
}

// One change of an alert is one line of the log, one of the audit log, one run
// of the hook, one more in the metrics, and a line of the status while it lasts.
func TestAlertReachesEverybody(t *testing.T) {
	f := observedFixture(t)
	d := f.start()
	for range 3 {
		d.alert(alert.VaultUnreachable, true, "no route")
	}
	if s := d.Status(); len(s.Alerts) != 1 || s.Alerts[0].Detail != "no route" {
		t.Errorf("%+v", s.Alerts)
	}
	text := f.scrape(d)
	for _, want := range []string{`akvfs_alert_firing{alert="vault-unreachable",severity="warning",`, `akvfs_alert_changes_total{alert="vault-unreachable",state="firing",`} {
		if _, rest, ok := strings.Cut(text, want); !ok || !strings.HasPrefix(rest, `volume="`+d.info.ID.String()+`"} 1`) {
			t.Errorf("%s: %.60q", want, rest)
		}
	}
	d.alert(alert.VaultUnreachable, false, "")
	if s := d.Status(); len(s.Alerts) != 0 {
		t.Errorf("%+v", s.Alerts)
	}
	if err := d.Unmount(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	within(t, "the end", d.Done())
	heard := events[alert.Event](t, f.hookFile())
	var recorded []alert.Event
	for _, e := range events[alert.Event](t, f.auditFile(d)) {
		if e.Type == audit.TypeAlert {
			recorded = append(recorded, e)
		}
	}
	if len(heard) != 2 || fmt.Sprint(heard) != fmt.Sprint(recorded) || heard[0].State != alert.Firing || heard[1].State != alert.Resolved {
		t.Errorf("heard %v, recorded %v", heard, recorded)
	}
	if n := strings.Count(f.log.String(), "detail=\"no route\""); n != 2 {
		t.Errorf("%d lines of the log\n%s", n, f.log)
	}
}

// What a real daemon exports is what Prometheus expects, and counts what was done.
func TestScrapeOfADaemon(t *testing.T) {
	f := observedFixture(t)
	d := f.start()
	write(t, filepath.Join(f.cfg.Mountpoint, "data"), strings.Repeat("x", 5000))
	file, err := os.Open(filepath.Join(f.cfg.Mountpoint, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.cfg.RunDir, d.info.ID.String()+".metrics.sock")
	if fi, err := os.Stat(path); err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	text := f.scrape(d)
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || bytes.Contains(out, []byte("akvfs_")) {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	volume := `volume="` + d.info.ID.String() + `"`
	for _, line := range []string{
		`akvfs_volume_state{state="mounted",` + volume + `} 1`,
		`akvfs_key_state{key_id="` + f.store.KeyID() + `",state="available",` + volume + `} 1`,
		`akvfs_written_bytes_total{` + volume + `} 5000`,
		`akvfs_key_operations_total{action="open",result="ok",` + volume + `} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	for _, never := range []string{
		`akvfs_operation_duration_seconds_count{operation="fsync",` + volume + `} 0`,
		`akvfs_journal_commit_duration_seconds_count{` + volume + `} 0`,
		`akvfs_journal_capacity_bytes{` + volume + `} 0`,
	} {
		if strings.Contains(text, "\n"+never+"\n") {
			t.Errorf("not counted: %s", never)
		}
	}
}

// Metrics on a loopback address; one that is taken refuses the mount.
func TestMetricsOnLoopback(t *testing.T) {
	f := newFixture(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Metrics = taken.Addr().String()
	if _, err := Start(t.Context(), f.cfg); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v", err)
	}
	taken.Close()
	f.start()
	r, err := http.Get("http://" + f.cfg.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || !bytes.Contains(text, []byte("akvfs_volume_info")) {
		t.Errorf("%v\n%s", err, text)
	}
	g := newFixture(t)
	g.cfg.Metrics = "0.0.0.0:0"
	_, err = Start(t.Context(), g.cfg)
	if _, ok := errors.AsType[*metrics.AddressError](err); !ok {
		t.Errorf("%v", err)
	}
}

// A daemon's own looks raise alerts: here of a key that expires soon, which
// only the vault tells.
func TestDaemonAssesses(t *testing.T) {
	f := observedFixture(t)
	f.cfg.CheckInterval, f.cfg.AKIMaxAge = 20*time.Millisecond, time.Nanosecond
	soon := time.Now().Add(5*24*time.Hour + time.Hour)
	open := f.cfg.Openers["file"]
	f.cfg.Openers = keymgr.Openers{"file": func(id string, o keymgr.ProviderOptions) (keymgr.Provider, error) {
		p, err := open(id, o)
		return expiring{p, soon}, err
	}}
	d := f.start()
	deadline := time.Now().Add(time.Minute)
	for len(d.Status().Alerts) < 2 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	got := d.Status().Alerts
	if len(got) != 2 || got[0].Name != alert.KeyExpiring || got[1].Name != alert.KeyNotRotated || !strings.Contains(got[0].Detail, "in 5 days") {
		t.Errorf("%+v", got)
	}
	if text := f.scrape(d); !strings.Contains(text, "akvfs_key_expiry_timestamp_seconds{") {
		t.Error(text)
	}
}

// expiring is a provider whose key expires.
type expiring struct {
	keymgr.Provider
	at time.Time
}

func (p expiring) Describe(ctx context.Context) (keymgr.KeyInfo, error) {
	info, err := p.Provider.Describe(ctx)
	info.Expires = p.at
	return info, err
}
