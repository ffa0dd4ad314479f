package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tempDir is a canonical temporary directory.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDirectory(t *testing.T) {
	top := tempDir(t)
	real := mkdir(t, top, "real")
	write(t, filepath.Join(top, "file"), "")
	for link, target := range map[string]string{"link": "real", "dangling": "none", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path    string
		want    string
		problem Problem
	}{
		{"real", real, ""},
		{"link", real, ""},
		{"real/../link/.", real, ""},
		{"none", "", ProblemMissing},
		{"dangling", "", ProblemMissing},
		{"file", "", ProblemNotDirectory},
		{"file/below", "", ProblemNotDirectory},
	} {
		got, err := directory(RoleMountpoint, filepath.Join(top, c.path))
		var path *PathError
		if c.problem == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %q, %v", c.path, got, err)
		}
		if c.problem != "" && (!errors.As(err, &path) || path.Problem != c.problem || path.Role != RoleMountpoint) {
			t.Errorf("%s: %v, want %q", c.path, err, c.problem)
		}
	}
	if _, err := directory(RoleBacking, filepath.Join(top, "loop")); err == nil {
		t.Error("a loop of links is a directory")
	}
}

func TestCheckPair(t *testing.T) {
	top := tempDir(t)
	empty, full, below := mkdir(t, top, "empty"), mkdir(t, top, "full"), mkdir(t, top, "full", "below")
	found := mkdir(t, top, "found")
	mkdir(t, found, "lost+found")
	similar := mkdir(t, top, "full2")
	for _, c := range []struct {
		backing, mountpoint string
		problem             Problem
	}{
		{full, empty, ""},
		{full, full, ""},
		{full, found, ""},
		{full, similar, ""},
		{full, below, ProblemInsideBacking},
		{below, full, ProblemInsideMount},
		{empty, full, ProblemNotEmpty},
		{full, "/", ProblemInsideMount},
		{"/", full, ProblemInsideBacking},
	} {
		err := checkPair(c.backing, c.mountpoint)
		var path *PathError
		if c.problem == "" && err != nil || c.problem != "" && (!errors.As(err, &path) || path.Problem != c.problem) {
			t.Errorf("%s at %s: %v, want %q", c.backing, c.mountpoint, err, c.problem)
		}
	}
}

// inside agrees with what filepath.Rel says.
func TestInside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`(/[ab.]{1,3}){0,4}`)
		a, b := filepath.Clean("/"+path.Draw(t, "a")), filepath.Clean("/"+path.Draw(t, "b"))
		rel, err := filepath.Rel(b, a)
		if err != nil {
			t.Fatal(err)
		}
		want := rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
		if inside(a, b) != want {
			t.Fatalf("inside(%q, %q) is %v", a, b, !want)
		}
	})
}

