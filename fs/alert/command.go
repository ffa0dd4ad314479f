package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// outputLimit bounds what is kept of a command's output, in bytes.
	outputLimit = 4 << 10
	// pipeTime is how long the output of a command that has ended may be held
	// open by what it has left running.
	pipeTime = time.Second
)

// inherited are the variables of the daemon's environment that a command gets:
// those that programs cannot do without, and none that could hold a secret.
var inherited = []string{"PATH", "HOME", "LANG", "TZ"}

// runCommand runs a line of sh with an event: as JSON on its standard input,
// and as AKVFS_ALERT_* in its environment. When ctx ends, it is killed with all
// that it has started.
func runCommand(ctx context.Context, command string, e Event) (output string, err error) {
	input, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Stdin = bytes.NewReader(append(input, '\n'))
	var out limited
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = "/"
	cmd.Env = environment(e)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeTime
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("killed: %w", ctx.Err())
	}
	return strings.TrimSpace(string(out.kept)), err
}

// environment is a command's whole environment.
func environment(e Event) []string {
	env := []string{
		"AKVFS_ALERT_NAME=" + string(e.Name),
		"AKVFS_ALERT_STATE=" + string(e.State),
		"AKVFS_ALERT_SEVERITY=" + string(e.Severity),
		"AKVFS_ALERT_VOLUME=" + e.Volume,
		"AKVFS_ALERT_SINCE=" + e.Since.Format(time.RFC3339),
		"AKVFS_ALERT_DETAIL=" + strings.ReplaceAll(e.Detail, "\x00", "?"),
	}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// limited keeps the beginning of what is written to it.
type limited struct{ kept []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p[:min(len(p), outputLimit-len(l.kept))]...)
	return len(p), nil
}
