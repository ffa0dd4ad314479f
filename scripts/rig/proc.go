package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// outputLimit bounds what is kept of a process's output: its last bytes.
const outputLimit = 1 << 20

// Command is a program to run, in a process group of its own.
type Command struct {
	Path  string
	Args  []string
	Env   []string // nil: this process's own
	Dir   string
	User  *syscall.Credential // nil: this process's own
	Stdin io.Reader
}

// ExitError tells of a program that ran and failed.
type ExitError struct {
	Command string // the program and its arguments
	Code    int    // -1: ended by a signal
	Signal  syscall.Signal
	Output  string // standard output and error, the end of it
}

// Error is one line and the output.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	if e.Code < 0 {
		how = e.Signal.String()
	}
	return fmt.Sprintf("%s: %s: %s", e.Command, how, strings.TrimSpace(e.Output))
}

// ExitCode is the exit status that err tells of: 0 for nil, -1 where there was none.
func ExitCode(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	return -1
}

// Run runs the command to its end and returns its standard output; when ctx is
// done first, it is killed. A failure is an *ExitError with both outputs.
func (c Command) Run(ctx context.Context) (string, error) {
	var stdout, all tail
	p, err := start(c, io.MultiWriter(&stdout, &all), &all)
	if err != nil {
		return "", err
	}
	err = p.Wait(ctx)
	if ctx.Err() != nil {
		p.Kill()
	}
	return stdout.String(), err
}

// Proc is a running child.
type Proc struct {
	cmd  *exec.Cmd
	out  *tail
	name string
	done chan struct{} // closed when err is set
	err  error
}

// Start starts a command that runs beside the caller.
func Start(c Command) (*Proc, error) {
	var out tail
	return start(c, &out, &out)
}

func start(c Command, stdout io.Writer, all *tail) (*Proc, error) {
	p := &Proc{cmd: exec.Command(c.Path, c.Args...), out: all, name: strings.Join(append([]string{c.Path}, c.Args...), " "), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Env, c.Dir, c.Stdin, stdout, all
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.User}
	p.cmd.WaitDelay = 5 * time.Second // a grandchild may keep the pipes
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	forget, err := remember(p.cmd.Process.Pid)
	if err != nil {
		p.signal(syscall.SIGKILL)
	}
	go func() {
		defer close(p.done)
		defer forget()
		p.err = p.result(p.cmd.Wait())
	}()
	return p, err
}

func (p *Proc) result(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // it ended well; a grandchild has the pipes
	case !errors.As(err, &exit):
		return err
	}
	e := &ExitError{Command: p.name, Code: exit.ExitCode(), Output: p.out.String()}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}

// PID is the process's, also after its end.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Output is the end of what it wrote so far.
func (p *Proc) Output() string { return p.out.String() }

// Done says whether it has ended.
func (p *Proc) Done() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits for the end: nil for exit status 0, an *ExitError otherwise, or
// an error with the output when ctx is done first; then the process goes on.
func (p *Proc) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s still runs: %w: %s", p.name, context.Cause(ctx), p.out.String())
	}
}

// Signal sends a signal to the process alone.
func (p *Proc) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// signal sends one to its whole group; one that has gone is no error.
func (p *Proc) signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

// Kill ends the process group and all descendants with SIGKILL and waits for
// the process, unless it is stuck in the kernel.
func (p *Proc) Kill() {
	if !p.Done() {
		killTree(p.cmd.Process.Pid)
	}
	p.signal(syscall.SIGKILL) // grandchildren may outlive it
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
	}
}

// Stop asks the process to end, and kills it when the time is over.
func (p *Proc) Stop(patience time.Duration) {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
	}
	p.Kill()
}

// tail keeps the last outputLimit bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - outputLimit; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
