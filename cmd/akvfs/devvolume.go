package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/devvolume"
	"github.com/akvfs/akvfs/fs/volume"
)

// Exit codes for a command that could not be started, as shells have them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // and the signal's number
)

func newDevVolume(a *app) *cobra.Command {
	mount := daemon.NewConfig()
	cfg := devvolume.Config{Mount: &mount, Names: volume.NamesEncrypted}
	journalSize := size(devvolume.DefaultJournal)
	var options []string
	var logFile string
	cmd := &cobra.Command{
		Use:   "dev-volume [--] COMMAND [ARG...]",
		Short: "Run a command with a throwaway encrypted volume",
		Long: `Make a volume under an embedded key store, mount it, and run COMMAND with

  AKVFS_DEV_VOLUME         where it is mounted
  AKVFS_DEV_BACKING        its backing directory
  AKVFS_DEV_KEY            its key identifier, for akvfs dev-key and akvfs key
  AKVFS_RUN_DIR and AKVFS_STATE_DIR, so that akvfs commands find it

in its environment. When COMMAND has ended, all of it is removed; so it is if
COMMAND or akvfs crashes or is killed. It is for tests and trials: no vault is
needed, and nothing is kept.

Signals are passed on to COMMAND, and its exit status is that of this command:
128 and the signal's number if a signal ended it, 126 or 127 if it cannot be
started. What keeps using the mount after COMMAND has ended is named, and finds
its files gone.

It works as root, as a user with fusermount3, and in a container with /dev/fuse
that may mount (docker run --device /dev/fuse --cap-add SYS_ADMIN).`,
		Example: `  akvfs dev-volume -- go test ./...
  akvfs dev-volume -- sh -c 'exec mongod --dbpath "$AKVFS_DEV_VOLUME"'
  akvfs dev-volume --dir /var/tmp -o grace=0 -- ./test.sh`,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return &usageError{cmd.CommandPath(), errors.New("COMMAND is missing")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			cfg.JournalSize = int64(journalSize)
			if err := checkDevVolume(cmd, cfg, options); err != nil {
				return err
			}
			if tether := devvolume.Inherited(); tether != nil {
				return a.keepDevVolume(tether, cfg, logFile)
			}
			return a.runDevVolume(cmd.Context(), given)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&cfg.Dir, "dir", "", "put it below `DIR` (default the temporary directory)")
	flags.StringVar(&cfg.Names, "names", cfg.Names, "how file names are stored: `encrypted|plain`")
	flags.Var(&journalSize, "journal-size", "size of the journal")
	flags.StringVar(&logFile, "log-file", "", "append the daemon's log to `FILE`; without it there is none")
	flags.StringArrayVarP(&options, "options", "o", nil, "mount options, `OPT[,OPT...]`, as of akvfs mount")
	return cmd
}

func checkDevVolume(cmd *cobra.Command, cfg devvolume.Config, options []string) error {
	cfg.Mount.Version = buildVersion()
	for _, text := range options {
		if err := applyOptions(cfg.Mount, text); err != nil {
			return err
		}
	}
	if cfg.Names != volume.NamesEncrypted && cfg.Names != volume.NamesPlain {
		return &usageError{cmd.CommandPath(), fmt.Errorf("--names is %s or %s, not %q", volume.NamesEncrypted, volume.NamesPlain, cfg.Names)}
	}
	if err := checkJournalSize(size(cfg.JournalSize)); err != nil {
		return &usageError{cmd.CommandPath(), fmt.Errorf("--journal-size %w", err)}
	}
	return nil
}

// keepDevVolume is the life of the process that serves the volume.
func (a *app) keepDevVolume(tether *os.File, cfg devvolume.Config, logFile string) error {
	if logFile != "" {
		log, err := openLogFile(logFile)
		if err != nil {
			return err
		}
		defer log.Close()
		cfg.Mount.Logger = textLogger(log)
	}
	err := devvolume.Keep(tether, cfg, func(err error) devvolume.Refusal {
		var text bytes.Buffer
		code := report(&text, err)
		return devvolume.Refusal{Code: code, Text: text.String()}
	})
	if err != nil {
		return &reportedError{exitFailed} // the other side has it
	}
	return nil
}

// runDevVolume runs a command with a volume that a keeper has.
func (a *app) runDevVolume(ctx context.Context, line []string) error {
	program, err := exec.LookPath(line[0])
	if err != nil {
		return a.cannotRun(line[0], err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	k, err := startUnlessSignalled(ctx, signals)
	if refusal, ok := errors.AsType[*devvolume.Refusal](err); ok {
		fmt.Fprint(a.err, refusal.Text)
		return &reportedError{refusal.Code}
	}
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: program, Args: line, Env: devEnviron(k.Place),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	err = runForwarding(cmd, signals)
	busy, also := k.Close(context.WithoutCancel(ctx))
	if busy != "" {
		fmt.Fprintf(a.err, "akvfs: the volume is taken away although %s\n", busy)
	}
	if also != nil {
		return fmt.Errorf("the throwaway volume in %s: %w", k.Dir, also)
	}
	return a.exitStatusOf(line[0], err)
}

// startUnlessSignalled starts a keeper unless a signal comes first.
func startUnlessSignalled(ctx context.Context, signals <-chan os.Signal) (*devvolume.Keeper, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-signals:
			cancel()
		case <-started:
		}
	}()
	k, err := devvolume.Start(ctx, os.Args[1:])
	close(started)
	<-watched
	if err == nil && ctx.Err() != nil {
		_, err = k.Close(context.WithoutCancel(ctx))
		return nil, errors.Join(ctx.Err(), err)
	}
	return k, err
}

func devEnviron(p devvolume.Place) []string {
	return append(os.Environ(),
		"AKVFS_DEV_VOLUME="+p.Mountpoint, "AKVFS_DEV_BACKING="+p.Backing, "AKVFS_DEV_KEY="+p.KeyID,
		"AKVFS_RUN_DIR="+p.RunDir, "AKVFS_STATE_DIR="+p.StateDir)
}

// runForwarding runs a command and passes signals on to it. The command dies
// with this process: a mount without a keeper is no use to it.
func runForwarding(cmd *exec.Cmd, signals <-chan os.Signal) error {
	runtime.LockOSThread() // whose death the kernel would tell of
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if !fromTerminal(s) {
				_ = cmd.Process.Signal(s) // it may have ended
			}
		case err := <-ended:
			return err
		}
	}
}

// fromTerminal reports whether a terminal has sent a signal to the command as
// well, as it does to all that runs in its foreground.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitStatusOf turns a command's end into this process's.
func (a *app) exitStatusOf(name string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return a.cannotRun(name, err)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return &reportedError{exitSignal + int(status.Signal())}
	}
	return &reportedError{status.ExitStatus()}
}

func (a *app) cannotRun(name string, err error) error {
	fmt.Fprintf(a.err, "akvfs: cannot run %s: %v\n", name, err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &reportedError{exitNotFound}
	}
	return &reportedError{exitNotExecutable}
}
