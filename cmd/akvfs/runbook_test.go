//go:build !race

// Many short runs of the program, which take long under the race detector.

package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// operations is the document whose runbooks are run.
const operations = "../../docs/OPERATIONS.md"

// runbook is one of them: its commands, and what has to be done before.
type runbook struct {
	name, script string
	after        []string
}

var marker = regexp.MustCompile(`^<!-- runbook: ([a-z-]+)(?:; after: ([a-z -]+))? -->$`)

// runbooks reads the document's section of that name. Each fenced block of
// shell commands in it belongs to the marker before it.
func runbooks(t *testing.T) map[string]*runbook {
	t.Helper()
	data, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), "\n## Runbooks\n")
	if !ok {
		t.Fatal("there are no runbooks")
	}
	all := map[string]*runbook{}
	var now *runbook
	fenced := false
	for line := range strings.SplitSeq(section, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			if !fenced && (line != "```sh" || now == nil) {
				t.Errorf("a block that no test runs: %q", line)
			}
			fenced = !fenced
		case fenced:
			now.script += line + "\n"
		case strings.HasPrefix(line, "### "):
			now = nil
		case strings.HasPrefix(line, "<!--"):
			m := marker.FindStringSubmatch(line)
			if m == nil || all[m[1]] != nil {
				t.Fatalf("%q is no marker, or there twice", line)
			}
			now = &runbook{name: m[1], after: strings.Fields(m[2])}
			all[m[1]] = now
		}
	}
	return all
}

// preparations are what comes before some runbooks and is in none.
var preparations = map[string]string{
	"configure": `akvfs project configure acme --credential secret --secret-file /root/secret --tenant-id $TENANT --client-id $CLIENT \
		--subscription-id $SUBSCRIPTION --resource-group $GROUP --key-id $AKI >/dev/null`,
	"data":      "echo records > /var/lib/mongodb/collection.wt; chown mongodb:mongodb /var/lib/mongodb/collection.wt",
	"shards":    "install -d -o mongodb -g mongodb -m 0750 /var/lib/mongodb/config /var/lib/mongodb/shard0; echo records > /var/lib/mongodb/shard0/collection.wt",
	"lose-host": `systemctl stop mongod; akvfs cluster unmount rs0; rm -r /etc/akvfs /run/akvfs; printf %s "$SECRET" > /root/secret; chmod 600 /root/secret`,
}

// stubs are the programs of a database's host that are not here.
var stubs = map[string]string{
	// A mongod that starts must be able to write into its dbPath and, as long as
	// there is a cluster, only into its mount.
	"systemctl": `case "$1" in
start|restart)
	dirs=$DATA
	if [ -d "$DATA/shard0" ]; then dirs="$DATA/config $DATA/shard0"; fi
	for dir in $dirs; do
		setpriv --reuid 65534 --regid 65534 --clear-groups touch "$dir/mongod.lock"
		if [ -n "$(ls "$CONFIG/clusters" 2>/dev/null)" ]; then grep -q " $dir fuse.akvfs " /proc/self/mounts; fi
	done;;
esac`,
	"mongosh": "exit 0",
}