func TestRunDir(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		uid  int
		want string
	}{
		{nil, 0, "/run/akvfs"},
		{map[string]string{"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/akvfs"},
		{map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/akvfs"},
		{map[string]string{"XDG_RUNTIME_DIR": "relative"}, 7, filepath.Join(os.TempDir(), "akvfs-run-7")},
		{map[string]string{"AKVFS_RUN_DIR": "/x", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/x"},
	} {
		if got := RunDir(func(name string) string { return c.env[name] }, c.uid); got != c.want {
			t.Errorf("%v, user %d: %q, want %q", c.env, c.uid, got, c.want)
		}
	}
}

func TestMountTable(t *testing.T) {
	top := tempDir(t)
	for _, name := range []string{"plain", "with space"} {
		dir := mkdir(t, top, name)
		tmpfs(t, dir)
		m, err := topMount(dir)
		if err != nil || m == nil || m.FSType != "tmpfs" {
			t.Fatalf("%q: %+v, %v", name, m, err)
		}
		mkdir(t, dir, "below")
		tmpfs(t, filepath.Join(dir, "below"))
		tmpfs(t, dir) // covers both
		devices, err := mountDevices(dir)
		if err != nil || len(devices) != 2 || devices[0] != device(m) || devices[1] == devices[0] {
			t.Errorf("%q: devices %q, %v", name, devices, err)
		}
		if now, err := topMount(dir); err != nil || device(now) != devices[1] {
			t.Errorf("%q: the upper mount is %+v, %v", name, now, err)
		}
		below, err := submounts(dir)
		if err != nil || len(below) != 1 || below[0] != filepath.Join(dir, "below") {
			t.Errorf("%q: submounts %q, %v", name, below, err)
		}
		for _, path := range []string{dir, filepath.Join(dir, "x")} {
			if in, err := insideVolume(path); in || err != nil {
				t.Errorf("%q is inside a volume: %v", path, err)
			}
		}
		if n, err := clearDead(t.Context(), dir); n != 0 || err != nil {
			t.Errorf("%q: cleared %d, %v", name, n, err)
		}
	}
	if m, err := topMount(top); m != nil || err != nil {
		t.Errorf("no mount: %+v, %v", m, err)
	}
}

func tmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount (the test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestHolders(t *testing.T) {
	dir := mkdir(t, tempDir(t), "m")
	tmpfs(t, dir)
	if h := holders(dir); len(h) != 0 {
		t.Fatalf("nobody holds it, but %v", h)
	}
	file := filepath.Join(dir, "data file")
	write(t, file, "x")
	cwd := exec.Command("sleep", "1000")
	cwd.Dir = dir
	open := exec.Command("sh", "-c", `exec 3<"$0"; exec sleep 1000`, file)
	for _, cmd := range []*exec.Cmd{cwd, open} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			cmd.Process.Kill()
			cmd.Wait()
		}()
	}
	want := map[int]string{cwd.Process.Pid: dir, open.Process.Pid: file}
	var found []Holder
	for len(found) < 2 || found[0].Command != "sleep" || found[1].Command != "sleep" { // they may not be up yet
		found = holders(dir)
	}
	for _, h := range found {
		if h.Path != want[h.PID] {
			t.Errorf("%+v", h)
		}
	}
	mkdir(t, dir, "sub")
	tmpfs(t, filepath.Join(dir, "sub"))
	if h := holders(dir); len(h) != 3 || h[0] != (Holder{Path: filepath.Join(dir, "sub")}) {
		t.Errorf("with a mount below: %v", h)
	}
	if text := (&BusyError{dir, []Holder{{7, "mongod", "/m/x"}, {0, "", "/m/y"}}}).Error(); text != dir+" is in use by mongod (process 7: /m/x), a mount at /m/y" {
		t.Error(text)
	}
}

func TestMappedBy(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "mapped")
	write(t, path, "some text")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 5, unix.PROT_READ, unix.MAP_SHARED)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	if got := mappedBy("/proc/self", dir); got != path {
		t.Errorf("mapped is %q", got)
	}
	if got := heldBy("/proc/self", dir); got != path {
		t.Errorf("held is %q", got)
	}
	if got := mappedBy("/proc/self", dir+"x"); got != "" {
		t.Errorf("elsewhere, %q is mapped", got)
	}
}

func TestFlockHolder(t *testing.T) {
	path := filepath.Join(tempDir(t), "lock")
	if pid, ok := flockHolder(path); ok {
		t.Fatalf("a missing file is held by %d", pid)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if pid, ok := flockHolder(path); ok {
		t.Fatalf("held by %d", pid)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if pid, ok := flockHolder(path); !ok || pid != os.Getpid() {
		t.Errorf("held by %d, %v", pid, ok)
	}
}

func TestClaim(t *testing.T) {
	dir := tempDir(t)
	unlock, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, err := claim(dir); !errors.As(err, &inUse) {
		t.Errorf("claimed twice: %v", err)
	}
	unlock()
	again, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
	ro := mkdir(t, dir, "ro")
	tmpfs(t, ro)
	if err := unix.Mount("none", ro, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := claim(ro); !errors.Is(err, syscall.EROFS) {
		t.Errorf("read-only: %v", err)
	}
}
