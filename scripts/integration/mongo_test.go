//go:build integration

package integration

import (
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

// mongo is a server that speaks MongoDB's protocol, its data on a volume.
type mongo struct {
	v      *volume
	ledger string
	port   string
	serve  func(data, port string) rig.Command
	data   string
	server *rig.Proc
}

// servers are the ones at hand: SecantusDB from scripts/setup, and a real
// mongod where one is on the PATH.
func servers() map[string]func(data, port string) rig.Command {
	all := map[string]func(data, port string) rig.Command{
		"SecantusDB": func(data, port string) rig.Command {
			return command(filepath.Join(filepath.Dir(python), "secantusd-py"), "--storage-path", data, "--sync-on-commit",
				"--standalone", "--port", port, "--cache-size", "32M")
		},
	}
	if mongod, err := exec.LookPath("mongod"); err == nil {
		all["mongod"] = func(data, port string) rig.Command {
			return command(mongod, "--dbpath", data, "--bind_ip", "127.0.0.1", "--port", port, "--wiredTigerCacheSizeGB", "0.25",
				"--syncdelay", "2", "--nounixsocket")
		}
	}
	return all
}

func newMongo(v *volume, name string, serve func(data, port string) rig.Command) *mongo {
	v.t.Helper()
	m := &mongo{v: v, ledger: filepath.Join(v.scratch, name+".ledger"), port: freePort(v.t), serve: serve, data: filepath.Join(v.Dir(), name)}
	v.run(command("mkdir", m.data))
	return m
}

// freePort finds a port that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func (m *mongo) up() {
	m.v.t.Helper()
	m.server = m.v.start(m.serve(m.data, m.port))
	m.v.eventually("the server listens", func() bool {
		if m.server.Done() {
			m.v.t.Fatalf("the server ended: %s", m.server.Output())
		}
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+m.port, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// down ends the server as an administrator does.
func (m *mongo) down() { m.server.Stop(time.Minute) }

func (m *mongo) command(mode string, args ...string) rig.Command {
	args = append([]string{filepath.Join(repo, "scripts/loads/mongo.py"), mode, "--port", m.port, "--ledger", m.ledger}, args...)
	return command(python, args...)
}

func (m *mongo) run(mode string, args ...string) {
	m.v.t.Helper()
	m.v.t.Log(m.v.run(m.command(mode, args...)))
}

// check compares counts, checksums and indexes with the ledger.
func (m *mongo) check() {
	m.v.t.Helper()
	m.run("verify")
}

func onServers(t *testing.T, test func(t *testing.T, m *mongo)) {
	for name, serve := range servers() {
		t.Run(name, func(t *testing.T) {
			onDisks(t, func(t *testing.T, v *volume) { test(t, newMongo(v, "data", serve)) })
		})
	}
}

func TestMongo(t *testing.T) {
	onServers(t, func(t *testing.T, m *mongo) {
		m.up()
		m.run("load", "--docs", "1500")
		m.run("churn", "--seconds", seconds(2))
		m.check()
		m.down()
		m.up()
		m.check()
		m.down()
		m.v.remount()
		m.up()
		m.check()
		m.refusesSecond()
		m.down()
	})
}

// refusesSecond: while one server has the data, another one must fail.
func (m *mongo) refusesSecond() {
	m.v.t.Helper()
	second := m.v.start(m.serve(m.data, freePort(m.v.t)))
	m.v.eventually("the second server gives up", second.Done)
	if err := second.Wait(m.v.t.Context()); err == nil {
		m.v.t.Errorf("a second server ran on the same data: %s", second.Output())
	}
}

// TestMongoKilled kills the server, then the daemon, under writes.
func TestMongoKilled(t *testing.T) {
	onServers(t, func(t *testing.T, m *mongo) {
		m.up()
		m.run("load", "--docs", "500")
		for range soak {
			m.churnAndKill(m.server.Kill)
			m.up()
			m.check()
			m.churnAndKill(func() {
				m.v.mustKill()
				m.server.Kill()
			})
			m.v.mustMount()
			m.up()
			m.check()
		}
		m.down()
	})
}

func (m *mongo) churnAndKill(kill func()) {
	m.v.t.Helper()
	load := m.v.start(m.command("churn", "--seconds", "600"))
	m.v.let(load, 2*time.Second)
	kill()
	if err := load.Signal(syscall.SIGKILL); err != nil && !load.Done() {
		m.v.t.Fatal(err)
	}
	load.Kill()
}
