package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/file"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "az" {
		os.Exit(azure(os.Args[1:]))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "akvfs-cmd")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // other users run it, too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "akvfs")
	args := append([]string{"build", "-o", binary, "-ldflags", "-X main.version=1.2.3-test"}, buildFlags...)
	build := exec.Command("go", append(args, ".")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// world is one test's directories, key store and run directory.
type world struct {
	t          *testing.T
	dir        string
	backing    string
	mountpoint string
	store      string // path of the embedded key store
	env        []string
}

// newWorld makes empty directories and a key store. What is mounted in it
// when the test ends is unmounted, and what still serves it is killed.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "akvfs-test") // a real file system
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, backing: join(dir, "backing"), mountpoint: join(dir, "mount"), store: join(dir, "key.json")}
	w.env = append(os.Environ(), "AKVFS_RUN_DIR="+join(dir, "run"), "AKVFS_STATE_DIR="+join(dir, "state"), "AKVFS_CONFIG_DIR="+join(dir, "etc"))
	t.Cleanup(w.clean)
	for _, d := range []string{w.backing, w.mountpoint} {
		w.mkdir(d)
	}
	if _, err := file.Create(w.store, file.Options{Bits: 2048}); err != nil {
		t.Fatal(err)
	}
	return w
}

func join(elem ...string) string { return filepath.Join(elem...) }

// newVolume is a world with a volume.
func newVolume(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.ok("init", w.backing, "--key-id", w.keyID(), "--cluster", "rs0", "--journal-size", "1M")
	return w
}

func (w *world) keyID() string { return file.KeyID(w.store) }

func (w *world) clean() {
	if all, err := daemon.Statuses(context.Background(), join(w.dir, "run")); err == nil {
		for _, s := range all {
			if s.State != daemon.StateUnmounted && s.PID > 0 {
				w.t.Errorf("process %d still serves %s; killing it", s.PID, s.Mountpoint)
				w.check(syscall.Kill(s.PID, syscall.SIGKILL))
			}
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(w.dir))
	w.check(err)
	slices.Reverse(mounts)
	for _, m := range mounts {
		w.check(unix.Unmount(m.Mountpoint, unix.MNT_DETACH))
	}
	// Bare mount points of clusters are immutable.
	_ = exec.Command("chattr", "-R", "-i", w.dir).Run()
	w.check(os.RemoveAll(w.dir))
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mkdir(path string) string {
	w.t.Helper()
	w.must(os.MkdirAll(path, 0o755))
	return path
}

func (w *world) write(path, content string) {
	w.t.Helper()
	w.must(os.WriteFile(path, []byte(content), 0o600))
}

func (w *world) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(path)
	w.must(err)
	return string(data)
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

// command prepares a run of the binary.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Dir = w.env, w.dir
	return cmd
}

// run runs the binary and waits for its end.
func (w *world) run(args ...string) result {
	w.t.Helper()
	return w.finish(w.command(args...))
}

func (w *world) finish(cmd *exec.Cmd) result {
	w.t.Helper()
	return w.start(cmd)()
}

// start starts a command; what it returns waits for its end.
func (w *world) start(cmd *exec.Cmd) (end func() result) {
	w.t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	w.must(cmd.Start())
	return func() result {
		w.t.Helper()
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			w.t.Fatal(err)
		}
		return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
	}
}

// ok runs the binary and wants success.
func (w *world) ok(args ...string) result {
	w.t.Helper()
	r := w.run(args...)
	if r.code != 0 {
		w.t.Fatalf("akvfs %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r
}

// refused runs the binary and wants an exit code, a sentence about it, and
// nothing on standard output.
func (w *world) refused(code int, says string, args ...string) {
	w.t.Helper()
	r := w.run(args...)
	if r.code != code || !strings.Contains(r.err, says) || r.out != "" {
		w.t.Errorf("akvfs %s: exit code %d, want %d; want %q in\n%s%s", strings.Join(args, " "), r.code, code, says, r.err, r.out)
	}
	if !strings.HasPrefix(r.err, "akvfs: ") || strings.Contains(r.err, "goroutine") {
		w.t.Errorf("akvfs %s: no message for people:\n%s", strings.Join(args, " "), r.err)
	}
}

func (w *world) mount(args ...string) {
	w.t.Helper()
	w.ok(append([]string{"mount", w.backing, w.mountpoint}, args...)...)
}

func (w *world) unmount() {
	w.t.Helper()
	w.ok("unmount", w.mountpoint)
}

func (w *world) status(volume string) daemon.Status {
	w.t.Helper()
	var s daemon.Status
	w.must(json.Unmarshal([]byte(w.ok("status", volume, "--json").out), &s))
	return s
}

func (w *world) mounted(path string) bool {
	w.t.Helper()
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (bool, bool) {
		return m.Mountpoint != path || m.FSType != "fuse.akvfs", false
	})
	w.must(err)
	return len(mounts) > 0
}

// tree is everything that can be seen of a directory tree: names, types,
// modes, owners, sizes, times, contents.
func (w *world) tree(root string) string {
	w.t.Helper()
	var b strings.Builder
	w.must(filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d %d %d ", strings.TrimPrefix(path, root), st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Nano(), st.Ctim.Nano())
		if e.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%d %x", len(data), sha256.Sum256(data))
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// untouched runs f and wants the world's two directories to be afterwards
// what they were before.
func (w *world) untouched(f func()) {
	w.t.Helper()
	backing, mountpoint := w.tree(w.backing), w.tree(w.mountpoint)
	f()
	if w.mounted(w.mountpoint) || w.mounted(w.backing) {
		w.t.Error("something is mounted")
		return
	}
	if now := w.tree(w.backing); now != backing {
		w.t.Errorf("the backing directory has changed from\n%sto\n%s", backing, now)
	}
	if now := w.tree(w.mountpoint); now != mountpoint {
		w.t.Errorf("the mount point has changed from\n%sto\n%s", mountpoint, now)
	}
}

// gone reports whether a process has ended with all its threads, be it that
// nobody has reaped it.
func gone(pid int) bool {
	proc := join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(join(proc, "stat"))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	threads, err := os.ReadDir(join(proc, "task"))
	return err != nil || strings.HasPrefix(rest, "Z") && len(threads) == 1
}

// eventually waits until f answers true, and fails after a generous time.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// asNobody makes a command run as another user.
func asNobody(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// nobodysDir makes a directory that the user nobody owns.
func (w *world) nobodysDir() string {
	w.t.Helper()
	dir := join(w.dir, "nobody")
	w.must(os.MkdirAll(dir, 0o700))
	w.must(os.Chown(dir, 65534, 65534))
	return dir
}
