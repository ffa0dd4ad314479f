package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
)

// childVariable tells a process that it is the daemon to be, and on which
// descriptor its parent waits for its verdict.
const childVariable = "AKVFS_READY_FD"

// maxVerdict bounds what a parent reads of its child, in bytes.
const maxVerdict = 64 << 10

// verdict is what a child tells its parent, once: that the mount is usable,
// or why not, in the words that the parent shall print.
type verdict struct {
	Code int    `json:"code"`
	Text string `json:"text"`
}

// mountBackground starts this program again as a daemon and returns once
// that has mounted, or has failed.
func (a *app) mountBackground(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	var noise bytes.Buffer
	cmd, stderr, err := startChild(write)
	if err = errors.Join(err, write.Close()); err != nil {
		return err
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(&limited{w: &noise, left: maxVerdict}, stderr) // for a crash's sake only
	}()
	verdicts := make(chan []byte, 1)
	go func() {
		data, _ := io.ReadAll(io.LimitReader(read, maxVerdict)) // a broken one shows below
		verdicts <- data
	}()
	for {
		select {
		case <-signals:
			// It cleans up and tells us that it was interrupted.
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case data := <-verdicts:
			return a.conclude(cmd, data, drained, &noise)
		}
	}
}

// startChild starts this program again in a session of its own, its verdict's
// pipe as descriptor 3, and returns its standard error.
func startChild(write *os.File) (*exec.Cmd, io.ReadCloser, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), childVariable+"=3")
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	return cmd, stderr, cmd.Start()
}

// conclude turns a child's verdict into this process's end.
func (a *app) conclude(cmd *exec.Cmd, data []byte, drained <-chan struct{}, noise *bytes.Buffer) error {
	var v verdict
	told := json.Unmarshal(data, &v) == nil
	if told && v.Code == exitOK {
		return cmd.Process.Release()
	}
	<-drained
	err := cmd.Wait()
	text := strings.TrimSpace(noise.String()) // a crash's, or fusermount3's
	if text != "" {
		text = "\n" + text
	}
	if told {
		fmt.Fprintln(a.err, strings.TrimSuffix(v.Text, "\n")+text)
		return &reportedError{v.Code}
	}
	return fmt.Errorf("the daemon ended before the volume was mounted (%v)%s", err, text)
}

// limited passes on what fits and swallows the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// inheritedChild is the pipe to the parent of a daemon to be, nil in any
// other process.
func inheritedChild() *os.File {
	fd, err := strconv.Atoi(os.Getenv(childVariable))
	if err != nil || fd < 3 {
		return nil
	}
	if err := os.Unsetenv(childVariable); err != nil {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "parent")
}

// mountChild is the life of a daemon that was started by mountBackground.
func (a *app) mountChild(ctx context.Context, cfg daemon.Config, f mountFlags, parent *os.File) error {
	told := false
	tell := func(v verdict) error {
		told = true
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = parent.Write(data)
		return errors.Join(err, parent.Close())
	}
	err := a.serveDetached(ctx, cfg, f, func() error { return tell(verdict{Code: exitOK}) })
	if told || err == nil {
		// The log has it; nobody else listens any more.
		code, _ := diagnose(err)
		return exitWith(code)
	}
	var text bytes.Buffer
	code := report(&text, err)
	if err := tell(verdict{code, text.String()}); err != nil {
		return err
	}
	return exitWith(code)
}

func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &reportedError{code}
}

// serveDetached leaves the directory and the terminal behind and serves.
func (a *app) serveDetached(ctx context.Context, cfg daemon.Config, f mountFlags, ready func() error) error {
	log, err := openBackgroundLog(f.logFile, cfg.RunDir)
	if err != nil {
		return err
	}
	defer log.Close()
	cfg.Logger = log.logger
	if err := os.Chdir("/"); err != nil {
		return err
	}
	unix.Umask(0o077)
	n := newNotifier(a.getenv)
	defer onHangup(func() { n.reload(cfg.Logger, log.reopen) })()
	return serve(ctx, cfg, func(daemon.Status) (func(), error) {
		if err := log.takeStderr(); err != nil {
			return nil, err
		}
		return func() {}, ready()
	})
}
