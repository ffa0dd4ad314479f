package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// daemonRole makes this test program be the daemon of a mount that kills
// itself at a point that its value names.
const daemonRole = "AKVFS_DAEMON_TEST_ROLE"

func TestMain(m *testing.M) {
	if text := os.Getenv(daemonRole); text != "" {
		os.Exit(doomed(text))
	}
	os.Exit(m.Run())
}

// doom says where a daemon is to be killed: before the store's Nth operation
// that is Point's.
type doom struct {
	Backing, Mountpoint, RunDir, StateDir string
	Point                                 string
	Nth                                   int64
}

// points are what an operation must be to be the one that a daemon does not
// survive.
var points = map[string]func(store.Op) bool{
	"keyring is written":     func(op store.Op) bool { return op.Kind == store.OpWrite && op.Name == ".akvfs/keyring.json.tmp" },
	"keyring is synced":      func(op store.Op) bool { return op.Kind == store.OpSync && op.Name == ".akvfs/keyring.json.tmp" },
	"old keyring is kept":    func(op store.Op) bool { return op.Kind == store.OpRename && op.To == ".akvfs/keyring.json.prev" },
	"keyring is replaced":    func(op store.Op) bool { return op.Kind == store.OpRename && op.To == ".akvfs/keyring.json" },
	"keyring's name is safe": func(op store.Op) bool { return op.Kind == store.OpSyncDir && op.Name == ".akvfs" },
	"header is written":      func(op store.Op) bool { return op.Kind == store.OpWrite && op.Len == 512 && op.Off < 2048 },
	"header is synced":       func(op store.Op) bool { return op.Kind == store.OpDatasync && !strings.HasPrefix(op.Name, ".akvfs") },
}

// doomed is the life of such a daemon.
func doomed(text string) int {
	var d doom
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return 1
	}
	var armed, n atomic.Int64
	cfg := NewConfig()
	cfg.Backing, cfg.Mountpoint, cfg.RunDir, cfg.StateDir = d.Backing, d.Mountpoint, d.RunDir, d.StateDir
	cfg.Follow = FollowAlert            // else the first check may take a new version before it is armed
	cfg.noteInterval = time.Millisecond // so that all that may have been seen is on record
	cfg.Openers = keymgr.Openers{file.Scheme: file.OpenProvider}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg.wrapStore = func(st store.FS) store.FS {
		return store.NewFaulty(st, func(op store.Op) error {
			if armed.Load() == 1 && points[d.Point](op) && n.Add(1) == d.Nth {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		})
	}
	if _, err := Start(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("mounted")
	bufio.NewScanner(os.Stdin).Scan()
	armed.Store(1)
	fmt.Println("armed")
	select {}
}

// startDoomed mounts the fixture's volume by a daemon that is to be killed. arm
// has it be killed from then on; gone waits for that.
func (f *fixture) startDoomed(point string, nth int64) (arm, gone func()) {
	f.t.Helper()
	data, err := json.Marshal(doom{f.cfg.Backing, f.cfg.Mountpoint, f.cfg.RunDir, f.cfg.StateDir, point, nth})
	f.must(err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), daemonRole+"="+string(data))
	cmd.Stderr = f.log
	in, err := cmd.StdinPipe()
	f.must(err)
	out, err := cmd.StdoutPipe()
	f.must(err)
	f.must(cmd.Start())
	f.t.Cleanup(func() { cmd.Process.Kill() })
	said := bufio.NewScanner(out)
	hears := func(want string) {
		f.t.Helper()
		if said.Scan(); said.Text() != want {
			f.t.Fatalf("it says %q\n%s", said.Text(), f.log)
		}
	}
	hears("mounted")
	return func() {
			fmt.Fprintln(in)
			hears("armed")
		}, func() {
			f.t.Helper()
			err := cmd.Wait()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				f.t.Errorf("its end: %v", err)
			}
		}
}

// TestKilledWhileKeysChange kills the daemon of a real mount at each step of
// each change of keys. The volume then opens with the keys of before or after,
// every synced file reads back, and the change, made again, comes to its end.
func TestKilledWhileKeysChange(t *testing.T) {
	keyring := []string{"keyring is written", "keyring is synced", "old keyring is kept", "keyring is replaced", "keyring's name is safe"}
	for _, c := range []struct {
		name, method string
		params       func(f *fixture, other *file.Store) any
		points       []string
		most         int64 // how often a point is passed
	}{
		{"newer version", MethodKeyRotate, func(f *fixture, _ *file.Store) any { return KeyParams{From: f.store.KeyID()} }, keyring, 1},
		{"other key", MethodKeyRotate, func(f *fixture, other *file.Store) any { return KeyParams{To: other.KeyID()} }, keyring, 1},
		{"add", MethodKeyAdd, func(f *fixture, other *file.Store) any { return KeyParams{To: other.KeyID()} }, keyring[2:4], 1},
		{"remove", MethodKeyRemove, func(f *fixture, _ *file.Store) any { return KeyParams{From: f.store.KeyID()} }, keyring[2:4], 2},
		{"master key", MethodMasterKeyRotate, func(*fixture, *file.Store) any { return MasterKeyParams{Wait: true} },
			append(keyring[2:4:4], "header is written", "header is synced"), 3},
	} {
		for _, point := range c.points {
			for nth := int64(1); nth <= c.most; nth++ {
				t.Run(fmt.Sprintf("%s, before the %s, %d", c.name, point, nth), func(t *testing.T) {
					f := newFixture(t)
					other := f.newKey("other.json")
					if c.method == MethodKeyRemove {
						f.change(MethodKeyAdd, KeyParams{To: other.KeyID()})
					}
					_, err := f.store.Rotate()
					f.must(err)
					killed(f, c.method, c.params(f, other), point, nth)
				})
			}
		}
	}
}

func killed(f *fixture, method string, params any, point string, nth int64) {
	f.t.Helper()
	f.cfg.StateDir = filepath.Join(f.dir, "state")
	arm, gone := f.startDoomed(point, nth)
	for i := range 5 {
		f.must(writeSynced(filepath.Join(f.cfg.Mountpoint, fmt.Sprint(i)), fmt.Sprint("content of ", i)))
	}
	before := f.listing()
	arm()
	if err := f.call(method, params, nil); err == nil {
		f.t.Error("it succeeded")
	}
	gone()
	f.start()
	reread := func() {
		f.t.Helper()
		for i := range 5 {
			if got, err := os.ReadFile(filepath.Join(f.cfg.Mountpoint, fmt.Sprint(i))); err != nil || string(got) != fmt.Sprint("content of ", i) {
				f.t.Errorf("%q, %v", got, err)
			}
		}
	}
	reread()
	if now := f.listing(); now.Generation < before.Generation || now.Generation > before.Generation+3 {
		f.t.Errorf("generation %d came after %d", now.Generation, before.Generation)
	}
	// What was done already may not be asked for twice.
	if err := f.call(method, params, nil); err != nil && !strings.Contains(err.Error(), "already") && !strings.Contains(err.Error(), "not wrapped by") {
		f.t.Error(err)
	}
	if method == MethodMasterKeyRotate {
		if l := f.listing(); len(l.MasterKeys) != 1 {
			f.t.Errorf("%+v", l.MasterKeys)
		}
	}
	reread()
}
