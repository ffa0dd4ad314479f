package control

import (
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
