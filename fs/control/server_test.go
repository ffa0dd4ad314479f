package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

var errOdd = errors.New("something odd")

// testServer serves some methods under the name "v" of a new Dir.
func testServer(t *testing.T, s *Server) (*Dir, *Socket) {
	t.Helper()
	dir, err := OpenDir(filepath.Join(t.TempDir(), "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := dir.Listen("v", Record{Volume: "id", Backing: "/b", Mountpoint: "/m", PID: os.Getpid(), Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(socket.UnixListener) }()
	t.Cleanup(func() {
		socket.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.Close(10 * time.Second)
	})
	return dir, socket
}

func echo(_ context.Context, c *Call) (any, error) {
	var p struct {
		Text string `json:"text"`
	}
	if err := c.Params(&p); err != nil {
		return nil, err
	}
	return p, nil
}

func testMethods() map[string]Method {
	return map[string]Method{
		"echo": echo,
		"none": func(_ context.Context, c *Call) (any, error) { return nil, c.Params(nil) },
		"who":  func(_ context.Context, c *Call) (any, error) { return c.Peer, nil },
		"odd":  func(context.Context, *Call) (any, error) { return nil, fmt.Errorf("doing: %w", errOdd) },
		"bad":  func(context.Context, *Call) (any, error) { return func() {}, nil },
		"count": func(_ context.Context, c *Call) (any, error) {
			for i := range 3 {
				if err := c.Event(i); err != nil {
					return nil, err
				}
			}
			return "done", nil
		},
	}
}

func TestCall(t *testing.T) {
	s := &Server{Methods: testMethods(), Code: func(err error) string {
		if errors.Is(err, errOdd) {
			return "odd"
		}
		return CodeFailed
	}}
	dir, _ := testServer(t, s)
	client := dir.Client("v")
	ctx := context.Background()

	var answer struct{ Text string }
	if err := client.Call(ctx, "echo", map[string]string{"text": "grüß\n"}, &answer, nil); err != nil || answer.Text != "grüß\n" {
		t.Fatalf("echo: %q, %v", answer.Text, err)
	}
	var peer Peer
	if err := client.Call(ctx, "who", nil, &peer, nil); err != nil || int(peer.PID) != os.Getpid() || int(peer.UID) != os.Getuid() {
		t.Fatalf("who: %+v, %v", peer, err)
	}
	var events []string
	err := client.Call(ctx, "count", nil, nil, func(e json.RawMessage) { events = append(events, string(e)) })
	if err != nil || strings.Join(events, " ") != "0 1 2" {
		t.Fatalf("events are %q, %v", events, err)
	}
	for _, c := range []struct {
		method string
		params any
		code   string
	}{
		{"odd", nil, "odd"},
		{"bad", nil, CodeFailed},
		{"nothing", nil, CodeNoMethod},
		{"echo", map[string]int{"other": 1}, CodeBadRequest},
		{"none", map[string]int{"other": 1}, CodeBadRequest},
	} {
		var wire *Error
		if err := client.Call(ctx, c.method, c.params, nil, nil); !errors.As(err, &wire) || wire.Code != c.code || wire.Message == "" {
			t.Errorf("%s: %v, want the code %q", c.method, err, c.code)
		}
	}
	if err := client.Call(ctx, "none", nil, nil, nil); err != nil {
		t.Errorf("none: %v", err)
	}
}

func TestAuthorize(t *testing.T) {
	var asked atomic.Value
	s := &Server{Methods: testMethods(), Authorize: func(p Peer, method string) error {
		asked.Store(method)
		return &Error{CodeDenied, "no"}
	}}
	dir, _ := testServer(t, s)
	var wire *Error
	err := dir.Client("v").Call(context.Background(), "who", nil, nil, nil)
	if !errors.As(err, &wire) || wire.Code != CodeDenied || asked.Load() != "who" {
		t.Fatalf("got %v, asked about %v", err, asked.Load())
	}
}

func TestOwner(t *testing.T) {
	me := uint32(os.Geteuid())
	for _, c := range []struct {
		uid uint32
		ok  bool
	}{{0, true}, {me, true}, {me + 1, false}, {65534, me == 65534}} {
		if err := Owner(Peer{UID: c.uid}, "status"); (err == nil) != c.ok {
			t.Errorf("user %d: %v", c.uid, err)
		}
	}
}

// A stranger is refused by the kernel at the directory and by the server at
// the socket, should the directory ever be opened up.
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root to become another user")
	}
	// Under /tmp itself, since others cannot pass t.TempDir's parents.
	top, err := os.MkdirTemp("/tmp", "control")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(top)
	dir, err := OpenDir(filepath.Join(top, "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := dir.Listen("v", Record{Backing: "/b", Mountpoint: "/m", PID: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	s := &Server{Methods: testMethods()}
	go s.Serve(socket.UnixListener)
	stranger := func() string {
		exe := filepath.Join(top, "test")
		if out, err := exec.Command("cp", os.Args[0], exe).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cmd := exec.Command(exe, "-test.run=^TestStrangerHelper$")
		cmd.Env = append(os.Environ(), "CONTROL_TEST_SOCKET="+filepath.Join(dir.path, "v.sock"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	if out := stranger(); !strings.Contains(out, "permission denied") {
		t.Errorf("a stranger got %q", out)
	}
	for path, mode := range map[string]os.FileMode{dir.path: 0o755, filepath.Join(dir.path, "v.sock"): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if out := stranger(); !strings.Contains(out, `"code":"denied"`) {
		t.Errorf("a stranger at an open socket got %q", out)
	}
}

// TestStrangerHelper is the process that TestStranger starts.
func TestStrangerHelper(t *testing.T) {
	path := os.Getenv("CONTROL_TEST_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(conn, `{"v":1,"method":"who"}`)
	answer, err := io.ReadAll(conn)
	fmt.Println(string(answer), err)
}

func TestHangUpCancels(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	s := &Server{Methods: map[string]Method{"wait": func(ctx context.Context, c *Call) (any, error) {
		close(started)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}}}
	dir, _ := testServer(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-started
		cancel()
	}()
	if err := dir.Client("v").Call(ctx, "wait", nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	<-ended
}

// Close cancels what runs, and the client still hears the answer.
func TestCloseAnswers(t *testing.T) {
	started := make(chan struct{})
	s := &Server{Methods: map[string]Method{"wait": func(ctx context.Context, c *Call) (any, error) {
		close(started)
		<-ctx.Done()
		return "ended", nil
	}}}
	dir, socket := testServer(t, s)
	var answer string
	done := make(chan error, 1)
	go func() { done <- dir.Client("v").Call(context.Background(), "wait", nil, &answer, nil) }()
	<-started
	socket.Close()
	s.Close(10 * time.Second)
	if err := <-done; err != nil || answer != "ended" {
		t.Fatalf("got %q, %v", answer, err)
	}
	var gone *GoneError
	if err := dir.Client("v").Call(context.Background(), "wait", nil, nil, nil); !errors.As(err, &gone) {
		t.Fatalf("a call after the end: %v", err)
	}
}

func TestOverload(t *testing.T) {
	release := make(chan struct{})
	var running sync.WaitGroup
	running.Add(maxCalls)
	s := &Server{Methods: map[string]Method{"wait": func(context.Context, *Call) (any, error) {
		running.Done()
		<-release
		return true, nil
	}}}
	dir, _ := testServer(t, s)
	done := make(chan error, maxCalls)
	for range maxCalls {
		go func() { done <- dir.Client("v").Call(context.Background(), "wait", nil, nil, nil) }()
	}
	running.Wait()
	var wire *Error
	if err := dir.Client("v").Call(context.Background(), "wait", nil, nil, nil); !errors.As(err, &wire) || wire.Code != CodeOverload {
		t.Errorf("one call too many: %v", err)
	}
	close(release)
	for range maxCalls {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Whatever bytes come, the server answers with one line of the protocol or
// none, and goes on serving.
func TestGarbage(t *testing.T) {
	dir, _ := testServer(t, &Server{Methods: testMethods()})
	path := filepath.Join(dir.path, "v.sock")
	check := func(garbage []byte) error {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _ = conn.Write(garbage) // the server may hang up in the middle
		_ = conn.(*net.UnixConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		if errors.Is(err, syscall.ECONNRESET) {
			return nil // it did not read all of it
		}
		if err != nil || len(answer) == 0 {
			return err
		}
		lines := bytes.Split(bytes.TrimSuffix(answer, []byte("\n")), []byte("\n"))
		for _, line := range lines {
			if _, err := ParseResponse(line); err != nil {
				return fmt.Errorf("answered %q: %w", line, err)
			}
		}
		return nil
	}
	rapid.Check(t, func(t *rapid.T) {
		garbage := rapid.OneOf(
			rapid.SliceOf(rapid.Byte()),
			rapid.Map(rapid.SampledFrom([]string{`{"v":1,"method":"echo","params":{"text":`, `{"v":1,`, `{"v":2}`, `{"v":1,"method":"count"}`}),
				func(s string) []byte { return []byte(s + "\n") }),
		).Draw(t, "garbage")
		if err := check(garbage); err != nil {
			t.Fatal(err)
		}
	})
	if err := check(bytes.Repeat([]byte("x"), 3*MaxRequest)); err != nil {
		t.Fatal(err)
	}
	if err := dir.Client("v").Call(context.Background(), "none", nil, nil, nil); err != nil {
		t.Fatalf("after the garbage: %v", err)
	}
}

// A process that is short of descriptors for a while answers again afterwards.
func TestServeShortOfDescriptors(t *testing.T) {
	dir, _ := testServer(t, &Server{Methods: map[string]Method{"echo": echo}})
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(dir.Path(), "v.sock")})
	time.Sleep(2 * acceptPause) // for Serve to meet it
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
		t.Fatal(err)
	}
	if err := dir.Client("v").Call(t.Context(), "echo", map[string]string{"text": "x"}, nil, nil); err != nil {
		t.Error(err)
	}
}
