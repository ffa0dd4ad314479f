package rig

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sh(script string) Command { return Command{Path: "/bin/sh", Args: []string{"-c", script}} }

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name, script, want string
		code               int
		signal             syscall.Signal
	}{
		{"output", "echo out; echo err >&2", "out\n", 0, 0},
		{"status", "echo out; exit 11", "out\n", 11, 0},
		{"signal", "kill -9 $$", "", -1, syscall.SIGKILL},
		{"grandchild keeps the pipes", "sleep 30 & echo out", "out\n", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := sh(tt.script).Run(t.Context())
			if out != tt.want || ExitCode(err) != tt.code {
				t.Fatalf("output %q, exit %d (%v), want %q, %d", out, ExitCode(err), err, tt.want, tt.code)
			}
			var exit *ExitError
			if errors.As(err, &exit) && exit.Signal != tt.signal {
				t.Errorf("signal %v, want %v", exit.Signal, tt.signal)
			}
		})
	}
}

func TestRunErrorHoldsBothOutputs(t *testing.T) {
	_, err := sh("echo to out; echo to err >&2; exit 3").Run(t.Context())
	for _, want := range []string{"to out", "to err", "exit status 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestRunIsKilledWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	mark := filepath.Join(t.TempDir(), "pid")
	_, err := sh("echo $$ >" + mark + "; while :; do sleep 0.1; done").Run(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	data, err := os.ReadFile(mark)
	if errors.Is(err, os.ErrNotExist) {
		return // it was killed before its first line
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err == nil && syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d goes on", pid)
	}
}

func TestStopAsksFirst(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "asked")
	p, err := Start(sh("trap 'echo yes >" + mark + "; exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(p.Output(), "ready") {
		if err := pause(t.Context(), deadline); err != nil {
			t.Fatal(err)
		}
	}
	p.Stop(20 * time.Second)
	if !p.Done() || p.Wait(t.Context()) != nil {
		t.Errorf("done %v, %v", p.Done(), p.Wait(t.Context()))
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("it was not asked: %v", err)
	}
}

func TestKillReachesDescendants(t *testing.T) {
	p, err := Start(sh("setsid sh -c 'echo $$; sleep 60' & wait"))
	if err != nil {
		t.Fatal(err)
	}
	var child int
	for deadline := time.Now().Add(20 * time.Second); child == 0 || len(descendants(p.PID())) < 2; {
		if err := pause(t.Context(), deadline); err != nil {
			t.Fatal(err)
		}
		child, _ = strconv.Atoi(strings.TrimSpace(p.Output()))
	}
	p.Kill()
	for deadline := time.Now().Add(20 * time.Second); stat(child) != (procStat{}); {
		if err := pause(t.Context(), deadline); err != nil {
			t.Fatalf("process %d, in a session of its own, goes on", child)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var l tail
	for range 3 {
		if n, err := l.Write(make([]byte, outputLimit)); n != outputLimit || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := l.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if s := l.String(); len(s) != outputLimit || !strings.HasSuffix(s, "end") {
		t.Errorf("%d bytes, ends in %q", len(s), s[len(s)-3:])
	}
}

func TestStartTimeTellsProcessesApart(t *testing.T) {
	if stat(os.Getpid()) == (procStat{}) {
		t.Error("this process has no start time")
	}
	p, err := Start(sh("exit 0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := stat(p.PID()); s != (procStat{}) {
		t.Errorf("a process that has gone is %v", s)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, kind, want string
		o                Options
	}{
		{"unknown kind", "zfs", "no file system", Options{}},
		{"akvfs without binary", "akvfs", "which binary", Options{}},
		{"akvfs with a binary that is not there", "akvfs", "no such file", Options{Akvfs: "/nowhere/akvfs"}},
		{"passthrough without command", "passthrough", "its command", Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.kind, t.TempDir(), tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
