//go:build !race

// No race is to be found here that other tests do not find: these are many
// short runs of the program, which take long under the detector.

package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

const vaultKey = "mongo"

// cloud is a world whose key lies in a vault.
type cloud struct {
	*world
	server *akvtest.Server
	vault  *akvtest.Vault
}

// newCloud starts a test cloud with a vault and a key, and gives the world
// the credentials for it.
func newCloud(t *testing.T) *cloud {
	t.Helper()
	w := newWorld(t)
	s, err := akvtest.Start(akvtest.Options{Dir: w.mkdir(join(w.dir, "cloud"))})
	w.must(err)
	t.Cleanup(func() { w.check(s.Close()) })
	c := &cloud{w, s, s.AddVault("acme")}
	_, err = c.vault.CreateKey(vaultKey, akvtest.KeySpec{})
	w.must(err)
	w.env = append(w.env, s.Env()...)
	return c
}

func (c *cloud) keyID() string { return c.vault.KeyID(vaultKey) }

func (c *cloud) init(args ...string) {
	c.t.Helper()
	c.ok(append([]string{"init", c.backing, "--key-id", c.keyID(), "--journal-size", "1M"}, args...)...)
}

func TestVault(t *testing.T) {
	for _, operation := range []string{"wrap", "encrypt"} {
		t.Run(operation, func(t *testing.T) {
			c := newCloud(t)
			if operation == "encrypt" { // a policy that grants only these
				c.vault.Deny("ForbiddenByPolicy", "wrapKey", "unwrapKey")
			}
			c.init("--key-operation", operation)
			if s := c.status(c.backing); s.AKIs[0].Provider != "akv" || s.AKIs[0].KeyID != c.keyID() || s.AKIs[0].Operation != operation || s.AKIs[0].Version != c.vault.Versions(vaultKey)[0] {
				t.Errorf("%+v", s.AKIs)
			}
			c.mount()
			c.write(join(c.mountpoint, "data"), "hello")
			if s := c.status(c.backing); s.AKIs[0].State != daemon.KeyAvailable || s.AKIs[0].Checked == nil {
				t.Errorf("%+v", s.AKIs)
			}
			if text := c.ok("status", c.mountpoint).out; !strings.Contains(text, "Azure Key Vault") || strings.Contains(text, "not a vault") {
				t.Error(text)
			}
			c.unmount()
			_, err := c.vault.Rotate(vaultKey)
			c.must(err)
			c.mount() // the version that wrapped is still there
			if got := c.read(join(c.mountpoint, "data")); got != "hello" {
				t.Errorf("read %q", got)
			}
			c.unmount()
		})
	}
}

// vaultRefusals are the ways in which a vault, the directory or the network
// refuses, and what the command makes of each.
var vaultRefusals = []struct {
	name string
	do   func(c *cloud)
	code int
	says string
}{
	{"disabled", func(c *cloud) { c.must(c.vault.Disable(vaultKey, "")) }, 11, "KeyDisabled"},
	{"expired", func(c *cloud) { c.must(c.vault.SetExpires(vaultKey, "", time.Now().Add(-time.Hour))) }, 11, "KeyExpired"},
	{"not yet valid", func(c *cloud) { c.must(c.vault.SetNotBefore(vaultKey, "", time.Now().Add(time.Hour))) }, 11, "KeyNotYetValid"},
	{"deleted", func(c *cloud) { c.must(c.vault.Delete(vaultKey)) }, 11, "KeyNotFound"},
	{"purged", func(c *cloud) { c.must(c.vault.Purge(vaultKey)) }, 11, "KeyNotFound"},
	{"access removed", func(c *cloud) { c.vault.Deny("ForbiddenByRbac") }, 11, "Forbidden"},
	{"secret removed", func(c *cloud) { c.server.Directory().RemoveSecrets(c.server.Directory().ClientID) }, 12, "AADSTS"},
	{"secret expired", func(c *cloud) { c.server.Directory().ExpireSecrets(c.server.Directory().ClientID) }, 12, "AADSTS"},
	{"wrong secret", func(c *cloud) { c.env = append(c.env, "AZURE_CLIENT_SECRET=wrong") }, 12, "AADSTS"},
	{"no tenant", func(c *cloud) { c.env = append(c.env, "AZURE_TENANT_ID=") }, 12, "AZURE_TENANT_ID"},
	{"application removed", func(c *cloud) { c.server.Directory().RemoveApplication(c.server.Directory().ClientID) }, 12, "AADSTS"},
	{"vault down", func(c *cloud) { c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Status: 503}) }, 10, "acme.vault.azure.net"},
	{"throttled", func(c *cloud) { c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Status: 429, RetryAfter: "600"}) }, 10, "429"},
	{"reset", func(c *cloud) { c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Reset: true}) }, 10, "acme.vault.azure.net"},
	{"slow", func(c *cloud) { c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Delay: 10 * time.Minute}) }, 10, "Timeout"},
	{"directory down", func(c *cloud) { c.server.Inject(akvtest.Fault{Vault: "directory", Status: 503}) }, 10, "login.microsoftonline.com"},
	{"bad certificate", func(c *cloud) { c.server.SetCertificate(akvtest.CertUnknownCA) }, 10, "TLSFailure"},
	{"no network", func(c *cloud) { c.env = append(c.env, "HTTPS_PROXY=http://127.0.0.1:1") }, 10, "ConnectionRefused"},
	{"firewall of the vault", func(c *cloud) { c.vault.Deny("ForbiddenByFirewall") }, 10, "ForbiddenByFirewall"},
}

