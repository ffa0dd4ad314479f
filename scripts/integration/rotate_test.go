//go:build integration

package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// TestRotateUnderLoad: every rotation there is, in the vault and from the
// command line, while WiredTiger writes on the mount. What it was told is
// committed is there after each one, and after a remount with the last key.
func TestRotateUnderLoad(t *testing.T) {
	c := newCloud(t, "test-vault/mongo")
	aki := c.ready.Keys["test-vault/mongo"]
	v, a := akvfsVolume(t, "ext4", rig.Options{KeyID: aki, Env: c.env(nil), MountOptions: []string{"key-timeout=10s", "check-interval=1s"}})
	w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
	w.run("load", "--records", "20000")
	file := "file://" + v.scratch + "/key.json"
	v.run(a.Command("dev-key", "create", file))
	akvfs := func(args ...string) func() {
		return func() { t.Log(v.run(a.Command(args...))) }
	}
	for _, scene := range []struct {
		name string
		do   func()
	}{
		{"version followed", func() {
			c.do("key/rotate", "vault", "test-vault", "key", "mongo")
			v.eventually("the new version is taken", func() bool {
				return strings.Contains(v.run(a.Command("key", "check", a.Dir())), "would change nothing")
			})
		}},
		{"to a file", akvfs("key", "rotate", a.Dir(), "--to", file)},
		{"back to the vault", akvfs("key", "rotate", a.Dir(), "--to", aki)},
		{"second key", akvfs("key", "add", a.Dir(), file)},
		{"master key", akvfs("master-key", "rotate", a.Dir(), "--wait")},
		{"first key removed", akvfs("key", "remove", a.Dir(), aki)},
		{"master key under the other", akvfs("master-key", "rotate", a.Dir(), "--wait")},
	} {
		load := v.start(w.command("mixed", "--seconds", "600"))
		v.let(load, time.Second)
		scene.do()
		v.let(load, time.Second)
		load.Kill()
		t.Log(scene.name)
		w.check()
	}
	c.do("key/delete", "vault", "test-vault", "key", "mongo")
	v.remount()
	w.check()
}
