package control

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testRecord() Record {
	return Record{Volume: "0f", Backing: "/b", Mountpoint: "/m", PID: os.Getpid(), Started: time.Unix(1, 0).UTC()}
}

func TestOpenDir(t *testing.T) {
	top := t.TempDir()
	if _, err := OpenDir(filepath.Join(top, "none"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	made := filepath.Join(top, "a", "run")
	if _, err := OpenDir(made, true); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(made); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("made with %v, %v", fi.Mode(), err)
	}
	open := filepath.Join(top, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o770); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(top, "link")
	if err := os.Symlink(made, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{open, link} {
		var unsafe *UnsafeDirError
		if _, err := OpenDir(path, true); !errors.As(err, &unsafe) {
			t.Errorf("%s: %v, want an UnsafeDirError", path, err)
		}
	}
}

// The socket works however long the directory's path is, and is 0600.
func TestLongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("long/", 60), "run")
	dir, err := OpenDir(path, true)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := dir.Listen("v", testRecord())
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Methods: testMethods()}
	go s.Serve(socket.UnixListener)
	if err := dir.Client("v").Call(context.Background(), "none", nil, nil, nil); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"v.sock", "v.json"} {
		if fi, err := os.Lstat(filepath.Join(path, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(path, "v.*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestListenTwice(t *testing.T) {
	dir, err := OpenDir(filepath.Join(t.TempDir(), "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := dir.Listen("v", testRecord())
	if err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, err := dir.Listen("v", testRecord()); !errors.As(err, &inUse) || inUse.Entry.Mountpoint != "/m" {
		t.Errorf("a second one: %v", err)
	}
	// A killed daemon: its descriptor is gone, its files are there.
	if err := socket.UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := dir.Entry("v")
	if err != nil || e.Live || e.Record != (Record{1, "0f", "/b", "/m", os.Getpid(), time.Unix(1, 0).UTC()}) {
		t.Errorf("the dead one: %+v, %v", e, err)
	}
	again, err := dir.Listen("v", testRecord())
	if err != nil {
		t.Fatalf("after a dead one: %v", err)
	}
	defer again.Close()
	entries, err := dir.Entries()
	if err != nil || len(entries) != 1 || !entries[0].Live {
		t.Errorf("entries: %+v, %v", entries, err)
	}
}

func TestEntriesLeavesOutNonsense(t *testing.T) {
	dir, err := OpenDir(filepath.Join(t.TempDir(), "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"nonsense.json": "{", "newer.json": `{"v":9}`, ".hidden.json": "{}", "other.txt": "x", ".left.json3184370505918273645": "",
		"relative.json": `{"v":1,"pid":1,"backing":"a","mountpoint":"/b"}`,
		"good.json":     `{"v":1,"pid":1,"backing":"/a","mountpoint":"/b","volume":"id","colour":"red"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir.path, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := dir.Entries()
	if err != nil || len(entries) != 1 || entries[0].Name != "good" || entries[0].Live {
		t.Fatalf("entries: %+v, %v", entries, err)
	}
}

func TestNames(t *testing.T) {
	dir, err := OpenDir(filepath.Join(t.TempDir(), "run"), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", "a/b", ".x", "a\x00b", strings.Repeat("x", 201)} {
		if _, err := dir.Listen(name, testRecord()); err == nil {
			t.Errorf("%q was taken for a name", name)
		}
		if _, err := dir.Entry(name); err == nil {
			t.Errorf("%q has an entry", name)
		}
		if err := dir.Client(name).Call(context.Background(), "none", nil, nil, nil); err == nil {
			t.Errorf("%q answers", name)
		}
	}
}