// In each case the mount point stays untouched and nothing in the backing
// directory changes; nor is there anything left of an init.
func TestVaultRefuses(t *testing.T) {
	for _, r := range vaultRefusals {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t)
			c.init()
			other := c.mkdir(join(c.dir, "other"))
			r.do(c)
			timeout := "1m" // more than a busy machine needs
			if r.code == 10 {
				timeout = "1s" // of which most of these take all
			}
			c.untouched(func() {
				c.refused(r.code, r.says, "mount", c.backing, c.mountpoint, "--key-timeout", timeout)
			})
			c.refused(r.code, r.says, "init", other, "--key-id", c.keyID(), "--key-timeout", timeout)
			if left, err := os.ReadDir(other); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestVaultOfOtherMaterial(t *testing.T) {
	c := newCloud(t)
	c.init()
	c.must(c.vault.Replace(vaultKey, c.vault.Versions(vaultKey)[0]))
	c.untouched(func() { c.refused(14, "does not match", "mount", c.backing, c.mountpoint) })
}

// Ctrl-C while the vault is silent ends the child with its parent, and leaves
// nothing mounted.
func TestMountInterrupted(t *testing.T) {
	for _, mode := range [][]string{nil, {"--foreground"}} {
		c := newCloud(t)
		c.init()
		c.server.ForgetRequests()
		c.server.Inject(akvtest.Fault{Request: "get", Delay: time.Hour})
		c.untouched(func() {
			cmd := c.command(append([]string{"mount", c.backing, c.mountpoint, "--key-timeout", "1h"}, mode...)...)
			end := c.start(cmd)
			eventually(t, "has a token", func() bool {
				return slices.ContainsFunc(c.server.Requests(), func(r akvtest.Request) bool { return r.Request == "token" })
			})
			time.Sleep(50 * time.Millisecond) // that the vault is being waited for
			c.check(cmd.Process.Signal(syscall.SIGINT))
			if r := end(); r.code != 1 || !strings.HasSuffix(r.err, "akvfs: interrupted; nothing was changed\n") {
				t.Errorf("%v: exit code %d\n%s", mode, r.code, r.err)
			}
		})
	}
}

// The checks of a mounted volume go on after the secrets have left the
// environment, and tell what the vault says.
func TestVaultWhileMounted(t *testing.T) {
	c := newCloud(t)
	c.init()
	c.mount("-o", "check-interval=1s,key-timeout=2s")
	state := func() daemon.KeyState { return c.status(c.backing).AKIs[0].State }
	reaches := func(want daemon.KeyState) {
		t.Helper()
		eventually(t, string(want), func() bool { return state() == want })
	}
	c.server.Directory().RevokeTokens()
	at := *c.status(c.backing).AKIs[0].Checked
	eventually(t, "checked again", func() bool {
		now := c.status(c.backing).AKIs[0]
		return now.Checked.After(at) && now.State == daemon.KeyAvailable
	})
	c.must(c.vault.Disable(vaultKey, ""))
	reaches(daemon.KeyRevoked)
	c.must(c.vault.Enable(vaultKey, ""))
	reaches(daemon.KeyAvailable)
	c.server.Inject(akvtest.Fault{Vault: c.vault.Host(), Status: 503})
	reaches(daemon.KeyUnreachable)
	c.server.ClearFaults()
	reaches(daemon.KeyAvailable)
	c.unmount()
}

// No message, no log and no argument list shows the secret.
func TestVaultSecretIsNowhere(t *testing.T) {
	c := newCloud(t)
	secret := c.server.Directory().Secret
	log := join(c.dir, "log")
	c.init()
	c.mount("--log-file", log, "-o", "check-interval=1s,key-timeout=1s")
	c.server.Directory().RemoveSecrets(c.server.Directory().ClientID)
	c.server.Directory().RevokeTokens()
	eventually(t, "refused", func() bool { return c.status(c.backing).AKIs[0].State == daemon.KeyCredentials })
	shown := c.ok("status", c.backing, "--json").out + c.ok("status", c.backing).out + c.read(log)
	c.unmount()
	shown += c.run("mount", c.backing, c.mountpoint).err + c.read(log)
	for _, hidden := range append(c.server.Directory().Tokens(), secret) {
		if strings.Contains(shown, hidden) {
			t.Error("the secret, or a token, is shown")
		}
	}
}
