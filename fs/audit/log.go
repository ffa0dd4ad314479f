package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Log is an audit log. Its methods are safe for concurrent use.
type Log struct {
	path string
	// write is how a line gets into the file: one write(2).
	write func(f io.Writer, line []byte) (int, error)

	mu    sync.Mutex // guards what is below
	file  *os.File   // nil: not open, because it could not be opened again
	torn  bool       // the last line of file lacks its end
	ended bool
}

// Error says that a line could not be written.
type Error struct {
	Path string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("audit log %s: %v", e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// ErrNotFile says that an audit log's path names something other than a
// regular file.
var ErrNotFile = errors.New("not a regular file")

// Open opens a log for appending. A new one is its owner's alone, and so is
// the directory that holds it, if that is missing. Errors are an *Error.
func Open(path string) (*Log, error) {
	l := &Log{path: path, write: func(f io.Writer, line []byte) (int, error) { return f.Write(line) }}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, &Error{path, err}
	}
	if err := l.reopen(); err != nil {
		return nil, &Error{path, err}
	}
	return l, nil
}

// Path is the log's path.
func (l *Log) Path() string { return l.path }

// Append writes one line: v as JSON. Errors are an *Error.
func (l *Log) Append(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return &Error{l.path, err}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.append(append(line, '\n')); err != nil {
		return &Error{l.path, err}
	}
	return nil
}

func (l *Log) append(line []byte) error {
	if l.ended {
		return os.ErrClosed
	}
	if !l.current() {
		if err := l.reopen(); err != nil {
			return err
		}
	}
	if l.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.write(l.file, line)
	if n > 0 {
		l.torn = n < len(line)
	}
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	return err
}

// current reports whether the path still names the open file.
func (l *Log) current() bool {
	if l.file == nil {
		return false
	}
	named, err := os.Lstat(l.path)
	if err != nil {
		return false
	}
	open, err := l.file.Stat()
	return err == nil && os.SameFile(named, open)
}

// reopen opens what the path names now, or makes it.
func (l *Log) reopen() error {
	// O_NONBLOCK: a pipe that nobody reads is refused, not waited for.
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		if err == nil {
			err = ErrNotFile
		}
		return errors.Join(err, f.Close())
	}
	if l.file != nil {
		l.file.Close() // nothing is buffered: nothing is lost
	}
	l.file, l.torn = f, false
	return nil
}

// Close closes the log; what comes later fails.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}
