package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/host"
)

func newServe(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Do for users with a role in a project what takes root",
		Long: `Answer commands on projects, clusters and snapshots of users who are not root and
have a role in the project: Project Viewers look, Project Owners change. The
commands of such users ask this service by themselves. Who asks is the kernel's
word; a refusal is exit status 16 and a line of ` + systemState + `/audit/host.log.

It is root's, one for a host, and runs until it is told to end: systemd starts
it when somebody asks (akvfs-host.socket). Work that is under way then ends as
by Ctrl-C, and the same command goes on with it.`,
		Example: "  akvfs serve",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.serve(ctx)
		},
	}
}

const systemState = "/var/lib/akvfs"

// endTime is how long work that is cancelled may take to end.
const endTime = time.Minute

func (a *app) serve(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("akvfs serve does for others what only root may: %w", fs.ErrPermission)
	}
	h, err := a.host()
	if err != nil {
		return err
	}
	if err := harden(crypto.HardenProcess); err != nil {
		return err
	}
	l, remove, err := a.hostSocket(h.RunDir)
	if err != nil {
		return err
	}
	h.Logger = textLogger(a.err)
	service := &host.Service{Host: h, Code: errorCode}
	server := service.Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	notify := newNotifier(a.getenv)
	notify.say(systemd.SdNotifyReady)
	h.Logger.Info("serving", "socket", l.Addr().String())
	select {
	case <-ctx.Done():
		notify.say(systemd.SdNotifyStopping)
		err = l.Close()
		server.Close(endTime)
		err = errors.Join(err, <-served)
	case err = <-served:
	}
	return errors.Join(err, remove())
}

// hostSocket is the one that systemd listens on for us, or a new one.
func (a *app) hostSocket(runDir string) (l *net.UnixListener, remove func() error, err error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, nil, err
	}
	if len(given) > 0 {
		l, ok := given[0].(*net.UnixListener)
		if !ok || len(given) > 1 {
			return nil, nil, errors.New("systemd gave other sockets than the one Unix socket that is served")
		}
		return l, func() error { return nil }, nil // systemd's to remove
	}
	dir, err := control.OpenDir(runDir, true)
	if err != nil {
		return nil, nil, err
	}
	return dir.ListenService(host.Name)
}
