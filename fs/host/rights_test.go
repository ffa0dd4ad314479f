package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/control"
)

var alice = control.Peer{UID: 70001, GID: 70001, Groups: []uint32{70010, 70001}}

// place is a directory of root's on the way to which nobody else can do anything.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "akvfs-host")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func mkdir(t *testing.T, path string, uid int, mode os.FileMode) string {
	t.Helper()
	err := os.MkdirAll(path, 0o755)
	if err == nil {
		err = os.Chown(path, uid, uid)
	}
	if err == nil {
		err = syscall.Chmod(path, uint32(mode.Perm())|uint32(mode&0o7000))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestStable: a path is trusted only where nobody but root can change what it
// means.
func TestStable(t *testing.T) {
	top := place(t)
	join := func(elem ...string) string { return filepath.Join(append([]string{top}, elem...)...) }
	mkdir(t, join("root", "alice"), 70001, 0o700)
	mkdir(t, join("alice"), 70001, 0o755)
	mkdir(t, join("alice", "root"), 0, 0o755)
	mkdir(t, join("open"), 0, 0o777)
	mkdir(t, join("open", "root"), 0, 0o755)
	mkdir(t, join("group"), 0, 0o775)
	mkdir(t, join("group", "root"), 0, 0o755)
	mkdir(t, join("sticky"), 0, 0o1777)
	mkdir(t, join("sticky", "root", "alice"), 70001, 0o755)
	mkdir(t, join("sticky", "alice"), 70001, 0o755)
	for _, link := range []string{join("link"), join("sticky", "link")} {
		if err := os.Symlink(join("root"), link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(join("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		join("root"): "", join("root", "alice"): "", join("alice"): "", join("open"): "", join("sticky"): "",
		join("sticky", "root"): "", join("sticky", "root", "alice"): "", // only root can rename what is root's there
		join("alice", "root"): "is user 70001's", join("open", "root"): "in its place", join("group", "root"): "in its place",
		join("sticky", "alice"): "in its place", join("link"): "cannot be opened", join("link", "alice"): "cannot be opened",
		join("sticky", "link"): "cannot be opened", join("file"): "cannot be opened", join("missing"): "", join("missing", "more"): "cannot be opened", join("sticky", "missing"): "cannot be opened",
		"/": "is not the absolute", "": "is not the absolute", "root": "is not the absolute",
		join("root") + "/": "is not the absolute", join("root") + "/../root": "is not the absolute", "/proc/self/root": "cannot be opened",
	} {
		err := Stable(path)
		_, typed := errors.AsType[*DirectoryError](err)
		if (err == nil) != (says == "") || err != nil && (!typed || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
}

// TestOwnEmpty: an empty directory that the caller has, and can reach.
func TestOwnEmpty(t *testing.T) {
	top := place(t)
	join := func(elem ...string) string { return filepath.Join(append([]string{top}, elem...)...) }
	mkdir(t, join("empty"), 70001, 0o700)
	mkdir(t, join("disk", "lost+found"), 0, 0o700)
	mkdir(t, join("disk"), 70001, 0o700)
	mkdir(t, join("full", "dir"), 70001, 0o700)
	mkdir(t, join("full"), 70001, 0o700)
	mkdir(t, join("root"), 0, 0o777)
	mkdir(t, join("shut"), 70001, 0)
	mkdir(t, join("hidden"), 0, 0o700)
	mkdir(t, join("hidden", "empty"), 70001, 0o700)
	mkdir(t, join("group"), 0, 0o710)
	mkdir(t, join("group", "empty"), 70001, 0o700)
	if err := os.Chown(join("group"), 0, 70010); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		join("empty"): "", join("disk"): "", join("group", "empty"): "",
		join("full"): "is not empty", join("root"): "is not user 70001's own", join("shut"): "permission denied",
		join("hidden", "empty"): "permission denied", join("missing"): "no such file",
	} {
		if err := ownEmpty(alice, path); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	stranger := control.Peer{UID: 70001, GID: 70001} // without the group
	if err := ownEmpty(stranger, join("group", "empty")); err == nil {
		t.Error("reached without the group's rights")
	}
}

// Only the thread that takes a user's rights has them.
func TestWithRights(t *testing.T) {
	path := filepath.Join(place(t), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		err := withRights(alice, func() error {
			f, err := os.Open(path)
			if err == nil {
				f.Close()
			}
			return err
		})
		if !errors.Is(err, os.ErrPermission) {
			t.Fatalf("as another user: %v", err)
		}
		groups, err := unix.Getgroups()
		if err != nil || len(groups) > 0 && groups[0] == 70010 {
			t.Fatalf("%v, %v", groups, err)
		}
		if f, err := os.Open(path); err != nil {
			t.Fatal(err)
		} else {
			f.Close()
		}
	}
	want := errors.New("as it is")
	if err := withRights(control.Peer{}, func() error { return want }); err != want {
		t.Error(err)
	}
}

func FuzzStable(f *testing.F) {
	for _, path := range []string{"/", "/etc", "/tmp/x", "/proc/self/cwd", "//etc", "/etc/../etc", "relative", "\x00", "/etc\x00/x", "/proc/1/root/etc"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if Stable(path) != nil {
			return
		}
		real, err := filepath.EvalSymlinks(path)
		if errors.Is(err, os.ErrNotExist) {
			real, err = filepath.EvalSymlinks(filepath.Dir(path))
			real = filepath.Join(real, filepath.Base(path))
		}
		if err != nil || real != path || path[0] != '/' {
			t.Errorf("%q is %q, %v", path, real, err)
		}
	})
}
