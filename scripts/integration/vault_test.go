//go:build integration

package integration

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
	"github.com/akvfs/akvfs/scripts/rig"
)

// vaultArgument makes this test's binary a test cloud, in a process of its own.
const vaultArgument = "serve-vault"

func serveVault() int {
	return akvtest.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr)
}

// cloud is a test cloud in another process, which is reached by HTTPS only.
type cloud struct {
	t     *testing.T
	proc  *rig.Proc
	ready akvtest.Ready
	admin akvtest.Admin
}

// newCloud starts one with a key, named VAULT/NAME.
func newCloud(t *testing.T, key string) *cloud {
	t.Helper()
	dir := newScratch(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t}
	v := &volume{t: t}
	c.proc = v.start(command(self, vaultArgument, "--daemon", "--dir", dir, "--key", key))
	v.eventually("the test cloud is ready", func() bool {
		if c.proc.Done() {
			t.Fatalf("the test cloud ended: %s", c.proc.Output())
		}
		data, err := os.ReadFile(filepath.Join(dir, "ready.json"))
		return err == nil && json.Unmarshal(data, &c.ready) == nil
	})
	c.admin.URL = c.ready.Admin
	return c
}

// env is where akvfs finds the cloud and who it is, with changes.
func (c *cloud) env(changes map[string]string) (env []string) {
	all := maps.Clone(c.ready.Env)
	maps.Copy(all, changes)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, name+"="+all[name])
	}
	return env
}

func (c *cloud) do(what string, pairs ...string) {
	c.t.Helper()
	if _, err := c.admin.Do(c.t.Context(), what, pairs...); err != nil {
		c.t.Fatal(err)
	}
}

// TestKeyVault: the key is in a vault that speaks Azure's protocol over HTTPS.
// A database runs under it; then the key is disabled, the secret is wrong, the
// vault is away, and each time the mount is refused for that reason and
// nothing is touched.
func TestKeyVault(t *testing.T) {
	c := newCloud(t, "test-vault/mongo")
	v, a := akvfsVolume(t, "ext4", rig.Options{KeyID: c.ready.Keys["test-vault/mongo"], Env: c.env(nil), MountOptions: []string{"key-timeout=10s"}})
	w := newWiredTiger(v, "db")
	w.run("load", "--records", "5000")
	w.run("commit", "--seconds", "1")
	v.remount()
	w.check()
	v.mustUnmount()

	c.do("key/disable", "vault", "test-vault", "key", "mongo")
	expectExit(t, a, 11, "mongo")
	c.do("key/enable", "vault", "test-vault", "key", "mongo")

	a.SetEnv(c.env(map[string]string{"AZURE_CLIENT_SECRET": "not the secret"}))
	expectExit(t, a, 12, "test-vault")
	a.SetEnv(c.env(nil))

	v.mustMount()
	w.check()
	v.mustUnmount()

	c.proc.Kill()
	expectExit(t, a, 10, "test-vault")
}