// newHost is a world with a cloud and the stubs, and a script's way to its
// directories.
func newHost(t *testing.T) (c *cloud, run func(script string)) {
	t.Helper()
	c = newCloud(t)
	c.must(os.Chmod(c.dir, 0o755))
	second := c.server.AddVault("second")
	_, err := second.CreateKey(vaultKey, akvtest.KeySpec{})
	c.must(err)
	data := join(c.dir, "mongodb")
	for _, dir := range []string{join(c.dir, "root"), join(c.dir, "bin"), data} {
		c.mkdir(dir)
	}
	c.must(os.Chown(data, 65534, 65534))
	c.must(os.Chmod(data, 0o750))
	c.write(join(c.dir, "root", "secret"), c.server.Directory().Secret)
	for name, script := range stubs {
		c.write(join(c.dir, "bin", name), "#!/bin/sh\nset -e\n"+script+"\n")
		c.must(os.Chmod(join(c.dir, "bin", name), 0o755))
	}
	self, err := os.Executable()
	c.must(err)
	c.must(os.Symlink(self, join(c.dir, "bin", "az")))
	c.must(os.Symlink(binary, join(c.dir, "bin", "akvfs")))
	paths := strings.NewReplacer("/var/lib/mongodb", data, "/root/", join(c.dir, "root")+"/", "/etc/akvfs", join(c.dir, "etc"),
		"/run/akvfs", join(c.dir, "run"), "mongodb:mongodb", "65534:65534", "-o mongodb -g mongodb", "-o 65534 -g 65534")
	run = func(script string) {
		t.Helper()
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", paths.Replace(script))
		d := c.server.Directory()
		cmd.Env = append(withoutCredentials(c.env), "PATH="+join(c.dir, "bin")+":"+os.Getenv("PATH"), "AKVTEST_ADMIN="+c.server.ProxyURL(),
			"TENANT="+d.Tenant, "CLIENT="+d.ClientID, "SECRET="+d.Secret, "SUBSCRIPTION=11111111-2222-3333-4444-555555555555", "GROUP=databases",
			"VAULT=acme", "AKI="+c.keyID(), "SECOND_AKI="+second.KeyID(vaultKey), "DATA="+data, "CONFIG="+join(c.dir, "etc"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s\nof\n%s", err, out, script)
		} else if strings.Contains(string(out), d.Secret) {
			t.Errorf("the secret is shown:\n%s", out)
		}
	}
	return c, run
}

// withoutCredentials leaves out what a project has to have by itself.
func withoutCredentials(env []string) (kept []string) {
	for _, line := range env {
		if !strings.HasPrefix(line, "AZURE_") {
			kept = append(kept, line)
		}
	}
	return kept
}

// TestRunbooks runs every command of every runbook.
func TestRunbooks(t *testing.T) {
	all := runbooks(t)
	if len(all) < 15 {
		t.Errorf("only %d runbooks", len(all))
	}
	for name, book := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if book.script == "" {
				t.Fatal("it has no command")
			}
			c, run := newHost(t)
			for _, before := range book.after {
				run(scriptOf(t, all, before, c))
			}
			run(book.script)
			for _, mounted := range c.mounts() {
				c.ok("unmount", mounted)
			}
		})
	}
}

// scriptOf is a preparation, or another runbook.
func scriptOf(t *testing.T, all map[string]*runbook, name string, c *cloud) string {
	t.Helper()
	switch name {
	case "lose-secret":
		c.server.Directory().RemoveSecrets(c.server.Directory().ClientID)
		c.server.Directory().RevokeTokens()
		return "akvfs key check /var/lib/mongodb || test $? = 1; akvfs lock /var/lib/mongodb"
	case "lose-vault":
		c.must(c.vault.Purge(vaultKey))
		return "akvfs key check /var/lib/mongodb || test $? = 1"
	}
	if script, ok := preparations[name]; ok {
		return script
	}
	if all[name] == nil {
		t.Fatalf("there is neither a runbook nor a preparation %q", name)
	}
	return all[name].script
}

// mounts lists what is mounted in a world.
func (c *cloud) mounts() (mounted []string) {
	c.t.Helper()
	for line := range strings.SplitSeq(c.read("/proc/self/mounts"), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "fuse.akvfs" && strings.HasPrefix(f[1], c.dir+"/") {
			mounted = append(mounted, f[1])
		}
	}
	return mounted
}

// Runbooks and preparations have no name in common.
func TestRunbookNames(t *testing.T) {
	for name := range runbooks(t) {
		if _, both := preparations[name]; both {
			t.Error(fmt.Errorf("%s is both", name))
		}
	}
}
