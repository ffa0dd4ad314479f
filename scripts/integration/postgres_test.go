//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// postgres is a cluster on a volume. PostgreSQL refuses to run as root, so
// this also is the test of another user's work on the mount.
type postgres struct {
	v                  *volume
	bin, data, sockets string
	user               *syscall.Credential
	server             *rig.Proc
}

func newPostgres(v *volume) *postgres {
	v.t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		v.t.Fatal("no PostgreSQL under /usr/lib/postgresql: scripts/setup installs it")
	}
	slices.Sort(bins)
	p := &postgres{v: v, bin: bins[len(bins)-1], data: filepath.Join(v.Dir(), "pgdata"), sockets: filepath.Join(v.scratch, "pg")}
	p.user = credential(v.t, "postgres")
	for _, dir := range []string{p.data, p.sockets} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			v.t.Fatal(err)
		}
		if err := os.Chown(dir, int(p.user.Uid), int(p.user.Gid)); err != nil {
			v.t.Fatal(err)
		}
	}
	return p
}

func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if errUID != nil || errGID != nil {
		t.Fatal(errUID, errGID)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p *postgres) command(program string, args ...string) rig.Command {
	return rig.Command{Path: filepath.Join(p.bin, program), Args: args, User: p.user, Dir: p.sockets,
		Env: append(os.Environ(), "PGHOST="+p.sockets, "PGUSER=postgres", "PGDATABASE=postgres", "PGCONNECT_TIMEOUT=10")}
}

func (p *postgres) run(program string, args ...string) string {
	p.v.t.Helper()
	return p.v.run(p.command(program, args...))
}

func (p *postgres) initdb() {
	p.v.t.Helper()
	p.run("initdb", "--pgdata", p.data, "--data-checksums", "--auth=trust", "--username=postgres", "--no-instructions")
}

func (p *postgres) up() {
	p.v.t.Helper()
	p.server = p.v.start(p.command("postgres", "-D", p.data, "-k", p.sockets, "-c", "listen_addresses=", "-c", "shared_buffers=16MB",
		"-c", "checkpoint_timeout=30s", "-c", "max_wal_size=64MB"))
	p.v.eventually("PostgreSQL is ready", func() bool {
		if p.server.Done() {
			p.v.t.Fatalf("PostgreSQL ended: %s", p.server.Output())
		}
		_, err := p.v.try(p.command("pg_isready", "--quiet"))
		return err == nil
	})
}

// down is a fast shutdown: it ends the sessions and writes a checkpoint.
func (p *postgres) down() {
	p.v.t.Helper()
	if err := p.server.Signal(syscall.SIGINT); err != nil {
		p.v.t.Fatal(err)
	}
	p.v.eventually("PostgreSQL stops", p.server.Done)
}

// abort is an immediate shutdown: recovery is left to the next start. SIGKILL
// of the server alone would leave its workers.
func (p *postgres) abort() {
	p.v.t.Helper()
	_ = p.server.Signal(syscall.SIGQUIT) // it may have ended by itself
	p.server.Stop(10 * time.Second)
}

// query returns the one row of a query.
func (p *postgres) query(sql string) string {
	p.v.t.Helper()
	return strings.TrimSpace(p.run("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql))
}

// bench runs pgbench's TPC-B-like transactions; each commit waits for the disk.
func (p *postgres) bench(seconds string) rig.Command {
	return p.command("pgbench", "--client=4", "--jobs=2", "--no-vacuum", "--time="+seconds, "--log", "--log-prefix="+p.logs())
}

func (p *postgres) logs() string { return filepath.Join(p.sockets, "log") }

// acknowledged counts the transactions that pgbench was told are done: the
// lines of its logs. A line is written after the commit.
func (p *postgres) acknowledged() (n int) {
	p.v.t.Helper()
	logs, err := filepath.Glob(p.logs() + ".*")
	if err != nil {
		p.v.t.Fatal(err)
	}
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			p.v.t.Fatal(err)
		}
		n += strings.Count(string(data), "\n")
	}
	return n
}

// check: nothing acknowledged is lost, the sums agree, every page and every
// index is sound.
func (p *postgres) check() {
	p.v.t.Helper()
	sums := p.query(`SELECT (SELECT sum(abalance) FROM pgbench_accounts) || ' ' || (SELECT sum(bbalance) FROM pgbench_branches)
		|| ' ' || (SELECT sum(tbalance) FROM pgbench_tellers) || ' ' || (SELECT sum(delta) FROM pgbench_history)`)
	if f := strings.Fields(sums); len(f) != 4 || len(slices.Compact(f)) != 1 {
		p.v.t.Errorf("balances differ: %q", sums)
	}
	var rows int
	if _, err := fmt.Sscan(p.query("SELECT count(*) FROM pgbench_history"), &rows); err != nil {
		p.v.t.Fatal(err)
	}
	if acked := p.acknowledged(); acked == 0 || rows < acked {
		p.v.t.Errorf("%d transactions in the history, %d acknowledged", rows, acked)
	}
	p.run("pg_amcheck", "--install-missing", "--heapallindexed", "postgres")
	p.v.t.Logf("%d transactions, %d acknowledged", rows, p.acknowledged())
}

func TestPostgreSQL(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		p := newPostgres(v)
		p.initdb()
		p.up()
		p.run("pgbench", "--initialize", "--quiet", "--scale=4")
		p.v.run(p.bench(seconds(5)))
		p.check()
		p.down()
		p.run("pg_checksums", "--check", "--pgdata", p.data)
		v.remount()
		p.up()
		p.check()
		p.down()
	})
}

func TestPostgreSQLDaemonKilled(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		p := newPostgres(v)
		p.initdb()
		p.up()
		p.run("pgbench", "--initialize", "--quiet", "--scale=2")
		for range 2 * soak {
			load := v.start(p.bench("600"))
			v.let(load, 3*time.Second)
			v.mustKill()
			p.abort()
			v.eventually("pgbench ends, with its logs written", load.Done)
			v.mustMount()
			p.up()
			p.check()
		}
		p.down()
		p.run("pg_checksums", "--check", "--pgdata", p.data)
	})
}
