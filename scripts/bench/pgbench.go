package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// pgScale is pgbench's: 100,000 accounts each.
const pgScale = 5

// cluster is a PostgreSQL server of one load. It does not run as root.
type cluster struct {
	bin, data, sockets string
	user               *syscall.Credential
}

// pgbench is TPC-B-like transactions on a fresh cluster, each commit synced.
func pgbench(ctx context.Context, b *bench, dir string) (samples []sample, err error) {
	c, err := newCluster(dir, b.scratch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.sockets)) }()
	if _, err := c.command("initdb", "--pgdata", c.data, "--data-checksums", "--auth=trust", "--username=postgres", "--no-sync").Run(ctx); err != nil {
		return nil, err
	}
	server, err := rig.Start(c.command("postgres", "-D", c.data, "-k", c.sockets, "-c", "listen_addresses=", "-c", "shared_buffers=64MB"))
	if err != nil {
		return nil, err
	}
	defer func() {
		// Its answer is the process's end.
		_ = server.Signal(syscall.SIGINT)
		server.Stop(30 * time.Second)
	}()
	if err := c.ready(ctx, server); err != nil {
		return nil, err
	}
	if _, err := c.command("pgbench", "--initialize", "--quiet", "--scale="+strconv.Itoa(pgScale)).Run(ctx); err != nil {
		return nil, err
	}
	out, err := c.command("pgbench", "--client="+strconv.Itoa(b.Threads), "--jobs=2", "--time="+strconv.Itoa(b.Seconds)).Run(ctx)
	if err != nil {
		return nil, err
	}
	return parsePgbench(out)
}

func newCluster(dir, scratch string) (*cluster, error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return nil, errors.Join(errors.New("no PostgreSQL under /usr/lib/postgresql"), err)
	}
	slices.Sort(bins)
	c := &cluster{bin: bins[len(bins)-1], data: filepath.Join(dir, "data"), sockets: filepath.Join(scratch, "pg")}
	if c.user, err = credential("postgres"); err != nil {
		return nil, err
	}
	for _, d := range []string{c.data, c.sockets} {
		if err := errors.Join(os.Mkdir(d, 0o700), os.Chown(d, int(c.user.Uid), int(c.user.Gid))); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(errUID, errGID)
}

func (c *cluster) command(program string, args ...string) rig.Command {
	return rig.Command{Path: filepath.Join(c.bin, program), Args: args, User: c.user, Dir: c.sockets,
		Env: append(os.Environ(), "PGHOST="+c.sockets, "PGUSER=postgres", "PGDATABASE=postgres")}
}

// ready waits until the server takes connections.
func (c *cluster) ready(ctx context.Context, server *rig.Proc) error {
	for {
		if _, err := c.command("pg_isready", "--quiet").Run(ctx); err == nil {
			return nil
		}
		if server.Done() || ctx.Err() != nil {
			return fmt.Errorf("PostgreSQL did not start: %s", server.Output())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// parsePgbench reads the transactions a second.
func parsePgbench(out string) ([]sample, error) {
	for line := range strings.Lines(out) {
		var tps float64
		if _, err := fmt.Sscanf(line, "tps = %f", &tps); err == nil && tps > 0 {
			return []sample{{"", "/s", tps}}, nil
		}
	}
	return nil, fmt.Errorf("no rate in %q", out)
}
