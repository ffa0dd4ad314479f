package main

import (
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/akvfs/akvfs/fs/daemon"
)

// notifier tells systemd how a service stands, where systemd asked for it
// (NOTIFY_SOCKET).
type notifier struct{ wanted bool }

func newNotifier(getenv func(string) string) notifier {
	return notifier{getenv("NOTIFY_SOCKET") != ""}
}

// ready says that the mount is usable. What it returns says that the end has
// begun.
func (n notifier) ready(s daemon.Status) (stopping func(), err error) {
	if !n.wanted {
		return func() {}, nil
	}
	state := fmt.Sprintf("%s\nMAINPID=%d\nSTATUS=volume %s is mounted at %s", systemd.SdNotifyReady, s.PID, s.VolumeID, s.Mountpoint)
	if _, err := systemd.SdNotify(false, state); err != nil {
		return nil, fmt.Errorf("cannot tell systemd that the volume is mounted: %w", err)
	}
	return func() {
		// Whether it hears this changes nothing of what happens next.
		_, _ = systemd.SdNotify(false, systemd.SdNotifyStopping+"\nSTATUS=unmounting "+s.Mountpoint)
	}, nil
}
