//go:build integration

package integration

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/scripts/rig"
)

// operator is somebody with a cloud, a host and a disk, who works with the
// command line alone. No environment holds credentials.
type operator struct {
	t     *testing.T
	cloud *cloud
	v     *volume // the plain disk
	env   []string
	file  string // with the client secret
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{t: t, cloud: newCloud(t, "acme/mongo"), v: &volume{t: t, scratch: newScratch(t)}}
	disk, err := rig.NewDisk(t.Context(), o.v.scratch, "ext4", diskSize)
	o.must(err)
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	o.v.disk = disk
	o.v.System, err = rig.New("bare", disk.Dir, rig.Options{})
	o.must(err)
	o.must(o.v.Init(t.Context()))
	o.file = filepath.Join(o.v.scratch, "secret")
	o.must(os.WriteFile(o.file, []byte(o.cloud.ready.Env["AZURE_CLIENT_SECRET"]+"\n"), 0o600))
	for _, line := range append(os.Environ(), o.cloud.env(nil)...) {
		if !strings.HasPrefix(line, "AZURE_") {
			o.env = append(o.env, line)
		}
	}
	for name, dir := range map[string]string{"AKVFS_RUN_DIR": "run", "AKVFS_STATE_DIR": "state", "AKVFS_CONFIG_DIR": "etc"} {
		o.env = append(o.env, name+"="+filepath.Join(o.v.scratch, dir))
	}
	t.Cleanup(o.clean)
	return o
}

// clean unmounts what a test that failed has left mounted.
func (o *operator) clean() {
	for _, name := range []string{"rs0", "rs1"} {
		_ = o.command("cluster", "unmount", name).Run()
	}
	_ = exec.Command("chattr", "-R", "-i", o.v.Dir()).Run() // bare mount points
}

func (o *operator) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(repo, "bin/akvfs"), args...)
	cmd.Env = o.env
	return cmd
}

// does runs a command that an operator types, and shows it with its answer.
func (o *operator) does(args ...string) string {
	o.t.Helper()
	return o.gets(0, "", args...)
}

// gets runs a command that ends with an exit status and says something.
func (o *operator) gets(code int, says string, args ...string) string {
	o.t.Helper()
	out, err := o.command(args...).CombinedOutput()
	exit := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		exit = failed.ExitCode()
	} else {
		o.must(err)
	}
	o.t.Logf("# akvfs %s\n%s[%d]", strings.Join(args, " "), out, exit)
	if exit != code || !strings.Contains(string(out), says) {
		o.t.Fatalf("exit status %d, want %d and %q", exit, code, says)
	}
	if strings.Contains(string(out), o.cloud.ready.Env["AZURE_CLIENT_SECRET"]) {
		o.t.Error("the secret is shown")
	}
	return string(out)
}

// configure is the command with all that is right, and changes over it.
func (o *operator) configure(more ...string) []string {
	env := o.cloud.ready.Env
	return append([]string{
		"project", "configure", "acme", "--credential", "secret", "--secret-file", o.file,
		"--tenant-id", env["AZURE_TENANT_ID"], "--client-id", env["AZURE_CLIENT_ID"],
		"--subscription-id", "11111111-2222-3333-4444-555555555555", "--resource-group", "databases",
		"--vault-name", "acme", "--key-id", o.cloud.ready.Keys["acme/mongo"],
	}, more...)
}

// configures tries each field wrong in turn, and then configures the project.
func (o *operator) configures() {
	o.t.Helper()
	nobody := "00000000-0000-4000-8000-000000000000"
	o.gets(12, "✗ token", o.configure("--tenant-id", nobody)...)
	o.gets(12, "AADSTS700016", o.configure("--client-id", nobody)...)
	wrong := filepath.Join(o.v.scratch, "wrong")
	o.must(os.WriteFile(wrong, []byte("not the secret"), 0o600))
	o.gets(12, "the client secret is wrong", o.configure("--secret-file", wrong)...)
	o.gets(2, "subscription_id", o.configure("--subscription-id", "databases")...)
	o.gets(10, "✗ reach", o.configure("--key-id", "https://elsewhere.vault.azure.net/keys/mongo", "--vault-name", "elsewhere", "--key-timeout", "2s")...)
	o.gets(2, "vault_name", o.configure("--vault-name", "elsewhere")...)
	o.gets(11, "KeyNotFound", o.configure("--key-id", o.cloud.ready.Keys["acme/mongo"]+"x")...)
	o.gets(2, "environment is china", o.configure("--environment", "china")...)
	for _, permission := range []string{"get", "list", "wrapKey", "unwrapKey"} {
		o.cloud.do("vault/deny", "vault", "acme", "code", "ForbiddenByPolicy", "request", permission)
		o.gets(11, `grant the key permission "`+permission+`"`, o.configure()...)
		o.cloud.do("vault/allow", "vault", "acme")
	}
	o.gets(1, "", "project", "show", "acme")
	o.gets(1, "akvfs project configure", "cluster", "enable", "rs0", "--project", "acme", "--data", o.v.Dir())
	o.does(o.configure()...)
	o.must(os.Remove(o.file))
	o.does("project", "show", "acme")
}

