//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// textBounds makes a ledger of lines of two copies of one: what was
// acknowledged in the first, and what had been tried in the second.
func (v *volume) textBounds(first, second string) string {
	v.t.Helper()
	var lines []byte
	for _, from := range []struct {
		file string
		kind byte
	}{{first, 'a'}, {second, 'i'}} {
		data, err := os.ReadFile(from.file)
		v.must(err)
		for line := range bytes.Lines(data[:bytes.LastIndexByte(data, '\n')+1]) {
			if line[0] == from.kind {
				lines = append(lines, line...)
			}
		}
	}
	v.must(os.WriteFile(first, lines, 0o600))
	return first
}

// restored restores a snapshot and mounts it; done unmounts and removes it.
func (v *volume) restored(a *rig.Akvfs, of, name, to string) (mounted string, done func()) {
	v.t.Helper()
	dir := filepath.Join(to, "restored")
	mounted = filepath.Join(to, "restored-mount")
	v.must(os.MkdirAll(mounted, 0o755))
	v.run(a.Command("snapshot", "restore", of, name, dir))
	v.run(a.Command("mount", dir, mounted))
	return mounted, func() {
		v.t.Helper()
		v.run(a.Command("unmount", mounted))
		v.must(os.RemoveAll(dir))
	}
}

// TestMongoSnapshots takes snapshots of a server's data directory while clients
// insert, update and delete. A server on what is restored has all that was
// acknowledged before the snapshot began and nothing begun after it ended.
func TestMongoSnapshots(t *testing.T) {
	for name, serve := range servers() {
		t.Run(name, func(t *testing.T) {
			v, a := akvfsVolume(t, "xfs", rig.Options{})
			m := newMongo(v, "data", serve)
			m.up()
			m.run("load", "--docs", "500")
			load := v.start(m.command("churn", "--seconds", "3600"))
			for i := range soak {
				v.let(load, time.Second)
				name := fmt.Sprint("s", i)
				before := v.copyOf(m.ledger, filepath.Join(v.scratch, name))
				v.run(a.Command("snapshot", "create", a.Dir(), name))
				ledger := v.textBounds(before, v.copyOf(m.ledger, filepath.Join(v.scratch, name+".after")))
				mounted, done := v.restored(a, a.Backing(), name, v.disk.Dir)
				copied := &mongo{v: v, ledger: ledger, port: freePort(t), serve: serve, data: filepath.Join(mounted, "data")}
				copied.up()
				copied.check()
				copied.down()
				done()
				v.run(a.Command("snapshot", "delete", a.Dir(), name))
			}
			load.Kill()
			m.check()
			m.down()
		})
	}
}

// TestDiskSnapshots takes snapshots of the disk under a volume, as a cloud or a
// SAN does, without anybody being told: each mounts, and holds all that was
// acknowledged before it began and nothing begun after it ended. The disk is an
// image on XFS, which clones it at one moment.
func TestDiskSnapshots(t *testing.T) {
	scratch := newScratch(t)
	outer := newDisk(t, scratch, "xfs", diskSize)
	v := newVolumeOn(t, scratch, newDisk(t, outer.Dir, "ext4", diskSize/3), rig.Options{})
	a := v.System.(*rig.Akvfs)
	w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
	w.run("load", "--records", "20000")
	load := v.start(w.command("commit", "--seconds", "3600"))
	for i := range 2 * soak {
		v.let(load, time.Second)
		name := fmt.Sprint("s", i)
		before := v.copyOf(w.ledger, filepath.Join(v.scratch, name))
		clone, err := v.disk.Clone(t.Context(), filepath.Join(outer.Dir, name))
		v.must(err)
		ledger := v.bounds(before, v.copyOf(w.ledger, filepath.Join(v.scratch, name+".after")))
		inside, err := filepath.Rel(v.disk.Dir, a.Backing())
		v.must(err)
		backing, mounted := filepath.Join(clone.Dir, inside), filepath.Join(v.scratch, "mounted"+name)
		v.must(os.Mkdir(mounted, 0o755))
		v.run(a.Command("mount", backing, mounted))
		copied := &wiredTiger{v: v, home: filepath.Join(mounted, "db"), ledger: ledger, flags: w.flags}
		copied.check()
		v.run(a.Command("unmount", mounted))
		v.must(clone.Close())
		v.must(os.RemoveAll(filepath.Dir(clone.Dir)))
	}
	load.Kill()
	w.check()
}

