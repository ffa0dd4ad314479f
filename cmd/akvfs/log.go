package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"path/filepath"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// backgroundLog is where a daemon without a terminal logs: the file that was
// named, else the systemd journal, else syslog, else akvfs.log in the run
// directory. What the Go runtime prints when a process crashes goes to the
// file, or to akvfs.log.
type backgroundLog struct {
	logger *slog.Logger
	file   *logFile // for standard error
	sink   io.Closer
}

func openBackgroundLog(name, runDir string) (*backgroundLog, error) {
	chosen := name != ""
	if !chosen {
		if err := os.MkdirAll(runDir, 0o700); err != nil {
			return nil, err
		}
		name = filepath.Join(runDir, "akvfs.log")
	}
	f, err := openLogFile(name)
	if err != nil {
		return nil, err
	}
	l := &backgroundLog{file: f}
	if chosen {
		l.logger = textLogger(f)
	} else {
		l.logger = slog.New(l.systemHandler())
	}
	return l, nil
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// systemHandler logs to the journal, else to syslog, else to the file.
func (l *backgroundLog) systemHandler() slog.Handler {
	if journal.Enabled() {
		return newLineHandler(func(level slog.Level, line string) error {
			return journal.Send(line, journalPriority(level), map[string]string{"SYSLOG_IDENTIFIER": "akvfs"})
		})
	}
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "akvfs"); err == nil {
		l.sink = w
		return newLineHandler(func(level slog.Level, line string) error { return syslogLine(w, level, line) })
	}
	return slog.NewTextHandler(l.file, nil)
}

// takeStderr makes the file this process's standard error, and nothing its
// standard input and output. The terminal, or the pipe to the parent, is let go.
func (l *backgroundLog) takeStderr() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return errors.Join(
		unix.Dup2(int(null.Fd()), 0),
		unix.Dup2(int(null.Fd()), 1),
		l.file.become(2),
	)
}

// reopen opens the log anew after it was moved away. Before takeStderr there is
// nobody to ask for it but a parent that waits.
func (l *backgroundLog) reopen() error { return errors.Join(l.file.reopen(), l.file.become(2)) }

func (l *backgroundLog) Close() error {
	var err error
	if l.sink != nil {
		err = l.sink.Close()
	}
	return errors.Join(err, l.file.Close())
}

func journalPriority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

func syslogLine(w *syslog.Writer, level slog.Level, line string) error {
	switch {
	case level >= slog.LevelError:
		return w.Err(line)
	case level >= slog.LevelWarn:
		return w.Warning(line)
	case level >= slog.LevelInfo:
		return w.Info(line)
	}
	return w.Debug(line)
}

// lineHandler turns records into lines "message key=value …" for a log that
// keeps time and level itself.
type lineHandler struct {
	slog.Handler // formats into buf
	shared       *lineSink
}

// lineSink is what a lineHandler and those made of it share. mu guards buf.
type lineSink struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	send func(slog.Level, string) error
}

func newLineHandler(send func(slog.Level, string) error) *lineHandler {
	s := &lineSink{send: send}
	text := slog.NewTextHandler(&s.buf, &slog.HandlerOptions{ReplaceAttr: withoutHead})
	return &lineHandler{text, s}
}

// withoutHead leaves out time and level.
func withoutHead(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// Handle sends one record as a line.
func (h *lineHandler) Handle(ctx context.Context, r slog.Record) error {
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	h.shared.buf.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	line := string(bytes.TrimRight(h.shared.buf.Bytes(), "\n"))
	if err := h.shared.send(r.Level, line); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

// WithAttrs is slog's.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{h.Handler.WithAttrs(attrs), h.shared}
}

// WithGroup is slog's.
func (h *lineHandler) WithGroup(name string) slog.Handler {
	return &lineHandler{h.Handler.WithGroup(name), h.shared}
}
