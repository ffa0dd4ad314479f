package main

import (
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// logFile is a log that can be opened anew, as after logrotate has moved it
// away. mu guards f.
type logFile struct {
	name string // absolute
	mu   sync.Mutex
	f    *os.File
}

// openLogFile opens a log for appending; a new one is its owner's alone.
func openLogFile(name string) (*logFile, error) {
	name, err := filepath.Abs(name) // a daemon leaves this directory
	if err != nil {
		return nil, err
	}
	f, err := appendTo(name)
	if err != nil {
		return nil, err
	}
	return &logFile{name: name, f: f}, nil
}

func appendTo(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
}

// Write appends to the log.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(p)
}

// reopen opens the log by its name. If that fails, it goes on as it was.
func (l *logFile) reopen() error {
	f, err := appendTo(l.name)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.f
	l.f = f
	return old.Close()
}

// become makes a descriptor of this process the log.
func (l *logFile) become(fd int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return unix.Dup2(int(l.f.Fd()), fd)
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
