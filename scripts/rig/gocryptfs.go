package rig

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Gocryptfs is the peer that Debian ships.
type Gocryptfs struct {
	*daemon
	bin, password string
}

func newGocryptfs(base string) (*Gocryptfs, error) {
	bin, err := exec.LookPath("gocryptfs")
	return &Gocryptfs{daemon: newDaemon(base), bin: bin, password: filepath.Join(base, "gocryptfs.password")}, err
}

// Kind implements System.
func (g *Gocryptfs) Kind() string { return "gocryptfs" }

// Init implements System. The key derivation is made cheap: it is not what is measured.
func (g *Gocryptfs) Init(ctx context.Context) error {
	if err := g.makeDirs(); err != nil {
		return err
	}
	if err := os.WriteFile(g.password, []byte("a password of no consequence\n"), 0o600); err != nil {
		return err
	}
	_, err := Command{Path: g.bin, Args: []string{"-init", "-q", "-scryptn", "10", "-passfile", g.password, g.backing}}.Run(ctx)
	return err
}

// Mount implements System.
func (g *Gocryptfs) Mount(ctx context.Context) error {
	if err := detach(g.mount); err != nil {
		return err
	}
	err := g.serve(ctx, Command{Path: g.bin, Args: []string{"-fg", "-q", "-nosyslog", "-allow_other", "-passfile", g.password, g.backing, g.mount}})
	// Once mounted it opens a file in its own mount; who makes a directory
	// there at that moment was seen to hang it for ever.
	time.Sleep(200 * time.Millisecond)
	return err
}

// Unmount implements System.
func (g *Gocryptfs) Unmount(ctx context.Context) error {
	if err := unmount(ctx, g.mount); err != nil {
		return err
	}
	return g.gone(ctx)
}

// Passthrough is any other FUSE file system, given by the command that serves
// it in the foreground.
type Passthrough struct {
	*daemon
	command []string
}

func newPassthrough(base, command string) (*Passthrough, error) {
	p := &Passthrough{daemon: newDaemon(base)}
	for _, word := range strings.Fields(command) {
		p.command = append(p.command, strings.NewReplacer("{backing}", p.backing, "{mount}", p.mount).Replace(word))
	}
	if len(p.command) == 0 {
		return nil, &os.PathError{Op: "passthrough", Path: "its command", Err: os.ErrNotExist}
	}
	bin, err := exec.LookPath(p.command[0])
	p.command[0] = bin
	return p, err
}

// Kind implements System.
func (p *Passthrough) Kind() string { return "passthrough" }

// Init implements System.
func (p *Passthrough) Init(context.Context) error { return p.makeDirs() }

// Mount implements System.
func (p *Passthrough) Mount(ctx context.Context) error {
	if err := detach(p.mount); err != nil {
		return err
	}
	return p.serve(ctx, Command{Path: p.command[0], Args: p.command[1:]})
}

// Unmount implements System. How such a daemon ends is its own business.
func (p *Passthrough) Unmount(ctx context.Context) error {
	if err := unmount(ctx, p.mount); err != nil {
		return err
	}
	if proc := p.proc.Swap(nil); proc != nil {
		proc.Stop(unmountTimeout)
	}
	return nil
}
