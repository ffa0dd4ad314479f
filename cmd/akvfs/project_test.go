//go:build !race

// Many short runs of the program, which take long under the race detector.

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
	"github.com/akvfs/akvfs/keymgr/project"
)

// newProjects is a cloud whose credentials no environment has, and the secret
// in a file.
func newProjects(t *testing.T) *cloud {
	t.Helper()
	c := newCloud(t)
	c.env = withoutCredentials(c.env)
	c.write(join(c.dir, "secret"), c.server.Directory().Secret+"\n")
	return c
}

// configureArgs are a right configuration, with changes over it.
func (c *cloud) configureArgs(name string, more ...string) []string {
	d := c.server.Directory()
	return append([]string{
		"project", "configure", name, "--credential", "secret", "--secret-file", join(c.dir, "secret"), "--tenant-id", d.Tenant, "--client-id", d.ClientID,
		"--subscription-id", "11111111-2222-3333-4444-555555555555", "--resource-group", "databases", "--key-id", c.keyID(),
	}, more...)
}

func (c *cloud) noProject() {
	c.t.Helper()
	if out := c.ok("project", "list").out; out != "No project is configured.\n" {
		c.t.Errorf("%s", out)
	}
	if left, err := os.ReadDir(join(c.dir, "etc", "projects")); err == nil {
		for _, e := range left {
			if !strings.HasSuffix(e.Name(), ".lock") {
				c.t.Errorf("left: %s", e.Name())
			}
		}
	}
}

// TestProjectRefused: what is wrong has its exit status and its sentence, and
// leaves nothing.
func TestProjectRefused(t *testing.T) {
	for name, r := range map[string]struct {
		do   func(c *cloud)
		args []string
		code int
		says string
	}{
		"tenant":          {nil, []string{"--tenant-id", "00000000-0000-4000-8000-000000000000"}, 12, "✗ token"},
		"client":          {nil, []string{"--client-id", "00000000-0000-4000-8000-000000000000"}, 12, "AADSTS700016"},
		"secret":          {func(c *cloud) { c.write(join(c.dir, "secret"), "wrong") }, nil, 12, "the client secret is wrong"},
		"no secret":       {func(c *cloud) { c.write(join(c.dir, "secret"), "\n") }, nil, 2, "is empty"},
		"key":             {nil, []string{"--key-id", "https://acme.vault.azure.net/keys/other"}, 11, "az keyvault key show"},
		"vault":           {nil, []string{"--key-id", "https://other.vault.azure.net/keys/mongo", "--key-timeout", "1s"}, 10, "✗ reach"},
		"subscription":    {nil, []string{"--subscription-id", "mine"}, 2, "subscription_id is"},
		"environment":     {nil, []string{"--environment", "usgov"}, 2, "environment is usgov"},
		"vault's name":    {nil, []string{"--vault-name", "other"}, 2, `vault_name is "other"`},
		"owner":           {nil, []string{"--owner", "nosuchuser"}, 2, "nosuchuser"},
		"no permission":   {func(c *cloud) { c.vault.Deny("ForbiddenByPolicy", "unwrapKey") }, nil, 11, "--key-permissions get list wrapKey unwrapKey"},
		"no role":         {func(c *cloud) { c.vault.Deny("ForbiddenByRbac", "get") }, nil, 11, `az role assignment create`},
		"disabled":        {func(c *cloud) { c.must(c.vault.Disable(vaultKey, "")) }, nil, 11, "✗ state"},
		"readable secret": {func(c *cloud) { c.must(os.Chmod(join(c.dir, "secret"), 0o644)) }, nil, 16, "can be read by others"},
		"missing secret":  {func(c *cloud) { c.must(os.Remove(join(c.dir, "secret"))) }, nil, 1, "no such file"},
		"file":            {func(c *cloud) { c.write(join(c.dir, "p.toml"), "version = 1\nsecret = \"x\"\n") }, []string{"--from", "p.toml"}, 2, "line 2 has the unknown field secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newProjects(t)
			if r.do != nil {
				r.do(c)
			}
			got := c.run(c.configureArgs("acme", r.args...)...)
			if got.code != r.code || !strings.Contains(got.err, r.says) || got.out != "" || strings.Contains(got.err, c.server.Directory().Secret) {
				t.Errorf("exit code %d, want %d; want %q in\n%s%s", got.code, r.code, r.says, got.err, got.out)
			}
			c.noProject()
		})
	}
}

