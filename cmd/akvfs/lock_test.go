//go:build !race

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// custodian is a world whose key its owner can take away.
type custodian struct {
	*world
	revoke, restore      func()
	silence, unsilence   func()
	revoked, unreachable string // what status says of it
}

func newFileCustodian(t *testing.T) *custodian {
	w := newVolume(t)
	return &custodian{
		world:       w,
		revoke:      func() { w.must(w.openStore().Disable("")) },
		restore:     func() { w.must(w.openStore().Enable("")) },
		silence:     func() { w.must(os.Rename(w.store, w.store+".away")) },
		unsilence:   func() { w.must(os.Rename(w.store+".away", w.store)) },
		revoked:     "KeyDisabled",
		unreachable: "FileNotFound",
	}
}

func newVaultCustodian(t *testing.T) *custodian {
	c := newCloud(t)
	c.init()
	return &custodian{
		world:       c.world,
		revoke:      func() { c.must(c.vault.Disable(vaultKey, "")) },
		restore:     func() { c.must(c.vault.Enable(vaultKey, "")) },
		silence:     func() { c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Status: 503}) },
		unsilence:   func() { c.server.ClearFaults() },
		revoked:     "KeyDisabled",
		unreachable: "503",
	}
}

// becomes waits for a state.
func (w *world) becomes(want daemon.State) daemon.Status {
	w.t.Helper()
	var s daemon.Status
	eventually(w.t, string(want), func() bool { s = w.status(w.mountpoint); return s.State == want })
	return s
}

// ledgerLoad is writers that append to open files and sync, through whatever
// happens to the volume, and keep account of what was acknowledged.
type ledgerLoad struct {
	w       *world
	files   []*os.File
	acked   []int // bytes; read after stop
	refused atomic.Int64
	ending  atomic.Bool
	running sync.WaitGroup
}

func startLoad(w *world, writers int) *ledgerLoad {
	l := &ledgerLoad{w: w, acked: make([]int, writers)}
	for i := range writers {
		f, err := os.Create(join(w.mountpoint, fmt.Sprint("ledger", i)))
		w.must(err)
		l.files = append(l.files, f)
		l.running.Go(func() { l.write(i) })
	}
	return l
}

func (l *ledgerLoad) content(i, n int) []byte {
	line := fmt.Sprintf("writer %d, a line of its own; ", i)
	return []byte(strings.Repeat(line, n/len(line)+1)[:n])
}

func (l *ledgerLoad) write(i int) {
	all := l.content(i, 64<<20)
	for size := 1; !l.ending.Load(); size = size*7%50_000 + 1 {
		end := min(l.acked[i]+size, len(all))
		_, err := l.files[i].WriteAt(all[l.acked[i]:end], int64(l.acked[i]))
		if err == nil {
			err = l.files[i].Sync()
		}
		switch {
		case err == nil:
			l.acked[i] = end
		case errors.Is(err, syscall.ENOKEY):
			l.refused.Add(1)
			time.Sleep(time.Millisecond)
		default:
			l.w.t.Errorf("writer %d: %v", i, err)
			return
		}
	}
}

// stop ends the writers, and wants all that was acknowledged to be there, now
// and after another mount.
func (l *ledgerLoad) stop(mount ...string) {
	l.w.t.Helper()
	l.ending.Store(true)
	l.running.Wait()
	total := 0
	for again := range 2 {
		for i, f := range l.files {
			got, err := os.ReadFile(join(l.w.mountpoint, fmt.Sprint("ledger", i)))
			l.w.must(err)
			if l.acked[i] == 0 || len(got) < l.acked[i] || !bytes.Equal(got[:l.acked[i]], l.content(i, l.acked[i])) {
				l.w.t.Errorf("writer %d: %d bytes acknowledged, %d there", i, l.acked[i], len(got))
			}
			total += l.acked[i]
			if again == 0 {
				l.w.must(f.Close())
			}
		}
		if again == 0 {
			l.w.unmount()
			l.w.mount(mount...)
		}
	}
	l.w.t.Logf("%d bytes acknowledged, %d refusals", total/2, l.refused.Load())
	l.w.unmount()
}

// TestRevokedUnderLoad takes the key away in the midst of writes, in each way,
// and gives it back: the volume locks and unlocks by itself, open files go on,
// and nothing acknowledged is lost.
func TestRevokedUnderLoad(t *testing.T) {
	for name, world := range map[string]func(*testing.T) *custodian{"file": newFileCustodian, "akv": newVaultCustodian} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world(t)
			options := []string{"-o", "check-interval=1s,key-timeout=2s,grace=1s,commit=1s"}
			w.mount(options...)
			load := startLoad(w.world, 3)
			for range 2 {
				w.revoke()
				s := w.becomes(daemon.StateLocked)
				if !strings.Contains(s.StateReason, w.revoked) || s.LockedByHand || s.StateSince == nil {
					t.Errorf("%+v", s)
				}
				if _, err := os.Stat(w.mountpoint); !errors.Is(err, syscall.ENOKEY) {
					t.Errorf("locked, a stat answers %v", err)
				}
				w.refused(11, w.revoked, "unlock", w.mountpoint)
				w.restore()
				w.becomes(daemon.StateMounted)
			}
			w.silence()
			w.becomes(daemon.StateGrace)
			if s := w.becomes(daemon.StateLocked); !strings.Contains(s.StateReason, w.unreachable) {
				t.Errorf("%+v", s)
			}
			w.refused(10, w.unreachable, "unlock", w.mountpoint)
			w.unsilence()
			w.becomes(daemon.StateMounted)
			load.stop(options...)
		})
	}
}

// TestLockCommand: by hand, through any name of the volume.
func TestLockCommand(t *testing.T) {
	w := newVolume(t)
	w.refused(1, "no akvfs volume is mounted", "lock", w.backing)
	w.refused(1, "no akvfs volume is mounted", "unlock", w.mountpoint)
	w.mount("-o", "check-interval=1s")
	data := join(w.mountpoint, "data")
	w.write(data, "hello")
	for _, name := range []string{w.backing, w.mountpoint, w.status(w.backing).VolumeID} {
		w.ok("lock", name)
		if _, err := os.ReadFile(data); !errors.Is(err, syscall.ENOKEY) {
			t.Errorf("a locked file answers %v", err)
		}
		if s := w.status(w.mountpoint); s.State != daemon.StateLocked || !s.LockedByHand {
			t.Errorf("%+v", s)
		}
		if text := w.ok("status", name).out; !strings.Contains(text, "locked by hand") || !strings.Contains(text, "it is unlocked by hand") {
			t.Error(text)
		}
		w.ok("unlock", name)
		if got := w.read(data); got != "hello" {
			t.Errorf("read %q", got)
		}
	}
	w.ok("lock", w.mountpoint)
	w.unmount()
	w.mount()
	if got := w.read(data); got != "hello" {
		t.Errorf("read %q", got)
	}
	w.unmount()
}

// TestSecretWithdrawn: credentials that the directory refuses lock the volume,
// and unlock by hand says so.
func TestSecretWithdrawn(t *testing.T) {
	c := newCloud(t)
	c.init()
	c.mount("-o", "check-interval=1s,key-timeout=5s,grace=24h")
	c.server.Directory().RemoveSecrets(c.server.Directory().ClientID)
	c.server.Directory().RevokeTokens()
	if s := c.becomes(daemon.StateLocked); s.AKIs[0].State != daemon.KeyCredentials {
		t.Errorf("%+v", s)
	}
	c.refused(12, "refuses our credentials", "unlock", c.mountpoint)
	c.unmount()
}
