//go:build !race

// No race is to be found here that other tests do not find: these are many
// short runs of the program, which take long under the detector.

package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/keymgr/file"
)

func TestInit(t *testing.T) {
	for _, names := range []string{"encrypted", "plain"} {
		t.Run(names, func(t *testing.T) {
			w := newWorld(t)
			w.mkdir(join(w.backing, "lost+found"))
			r := w.ok("init", w.backing, "--key-id", w.keyID(), "--names", names, "--cluster", "rs0/shard 1")
			s := w.status(w.backing)
			if !strings.Contains(r.out, s.VolumeID) || s.Names != names || s.Cluster != "rs0/shard 1" || s.State != "unmounted" {
				t.Errorf("%s\n%+v", r.out, s)
			}
			if fi, err := os.Stat(join(w.backing, ".akvfs")); err != nil || fi.Mode().Perm() != 0o700 {
				t.Errorf("%v, %v", fi.Mode(), err)
			}
			w.mount()
			w.write(join(w.mountpoint, "name"), "x")
			w.unmount()
			if _, err := os.Stat(join(w.backing, "name")); (err == nil) != (names == "plain") {
				t.Errorf("the name in the backing directory: %v", err)
			}
		})
	}
}

func TestInitBadInput(t *testing.T) {
	w := newWorld(t)
	w.write(join(w.dir, "file"), "")
	key := []string{"--key-id", w.keyID()}
	with := func(dir string, more ...string) []string { return append([]string{"init", dir}, more...) }
	for _, c := range []struct {
		name string
		code int
		says string
		args []string
	}{
		{"no arguments", 2, "BACKING is missing", []string{"init"}},
		{"no key", 2, "--key-id is missing", with(w.backing)},
		{"two directories", 2, "unexpected argument", with(w.backing, w.mountpoint, "--key-id", w.keyID())},
		{"empty name", 2, "BACKING is empty", with("", key...)},
		{"missing directory", 2, "does not exist\nMake the directory first", with(join(w.dir, "none"), key...)},
		{"a file", 2, "is not a directory", with(join(w.dir, "file"), key...)},
		{"not empty", 2, "is not empty\nA new volume needs an empty directory", with(w.dir, key...)},
		{"names", 2, "--names is encrypted or plain", with(w.backing, append(key, "--names", "rot13")...)},
		{"operation", 2, "--key-operation is wrap or encrypt", with(w.backing, append(key, "--key-operation", "sign")...)},
		{"time-out", 2, "--key-timeout must be more", with(w.backing, append(key, "--key-timeout", "0")...)},
		{"time-out in words", 2, "invalid argument", with(w.backing, append(key, "--key-timeout", "long")...)},
		{"journal too small", 2, "--journal-size is between 1M and 16G", with(w.backing, append(key, "--journal-size", "1000")...)},
		{"journal in words", 2, "is no size", with(w.backing, append(key, "--journal-size", "big")...)},
		{"cluster", 2, "control character", with(w.backing, append(key, "--cluster", "a\nb")...)},
		{"unknown flag", 2, "unknown flag: --colour", with(w.backing, append(key, "--colour", "red")...)},
		{"no URL", 2, "not a URL", with(w.backing, "--key-id", "mongo")},
		{"ftp", 2, "no key provider", with(w.backing, "--key-id", "ftp://acme.vault.azure.net/keys/k")},
		{"http", 2, "https", with(w.backing, "--key-id", "http://acme.vault.azure.net/keys/k")},
		{"a secret", 2, "secret", with(w.backing, "--key-id", "https://acme.vault.azure.net/secrets/k")},
		{"a certificate", 2, "certificate", with(w.backing, "--key-id", "https://acme.vault.azure.net/certificates/k")},
		{"unknown host", 2, "example.com", with(w.backing, "--key-id", "https://example.com/keys/k")},
		{"relative file", 2, "", with(w.backing, "--key-id", "file://key.json")},
		{"missing key store", 10, "key.none", with(w.backing, "--key-id", file.KeyID(join(w.dir, "key.none")))},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.untouched(func() { w.refused(c.code, c.says, c.args...) })
		})
	}
}

// The key is proven before anything is written, and each way in which it may
// not be used has its exit code.
func TestInitRefusedByKey(t *testing.T) {
	for _, c := range keyRefusals {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.do(w, w.openStore())
			w.untouched(func() { w.refused(c.code, c.says, "init", w.backing, "--key-id", w.keyID()) })
		})
	}
}

func TestInitTwice(t *testing.T) {
	w := newVolume(t)
	w.untouched(func() {
		w.refused(2, "holds an akvfs volume already", "init", w.backing, "--key-id", w.keyID())
	})
	w.mount()
	defer w.unmount()
	for _, dir := range []string{w.mountpoint, w.mkdir(join(w.mountpoint, "sub"))} {
		w.refused(2, "inside a mounted akvfs volume", "init", dir, "--key-id", w.keyID())
	}
	w.refused(2, "holds an akvfs volume already", "init", w.backing, "--key-id", w.keyID())
}