func TestProjectNames(t *testing.T) {
	c := newProjects(t)
	for _, name := range []string{"a/b", "..", "a b", "ключ", "-", ".hidden", "a\nb", strings.Repeat("a", 64)} {
		for _, command := range [][]string{{"project", "configure", "--", name}, {"project", "show", "--", name}, {"cluster", "enable", "--project", "p", "--data", c.dir, "--", name}, {"cluster", "mount", "--", name}} {
			c.refused(2, "is no name for a", command...)
		}
	}
	c.noProject()
}

// TestProject: its whole life, and that its secret is shown nowhere.
func TestProject(t *testing.T) {
	c := newProjects(t)
	secret := c.server.Directory().Secret
	shown := c.ok(c.configureArgs("acme", "--owner", "nobody", "--viewer", "@65534", "--credential-expires", "2031-01-31")...).out
	for _, check := range []string{"reach", "token", "get", "type", "state", "list", "wrapKey", "unwrapKey"} {
		if !strings.Contains(shown, "✓ "+check+" ") {
			t.Errorf("no line of %s in\n%s", check, shown)
		}
	}
	c.refused(2, "there is a project acme already", c.configureArgs("acme")...)
	shown += c.ok("project", "show", "acme").out + c.ok("project", "list").out + c.ok("project", "list", "--json").out
	asJSON := c.ok("project", "show", "acme", "--json").out
	var p shownProject
	c.must(json.Unmarshal([]byte(asJSON), &p))
	if p.Name != "acme" || p.KeyID != c.keyID() || p.Credential.Expires != "2031-01-31" || !slices.Equal(p.Roles.Owners, []string{"nobody"}) {
		t.Errorf("%+v", p)
	}
	config := join(c.dir, "etc", "projects", "acme", "project.toml")
	before := c.read(config)

	// A change that is not proven changes nothing.
	c.vault.Deny("ForbiddenByPolicy", "list")
	r := c.run("project", "update", "acme", "--viewer", "root")
	if r.code != 11 || c.read(config) != before {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	c.vault.Allow()
	c.write(join(c.dir, "wrong"), "wrong")
	r = c.run("project", "rotate-credential", "acme", "--secret-file", join(c.dir, "wrong"))
	if r.code != 12 || c.read(config) != before {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	c.ok("project", "update", "acme", "--viewer", "", "--owner", "root")
	if out := c.ok("project", "show", "acme").out; strings.Contains(out, "Viewers") || !strings.Contains(out, "root") {
		t.Errorf("%s", out)
	}
	c.server.Directory().AddSecret(c.server.Directory().ClientID, "the next secret")
	c.write(join(c.dir, "next"), "the next secret")
	c.ok("project", "rotate-credential", "acme", "--secret-file", join(c.dir, "next"), "--credential-expires", "2032-01-31")
	c.server.Directory().RemoveSecrets(c.server.Directory().ClientID)
	c.server.Directory().AddSecret(c.server.Directory().ClientID, "the next secret")
	var report project.Report
	c.must(json.Unmarshal([]byte(c.ok("project", "update", "acme", "--json").out), &report))
	if !report.Proven || len(report.Checks) != 8 {
		t.Errorf("%+v", report)
	}

	// Edited by hand into nonsense.
	good := c.read(config)
	c.write(config, good+"tenant = 1\n")
	c.refused(2, "unknown field", "project", "show", "acme")
	c.refused(2, "unknown field", "cluster", "enable", "rs0", "--project", "acme", "--data", c.backing)
	c.write(config, good)
	c.must(os.Chmod(config, 0o666))
	c.refused(16, "can be written by others", "project", "show", "acme")
	c.must(os.Chmod(config, 0o600))

	shown += asJSON + c.ok("project", "disable", "acme").out + c.read(join(c.dir, "state", "audit", "host.log"))
	for _, hidden := range append(c.server.Directory().Tokens(), secret, "the next secret") {
		if strings.Contains(shown, hidden) {
			t.Error("a secret is shown")
		}
	}
	c.refused(1, "there is no project acme", "project", "disable", "acme")
	c.noProject()
}

// shownProject is what `project show --json` prints.
type shownProject struct {
	Name string `json:"name"`
	project.Config
	Clusters []string `json:"clusters"`
}

// Of two who configure one project at a time, one does.
func TestProjectTwice(t *testing.T) {
	c := newProjects(t)
	c.server.Inject(akvtest.Fault{Request: "get", Delay: time.Hour, Times: 1})
	first := c.command(c.configureArgs("acme", "--key-timeout", "1h")...)
	end := c.start(first)
	eventually(t, "the first asks", func() bool {
		return slices.ContainsFunc(c.server.Requests(), func(r akvtest.Request) bool { return r.Request == "get" })
	})
	c.refused(15, "is being changed", c.configureArgs("acme")...)
	c.must(first.Process.Signal(syscall.SIGINT))
	if r := end(); r.code != 1 && r.code != 10 {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	c.noProject()
	c.ok(c.configureArgs("acme")...)
}

// The secret is asked for without echo, and an interrupt leaves the terminal
// as it was.
func TestProjectPrompt(t *testing.T) {
	c := newProjects(t)
	args := slices.DeleteFunc(c.configureArgs("acme"), func(s string) bool { return s == "--secret-file" || s == join(c.dir, "secret") })
	c.refusedDetached(2, "there is no terminal", args...)
	for _, interrupt := range []bool{true, false} {
		master, terminal := openTerminal(t)
		cmd := c.command(args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
		c.must(cmd.Start())
		var seen bytes.Buffer
		read := make(chan struct{})
		asked := make(chan struct{})
		go func() {
			defer close(read)
			buf := make([]byte, 4096)
			for told := false; ; {
				n, err := master.Read(buf)
				seen.Write(buf[:n])
				if !told && strings.Contains(seen.String(), "Client secret of application") {
					told = true
					close(asked)
				}
				if err != nil {
					return
				}
			}
		}()
		<-asked
		if interrupt {
			c.must(cmd.Process.Signal(syscall.SIGINT))
		} else {
			eventually(t, "the echo is off", func() bool { return !echoes(t, terminal) })
			_, err := master.WriteString(c.server.Directory().Secret + "\n")
			c.must(err)
		}
		err := cmd.Wait()
		if (err != nil) != interrupt || !echoes(t, terminal) {
			t.Errorf("interrupted %v: %v, echo %v\n%s", interrupt, err, echoes(t, terminal), seen.String())
		}
		c.must(terminal.Close())
		<-read
		if strings.Contains(seen.String(), c.server.Directory().Secret) {
			t.Error("the secret is shown")
		}
		c.must(master.Close())
	}
	c.ok("project", "show", "acme")
}

// refusedDetached is refused without a terminal.
func (w *world) refusedDetached(code int, says string, args ...string) {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if r := w.finish(cmd); r.code != code || !strings.Contains(r.err, says) {
		w.t.Errorf("exit code %d, want %d; want %q in\n%s", r.code, code, says, r.err)
	}
}

func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(join("/dev/pts", strconv.Itoa(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// who may do what, from the command line.
const (
	ownerID, viewerID, strangerID = 70001, 70002, 70003
)

// TestRoles: each command as owner, viewer and nobody.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	w.must(os.Chmod(w.dir, 0o755))
	w.ok("project", "configure", "trial", "--key-id", w.keyID(), "--owner", "70001", "--viewer", "70002")
	w.ok("cluster", "enable", "rs0", "--project", "trial", "--data", w.backing, "--journal-size", "1M")
	w.ok("cluster", "mount", "rs0")
	as := func(uid uint32, args ...string) result {
		t.Helper()
		cmd := w.command(args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		return w.finish(cmd)
	}
	const owner, viewer, root = 2, 1, 3
	for _, c := range []struct {
		needs int
		args  string
	}{
		{viewer, "status VOLUME"}, {viewer, "status VOLUME --json"}, {viewer, "key list VOLUME"}, {viewer, "key check VOLUME"},
		{viewer, "master-key list VOLUME"},
		{owner, "key rotate VOLUME"}, {owner, "master-key rotate VOLUME --wait"}, {owner, "lock VOLUME"}, {owner, "unlock VOLUME"},
		{owner, "freeze VOLUME --timeout 1m"}, {owner, "thaw VOLUME"}, {owner, "snapshot create VOLUME NAME"},
		{root, "snapshot create VOLUME NAME --to /var/tmp/akvfs-nowhere"}, {root, "key add VOLUME file:///etc/shadow"},
		{root, "project show trial"}, {root, "project list"}, {root, "project update trial"}, {root, "project disable trial"},
		{root, "project rotate-credential trial"}, {root, "project configure other --key-id file:///k.json"},
		{root, "cluster list"}, {root, "cluster show rs0"}, {root, "cluster unmount rs0"}, {root, "cluster mount rs0"},
		{root, "cluster disable rs0"}, {root, "cluster enable rs1 --project trial --data /tmp"},
		{owner, "unmount VOLUME"},
	} {
		for i, uid := range []uint32{strangerID, viewerID, ownerID} {
			args := strings.Fields(strings.NewReplacer("VOLUME", w.backing, "NAME", "s"+strconv.Itoa(i)).Replace(c.args))
			r := as(uid, args...)
			may := i >= c.needs
			if may != (r.code == 0) || !may && r.code != 16 {
				t.Errorf("%s as user %d: exit code %d\n%s", c.args, uid, r.code, r.err)
			}
		}
	}
	refusals := 0
	for line := range strings.Lines(w.auditText()) {
		var r audit.Record
		w.must(json.Unmarshal([]byte(line), &r))
		if r.Result == audit.ResultRefused && r.By.UID >= ownerID {
			refusals++
		}
	}
	if refusals < 15 {
		t.Errorf("%d refusals are on record", refusals)
	}
}

// auditText is all that is on record in a world.
func (w *world) auditText() string {
	w.t.Helper()
	var text strings.Builder
	files, err := os.ReadDir(join(w.dir, "state", "audit"))
	w.must(err)
	for _, f := range files {
		text.WriteString(w.read(join(w.dir, "state", "audit", f.Name())))
	}
	return text.String()
}

// A role that is taken away is gone at once, without a remount.
func TestRoleTakenAway(t *testing.T) {
	w := newWorld(t)
	w.must(os.Chmod(w.dir, 0o755))
	w.ok("project", "configure", "trial", "--key-id", w.keyID(), "--viewer", "@70002")
	w.ok("cluster", "enable", "rs0", "--project", "trial", "--data", w.backing, "--journal-size", "1M")
	w.ok("cluster", "mount", "rs0")
	asks := func() int {
		t.Helper()
		cmd := w.command("key", "list", w.backing)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangerID, Gid: 1, Groups: []uint32{5, viewerID}}}
		return w.finish(cmd).code
	}
	if code := asks(); code != 0 {
		t.Errorf("with the role: %d", code)
	}
	w.ok("project", "update", "trial", "--viewer", "")
	if code := asks(); code != 16 {
		t.Errorf("without the role: %d", code)
	}
	w.ok("cluster", "unmount", "rs0")
}

// TestClusterCommands: what the package's tests cannot show.
func TestClusterCommands(t *testing.T) {
	w := newWorld(t)
	data := join(w.dir, "data")
	w.mkdir(data)
	w.write(join(data, "file"), "content")
	w.refused(1, "there is no project trial\nConfigure it first: akvfs project configure", "cluster", "enable", "rs0", "--project", "trial", "--data", data)
	w.refused(2, "--project is missing", "cluster", "enable", "rs0", "--data", data)
	w.refused(2, "--data is missing", "cluster", "enable", "rs0", "--project", "trial")
	if out := w.ok("cluster", "list").out; out != "No cluster is enabled.\n" {
		t.Errorf("%s", out)
	}
	w.ok("project", "configure", "trial", "--key-id", w.keyID())
	w.must(os.Symlink(data, join(w.dir, "symlink")))
	w.refused(2, "symbolic link", "cluster", "enable", "rs0", "--project", "trial", "--data", join(w.dir, "symlink"))
	w.ok("cluster", "enable", "rs0", "--project", "trial", "--data", data, "--backing", join(w.dir, "enc"), "--journal-size", "1M")
	w.refused(15, "project trial is in use by cluster rs0", "project", "disable", "trial")
	w.ok("cluster", "mount", "rs0")
	w.refused(15, "already", "cluster", "mount", "rs0")
	w.refused(15, "mounted", "cluster", "disable", "rs0")
	if out := w.ok("cluster", "list").out; !strings.Contains(out, "enabled, mounted") {
		t.Errorf("%s", out)
	}
	if out := w.ok("cluster", "show", "rs0").out; !strings.Contains(out, join(w.dir, "enc")) || !strings.Contains(out, "trial") {
		t.Errorf("%s", out)
	}
	if out := w.ok("__complete", "cluster", "mount", "").out; !strings.HasPrefix(out, "rs0\n") {
		t.Errorf("%s", out)
	}
	w.ok("cluster", "unmount", "rs0")
	w.ok("cluster", "mount", "rs0", w.mountpoint, "--read-only")
	if got := w.read(join(w.mountpoint, "file")); got != "content" {
		t.Errorf("%q", got)
	}
	w.ok("cluster", "unmount", "rs0")

	// mount_options, also wrong ones.
	record := join(w.dir, "etc", "clusters", "rs0", "cluster.toml")
	good := w.read(record)
	w.write(record, good+"mount_options = [\"ro,check-interval=5m\"]\n")
	w.ok("cluster", "mount", "rs0")
	if s := w.status(data); !s.ReadOnly || s.CheckInterval != "5m" {
		t.Errorf("%+v", s)
	}
	w.ok("cluster", "unmount", "rs0")
	w.write(record, good+"mount_options = [\"nonsense\"]\n")
	w.refused(2, "mount option", "cluster", "mount", "rs0")
	w.write(record, "nonsense\n")
	w.refused(1, "cluster.toml", "cluster", "mount", "rs0")
	w.refused(1, "cluster.toml", "cluster", "disable", "rs0")
	w.write(record, good)
	w.ok("cluster", "disable", "rs0")
	if got := w.read(join(data, "file")); got != "content" {
		t.Errorf("%q", got)
	}
	w.refused(1, "there is no cluster rs0", "cluster", "disable", "rs0")
	w.ok("project", "disable", "trial")
}

// Ctrl-C in the middle leaves a cluster that goes on, or back.
func TestClusterInterrupted(t *testing.T) {
	w := newWorld(t)
	for i := range 300 {
		w.write(join(w.backing, "file"+strconv.Itoa(i)), strings.Repeat("x", 10_000))
	}
	want := w.content(w.backing)
	w.ok("project", "configure", "trial", "--key-id", w.keyID())
	enable := []string{"cluster", "enable", "rs0", "--project", "trial", "--data", w.backing, "--journal-size", "1M"}
	cmd := w.command(enable...)
	end := w.start(cmd)
	eventually(t, "it has begun", func() bool {
		_, err := os.Stat(join(w.backing, ".akvfs-convert", "done.json"))
		_, all := os.Stat(join(w.backing, ".akvfs"))
		return err == nil || all == nil
	})
	w.must(cmd.Process.Signal(syscall.SIGINT))
	if r := end(); r.code == 1 && strings.Contains(r.err, "The same command goes on") {
		w.refused(13, "cluster rs0 is not ready", "cluster", "mount", "rs0")
	} else if r.code != 0 {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	w.ok("cluster", "disable", "rs0")
	if got := w.content(w.backing); got != want {
		t.Errorf("it is\n%s\nnot\n%s", got, want)
	}
}
