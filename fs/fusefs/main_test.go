package fusefs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// The tests mount for real. The server runs in a process of its own, the test
// binary again: a test that waits for a page fault of its own mount would stop
// the world, the server included.

// role is the environment variable that makes this binary play another part.
const role = "AKVFS_FUSEFS_TEST_ROLE"

// roles are what a child process may be. Each returns its exit status.
var roles = map[string]func() int{"serve": serveRole, "lock": lockRole, "map": mapRole, "user": userRole, "actor": actorRole, "deadlock": deadlockRole}

func TestMain(m *testing.M) {
	if name := os.Getenv(role); name != "" {
		os.Exit(roles[name]())
	}
	unix.Umask(0o022)
	os.Exit(m.Run())
}

// child starts this binary in a role.
func child(t testing.TB, name string, args any) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	data, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"="+name, role+"_ARGS="+string(data))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, in, bufio.NewReader(out)
}

func roleArgs(into any) {
	if err := json.Unmarshal([]byte(os.Getenv(role+"_ARGS")), into); err != nil {
		panic(err)
	}
}

// serveArgs are those of the serve role.
type serveArgs struct {
	Backend, Backing, Mountpoint string
	ReadOnly, Debug              bool
	Extra                        []string
	Direct                       string // names with this suffix are not cached
}

// backends open a Volume over a directory, and say how to close it.
var backends = map[string]func(dir string, readOnly bool) (Volume, func() error, error){
	"passthrough": func(dir string, _ bool) (Volume, func() error, error) {
		st, err := store.OpenDisk(dir)
		if err != nil {
			return nil, nil, err
		}
		return passthrough{st}, st.Close, nil
	},
	"engine":       openEngine(volume.NamesEncrypted),
	"engine plain": openEngine(volume.NamesPlain),
}

// serveRole mounts, says so, obeys a line at a time on standard input, and
// unmounts at its end.
func serveRole() int {
	var a serveArgs
	roleArgs(&a)
	level := slog.LevelInfo
	if a.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	open := backends[a.Backend]
	switch a.Backend {
	case "full":
		open = openFull
	case "slow":
		open = openSlow
	}
	v, closeVolume, err := open(a.Backing, a.ReadOnly)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	opts := Options{ReadOnly: a.ReadOnly, FSName: a.Backing, Extra: a.Extra, Debug: a.Debug, Logger: log}
	if a.Direct != "" {
		opts.DirectIO = func(p string) bool { return strings.HasSuffix(p, a.Direct) }
	}
	s, err := MountFS(v, a.Mountpoint, opts)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("ready")
	obey(s, v)
	s.Wait()
	if err := closeVolume(); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

// obey answers each command with one line, until the mount is gone.
func obey(s *Server, v Volume) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var err error
		switch in.Text() {
		case "drop":
			err = s.DropCaches()
		case "unmount":
			err = s.Unmount()
		case "lock":
			err = s.Lock(time.Minute, func() error { return v.(engine).Lock("test") })
		case "unlock":
			err = s.Unlock(func() error { return unlockEngine(v.(engine)) })
		}
		fmt.Printf("%v\n", err)
		if err == nil && in.Text() == "unmount" {
			return
		}
	}
	if err := unix.Unmount(s.Mountpoint(), unix.MNT_DETACH); err != nil {
		fmt.Fprintln(os.Stderr, "lazy unmount:", err)
	}
}

// mounted is a mount served by another process.
type mounted struct {
	t       testing.TB
	args    serveArgs
	dir     string // the mount point
	backing string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	log     *syncBuffer
}

// syncBuffer collects a process's standard error.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// mount mounts an empty volume of a backend.
func mount(t testing.TB, args serveArgs) *mounted {
	t.Helper()
	base := t.TempDir()
	if args.Backing == "" {
		args.Backing = filepath.Join(base, "backing")
		must(t, os.Mkdir(args.Backing, 0o755))
	}
	if args.Mountpoint == "" {
		args.Mountpoint = filepath.Join(base, "mount")
		must(t, os.Mkdir(args.Mountpoint, 0o755))
	}
	// Other users must be able to get there.
	for d := base; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	m := &mounted{t: t, args: args, dir: args.Mountpoint, backing: args.Backing}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mounted) start() {
	m.t.Helper()
	m.cmd, m.in, m.out = child(m.t, "serve", m.args)
	m.log = &syncBuffer{}
	m.cmd.Stderr = m.log
	must(m.t, m.cmd.Start())
	if line := m.answer(); line != "ready" {
		m.t.Fatalf("server: %s\n%s", line, m.log)
	}
}

func (m *mounted) answer() string {
	line, err := m.out.ReadString('\n')
	if err != nil {
		m.t.Errorf("server has gone: %v\n%s", err, m.log)
	}
	return strings.TrimSpace(line)
}

// tell gives the server a command and returns what it answers.
func (m *mounted) tell(command string) string {
	m.t.Helper()
	_, err := fmt.Fprintln(m.in, command)
	must(m.t, err)
	return m.answer()
}

// do gives the server a command that must succeed.
func (m *mounted) do(command string) {
	m.t.Helper()
	if got := m.tell(command); got != "<nil>" {
		m.t.Fatalf("%s: %s", command, got)
	}
}

// stop unmounts, lazily if it must, and looks at how the server ended: a data
// race found there is a failure here.
func (m *mounted) stop() {
	m.t.Helper()
	if m.cmd == nil {
		return
	}
	if got := m.tell("unmount"); got != "<nil>" {
		m.t.Errorf("unmount: %s", got)
		unix.Unmount(m.dir, unix.MNT_DETACH)
		m.cmd.Process.Kill()
	}
	m.in.Close()
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("server: %v\n%s", err, m.log)
	}
	m.cmd = nil
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

// remount is an unmount and a mount, so that nothing is cached.
func (m *mounted) remount() {
	m.t.Helper()
	m.stop()
	m.start()
}

// eachBackend runs a test on a mount of every backend.
func eachBackend(t *testing.T, test func(t *testing.T, m *mounted)) {
	for name := range backends {
		t.Run(name, func(t *testing.T) { test(t, mount(t, serveArgs{Backend: name})) })
	}
}

// eachEngine is eachBackend for what only the engine sees to.
func eachEngine(t *testing.T, test func(t *testing.T, m *mounted)) {
	for name := range backends {
		if name != "passthrough" {
			t.Run(name, func(t *testing.T) { test(t, mount(t, serveArgs{Backend: name})) })
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// errnoOf names an error's errno, "ok" for none.
func errnoOf(err error) string {
	if err == nil {
		return "ok"
	}
	for e := err; e != nil; {
		if errno, is := e.(syscall.Errno); is {
			return unix.ErrnoName(errno)
		}
		u, can := e.(interface{ Unwrap() error })
		if !can {
			break
		}
		e = u.Unwrap()
	}
	return err.Error()
}
