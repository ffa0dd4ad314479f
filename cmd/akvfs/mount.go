package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/metrics"
	"github.com/akvfs/akvfs/fs/sandbox"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
)

// mountFlags are the words of `akvfs mount` that are not daemon.Config's.
type mountFlags struct {
	foreground bool
	logFile    string
	options    []string
}

func newMount(a *app) *cobra.Command {
	cfg := daemon.NewConfig()
	cfg.Metrics = metrics.Unix
	var f mountFlags
	cmd := &cobra.Command{
		Use:   "mount BACKING MOUNTPOINT",
		Short: "Mount a volume",
		Long: `Mount the volume in BACKING at MOUNTPOINT: an empty directory, or BACKING
itself, which the mount then covers.

Everything is checked first, the key included. If the mount is refused, the
mount point and the backing directory are untouched, and the exit status says
why. Once the mount is usable the command returns, and a daemon serves the
mount until somebody unmounts it (akvfs unmount, umount, or SIGTERM to the
daemon). A mount point that a killed daemon left is cleaned up first.

A volume whose keyring or journal is older than this host has seen it is
refused with 14: somebody has put back an older state. After a restore in place,
and only then, --accept-rollback takes it.

Options for -o:
` + optionHelp() + `  and those of fstab that are for others (noauto, _netdev, nofail, x-…).`,
		Example: `  akvfs mount /data/enc /var/lib/mongodb
  akvfs mount /data/enc /var/lib/mongodb -o allow_other,check-interval=5m
  akvfs mount /data/enc /data/enc --foreground
  akvfs mount /data/enc /mnt --read-only --key-timeout 10s
  akvfs mount /data/enc /mnt --on-alert /usr/local/bin/page -o metrics=127.0.0.1:9478`,
		Args:              args("BACKING", "MOUNTPOINT"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := a.configure(cmd, &cfg, f, given); err != nil {
				return err
			}
			if err := a.underProject(&cfg); err != nil {
				return err
			}
			return a.mount(cmd.Context(), cfg, f)
		},
	}
	f.add(cmd, &cfg)
	return cmd
}

// add adds the flags of everything that mounts.
func (f *mountFlags) add(cmd *cobra.Command, cfg *daemon.Config) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.foreground, "foreground", "f", false, "stay in the foreground and log to standard error, as services do")
	flags.BoolVarP(&cfg.ReadOnly, "read-only", "r", false, "mount read-only")
	flags.DurationVar(&cfg.KeyTimeout, "key-timeout", daemon.DefaultKeyTimeout, "how long an attempt to reach the key vault may take")
	flags.StringVar(&cfg.OnAlert, "on-alert", "", "run `COMMAND` with sh at each change of an alert: the event comes as JSON on its standard input and in AKVFS_ALERT_…")
	flags.BoolVar(&cfg.AcceptRollback, "accept-rollback", false, "take a keyring or journal older than this host has seen it: after a restore in place")
	flags.StringVar(&f.logFile, "log-file", "", "append the daemon's log to `FILE`; without it the log goes to the journal or syslog")
	flags.StringArrayVarP(&f.options, "options", "o", nil, "mount options, `OPT[,OPT...]`")
}

// mount mounts in this process or in a child that stays.
func (a *app) mount(ctx context.Context, cfg daemon.Config, f mountFlags) error {
	if f.foreground {
		return a.mountForeground(ctx, cfg, f)
	}
	if child := inheritedChild(); child != nil {
		return a.mountChild(ctx, cfg, f, child)
	}
	return a.mountBackground(ctx)
}

