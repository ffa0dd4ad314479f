package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr/file"
)

// utc makes times print alike everywhere.
func utc(t *testing.T) time.Time {
	t.Helper()
	old := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = old })
	return time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
}

func sample(at time.Time) daemon.Status {
	return daemon.Status{
		Backing: "/data/enc", Mountpoint: "/var/lib/mongodb", State: daemon.StateMounted, Since: &at, PID: 7,
		Cluster: "rs0", VolumeID: "id", Format: 1, Names: "encrypted", Created: at, CheckInterval: "15m", Grace: "24h",
		MasterKeys: []daemon.MasterKeyStatus{{ID: "new", Active: true, Created: at}, {ID: "old", Created: at}},
		AKIs: []daemon.AKIStatus{
			{KeyID: "https://acme.vault.azure.net/keys/mongo", Version: "v1", Operation: "wrap", Algorithm: "RSA-OAEP-256", Provider: "akv", State: daemon.KeyRevoked, Checked: &at, Error: "KeyDisabled", Created: at},
			{KeyID: "file:///key.json", Version: "v2", Operation: "encrypt", Algorithm: "RSA-OAEP-256", Provider: "file", State: daemon.KeyUnknown, Created: at},
		},
		Alerts: []alert.Alert{{Name: alert.Integrity, Severity: alert.Critical, Since: at, Detail: "3 integrity errors"}},
		Stats:  &volume.Stats{IntegrityErrors: 3, Journal: journal.Stats{Used: 5 << 19, Capacity: 126 << 20, Direct: true}}, WritePolicy: daemon.WriteFullData,
		Processors: &daemon.ProcessorStatus{Awake: true, Seconds: 1.25},
	}
}

