//go:build integration

package integration

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// wiredTiger is a database of scripts/wtload on a volume.
type wiredTiger struct {
	v            *volume
	home, ledger string
	flags        []string
}

func newWiredTiger(v *volume, name string, flags ...string) *wiredTiger {
	return &wiredTiger{v: v, home: filepath.Join(v.Dir(), name), ledger: filepath.Join(v.scratch, name+".ledger"), flags: flags}
}

func (w *wiredTiger) command(mode string, args ...string) rig.Command {
	args = append([]string{mode, "--home", w.home, "--ledger", w.ledger}, args...)
	return command(filepath.Join(repo, "bin/wtload"), append(args, w.flags...)...)
}

func (w *wiredTiger) run(mode string, args ...string) {
	w.v.t.Helper()
	w.v.t.Log(w.v.run(w.command(mode, args...)))
}

// check runs our verifier and WiredTiger's own.
func (w *wiredTiger) check() {
	w.v.t.Helper()
	w.run("verify")
	for _, table := range []string{"table:records", "table:index"} {
		w.v.run(command("wt", "-h", w.home, "verify", table))
	}
}

func TestWiredTiger(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		for _, compressor := range []string{"snappy", "zlib"} {
			w := newWiredTiger(v, compressor, "--compressor", compressor, "--cache-mb", "16", "--checkpoint", "2")
			w.run("load", "--records", "50000")
			w.run("mixed", "--seconds", seconds(4))
			w.run("commit", "--seconds", seconds(2))
			w.check()
			v.remount()
			w.check()
			w.run("mixed", "--seconds", seconds(2), "--read-percent", "90")
			w.check()
		}
	})
}

// TestWiredTigerKilled kills the load; what it was told must be there.
func TestWiredTigerKilled(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
		w.run("load", "--records", "20000")
		for range 2 * soak {
			for _, mode := range []string{"commit", "mixed"} {
				load := v.start(w.command(mode, "--seconds", "600"))
				v.let(load, 2*time.Second)
				load.Kill()
				w.check()
			}
		}
		load := v.start(newWiredTiger(v, "cut-short").command("load", "--records", "1000000"))
		v.let(load, 2*time.Second)
		load.Kill()
		newWiredTiger(v, "cut-short").check()
	})
}

// TestWiredTigerDaemonKilled kills the daemon under the load.
func TestWiredTigerDaemonKilled(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
		w.run("load", "--records", "20000")
		for range 2 * soak {
			for _, mode := range []string{"commit", "mixed"} {
				load := v.start(w.command(mode, "--seconds", "600"))
				v.let(load, 2*time.Second)
				v.mustKill()
				load.Kill()
				v.mustMount()
				w.check()
			}
		}
		v.remount()
		w.check()
	})
}

// TestWiredTigerOneAtATime: the second to open a database is refused.
func TestWiredTigerOneAtATime(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		w := newWiredTiger(v, "db")
		w.run("load", "--records", "2000")
		first := v.start(w.command("mixed", "--seconds", "600"))
		v.let(first, time.Second)
		if out, err := v.try(w.command("verify")); rig.ExitCode(err) != 1 {
			t.Errorf("a second process opened the database: %v, %s", err, out)
		}
		first.Kill()
		w.check()
	})
}

// TestWiredTigerVerifierSaysNo: a verifier that always agrees proves nothing.
func TestWiredTigerVerifierSaysNo(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		w := newWiredTiger(v, "db")
		w.run("load", "--records", "2000")
		old := filepath.Join(v.scratch, "old")
		v.run(command("cp", "-a", w.home, old))
		w.run("commit", "--seconds", "1")
		w.run("verify")
		v.run(command("rm", "-r", w.home))
		v.run(command("cp", "-a", old, w.home))
		if out, err := v.try(w.command("verify")); rig.ExitCode(err) != 3 {
			t.Errorf("the verifier accepts a database without its last commits: %v, %s", err, out)
		}
	})
}
