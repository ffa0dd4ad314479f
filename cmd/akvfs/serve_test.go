//go:build !race

// Many short runs of the program, which take long under the race detector.

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/host"
)

// serve starts the host's service, which ends with the test.
func (w *world) serve() {
	w.t.Helper()
	w.must(os.Chmod(w.dir, 0o755))
	cmd := w.command("serve")
	end := w.start(cmd)
	socket := join(w.dir, "run", "host.sock")
	eventually(w.t, "the service listens", func() bool {
		fi, err := os.Stat(socket)
		return err == nil && fi.Mode().Perm() == 0o666
	})
	w.t.Cleanup(func() {
		w.check(cmd.Process.Signal(syscall.SIGTERM))
		if r := end(); r.code != 0 || strings.Contains(r.err, "goroutine") {
			w.t.Errorf("the service ended with %d\n%s", r.code, r.err)
		}
		if _, err := os.Stat(socket); err == nil {
			w.t.Error("it left its socket")
		}
	})
}

// as runs the binary as another user.
func (w *world) as(uid uint32, args ...string) result {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return w.finish(cmd)
}

// ownDir makes an empty directory of a user's own.
func (w *world) ownDir(uid int, name string) string {
	w.t.Helper()
	dir := w.mkdir(join(w.dir, name))
	w.must(os.Chown(dir, uid, uid))
	return dir
}

// records are all lines of the audit logs.
func (w *world) records() (all []audit.Record) {
	w.t.Helper()
	for line := range strings.Lines(w.auditText()) {
		var r audit.Record
		w.must(json.Unmarshal([]byte(line), &r))
		all = append(all, r)
	}
	return all
}

// served is a world with two projects, of which one has an owner and a viewer,
// a cluster in each, and snapshots of both in one directory.
func served(t *testing.T) *world {
	w := newWorld(t)
	w.ok("project", "configure", "trial", "--key-id", w.keyID(), "--owner", "@70001", "--viewer", "@70002")
	w.ok("project", "configure", "secret-project", "--key-id", w.keyID())
	w.ok("cluster", "enable", "rs0", "--project", "trial", "--data", w.backing, "--journal-size", "1M")
	other := w.mkdir(join(w.dir, "other"))
	w.ok("cluster", "enable", "theirs", "--project", "secret-project", "--data", other, "--journal-size", "1M")
	for i, name := range []string{"s0", "s1", "s2", "s3"} {
		w.ok("snapshot", "create", w.backing, name)
		w.ok("snapshot", "create", other, "theirs-"+strconv.Itoa(i), "--to", w.backing+".snapshots")
	}
	w.serve()
	return w
}

// command is one of the table below, and the least role that may do it.
type roleCommand struct {
	needs  int
	args   string
	action string // as the audit log has it
}

const roleNobody, roleViewer, roleOwner, roleRoot = 0, 1, 2, 3