func TestPrintStatus(t *testing.T) {
	at := utc(t)
	const want = `Backing directory  /data/enc
Mount point        /var/lib/mongodb
State              mounted
Since              2030-01-02 03:04:05 +0000 (process 7)
Cluster            rs0
Volume             id (format 1, encrypted names, made 2030-01-02 03:04:05 +0000)
Key checks         every 15m, 24h of grace
Master key         new (active, made 2030-01-02 03:04:05 +0000)
Master key         old (made 2030-01-02 03:04:05 +0000)
Key                https://acme.vault.azure.net/keys/mongo
  provider         Azure Key Vault
  version          v1 (wrap, RSA-OAEP-256), wraps since 2030-01-02 03:04:05 +0000
  state            revoked, checked 2030-01-02 03:04:05 +0000
  error            KeyDisabled
Key                file:///key.json
  provider         embedded key store, not a vault
  version          v2 (encrypt, RSA-OAEP-256), wraps since 2030-01-02 03:04:05 +0000
  state            unknown
Alert              integrity (critical) since 2030-01-02 03:04:05 +0000: 3 integrity errors
Journal            1% in use, full-data policy
Processors         kept awake; for 1.2 s so far
Integrity errors   3
`
	var out bytes.Buffer
	if err := printStatus(&out, sample(at)); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestJournalText(t *testing.T) {
	s := daemon.Status{WritePolicy: daemon.WriteFullData, Stats: &volume.Stats{Journal: journal.Stats{Capacity: 1 << 20, Failed: true}}}
	if text := journalText(s); !strings.Contains(text, "0% in use") || !strings.Contains(text, "through the page cache") || !strings.Contains(text, "it has failed") {
		t.Error(text)
	}
}

func TestProcessorText(t *testing.T) {
	for want, p := range map[string]daemon.ProcessorStatus{
		"may sleep":                              {},
		"may sleep; kept awake for 2.0 s so far": {Seconds: 2},
		"kept awake; for 0.5 s so far":           {Awake: true, Seconds: 0.5},
		"may sleep, always: no driver":           {Reason: "no driver"},
	} {
		if got := processorText(&p); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

// A daemon that does not answer tells nothing of its volume.
func TestPrintSilent(t *testing.T) {
	at := utc(t)
	var out bytes.Buffer
	s := daemon.Status{State: daemon.StateMounted, Mountpoint: "/m", PID: 7, Since: &at, VolumeID: "id", Note: "its daemon has not answered"}
	if err := printStatus(&out, s); err != nil || !strings.Contains(out.String(), "Volume             id\n") || strings.Contains(out.String(), "0001") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestPrintCustody(t *testing.T) {
	at := utc(t)
	later := at.Add(24 * time.Hour)
	for want, s := range map[string]daemon.Status{
		"": {State: daemon.StateMounted, StateSince: &at},
		`State       grace
  since     2030-01-02 03:04:05 +0000
  because   no network
  until     2030-01-03 03:04:05 +0000, then it locks
`: {State: daemon.StateGrace, StateSince: &at, StateReason: "no network", GraceUntil: &later},
		`State       locked
  since     2030-01-02 03:04:05 +0000
  because   revoked
  until     a check finds that a key opens it
`: {State: daemon.StateLocked, StateSince: &at, StateReason: "revoked"},
		`State       locked
  since     2030-01-02 03:04:05 +0000
  because   locked by hand
  until     it is unlocked by hand
`: {State: daemon.StateLocked, StateSince: &at, StateReason: "locked by hand", LockedByHand: true},
	} {
		var out bytes.Buffer
		if err := printStatus(&out, s); err != nil {
			t.Error(err)
		}
		// Columns are as wide as the widest name in all of the text.
		if squeeze := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(squeeze, strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%s", out.String())
		}
	}
}

func TestPrintStatuses(t *testing.T) {
	at := utc(t)
	stopping, bare := sample(at), daemon.Status{Backing: "/b", State: daemon.StateUnmounted, Note: "its daemon was killed"}
	stopping.Stopping, stopping.ReadOnly, stopping.Cluster = true, true, ""
	stopping.AKIs = stopping.AKIs[1:]
	const want = `BACKING    MOUNTPOINT        STATE                         CLUSTER  KEY                                                 KEY STATE
/data/enc  /var/lib/mongodb  mounted                       rs0      https://acme.vault.azure.net/keys/mongo and 1 more  revoked
/data/enc  /var/lib/mongodb  mounted, read-only, stopping  -        file:///key.json (embedded key store, not a vault)  unknown
/b         -                 unmounted                     -        -                                                   -
/data/enc: alert integrity (critical): 3 integrity errors
/data/enc: alert integrity (critical): 3 integrity errors
/b: its daemon was killed
`
	var out bytes.Buffer
	if err := printStatuses(&out, []daemon.Status{sample(at), stopping, bare}); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestPrintListing(t *testing.T) {
	at := utc(t)
	l := file.Listing{
		KeyID: "file:///k", Type: "RSA", Size: 3072, Created: at, Deleted: at,
		Versions: []file.VersionListing{
			{ID: "one", State: file.Expired, Created: at, Expires: at},
			{ID: "two", State: file.Usable, Created: at, NotBefore: at, Current: true},
		},
	}
	const want = `Key identifier  file:///k
Provider        embedded key store, not a vault
Key             RSA, 3072 bits, made 2030-01-02 03:04:05 +0000
State           deleted 2030-01-02 03:04:05 +0000, can be recovered

VERSION  STATE            MADE                       VALID FROM                 EXPIRES
one      expired          2030-01-02 03:04:05 +0000  -                          2030-01-02 03:04:05 +0000
two      usable, current  2030-01-02 03:04:05 +0000  2030-01-02 03:04:05 +0000  -
`
	var out bytes.Buffer
	if err := printListing(&out, l); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestProviderText(t *testing.T) {
	for name, want := range map[string]string{"file": "embedded key store, not a vault", "akv": "Azure Key Vault", "hsm": "hsm"} {
		if got := providerText(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// exitOf follows the process that there was, and does not mind one that has
// gone already.
func TestExitOf(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := exitOf(cmd.Process.Pid)
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
		t.Error("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	exitOf(cmd.Process.Pid)()
}

func TestParseTime(t *testing.T) {
	cmd := newDevKeyExpire(nil)
	if at, err := parseTime(cmd, "--at", "never"); err != nil || !at.IsZero() {
		t.Errorf("%v, %v", at, err)
	}
	if at, err := parseTime(cmd, "--at", "2030-01-02T03:04:05+01:00"); err != nil || at.Unix() != 1893549845 {
		t.Errorf("%v, %v", at.Unix(), err)
	}
	if at, err := parseTime(cmd, "--at", "now"); err != nil || time.Since(at) < 0 {
		t.Errorf("%v, %v", at, err)
	}
	for _, text := range []string{"", "Now", "2030-01-02", "1893549845", "2030-13-01T00:00:00Z"} {
		if at, err := parseTime(cmd, "--at", text); err == nil || !strings.Contains(err.Error(), "--at wants a time") {
			t.Errorf("%q is %v, %v", text, at, err)
		}
	}
}
