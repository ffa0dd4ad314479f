package metrics

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/fs/volume"
)

// full is an exporter that has a sample of everything.
func full() *Exporter {
	at := time.Unix(1e9, 0)
	var ops meter.Operations
	ops.Done(meter.Write, meter.Clock(), true)
	ops.AddWritten(4096)
	info := Info{
		Volume: "0f0e0d0c-0b0a-4908-8706-050403020100", Cluster: "rs0", Mountpoint: "/m", Version: "1.2.3",
		States: []string{"mounted", "grace", "locked"}, KeyStates: []string{"available", "revoked"},
	}
	e := New(info, &ops, func() Snapshot {
		return Snapshot{
			State: "grace", Mounted: at, CredentialExpires: at,
			Keys:       []Key{{"https://v/keys/k", "1", "revoked", at, at, at}, {ID: "https://w/keys/k", Version: "2", State: "available"}},
			MasterKeys: []MasterKey{{"m1", true, at}, {"m0", false, at}},
			Stats:      volume.Stats{IntegrityErrors: 3, CacheHits: 5},
			Alerts:     []alert.Alert{{Name: alert.Integrity}},
			Hook:       alert.HookStats{OK: 1, Failed: 2, TimedOut: 3, Dropped: 4},
			Scrub:      Scrub{Running: true, Read: 7, Findings: 2, Finished: at},
			Awake:      1500 * time.Millisecond,
		}
	})
	e.Check("https://v/keys/k", "available", time.Second)
	e.KeyOperation("key.rotate", true)
	e.KeyOperation("key.rotate", false)
	e.Alert(alert.Event{State: alert.Firing, Alert: alert.Alert{Name: alert.Integrity}})
	e.Audit(true)
	return e
}

// scrape gets the metrics as Prometheus would.
func scrape(t *testing.T, e *Exporter) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := e.Serve(l, slog.New(slog.DiscardHandler))
	defer s.Close()
	r, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v\n%s", r.Status, err, text)
	}
	return string(text)
}

// exported are the names of all metrics, with their kinds and labels.
func exported(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := full().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		all[f.GetName()] = f
	}
	return all
}

func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || strings.Contains(out.String(), "akvfs_") {
		t.Errorf("promtool %s: %v (scripts/setup installs it)\n%s", strings.Join(args, " "), err, &out)
	}
}

func TestScrape(t *testing.T) {
	text := scrape(t, full())
	promtool(t, text, "check", "metrics")
	const v = `volume="0f0e0d0c-0b0a-4908-8706-050403020100"`
	for _, line := range []string{
		`akvfs_volume_info{cluster="rs0",mountpoint="/m",` + v + `} 1`,
		`akvfs_volume_state{state="grace",` + v + `} 1`,
		`akvfs_volume_state{state="locked",` + v + `} 0`,
		`akvfs_key_state{key_id="https://v/keys/k",state="revoked",` + v + `} 1`,
		`akvfs_key_state{key_id="https://v/keys/k",state="available",` + v + `} 0`,
		`akvfs_key_expiry_timestamp_seconds{key_id="https://v/keys/k",` + v + `} 1e+09`,
		`akvfs_key_checks_total{key_id="https://v/keys/k",result="available",` + v + `} 1`,
		`akvfs_key_operations_total{action="key.rotate",result="failed",` + v + `} 1`,
		`akvfs_master_key_active{master_key="m0",` + v + `} 0`,
		`akvfs_operation_failures_total{operation="write",` + v + `} 1`,
		`akvfs_operation_duration_seconds_count{operation="write",` + v + `} 1`,
		`akvfs_written_bytes_total{` + v + `} 4096`,
		`akvfs_integrity_errors_total{` + v + `} 3`,
		`akvfs_alert_firing{alert="integrity",severity="critical",` + v + `} 1`,
		`akvfs_alert_firing{alert="locked",severity="critical",` + v + `} 0`,
		`akvfs_alert_hook_dropped_total{` + v + `} 4`,
		`akvfs_scrub_findings{` + v + `} 2`,
		`akvfs_scrub_finished_timestamp_seconds{` + v + `} 1e+09`,
		`akvfs_audit_lines_total{result="failed",` + v + `} 0`,
		`go_goroutines `,
		`process_cpu_seconds_total `,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("missing: %s", line)
		}
	}
	if strings.Contains(text, `akvfs_key_expiry_timestamp_seconds{key_id="https://w/keys/k"`) {
		t.Error("what is not known has a sample")
	}
}

func TestCheckAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		Off: true, Unix: true, "127.0.0.1:9478": true, "127.1.2.3:1": true, "[::1]:9478": true, "[::ffff:127.0.0.1]:80": true,
		"": false, "0.0.0.0:9478": false, "[::]:9478": false, ":9478": false, "10.0.0.1:9478": false, "localhost:9478": false,
		"127.0.0.1": false, "127.0.0.1:http": false, "127.0.0.1:65536": false, "[::1%lo]:9478": false, "UNIX": false,
	} {
		err := CheckAddress(address)
		if _, typed := errors.AsType[*AddressError](err); (err == nil) != ok || err != nil && !typed {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// What is accepted can be listened on, and only this host reaches it.
func FuzzCheckAddress(f *testing.F) {
	for _, s := range []string{Off, Unix, "127.0.0.1:9478", "[::1]:0", "0.0.0.0:1", "localhost:1", "[::ffff:127.0.0.1]:80", "127.0.0.1:080"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckAddress(s) != nil || s == Off || s == Unix {
			return
		}
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil || !a.IP.IsLoopback() {
			t.Errorf("%q: %v, %v", s, a, err)
		}
	})
}