// servedCommands are all that the service is asked for. Each is tried as
// nobody, viewer and owner in this order, so that what an owner's changes is
// there until then.
var servedCommands = []roleCommand{
	{roleViewer, "project list", "project.list"},
	{roleViewer, "project show trial", "project.show"},
	{roleViewer, "project show trial --json", "project.show"},
	{roleViewer, "cluster list", "cluster.list"},
	{roleViewer, "cluster list --json", "cluster.list"},
	{roleViewer, "cluster show rs0", "cluster.show"},
	{roleViewer, "snapshot list VOLUME", "snapshot.list"},
	{roleViewer, "snapshot list VOLUME --json", "snapshot.list"},
	{roleViewer, "snapshot show VOLUME s0", "snapshot.show"},
	{roleViewer, "snapshot verify VOLUME s0", "snapshot.verify"},
	{roleViewer, "snapshot verify VOLUME s0 --no-key --json", "snapshot.verify"},

	{roleRoot, "project show secret-project", "project.show"},
	{roleRoot, "project show no-such-project", "project.show"},
	{roleRoot, "project update secret-project --owner 70001", "project.show"},
	{roleRoot, "project configure new --key-id https://acme.vault.azure.net/keys/k", "project.configure"},
	{roleRoot, "project disable secret-project", "project.disable"},
	{roleRoot, "cluster show theirs", "cluster.show"},
	{roleRoot, "cluster disable theirs", "cluster.disable"},
	{roleRoot, "cluster disable no-such-cluster", "cluster.disable"},
	{roleRoot, "cluster unmount theirs", "cluster.show"},
	{roleRoot, "cluster mount rs0", "cluster.mount"},
	{roleRoot, "cluster enable rs1 --project trial --data /etc", "cluster.enable"},
	{roleRoot, "cluster enable rs1 --project secret-project --data OWN", "cluster.enable"},
	{roleRoot, "cluster enable rs1 --project trial --data ROOTS", "cluster.enable"},
	{roleRoot, "cluster enable rs1 --project trial --data OWN --backing ROOTS", "cluster.enable"},
	{roleRoot, "cluster enable rs1 --project trial --data FULL", "cluster.enable"},
	{roleRoot, "snapshot list OTHER", "snapshot.list"},
	{roleRoot, "snapshot delete OTHER theirs-0", "snapshot.delete"},
	{roleRoot, "snapshot restore VOLUME s0 ROOTS", "snapshot.restore"},
	{roleRoot, "snapshot restore VOLUME s0 FULL", "snapshot.restore"},
	{roleRoot, "snapshot restore VOLUME s0 OWN/missing", "snapshot.restore"},

	{roleOwner, "project update trial", "project.update"},
	{roleOwner, "project rotate-credential trial --json", "project.rotate-credential"},
	{roleOwner, "project update trial --viewer @70002 --viewer 70009", "project.update"},
	{roleOwner, "snapshot restore VOLUME s1 OWN", "snapshot.restore"},
	{roleOwner, "snapshot delete VOLUME s0", "snapshot.delete"},
	{roleOwner, "snapshot prune VOLUME --keep 1 --dry-run", "snapshot.prune"},
	{roleOwner, "snapshot prune VOLUME --keep 1", "snapshot.prune"},
	{roleOwner, "cluster enable rs1 --project trial --data OWN2 --journal-size 1M --dry-run", "cluster.enable"},
	{roleOwner, "cluster enable rs1 --project trial --data OWN2 --journal-size 1M", "cluster.enable"},
	{roleOwner, "cluster disable rs1 --dry-run", "cluster.disable"},
	{roleOwner, "cluster disable rs1", "cluster.disable"},
	{roleOwner, "cluster disable rs0", "cluster.disable"},
	{roleOwner, "project disable trial", "project.disable"},
}

// TestServe: each command as nobody, viewer and owner; refusals are exit
// status 16 and on record, and who may not change changes nothing.
func TestServe(t *testing.T) {
	t.Parallel()
	w := served(t)
	full := w.ownDir(ownerID, "full")
	w.write(join(full, "file"), "content")
	words := strings.NewReplacer("VOLUME", w.backing, "OTHER", join(w.dir, "other"), "OWN2", w.ownDir(ownerID, "own2"), "OWN", w.ownDir(ownerID, "own"),
		"ROOTS", w.mkdir(join(w.dir, "roots")), "FULL", full)
	for i, c := range servedCommands {
		for role, gid := range []uint32{strangerID, viewerID, ownerID} {
			uid := uint32(71000 + 3*i + role) // so that each refusal has its line
			if role == roleOwner && (strings.Contains(c.args, "OWN") || strings.Contains(c.args, "FULL")) {
				uid = ownerID
			}
			c := c
			if role == roleNobody && (c.action == "project.update" || c.action == "project.rotate-credential") {
				c.action = "project.show" // which comes first
			}
			w.try(c, uid, gid, role >= c.needs, words.Replace(c.args))
		}
	}
	if got := w.snapshots(join(w.dir, "other")); strings.Join(got, " ") != "theirs-0 theirs-1 theirs-2 s3 theirs-3" {
		t.Errorf("there are the snapshots %q", got)
	}
	for _, r := range w.records() {
		if r.Action == "snapshot.delete" && r.Result == audit.ResultOK && (r.By.UID < 71000 || r.Project != "trial" || r.Cluster != "rs0" || r.Snapshot != "s0") {
			t.Errorf("%+v by %+v", r, r.By)
		}
	}
}

