//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/scripts/rig"
)

// cut cuts the backing file system off, kills the daemon, has whoever uses the
// mount go, and brings both back.
func (v *volume) cut(how int, leave func()) {
	v.t.Helper()
	if err := v.disk.Cut(how); err != nil {
		v.t.Fatal(err)
	}
	v.mustKill()
	leave()
	if err := v.disk.Again(); err != nil {
		v.t.Fatal(err)
	}
	v.mustMount()
}

// TestCutOff cuts the backing file system off under a load, with and without
// its own journal written first, and compares with what was acknowledged.
func TestCutOff(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
		w.run("load", "--records", "20000")
		s := newSQLite(v, "wal")
		for range soak {
			for _, how := range []int{rig.CutAtOnce, rig.CutLogFlushed} {
				for _, load := range []rig.Command{w.command("commit", "--seconds", "600"), w.command("mixed", "--seconds", "600"), s.load("600")} {
					p := v.start(load)
					v.let(p, 1500*time.Millisecond)
					v.cut(how, p.Kill)
					w.check()
				}
				s.check()
			}
		}
	})
}

// TestSyncedByOthers: what sync(2) and syncfs(2) have written is durable soon
// after, though nobody has called fsync on it.
func TestSyncedByOthers(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		for i, sync := range []func() error{
			func() error { unix.Sync(); return nil },
			func() error { return syncfs(v.Dir()) },
		} {
			name, want := filepath.Join(v.Dir(), fmt.Sprint("file", i)), fmt.Sprint("written before sync ", i)
			// The name is durable, the content is not.
			f, err := os.Create(name)
			if err == nil {
				err = f.Sync()
			}
			if err == nil {
				_, err = f.WriteString(want)
			}
			if err == nil {
				err = sync()
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // docs/SECURITY.md says half of it
			v.cut(rig.CutAtOnce, func() { f.Close() })
			if got, err := os.ReadFile(name); err != nil || string(got) != want {
				t.Errorf("%q, %v", got, err)
			}
		}
	})
}

func syncfs(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
