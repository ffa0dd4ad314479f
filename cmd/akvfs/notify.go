package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
)

// notifier tells systemd how a service stands, where systemd asked for it
// (NOTIFY_SOCKET), and that it is alive (WATCHDOG_USEC).
type notifier struct{ wanted bool }

func newNotifier(getenv func(string) string) notifier {
	return notifier{getenv("NOTIFY_SOCKET") != ""}
}

// ready says that the mount is usable, and begins to say that it is alive. What
// it returns says that the end has begun.
func (n notifier) ready(s daemon.Status) (stopping func(), err error) {
	if !n.wanted {
		return func() {}, nil
	}
	state := fmt.Sprintf("%s\nMAINPID=%d\nSTATUS=volume %s is mounted at %s", systemd.SdNotifyReady, s.PID, s.VolumeID, s.Mountpoint)
	if _, err := systemd.SdNotify(false, state); err != nil {
		return nil, fmt.Errorf("cannot tell systemd that the volume is mounted: %w", err)
	}
	period, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("cannot tell how often systemd wants to hear: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var alive sync.WaitGroup
	if period > 0 {
		alive.Go(func() { keepAlive(ctx, period/beats, func() { askMount(s.Mountpoint) }, sayAlive) })
	}
	return func() {
		cancel()
		alive.Wait() // so that nothing is said of that after the end has begun
		// Whether it hears this changes nothing of what happens next.
		_, _ = systemd.SdNotify(false, systemd.SdNotifyStopping+"\nSTATUS=unmounting "+s.Mountpoint)
	}, nil
}

// beats is how often in a period of the watchdog the mount is asked.
const beats = 3

// keepAlive asks the mount once each interval, and says that it is alive when
// it has answered. A question that is not answered is not asked again: the
// watchdog then decides.
func keepAlive(ctx context.Context, interval time.Duration, ask, alive func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	answers := make(chan struct{}, 1)
	asked := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-answers:
			asked = false
			alive()
		case <-tick.C:
			if asked {
				continue
			}
			asked = true
			go func() {
				ask()
				answers <- struct{}{}
			}()
		}
	}
}

// askMount returns when the mount has answered a request, be it with an error as
// a locked volume does: the kernel has passed it on, and the daemon is at work.
func askMount(mountpoint string) {
	var st unix.Statfs_t
	_ = unix.Statfs(mountpoint, &st)
}

// sayAlive fails only when systemd is gone, which is not ours to mend.
func sayAlive() { _, _ = systemd.SdNotify(false, systemd.SdNotifyWatchdog) }

// reload does what a SIGHUP asks for, and tells systemd when it is done.
func (n notifier) reload(log *slog.Logger, reopen func() error) {
	n.say(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, monotonic()))
	if err := reopen(); err != nil {
		log.Error("cannot open the log anew; going on with the old one", "error", err)
	} else {
		log.Info("reloaded")
	}
	n.say(systemd.SdNotifyReady)
}

func (n notifier) say(state string) {
	if n.wanted {
		_, _ = systemd.SdNotify(false, state) // as of sayAlive
	}
}

// monotonic is the time that systemd compares with, in microseconds.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() / 1000
}