// TestSnapshotsElsewhere: a snapshot that shares its blocks with a volume on XFS
// becomes a volume on ext4, which has no such thing: restored there, and by way
// of streams, the second of which has only what changed.
func TestSnapshotsElsewhere(t *testing.T) {
	v, a := akvfsVolume(t, "xfs", rig.Options{})
	other := newDisk(t, v.scratch, "ext4", diskSize/3)
	w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
	w.run("load", "--records", "20000")
	v.run(a.Command("snapshot", "create", a.Dir(), "one"))
	w.run("commit", "--seconds", "1")
	before := v.copyOf(w.ledger, filepath.Join(v.scratch, "ledger"))
	v.run(a.Command("snapshot", "create", a.Dir(), "two"))
	w.run("commit", "--seconds", "1")
	check := func(of, name string) {
		t.Helper()
		mounted, done := v.restored(a, of, name, other.Dir)
		copied := &wiredTiger{v: v, home: filepath.Join(mounted, "db"), ledger: v.copyOf(before, filepath.Join(v.scratch, "copied")), flags: w.flags}
		copied.check()
		done()
	}
	check(a.Dir(), "two")
	there := filepath.Join(other.Dir, "snapshots")
	for _, args := range [][]string{{"one"}, {"two", "--base", "one"}} {
		stream := filepath.Join(other.Dir, args[0]+".akvfs")
		t.Log(v.run(a.Command(append([]string{"snapshot", "export", a.Dir(), "--output", stream}, args...)...)))
		v.run(a.Command("snapshot", "import", there, "--input", stream))
		v.run(a.Command("snapshot", "verify", there, args[0]))
	}
	check(there, "two")
}

// TestSnapshotsKilled kills every command on snapshots at random moments. The
// same command then comes to its end, and nothing is left of the first.
func TestSnapshotsKilled(t *testing.T) {
	v, a := akvfsVolume(t, "ext4", rig.Options{})
	w := newWiredTiger(v, "db", "--cache-mb", "16")
	w.run("load", "--records", "30000")
	v.mustUnmount()
	there, stream, restored := filepath.Join(v.disk.Dir, "there"), filepath.Join(v.disk.Dir, "stream"), filepath.Join(v.disk.Dir, "restored")
	again := func(args ...string) {
		t.Helper()
		killed := 0
		for {
			p := v.start(a.Command(args...))
			limit := patience
			if killed < 2*soak {
				limit = time.Duration(5+rand.IntN(100*(killed+1))) * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			err := p.Wait(ctx)
			cancel()
			if p.Done() {
				// Of one that was killed when its work was done, the next may
				// say so: what there is is looked at below.
				if t.Logf("%v: killed %d times: %v", args[1], killed, err); killed == 0 {
					v.must(err)
				}
				return
			}
			p.Kill()
			killed++
		}
	}
	again("snapshot", "create", a.Backing(), "one")
	v.run(a.Command("snapshot", "verify", a.Backing(), "one"))
	again("snapshot", "export", a.Backing(), "one", "--output", stream)
	v.run(a.Command("snapshot", "verify", "--input", stream))
	again("snapshot", "import", there, "--input", stream)
	v.run(a.Command("dev-key", "rotate", a.KeyFile()))
	again("snapshot", "rewrap", there, "one")
	if out := v.run(a.Command("snapshot", "rewrap", there, "one")); !strings.Contains(out, "under the newest version already") {
		t.Errorf("it was not wrapped anew: %s", out)
	}
	again("snapshot", "verify", there, "one", "--resume")
	again("snapshot", "restore", there, "one", restored)
	mounted := filepath.Join(v.scratch, "mounted")
	v.must(os.Mkdir(mounted, 0o755))
	v.run(a.Command("mount", restored, mounted))
	copied := &wiredTiger{v: v, home: filepath.Join(mounted, "db"), ledger: w.ledger, flags: w.flags}
	copied.check()
	v.run(a.Command("unmount", mounted))
	again("snapshot", "prune", there, "--older-than", "1ns")
	v.run(a.Command("snapshot", "create", a.Backing(), "last", "--to", there)) // which clears what is left
	entries, err := os.ReadDir(there)
	v.must(err)
	if len(entries) != 2 { // the snapshot, and what the directory is known by
		t.Errorf("left: %v", entries)
	}
	v.mustMount()
}
