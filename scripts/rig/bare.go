package rig

import (
	"context"
	"os"
)

// Bare is a plain directory of the file system below: what the others are
// measured against. It has no daemon, so Kill does nothing.
type Bare struct{ dir string }

// Kind implements System.
func (b *Bare) Kind() string { return "bare" }

// Init makes the directory.
func (b *Bare) Init(context.Context) error { return os.Mkdir(b.dir, 0o755) }

// Mount checks that the directory is there.
func (b *Bare) Mount(context.Context) error {
	_, err := os.ReadDir(b.dir)
	return err
}

// Unmount does nothing.
func (b *Bare) Unmount(context.Context) error { return nil }

// Kill does nothing.
func (b *Bare) Kill() error { return nil }

// Abort does nothing.
func (b *Bare) Abort() {}

// Dir implements System.
func (b *Bare) Dir() string { return b.dir }

// Backing implements System.
func (b *Bare) Backing() string { return b.dir }

// PID is 0.
func (b *Bare) PID() int { return 0 }

// Log is empty.
func (b *Bare) Log() string { return "" }

// Close does nothing.
func (b *Bare) Close() error { return nil }