func (o *operator) status(volume string) (s daemon.Status) {
	o.t.Helper()
	cmd := o.command("status", volume, "--json")
	out, err := cmd.Output()
	o.must(err)
	o.must(json.Unmarshal(out, &s))
	return s
}

// TestProjectStory is the whole of what an operator does, against a vault that
// speaks Azure's protocol over HTTPS, with databases made on a plain disk.
func TestProjectStory(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.configures()
	for _, name := range []string{"rs0", "rs1"} { // for the ledgers
		o.must(os.Mkdir(filepath.Join(o.v.scratch, name), 0o755))
	}

	// A new cluster, and a database that is made in it.
	o.must(os.Mkdir(filepath.Join(o.v.Dir(), "rs0"), 0o750))
	fresh := newWiredTiger(o.v, "rs0/wt")
	o.does("cluster", "enable", "rs0", "--project", "acme", "--data", filepath.Dir(fresh.home))
	o.does("cluster", "mount", "rs0", "-o", "check-interval=1s")
	fresh.run("load", "--records", "5000")
	fresh.run("commit", "--seconds", "1")

	// Databases that were made on the plain disk, and are encrypted in place.
	data := filepath.Join(o.v.Dir(), "rs1")
	o.must(os.Mkdir(data, 0o750))
	plain := newWiredTiger(o.v, "rs1/wt")
	plain.run("load", "--records", "5000")
	spare, err := filepath.Glob(filepath.Join(plain.home, "journal", "WiredTigerPreplog.*")) // 100 MiB of nothing each
	o.must(err)
	for _, log := range spare {
		o.must(os.Remove(log))
	}
	m := newMongo(o.v, "rs1/mongo", servers()["SecantusDB"])
	m.up()
	m.run("load", "--docs", "500")
	o.gets(15, "in use by", "cluster", "enable", "rs1", "--project", "acme", "--data", data)
	m.down()
	files := &conversion{t: t, dir: data}
	want := files.tree()
	o.does("cluster", "enable", "rs1", "--project", "acme", "--data", data, "--dry-run")
	o.does("cluster", "enable", "rs1", "--project", "acme", "--data", data)
	o.does("cluster", "mount", "rs1", "-o", "check-interval=1s")
	files.same("through the mount", want)
	plain.check()
	m.up()
	m.check()
	m.run("churn", "--seconds", "1")
	o.does("cluster", "list")

	o.rotates(m)
	m.down() // as it would by itself, without the key
	o.revokes(fresh)
	m.up()
	m.check()

	// Back to plain files.
	m.down()
	plain.check()
	want = files.tree()
	o.gets(15, "in use by cluster rs0, rs1", "project", "disable", "acme")
	for _, name := range []string{"rs0", "rs1"} {
		o.does("cluster", "unmount", name)
		o.does("cluster", "disable", name)
	}
	files.same("plain again", want)
	plain.check()
	fresh.check()
	m.up()
	m.check()
	m.down()
	o.does("project", "disable", "acme")
	o.gets(1, "there is no project acme", "project", "show", "acme")
}

// rotates takes a new version of the key under a running database.
func (o *operator) rotates(m *mongo) {
	o.t.Helper()
	o.cloud.do("key/rotate", "vault", "acme", "key", "mongo")
	o.does("key", "rotate", "--all", "--project", "acme")
	versions := map[string]bool{}
	for _, name := range []string{"rs0", "rs1"} {
		versions[o.status(filepath.Join(o.v.Dir(), name)).AKIs[0].Version] = true
	}
	if len(versions) != 1 {
		o.t.Errorf("the clusters are under %v", versions)
	}
	m.check()
}

// revokes takes the key away, and gives it back.
func (o *operator) revokes(w *wiredTiger) {
	o.t.Helper()
	for _, p := range []string{"rs0", "rs1"} {
		o.status(filepath.Join(o.v.Dir(), p))
	}
	o.does("cluster", "unmount", "rs0")
	newest := o.status(filepath.Join(o.v.Dir(), "rs0")).AKIs[0].Version
	o.cloud.do("key/disable", "vault", "acme", "key", "mongo", "version", newest)
	o.v.eventually("the cluster is locked", func() bool {
		return o.status(filepath.Join(o.v.Dir(), "rs1")).State == daemon.StateLocked
	})
	o.gets(11, "mongo", "cluster", "mount", "rs0")
	o.gets(11, "✗ state", "project", "update", "acme")
	o.cloud.do("key/enable", "vault", "acme", "key", "mongo", "version", newest)
	o.v.eventually("the cluster is served again", func() bool {
		return slices.Contains([]daemon.State{daemon.StateMounted}, o.status(filepath.Join(o.v.Dir(), "rs1")).State)
	})
	o.does("cluster", "mount", "rs0", "-o", "check-interval=1s")
	w.check()
}
