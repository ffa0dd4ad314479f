//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// bounds makes a ledger of two copies of one: what was acknowledged when the
// first was made, and what had been tried when the second was.
func (v *volume) bounds(first, second string) string {
	v.t.Helper()
	const head, entry = 32, 16
	before, err := os.ReadFile(first)
	v.must(err)
	after, err := os.ReadFile(second)
	v.must(err)
	if len(before) != len(after) || len(before) <= head {
		v.t.Fatalf("ledgers of %d and %d bytes", len(before), len(after))
	}
	for at := head; at < len(before); at += entry {
		copy(before[at:at+entry/2], after[at:])
	}
	v.must(os.WriteFile(first, before, 0o600))
	return first
}

func (v *volume) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *volume) copyOf(name, to string) string {
	v.t.Helper()
	data, err := os.ReadFile(name)
	v.must(err)
	v.must(os.WriteFile(to, data, 0o600))
	return to
}

// TestSnapshotsUnderLoad takes snapshots while every commit of WiredTiger waits
// for the disk. Each restores, on its own file system, to a database that
// WiredTiger verifies, with all that was acknowledged before the snapshot began
// and nothing that was begun after it ended.
func TestSnapshotsUnderLoad(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			v, a := akvfsVolume(t, fsType, rig.Options{})
			w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
			w.run("load", "--records", "20000")
			load := v.start(w.command("commit", "--seconds", "3600"))
			mounted := filepath.Join(v.disk.Dir, "restored-mount")
			v.must(os.Mkdir(mounted, 0o755))
			var longest time.Duration
			for i := range 2 * soak {
				v.let(load, time.Second)
				name := fmt.Sprint("s", i)
				before := v.copyOf(w.ledger, filepath.Join(v.scratch, name))
				var made struct {
					Held int64 `json:"held_us"`
					Took int64 `json:"took_us"`
				}
				v.must(json.Unmarshal([]byte(v.run(a.Command("snapshot", "create", "--json", a.Dir(), name))), &made))
				ledger := v.bounds(before, v.copyOf(w.ledger, filepath.Join(v.scratch, name+".after")))
				longest = max(longest, time.Duration(made.Held)*time.Microsecond)
				restored := filepath.Join(v.disk.Dir, "restored")
				v.run(a.Command("snapshot", "restore", a.Backing(), name, restored))
				v.run(a.Command("mount", restored, mounted))
				copied := &wiredTiger{v: v, home: filepath.Join(mounted, "db"), ledger: ledger, flags: w.flags}
				copied.check()
				v.run(a.Command("unmount", mounted))
				v.run(a.Command("snapshot", "verify", a.Dir(), name))
				v.must(os.RemoveAll(restored))
				v.run(a.Command("snapshot", "delete", a.Dir(), name))
			}
			load.Kill()
			w.check()
			t.Logf("writers were held for %v at most", longest)
		})
	}
}