func TestInitPermissions(t *testing.T) {
	w := newWorld(t)
	w.must(os.Chmod(w.dir, 0o755))
	w.untouched(func() {
		r := w.finish(asNobody(w.command("init", w.backing, "--key-id", w.keyID())))
		if r.code != 16 || !strings.Contains(r.err, "permission denied\nRun the command as root") {
			t.Errorf("exit code %d\n%s", r.code, r.err)
		}
	})
}

func (w *world) tmpfs(path string, options string) {
	w.t.Helper()
	w.must(unix.Mount("none", path, "tmpfs", 0, options))
}

func TestInitReadOnlyFileSystem(t *testing.T) {
	w := newWorld(t)
	w.tmpfs(w.backing, "")
	w.must(unix.Mount("none", w.backing, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	w.untouched(func() {
		w.refused(1, "read-only file system\nMake the file system writable", "init", w.backing, "--key-id", w.keyID())
	})
}

func TestInitFullFileSystem(t *testing.T) {
	w := newWorld(t)
	w.tmpfs(w.backing, "size=1m")
	w.refused(1, "no space left on device\nFree some space", "init", w.backing, "--key-id", w.keyID())
	entries, err := os.ReadDir(w.backing)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// What a killed init leaves is no volume, and the next init cleans it up.
func TestInitKilled(t *testing.T) {
	w := newWorld(t)
	complete, broken := 0, 0
	for delay := time.Duration(0); complete == 0 || delay < 40*time.Millisecond; delay += 2 * time.Millisecond {
		cmd := w.command("init", w.backing, "--key-id", w.keyID(), "--journal-size", "4M")
		w.must(cmd.Start())
		time.Sleep(delay)
		w.check(cmd.Process.Kill())
		if err := cmd.Wait(); err == nil {
			complete++ // it was faster
		}
		if r := w.run("status", w.backing); r.code == 0 {
			w.mount() // what is a volume opens
			w.unmount()
			complete++
			w.must(os.RemoveAll(w.backing))
			w.mkdir(w.backing)
			continue
		}
		if _, err := os.Stat(join(w.backing, ".akvfs")); err == nil {
			broken++
			w.untouched(func() { w.refused(13, "Run `akvfs init` on it again", "mount", w.backing, w.mountpoint) })
		}
	}
	t.Logf("%d left a volume, %d left the beginning of one", complete, broken)
	w.must(os.RemoveAll(w.backing))
	w.mkdir(join(w.backing, ".akvfs", "journal"))
	w.write(join(w.backing, ".akvfs", "keyring.json"), "half")
	w.write(join(w.backing, ".akvfs", "volume.json.tmp"), "half")
	w.untouched(func() { w.refused(13, "Run `akvfs init` on it again", "mount", w.backing, w.mountpoint) })
	w.untouched(func() { w.refused(13, "Run `akvfs init` on it again", "status", w.backing) })
	w.ok("init", w.backing, "--key-id", w.keyID())
	w.mount()
	w.unmount()
}

// silentProxy accepts connections and never answers, as a vault behind a
// firewall does.
func (w *world) silentProxy() (connected <-chan struct{}) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	first := make(chan struct{})
	go func() {
		var held []net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				for _, c := range held {
					c.Close()
				}
				return
			}
			if held = append(held, conn); len(held) == 1 {
				close(first)
			}
		}
	}()
	w.t.Cleanup(func() { l.Close() })
	w.env = append(w.env, fmt.Sprintf("HTTPS_PROXY=http://%s", l.Addr()),
		"AZURE_TENANT_ID=00000000-0000-0000-0000-000000000001", "AZURE_CLIENT_ID=00000000-0000-0000-0000-000000000002", "AZURE_CLIENT_SECRET=hidden")
	return first
}

func TestInitVaultSilent(t *testing.T) {
	w := newWorld(t)
	w.silentProxy()
	w.untouched(func() {
		w.refused(10, "acme.vault.azure.net", "init", w.backing, "--key-id", "https://acme.vault.azure.net/keys/k", "--key-timeout", "1s")
	})
}

func TestInitInterrupted(t *testing.T) {
	w := newWorld(t)
	connected := w.silentProxy()
	w.untouched(func() {
		cmd := w.command("init", w.backing, "--key-id", "https://acme.vault.azure.net/keys/k", "--key-timeout", "5m")
		end := w.start(cmd)
		<-connected
		w.check(cmd.Process.Signal(syscall.SIGINT))
		if r := end(); r.code != 1 || r.err != "akvfs: interrupted; nothing was changed\n" {
			t.Errorf("exit code %d\n%s", r.code, r.err)
		}
	})
}

// Two who make a volume in one directory do not take each other's work for
// the leavings of a killed one.
func TestInitRace(t *testing.T) {
	w := newWorld(t)
	const n = 4
	results := make(chan result, n)
	for range n {
		go func() { results <- w.finish(w.command("init", w.backing, "--key-id", w.keyID())) }()
	}
	codes := map[int]int{}
	for range n {
		r := <-results
		codes[r.code]++
		if r.code != 0 && r.code != 15 && r.code != 2 {
			t.Errorf("exit code %d\n%s", r.code, r.err)
		}
	}
	if codes[0] != 1 {
		t.Errorf("exit codes %v", codes)
	}
	w.mount()
	w.unmount()
}
