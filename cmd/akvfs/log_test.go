package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
)

func TestLineHandler(t *testing.T) {
	var lines []string
	log := slog.New(newLineHandler(func(level slog.Level, line string) error {
		lines = append(lines, level.String()+"|"+line)
		return nil
	}))
	log.Info("mounted", "volume", "v", "mountpoint", "/a b")
	log.With("volume", "v").WithGroup("key").Warn("gone", "time", "now", "level", 3)
	log.Debug("not shown")
	want := []string{
		`INFO|msg=mounted volume=v mountpoint="/a b"`,
		`WARN|msg=gone volume=v key.time=now key.level=3`,
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", lines)
	}
}

// Whole lines, from however many goroutines.
func TestLineHandlerConcurrent(t *testing.T) {
	const writers, each = 8, 50
	seen := map[string]bool{} // the handler calls one at a time
	h := slog.New(newLineHandler(func(_ slog.Level, line string) error {
		seen[line] = true
		return nil
	}))
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			log := h.With("writer", i)
			for j := range each {
				log.Info("line", "number", j)
			}
		})
	}
	all.Wait()
	for i := range writers {
		for j := range each {
			if line := fmt.Sprintf("msg=line writer=%d number=%d", i, j); !seen[line] {
				t.Fatalf("%q is missing", line)
			}
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d lines", len(seen))
	}
}

func TestLineHandlerFails(t *testing.T) {
	h := newLineHandler(func(slog.Level, string) error { return errors.New("full") })
	if err := h.Handle(t.Context(), slog.Record{Message: "m"}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Error(err)
	}
}

func TestJournalPriority(t *testing.T) {
	for level, want := range map[slog.Level]journal.Priority{
		slog.LevelDebug: journal.PriDebug, slog.LevelInfo: journal.PriInfo, slog.LevelWarn: journal.PriWarning,
		slog.LevelError: journal.PriErr, slog.LevelError + 4: journal.PriErr,
	} {
		if got := journalPriority(level); got != want {
			t.Errorf("%v is %v", level, got)
		}
	}
}
