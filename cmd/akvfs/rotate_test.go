//go:build !race

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// writer is a program that appends numbered lines to a log, syncs each, and
// now and then begins another log, while the keys change beneath it.
type writer struct {
	w            *world
	dir          string
	acknowledged atomic.Int64
	stop         chan struct{}
	done         sync.WaitGroup
}

const linesPerLog = 50

func (w *world) startWriter() *writer {
	p := &writer{w: w, dir: w.mkdir(join(w.mountpoint, "logs")), stop: make(chan struct{})}
	p.done.Go(func() {
		var log *os.File
		for i := int64(0); ; i++ {
			select {
			case <-p.stop:
				if log != nil {
					w.check(log.Close())
				}
				return
			default:
			}
			var err error
			if i%linesPerLog == 0 {
				if log != nil {
					err = log.Close()
				}
				var opened error
				log, opened = os.Create(p.log(i))
				err = errors.Join(err, opened)
			}
			if err == nil {
				_, err = fmt.Fprintf(log, "line %d\n", i)
			}
			if err = errors.Join(err, log.Sync()); err != nil {
				w.t.Errorf("line %d: %v", i, err)
				return
			}
			p.acknowledged.Store(i + 1)
		}
	})
	return p
}

func (p *writer) log(line int64) string {
	return join(p.dir, fmt.Sprintf("log%d", line/linesPerLog%100))
}

// progress waits until some more lines are acknowledged: nothing hangs.
func (p *writer) progress() {
	p.w.t.Helper()
	from := p.acknowledged.Load()
	eventually(p.w.t, "the program goes on", func() bool { return p.acknowledged.Load() > from+5 })
}

// verify stops the program and reads back what was acknowledged.
func (p *writer) verify() {
	p.w.t.Helper()
	close(p.stop)
	p.done.Wait()
	p.reread()
}

func (p *writer) reread() {
	p.w.t.Helper()
	n := p.acknowledged.Load()
	for i := max(0, n-99*linesPerLog) / linesPerLog * linesPerLog; i < n; i += linesPerLog {
		var want strings.Builder
		for line := i; line < min(n, i+linesPerLog); line++ {
			fmt.Fprintf(&want, "line %d\n", line)
		}
		if got := p.w.read(p.log(i)); got != want.String() {
			p.w.t.Errorf("%s: %d bytes, want %d", p.log(i), len(got), want.Len())
		}
	}
}

// TestRotateInVault: everything that the owner of a key does to it in the
// vault, while a program writes. Secrets have left the daemon's environment
// long before it opens another vault.
func TestRotateInVault(t *testing.T) {
	c := newCloud(t)
	c.init()
	other := c.server.AddVault("other-region")
	_, err := other.CreateKey(vaultKey, akvtest.KeySpec{})
	c.must(err)
	c.mount("-o", "check-interval=1s,key-timeout=30s")
	p := c.startWriter()
	aki := func() daemon.AKIStatus { return c.status(c.backing).AKIs[0] }
	version := func(v *akvtest.Vault) string { all := v.Versions(vaultKey); return all[len(all)-1] }

	// Key Vault's own rotation policy made a version: it is taken.
	first := aki().Version
	_, err = c.vault.Rotate(vaultKey)
	c.must(err)
	eventually(t, "the new version is taken", func() bool { return aki().Version == version(c.vault) })
	c.must(c.vault.Disable(vaultKey, first)) // as key usage says one may
	if out := c.ok("key", "usage", c.keyID(), "--scan", c.dir).out; strings.Contains(out, first) {
		t.Error(out)
	}
	p.progress()

	// To another vault, from there to a file, and back.
	c.ok("key", "rotate", c.backing, "--to", other.KeyID(vaultKey))
	c.must(c.vault.Delete(vaultKey))
	p.progress()
	c.ok("key", "rotate", c.backing, "--to", c.world.keyID())
	p.progress()
	c.must(c.vault.Recover(vaultKey))
	c.ok("key", "rotate", c.backing, "--to", c.keyID())

	// A pinned version stays, whatever is made after it.
	pinned := c.vault.KeyID(vaultKey, version(c.vault))
	c.ok("key", "rotate", c.backing, "--to", pinned)
	_, err = c.vault.Rotate(vaultKey)
	c.must(err)
	checked := *aki().Checked
	eventually(t, "checked twice", func() bool { return aki().Checked.After(checked.Add(time.Second)) })
	if now := aki(); now.AKI != pinned || version(c.vault) == now.Version {
		t.Errorf("%+v", now)
	}
	c.ok("key", "rotate", c.backing, "--to", c.keyID())

	// A second vault for a disaster; then the first is lost for good.
	c.ok("key", "add", c.backing, other.KeyID(vaultKey))
	out := c.ok("master-key", "rotate", c.backing, "--wait").out
	if !strings.Contains(out, "bytes written") {
		t.Error(out)
	}
	c.must(c.vault.Purge(vaultKey))
	c.ok("key", "remove", c.backing, c.keyID())
	p.progress()
	p.verify()
	c.unmount()
	c.mount()
	p.reread()
	c.unmount()
}

