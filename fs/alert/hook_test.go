package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// logText collects a log.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logText) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func event(name Name, state State) Event {
	return Event{Time: time.Unix(1e9, 0).UTC(), Type: "alert", Volume: "vol", State: state,
		Alert: Alert{Name: name, Severity: Critical, Since: time.Unix(1e9, 0).UTC(), Detail: "two\nlines"}}
}

const long = time.Minute // more than anything here should take

// The command gets the event on its standard input and in a clean environment.
func TestHookCommand(t *testing.T) {
	t.Setenv("AZURE_CLIENT_SECRET", "do-not-tell")
	out := filepath.Join(t.TempDir(), "out")
	var log logText
	h := NewHook(fmt.Sprintf("echo said; { cat; env; pwd; } >%q", out), 0, log.logger())
	h.Notify(event(Locked, Firing))
	h.Close(long)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	var got Event
	if err := json.Unmarshal([]byte(line), &got); err != nil || got != event(Locked, Firing) {
		t.Errorf("%q: %v", line, err)
	}
	for _, want := range []string{
		"AKVFS_ALERT_NAME=locked\n", "AKVFS_ALERT_STATE=firing\n", "AKVFS_ALERT_SEVERITY=critical\n", "AKVFS_ALERT_VOLUME=vol\n",
		"AKVFS_ALERT_SINCE=2001-09-09T01:46:40Z\n", "AKVFS_ALERT_DETAIL=two\nlines\n", "PATH=", "\n/\n",
	} {
		if !strings.Contains("\n"+rest, want) {
			t.Errorf("%q is missing in\n%s", want, rest)
		}
	}
	if strings.Contains(rest, "do-not-tell") || strings.Contains(rest, "AZURE") {
		t.Errorf("a secret in\n%s", rest)
	}
	if h.Stats() != (HookStats{OK: 1}) || !strings.Contains(log.String(), "output=said") {
		t.Errorf("%+v\n%s", h.Stats(), &log)
	}
}

// Commands that fail, are missing or are killed cost nothing but a line.
func TestHookFails(t *testing.T) {
	for command, says := range map[string]string{
		"echo oops >&2; exit 3": "output=oops error=\"exit status 3\"",
		"/nowhere/notify":       "exit status 127",
		"kill -KILL $$":         "signal: killed",
		"yes | head -c 1000000": "alert hook ran",
		"exec <&-; exit 0":      "alert hook ran", // does not read the event
	} {
		var log logText
		h := NewHook(command, 0, log.logger())
		h.Notify(event(Locked, Firing))
		h.Notify(event(Locked, Resolved))
		h.Close(long)
		if s := h.Stats(); s.OK+s.Failed != 2 || !strings.Contains(log.String(), says) || len(log.String()) > 10*outputLimit {
			t.Errorf("%s: %+v\n%.1000s", command, s, &log)
		}
	}
}

// A command that hangs is killed with all that it has started.
func TestHookTimeout(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	var log logText
	h := NewHook(fmt.Sprintf("sleep 3600 & echo $! >%q; wait", pid), 300*time.Millisecond, log.logger())
	h.Notify(event(Locked, Firing))
	h.Close(long)
	if s := h.Stats(); s != (HookStats{TimedOut: 1}) || !strings.Contains(log.String(), "killed") {
		t.Errorf("%+v\n%s", s, &log)
	}
	data, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	for running(child) {
		time.Sleep(time.Millisecond)
	}
}

// running: a zombie that nobody reaps has ended.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ") && syscall.Kill(pid, 0) == nil
}

// The end kills a command that outlives the grace, and says what was not told.
func TestHookClose(t *testing.T) {
	var log logText
	begun := make(chan struct{}, 1)
	h := newHook(long, log.logger(), func(ctx context.Context, _ Event) (string, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	})
	h.Notify(event(Locked, Firing))
	<-begun
	h.Notify(event(Integrity, Firing))
	h.Close(0)
	h.Notify(event(AuditFailed, Firing))
	if s := h.Stats(); s != (HookStats{Failed: 1, Dropped: 2}) {
		t.Errorf("%+v", s)
	}
	for _, name := range []Name{Integrity, AuditFailed} {
		if !strings.Contains(log.String(), "name="+string(name)) {
			t.Errorf("%s is missing in\n%s", name, &log)
		}
	}
}

// However slow the command is: nobody waits for it, the order stays, the last
// state of each alert gets through, and every other event is run or counted.
func TestHookQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var log logText
		var got []Event
		gate := make(chan struct{})
		h := newHook(long, log.logger(), func(_ context.Context, e Event) (string, error) {
			<-gate
			got = append(got, e)
			return "", nil
		})
		last := make(map[Name]int64)
		n := rapid.IntRange(1, 5*queueLimit).Draw(t, "events")
		for i := range n {
			e := event(rapid.SampledFrom(known).Draw(t, "name").Name, Firing)
			e.Time = time.Unix(int64(i), 0)
			last[e.Name] = int64(i)
			h.Notify(e)
		}
		close(gate)
		h.Close(long)
		if s := h.Stats(); s.OK != uint64(len(got)) || s.OK+s.Dropped != uint64(n) ||
			strings.Count(log.String(), "was not run") != int(s.Dropped) || n <= queueLimit && s.Dropped > 0 {
			t.Fatalf("%d events, %d run, %+v", n, len(got), s)
		}
		for i, e := range got {
			if i > 0 && !got[i-1].Time.Before(e.Time) {
				t.Fatalf("%v after %v", e.Time, got[i-1].Time)
			}
			if e.Time.Unix() == last[e.Name] {
				delete(last, e.Name)
			}
		}
		if len(last) > 0 {
			t.Fatalf("never told: %v", last)
		}
	})
}
