package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A socket beside a control socket is its owner's alone, replaces what a dead
// daemon left, is no entry, and has any length of path.
func TestListenBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	d, err := OpenDir(path, true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Listen("v", Record{Volume: "v", Backing: "/b", Mountpoint: "/m", PID: os.Getpid(), Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file := filepath.Join(path, "v.metrics.sock")
	for range 2 { // the second time over what the first left
		l, remove, err := s.ListenBeside("metrics")
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Lstat(file); err != nil || fi.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%v, %v", fi, err)
		}
		err = d.withAddress("v.metrics", func(addr *net.UnixAddr) error {
			conn, err := net.DialUnix("unix", nil, addr)
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		l.Close()
		defer remove()
	}
	if entries, err := d.Entries(); err != nil || len(entries) != 1 || entries[0].Name != "v" {
		t.Errorf("%+v, %v", entries, err)
	}
	if _, _, err := s.ListenBeside("../x"); err == nil {
		t.Error("a socket outside of the directory")
	}
}

// A service's socket is everybody's, is no volume, and is there once.
func TestListenService(t *testing.T) {
	dir, err := OpenDir(filepath.Join(t.TempDir(), "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	first, _, err := dir.ListenService("host")
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir.path: 0o755, filepath.Join(dir.path, "host.sock"): 0o666} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	if entries, err := dir.Entries(); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if _, _, err := dir.ListenService("host"); err == nil || err.Error() != `the service "host" is running already` {
		t.Error(err)
	}
	first.Close() // as a killed one leaves it
	l, remove, err := dir.ListenService("host")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Methods: testMethods()}
	go s.Serve(l)
	if err := dir.Client("host").Call(t.Context(), "none", nil, nil, nil); err != nil {
		t.Error(err)
	}
	if err := errors.Join(l.Close(), remove()); err != nil {
		t.Error(err)
	}
	if _, _, err := dir.ListenService("../host"); err == nil {
		t.Error("a socket outside of the directory")
	}
}