// TestRotateRefusedByVault: what the vault does not grant, or is not what it
// seems, is refused, and the key before stays.
func TestRotateRefusedByVault(t *testing.T) {
	c := newCloud(t)
	c.init()
	c.mount("-o", "check-interval=1h,key-timeout=2s")
	p := c.startWriter()
	old := c.status(c.backing).AKIs[0].Version
	_, err := c.vault.Rotate(vaultKey)
	c.must(err)
	newest := c.vault.Versions(vaultKey)[1]
	refused := func(code int, says string) {
		t.Helper()
		c.refused(code, says, "key", "rotate", c.backing)
		if now := c.status(c.backing).AKIs[0].Version; now != old {
			t.Errorf("it has become version %s", now)
		}
		p.progress()
	}
	c.must(c.vault.Disable(vaultKey, newest))
	refused(11, "KeyDisabled")
	c.must(c.vault.Enable(vaultKey, newest))
	c.vault.Deny("ForbiddenByRbac", "unwrapKey") // it wraps, and would never open
	refused(11, "Forbidden")
	c.vault.Allow()
	c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Status: 503})
	refused(10, "acme.vault.azure.net")
	c.server.ClearFaults()
	c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Status: 429, RetryAfter: "600"})
	refused(10, "429")
	c.server.ClearFaults()
	c.refused(11, "KeyNotFound", "key", "rotate", c.backing, "--to", c.vault.KeyID("none"))

	// The same name with other material: what is wrapped no longer opens.
	c.must(c.vault.Replace(vaultKey, old))
	if r := c.run("key", "check", c.backing); r.code != 1 || !strings.Contains(r.out, string(daemon.KeyMismatch)) {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	// The keys in memory are the volume's: a good version saves it.
	c.ok("key", "rotate", c.backing)
	p.verify()
	c.unmount()
	c.mount()
	p.reread()
	c.unmount()
}

// TestRotateUnmountedInVault: the same commands without a mount.
func TestRotateUnmountedInVault(t *testing.T) {
	c := newCloud(t)
	c.vault.Deny("ForbiddenByPolicy", "wrapKey", "unwrapKey") // only encrypt and decrypt are granted
	c.init("--key-operation", "encrypt")
	_, err := c.vault.Rotate(vaultKey)
	c.must(err)
	c.ok("key", "rotate", c.backing)
	c.ok("master-key", "rotate", c.backing)
	k := c.status(c.backing).AKIs[0]
	if all := c.vault.Versions(vaultKey); k.Version != all[1] || k.Operation != "encrypt" {
		t.Errorf("%+v of %v", k, all)
	}
	c.must(c.vault.Disable(vaultKey, ""))
	c.untouched(func() {
		c.refused(11, "KeyDisabled", "key", "rotate", c.backing)
		c.refused(11, "KeyDisabled", "master-key", "rotate", c.backing)
	})
	c.must(c.vault.Enable(vaultKey, ""))
	c.mount()
	c.unmount()
}

// TestRotateFromFile: a daemon that never spoke to a vault opens one with the
// credentials that it was started with, although its environment has lost them.
func TestRotateFromFile(t *testing.T) {
	c := newCloud(t)
	c.ok("init", c.backing, "--key-id", c.world.keyID(), "--journal-size", "1M")
	c.mount("-o", "check-interval=1h")
	p := c.startWriter()
	var others []string // the command's environment has no secret: the daemon does the work
	for _, v := range c.env {
		if !strings.HasPrefix(v, "AZURE_CLIENT_SECRET=") {
			others = append(others, v)
		}
	}
	with := c.env
	c.env = others
	c.ok("key", "rotate", c.backing, "--to", c.keyID())
	if k := c.status(c.backing).AKIs[0]; k.Provider != "akv" || k.State != daemon.KeyAvailable {
		t.Errorf("%+v", k)
	}
	p.verify()
	c.unmount()
	c.env = with
	c.mount()
	p.reread()
	c.unmount()
}
