// Command mutate breaks the rules of the write path, one at a time, and proves
// that the tests notice. A mutation is an edit of one source file, given to the
// compiler as an overlay: the tree itself is never touched. One that does not
// apply any more, does not build, or that no test catches is an error.
//
// The rules are in table.go. The result is a table in Markdown.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// mutation breaks one rule.
type mutation struct {
	rule     string // what the code promises
	file     string // relative to the root of the source tree
	old, new string // old occurs exactly once
	pkg      string // whose tests must notice
	run      string // the tests, as for go test -run
	quick    bool   // belongs to the short run
}

// verdict is what came of a mutation.
type verdict struct {
	caught []string // the tests that failed
	took   time.Duration
	err    error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only := flag.String("only", "", "run only mutations whose rule matches this `regexp`")
	quick := flag.Bool("quick", false, "run the short selection")
	flag.Parse()
	if err := run(ctx, *only, *quick); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, quick bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	fmt.Println("| rule | broken in | caught by | seconds |\n|---|---|---|--:|")
	var failed []string
	for _, m := range mutations {
		if !match.MatchString(m.rule) || quick && !m.quick {
			continue
		}
		v := m.try(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		by := strings.Join(v.caught, ", ")
		if v.err != nil {
			by = "**" + v.err.Error() + "**"
			failed = append(failed, m.rule)
		}
		fmt.Printf("| %s | %s | %s | %.0f |\n", m.rule, m.file, by, v.took.Seconds())
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d rules can be broken unnoticed: %s", len(failed), strings.Join(failed, "; "))
	}
	return nil
}

// try runs the tests with the rule broken.
func (m *mutation) try(ctx context.Context) (v verdict) {
	begin := time.Now()
	defer func() { v.took = time.Since(begin) }()
	dir, err := os.MkdirTemp("", "akvfs-mutate-")
	if err != nil {
		return verdict{err: err}
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(dir)
	if err != nil {
		return verdict{err: err}
	}
	if out, err := command(ctx, "vet", "-overlay", overlay, m.pkg).CombinedOutput(); err != nil {
		return verdict{err: fmt.Errorf("does not build: %s", bytes.TrimSpace(out))}
	}
	out, err := command(ctx, "test", "-overlay", overlay, "-count=1", "-failfast", "-timeout=3m", "-run", m.run, m.pkg).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return verdict{err: errors.New("not caught")}
	case !errors.As(err, &exit):
		return verdict{err: err}
	}
	v.caught = failures(string(out))
	if len(v.caught) == 0 {
		v.err = fmt.Errorf("no test failed, but: %s", lastLine(string(out)))
	}
	return v
}

// overlay writes the broken file, and the JSON that the compiler takes.
func (m *mutation) overlay(dir string) (string, error) {
	path, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("the text to change is there %d times", n)
	}
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	data, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}

func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd
}

var failLine = regexp.MustCompile(`(?m)^(?:--- FAIL: |panic: test timed out.*\n.*running tests:\n\t)(\w+)`)

// failures are the names of the tests that failed, or hung.
func failures(out string) (names []string) {
	for _, m := range failLine.FindAllStringSubmatch(out, -1) {
		names = append(names, m[1])
	}
	if len(names) == 0 && strings.Contains(out, "\npanic: ") || strings.HasPrefix(out, "panic: ") {
		names = append(names, "a panic")
	}
	return slices.Compact(names)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