// try tries one command as somebody.
func (w *world) try(c roleCommand, uid, gid uint32, may bool, args string) {
	w.t.Helper()
	before := ""
	refusals := w.refusals(uid, c.action)
	if !may {
		before = w.everything()
	}
	cmd := w.command(strings.Fields(args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	r := w.finish(cmd)
	if may != (r.code == 0) || !may && r.code != 16 {
		w.t.Errorf("%s as user %d of group %d: exit code %d\n%s", c.args, uid, gid, r.code, r.err)
	}
	if strings.Contains(r.out+r.err, "secret-project") && !strings.Contains(args, "secret-project") {
		w.t.Errorf("%s as user %d of group %d tells of another project:\n%s%s", c.args, uid, gid, r.out, r.err)
	}
	if may {
		return
	}
	if now := w.everything(); now != before {
		w.t.Errorf("%s as user %d of group %d has changed\n%s\nto\n%s", c.args, uid, gid, before, now)
	}
	if w.refusals(uid, c.action) != refusals+1 {
		w.t.Errorf("%s as user %d of group %d: no line of it", c.args, uid, gid)
	}
}

// refusals counts the lines of a user's refusals at an action.
func (w *world) refusals(uid uint32, action string) (n int) {
	w.t.Helper()
	for _, r := range w.records() {
		if r.Result == audit.ResultRefused && r.By.UID == uid && r.Action == action {
			n++
		}
	}
	return n
}

// everything is what nobody may change who has no role for it.
func (w *world) everything() string {
	w.t.Helper()
	var all strings.Builder
	for _, name := range []string{"etc", "backing", "backing.snapshots", "other", "own", "own2", "roots", "full"} {
		all.WriteString(w.tree(join(w.dir, name)))
	}
	return all.String()
}

// TestServeMounted: a mounted cluster, which has a daemon of its own.
func TestServeMounted(t *testing.T) {
	t.Parallel()
	w := served(t)
	w.ok("cluster", "mount", "rs0")
	for uid, codes := range map[uint32][2]int{strangerID: {16, 16}, viewerID: {0, 16}, ownerID: {0, 0}} {
		for i, args := range [][]string{{"snapshot", "show", w.backing, "s0"}, {"snapshot", "delete", w.backing, "s" + strconv.Itoa(int(uid-70000))}} {
			if r := w.as(uid, args...); r.code != codes[i] {
				t.Errorf("%q as user %d: exit code %d\n%s", args, uid, r.code, r.err)
			}
		}
	}
	if r := w.as(viewerID, "cluster", "unmount", "rs0"); r.code != 16 {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	if r := w.as(ownerID, "cluster", "disable", "rs0"); r.code != 15 {
		t.Errorf("while mounted: %d\n%s", r.code, r.err)
	}
	if r := w.as(ownerID, "cluster", "unmount", "rs0"); r.code != 0 {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	var r host.Project
	w.must(json.Unmarshal([]byte(w.as(viewerID, "project", "show", "trial", "--json").out), &r))
	if r.Name != "trial" || len(r.Clusters) != 1 || r.Roles.Owners[0] != "@70001" {
		t.Errorf("%+v", r)
	}
}

// Without the service a role is good for what a mount's daemon does.
func TestNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(os.Chmod(w.dir, 0o755))
	w.ok("project", "configure", "trial", "--key-id", w.keyID(), "--owner", "70001")
	if r := w.as(ownerID, "project", "show", "trial"); r.code != 16 || !strings.Contains(r.err, "akvfs-host.socket") {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	if r := w.as(ownerID, "serve"); r.code != 16 {
		t.Errorf("%d\n%s", r.code, r.err)
	}
}

// One service is enough.
func TestServeTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	w.refused(15, "is running already", "serve")
}

// TestServeVault: an owner gives a new secret, which is proven and then the
// project's, and is shown nowhere; and cannot have the old one sent elsewhere.
func TestServeVault(t *testing.T) {
	t.Parallel()
	c := newProjects(t)
	c.ok(c.configureArgs("acme", "--owner", "70001", "--viewer", "70002")...)
	c.serve()
	directory := c.server.Directory()
	before := c.read(join(c.dir, "etc", "projects", "acme", "project.toml"))
	file := join(c.ownDir(ownerID, "home"), "secret")
	c.write(file, "wrong")
	c.must(os.Chown(file, ownerID, ownerID))
	rotate := []string{"project", "rotate-credential", "acme", "--secret-file", file}
	if r := c.as(ownerID, rotate...); r.code != 12 || !strings.Contains(r.err, "✗ token") || !strings.Contains(r.err, "Nothing was saved") {
		t.Errorf("a wrong secret: %d\n%s", r.code, r.err)
	}
	if now := c.read(join(c.dir, "etc", "projects", "acme", "project.toml")); now != before {
		t.Error("a wrong secret has changed the configuration")
	}
	c.must(os.WriteFile(file, []byte(directory.Secret), 0o600))
	for _, args := range [][]string{rotate, {"project", "update", "acme", "--resource-group", "others"}} {
		if r := c.as(ownerID, args...); r.code != 0 || !strings.Contains(r.out, "✓ unwrapKey") || strings.Contains(r.out+r.err, directory.Secret) {
			t.Errorf("%q: %d\n%s%s", args, r.code, r.out, r.err)
		}
	}
	for _, flags := range []string{
		"--environment private --authority-host https://evil.example.org/ --dns-suffix evil.example.org --key-id https://v.evil.example.org/keys/k",
		"--ca-file /etc/ssl/certs/ca-certificates.crt", "--credential certificate --certificate /etc/shadow", "--credential managed-identity",
		"--secret-credential client-secret", "--credential workload-identity --token-file /etc/shadow",
		"--tenant-id 00000000-0000-4000-8000-000000000000", "--key-id file:///etc/shadow", "--from FROM",
	} {
		from := join(c.dir, "home", "from.toml")
		c.write(from, "version = 1\nkey_id = \""+c.keyID()+"\"\n[credential]\nkind = \"secret\"\nsecret_file = \"/etc/shadow\"\n")
		c.must(os.Chown(from, ownerID, ownerID))
		args := append([]string{"project", "update", "acme"}, strings.Fields(strings.Replace(flags, "FROM", from, 1))...)
		if r := c.as(ownerID, args...); r.code != 16 || !strings.Contains(r.err, "may not change") {
			t.Errorf("%s: %d\n%s", flags, r.code, r.err)
		}
	}
	if r := c.as(viewerID, rotate...); r.code == 0 {
		t.Error("a viewer rotates")
	}
	if strings.Contains(c.auditText(), directory.Secret) {
		t.Error("the secret is in the audit log")
	}
}

// Ctrl-C of the command ends the work, which goes on with the same command.
func TestServeInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 300 {
		w.write(join(w.backing, "file"+strconv.Itoa(i)), strings.Repeat("x", 10_000))
	}
	want := w.content(w.backing)
	w.ok("project", "configure", "trial", "--key-id", w.keyID(), "--owner", "70001")
	w.ok("cluster", "enable", "rs0", "--project", "trial", "--data", w.backing, "--journal-size", "1M")
	w.serve()
	cmd := w.command("cluster", "disable", "rs0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ownerID, Gid: ownerID}}
	end := w.start(cmd)
	eventually(t, "it has begun", func() bool {
		_, err := os.Stat(join(w.backing, ".akvfs-convert", "done.json"))
		_, all := os.Stat(join(w.backing, ".akvfs"))
		return err == nil || all != nil
	})
	w.must(cmd.Process.Signal(syscall.SIGINT))
	if r := end(); r.code != 0 && (r.code != 1 || !strings.Contains(r.err, "The same command goes on")) {
		t.Errorf("%d\n%s", r.code, r.err)
	} else if r.code == 1 {
		eventually(t, "the rest is done", func() bool {
			if _, err := os.Stat(join(w.dir, "etc", "clusters", "rs0", "cluster.toml")); err != nil {
				return true // the service was faster than the interrupt
			}
			return w.as(ownerID, "cluster", "disable", "rs0").code == 0
		})
	}
	if got := w.content(w.backing); got != want {
		t.Errorf("it is\n%s\nnot\n%s", got, want)
	}
}

// A socket of systemd's is taken.
func TestServeActivated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(os.Chmod(w.dir, 0o755))
	w.ok("project", "configure", "trial", "--key-id", w.keyID(), "--viewer", "70002")
	run := w.mkdir(join(w.dir, "run"))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	w.must(err)
	w.must(unix.Bind(fd, &unix.SockaddrUnix{Name: join(run, "host.sock")}))
	w.must(unix.Listen(fd, 8))
	w.must(os.Chmod(join(run, "host.sock"), 0o666))
	socket := os.NewFile(uintptr(fd), "socket")
	// LISTEN_PID is the process's own, which only a shell can tell.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve`, binary)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = w.env, w.dir, []*os.File{socket}
	end := w.start(cmd)
	w.must(socket.Close())
	if r := w.as(viewerID, "project", "list"); r.code != 0 || !strings.Contains(r.out, "trial") {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	if r := end(); r.code != 0 {
		t.Errorf("%d\n%s", r.code, r.err)
	}
}
