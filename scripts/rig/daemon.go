package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// daemon is what the FUSE file systems share: a backing directory, a mount
// point, and a process in the foreground that serves one at the other.
type daemon struct {
	backing, mount string
	proc           atomic.Pointer[Proc] // nil: none runs
}

func newDaemon(base string) *daemon {
	return &daemon{backing: filepath.Join(base, "backing"), mount: filepath.Join(base, "mount")}
}

// Dir implements System.
func (d *daemon) Dir() string { return d.mount }

// Backing implements System.
func (d *daemon) Backing() string { return d.backing }

// PID implements System.
func (d *daemon) PID() int {
	if p := d.proc.Load(); p != nil {
		return p.PID()
	}
	return 0
}

// Log implements System.
func (d *daemon) Log() string {
	if p := d.proc.Load(); p != nil {
		return p.Output()
	}
	return ""
}

func (d *daemon) makeDirs() error {
	for _, dir := range []string{d.backing, d.mount} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// serve starts the process and waits until the mount shows.
func (d *daemon) serve(ctx context.Context, c Command) error {
	proc, err := Start(c)
	if err != nil {
		return err
	}
	d.proc.Store(proc)
	deadline := time.Now().Add(mountTimeout)
	for !aliveMount(d.mount) {
		if proc.Done() {
			return fmt.Errorf("mounting %s: %w", d.mount, proc.Wait(ctx))
		}
		if err := pause(ctx, deadline); err != nil {
			proc.Kill()
			return fmt.Errorf("mounting %s: %w: %s", d.mount, err, proc.Output())
		}
	}
	return nil
}

// gone waits for the process after an unmount.
func (d *daemon) gone(ctx context.Context) error {
	p := d.proc.Load()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, unmountTimeout)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("the daemon of %s: %w", d.mount, err)
	}
	d.proc.Store(nil)
	return nil
}

// Kill implements System.
func (d *daemon) Kill() error {
	p := d.proc.Load()
	if p == nil {
		return fmt.Errorf("%s has no daemon", d.mount)
	}
	p.Kill()
	return nil
}

// Abort implements System. First the mount: a daemon that waits for its own
// file system does not die before.
func (d *daemon) Abort() {
	_ = detach(d.mount)
	if p := d.proc.Load(); p != nil {
		p.Kill()
	}
}

// Close implements System.
func (d *daemon) Close() error {
	err := detach(d.mount)
	if p := d.proc.Swap(nil); p != nil {
		p.Stop(5 * time.Second)
	}
	return err
}