// configure puts the command line into cfg.
func (a *app) configure(cmd *cobra.Command, cfg *daemon.Config, f mountFlags, given []string) error {
	for _, text := range f.options {
		if err := applyOptions(cfg, text); err != nil {
			return err
		}
	}
	if cfg.KeyTimeout <= 0 {
		return &usageError{cmd.CommandPath(), fmt.Errorf("--key-timeout must be more than 0")}
	}
	// The daemon leaves this directory.
	for i, path := range []*string{&cfg.Backing, &cfg.Mountpoint} {
		abs, err := filepath.Abs(given[i])
		if err != nil {
			return err
		}
		*path = abs
	}
	runDir, err := filepath.Abs(a.runDir())
	if err != nil {
		return err
	}
	cfg.RunDir, cfg.Version, cfg.Openers = runDir, buildVersion(), openers()
	cfg.CertificateExpiry = akv.CertificateExpiry(keymgr.CredentialOptions{}, a.getenv)
	if dir := a.stateDir(); dir != "" {
		cfg.StateDir, err = filepath.Abs(dir)
	}
	return err
}

// mountForeground mounts and serves in this process.
func (a *app) mountForeground(ctx context.Context, cfg daemon.Config, f mountFlags) error {
	n := newNotifier(a.getenv)
	if f.logFile == "" {
		cfg.Logger = textLogger(a.err)
		defer onHangup(func() { n.reload(cfg.Logger, func() error { return nil }) })()
		return serve(ctx, cfg, n.ready)
	}
	log, err := openLogFile(f.logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	cfg.Logger = textLogger(log)
	defer onHangup(func() { n.reload(cfg.Logger, log.reopen) })()
	return serve(ctx, cfg, n.ready)
}

// onHangup calls f at each SIGHUP until stop is called.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	end := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				f()
			case <-end:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(end)
	}
}

// serve is the whole life of a daemon's process. ready is called once the
// mount is usable; if it fails, the mount ends at once. What it returns is
// called when the end begins.
func serve(ctx context.Context, cfg daemon.Config, ready func(daemon.Status) (stopping func(), err error)) error {
	if err := harden(crypto.HardenProcess); err != nil {
		return err
	}
	useMemory()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	// A log that nobody reads any more, or a terminal that is gone, ends no mount.
	signal.Ignore(syscall.SIGPIPE)
	defer onHangup(func() {})() // beside who reloads
	defer signal.Stop(signals)

	d, err := startUnless(ctx, cfg, signals)
	dropSecrets()
	if err != nil {
		return err
	}
	enterSandbox(cfg)
	stopping, err := ready(d.Status())
	if err != nil {
		d.Stop()
		<-d.Done()
		return err
	}
	for {
		select {
		case s := <-signals:
			cfg.Logger.Info("told to stop", "signal", s.String())
			d.Stop()
		case <-d.Stopping():
			stopping()
			return waitEnd(d, cfg, signals)
		}
	}
}

// enterSandbox gives up system calls that a daemon does not need. One that may
// not goes on without: it is a second wall, and not the first.
func enterSandbox(cfg daemon.Config) {
	if cfg.NoSandbox {
		return
	}
	if err := sandbox.Enter(); err != nil && !errors.Is(err, sandbox.ErrUnprivileged) {
		cfg.Logger.Warn("the daemon keeps system calls that it does not need", "error", err)
	}
}

// startUnless starts a daemon unless a signal comes first.
func startUnless(ctx context.Context, cfg daemon.Config, signals <-chan os.Signal) (*daemon.Daemon, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-signals:
			cancel()
		case <-started:
		}
	}()
	d, err := daemon.Start(ctx, cfg)
	close(started)
	<-stopped
	if err == nil && ctx.Err() != nil { // the signal came too late to matter to Start
		d.Stop()
	}
	return d, err
}

// waitEnd waits until the daemon has ended. Further signals change nothing:
// it is on its way, and what holds it up is in the log.
func waitEnd(d *daemon.Daemon, cfg daemon.Config, signals <-chan os.Signal) error {
	for {
		select {
		case s := <-signals:
			cfg.Logger.Warn("already stopping", "signal", s.String())
		case <-d.Done():
			return d.Err()
		}
	}
}
