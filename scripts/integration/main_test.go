//go:build integration

package integration

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// The host, set once by TestMain.
var (
	work   *rig.WorkDir
	repo   string // the root of the source tree
	python string // the interpreter of the environment that scripts/setup makes
	soak   = 1
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == vaultArgument {
		os.Exit(serveVault())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "the integration tests make loop devices and mounts: run them as root")
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	done := make(chan int, 1)
	go func() { done <- m.Run() }()
	code := 1
	select {
	case code = <-done:
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "integration: interrupted")
	}
	cleanup, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := work.Close(cleanup); err != nil {
		fmt.Fprintln(os.Stderr, "integration: clean-up:", err)
		return 1
	}
	return code
}

func prepare(ctx context.Context) (err error) {
	if s := os.Getenv("AKVFS_SOAK"); s != "" {
		if soak, err = strconv.Atoi(s); err != nil || soak < 1 {
			return fmt.Errorf("AKVFS_SOAK is %q, not a number from 1", s)
		}
	}
	if s := os.Getenv("AKVFS_SOAK_MINUTES"); s != "" {
		minutes, err := strconv.Atoi(s)
		if err != nil || minutes < 1 {
			return fmt.Errorf("AKVFS_SOAK_MINUTES is %q, not a number from 1", s)
		}
		soakTime = time.Duration(minutes) * time.Minute
	}
	if repo, err = filepath.Abs("../.."); err != nil {
		return err
	}
	out, err := rig.Command{Path: filepath.Join(repo, "scripts/setup"), Args: []string{"--venv"}}.Run(ctx)
	if err != nil {
		return err
	}
	python = filepath.Join(strings.TrimSpace(out), "bin/python")
	for _, need := range []string{python, filepath.Join(repo, "bin/wtload")} {
		if _, err := os.Stat(need); err != nil {
			return fmt.Errorf("%w: make setup build provides it", err)
		}
	}
	work, err = rig.NewWorkDir(ctx, cmp.Or(os.Getenv("AKVFS_WORK_DIR"), "/var/tmp"))
	return err
}
