package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guestVariable makes this test's binary call a method of a socket as whoever
// runs it.
const guestVariable = "AKVFS_CONTROL_GUEST"

func TestMain(m *testing.M) {
	if path := os.Getenv(guestVariable); path != "" {
		os.Exit(guest(path))
	}
	os.Exit(m.Run())
}

func guest(path string) int {
	dir, err := OpenDir(path, false)
	if err == nil {
		var entries []Entry
		if entries, err = dir.Entries(); err == nil {
			var p Peer
			err = dir.Client("v").Call(context.Background(), "who", nil, &p, nil)
			fmt.Println(len(entries), p.UID, p.GID, p.Groups)
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// callAs calls as user and group 65534 with further groups.
func callAs(t *testing.T, dir string) (string, error) {
	t.Helper()
	program := filepath.Join(filepath.Dir(dir), "guest")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = []string{guestVariable + "=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{4711, 4712}}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestPublic: a public socket is found and called by other users, whom the
// kernel names with their groups; a private one beside it is not.
func TestPublic(t *testing.T) {
	top, err := os.MkdirTemp("/var/tmp", "akvfs-control")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(top)
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(top, "run")
	dir, err := OpenDir(path, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, public := range []bool{true, false} {
		listen := dir.Listen
		if public {
			listen = dir.ListenPublic
		}
		socket, err := listen("v", testRecord())
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{Methods: testMethods(), Authorize: func(Peer, string) error { return nil }}
		go s.Serve(socket.UnixListener)
		out, err := callAs(t, path)
		if public && (err != nil || out != "1 65534 65534 [4711 4712 65534]\n") {
			t.Errorf("%v: %s", err, out)
		}
		if !public && (err == nil || !strings.Contains(out, "permission denied")) {
			t.Errorf("a private socket: %v: %s", err, out)
		}
		if err := socket.Close(); err != nil {
			t.Error(err)
		}
		s.Close(time.Second)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// TestGuests: strangers, however many, leave room for the daemon's own user,
// and one of them leaves room for others.
func TestGuests(t *testing.T) {
	s := &Server{}
	_, cancel := context.WithCancel(t.Context())
	defer cancel()
	const stranger = 4711
	var theirs *net.UnixConn
	add := func(uid uint32) (refused int) {
		conn, _, err := socketPair(t)
		if err != nil {
			t.Fatal(err)
		}
		if s.add(conn, cancel, Peer{UID: uid}) != nil {
			return 1
		}
		if uid == stranger {
			theirs = conn
		}
		return 0
	}
	refused := 0
	for range maxCalls {
		refused += add(stranger)
	}
	if refused != maxCalls-maxOfGuest {
		t.Errorf("of one stranger %d calls were refused", refused)
	}
	refused = 0
	for i := range uint32(maxCalls) {
		refused += add(stranger + 1 + i)
	}
	if refused != maxCalls-maxGuests+maxOfGuest {
		t.Errorf("%d strangers were refused", refused)
	}
	refused = 0
	for range maxCalls {
		refused += add(uint32(os.Geteuid()))
	}
	if refused != maxGuests {
		t.Errorf("%d owners were refused", refused)
	}
	s.remove(theirs, Peer{UID: stranger})
	if add(stranger) != 0 {
		t.Error("a place that became free is not given")
	}
}

// socketPair is a connection and its other end.
func socketPair(t *testing.T) (*net.UnixConn, *net.UnixConn, error) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, nil, err
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1], nil
}
