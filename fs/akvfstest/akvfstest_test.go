//go:build !race

// No race is to be found here that devvolume's tests do not find: these are many
// short runs of a program, which take long under the detector.

package akvfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/akvfs/akvfs/keymgr/file"
)

const secret = "a text that must not be found in the backing directory"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gone wants nothing to be left of a mount, soon.
func gone(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Dir(dir)))
		must(t, err)
		_, err = os.Lstat(filepath.Dir(dir))
		if len(mounts) == 0 && errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there: %v, %d mounts", dir, err, len(mounts))
		}
	}
}

func TestMount(t *testing.T) {
	var v *Volume
	t.Run("use", func(t *testing.T) {
		v = New(t, Options{Dir: t.TempDir(), PlainNames: true, JournalSize: 1 << 20})
		name := filepath.Join(v.Dir, "file")
		must(t, os.WriteFile(name, []byte(secret), 0o600))
		f, err := os.Open(name)
		must(t, err)
		must(t, f.Sync())
		must(t, f.Close())
		mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(v.Dir))
		if err != nil || len(mounts) != 1 || mounts[0].FSType != "fuse.akvfs" {
			t.Fatalf("%v, %v", mounts, err)
		}
		stored, err := os.ReadFile(filepath.Join(v.Backing, "file")) // a plain name
		if err != nil || len(stored) == 0 || bytes.Contains(stored, []byte(secret)) {
			t.Errorf("%v, %d bytes", err, len(stored))
		}
		path, _, err := file.ParseKeyID(v.KeyID)
		must(t, err)
		_, err = file.Open(path, file.Options{})
		must(t, err)
	})
	gone(t, v.Dir)
}

// Volumes of one test are apart.
func TestMountTwice(t *testing.T) {
	a, b := Mount(t), Mount(t)
	must(t, os.WriteFile(filepath.Join(a, "file"), nil, 0o600))
	if _, err := os.Stat(filepath.Join(b, "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s and %s: %v", a, b, err)
	}
}

// What a test leaves running does not keep the mount.
func TestMountBusy(t *testing.T) {
	var dir string
	cmd := exec.Command("sleep", "1000")
	t.Run("use", func(t *testing.T) {
		dir = Mount(t)
		cmd.Dir = dir
		must(t, cmd.Start())
	})
	gone(t, dir)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
}

// scenarioVariable makes TestScenario, in a process of its own, do something
// that ends the process.
const scenarioVariable = "AKVFSTEST_SCENARIO"

// TestScenario is a program for the tests below: it prints where its mount is.
func TestScenario(t *testing.T) {
	scenario := os.Getenv(scenarioVariable)
	if scenario == "" {
		return
	}
	dir := Mount(t)
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(secret), 0o600))
	fmt.Printf("mounted at %s\n", dir)
	switch scenario {
	case "panic":
		panic("on purpose")
	case "goroutine panics":
		go panic("on purpose")
		select {}
	case "exit":
		os.Exit(3)
	case "fail":
		t.Fatal("on purpose")
	case "time out":
		select {}
	case "kill":
		must(t, syscall.Kill(os.Getpid(), syscall.SIGKILL))
		select {}
	}
}

// self is this test program.
func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

// scenario is a run of TestScenario under a command such as env.
func scenario(name string, under ...string) *exec.Cmd {
	line := append(under, self(), "-test.run=^TestScenario$", "-test.v")
	if name == "time out" {
		line = append(line, "-test.timeout=2s")
	}
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), scenarioVariable+"="+name, "GOTRACEBACK=none")
	return cmd
}

// mountOf finds a scenario's mount in its output.
func mountOf(t *testing.T, out []byte) string {
	t.Helper()
	_, after, ok := strings.Cut(string(out), "mounted at ")
	if !ok {
		t.Fatalf("nothing was mounted:\n%s", out)
	}
	dir, _, _ := strings.Cut(after, "\n")
	return dir
}

// However the test's process ends, nothing is left.
func TestGoneAfter(t *testing.T) {
	for name, fails := range map[string]bool{
		"success": false, "fail": true, "panic": true, "goroutine panics": true, "exit": true, "time out": true, "kill": true,
	} {
		t.Run(name, func(t *testing.T) {
			out, err := scenario(name).CombinedOutput()
			if (err != nil) != fails {
				t.Errorf("%v\n%s", err, out)
			}
			gone(t, mountOf(t, out))
		})
	}
}

// A host without the device skips, or fails where that is asked for.
func TestWithoutFUSE(t *testing.T) {
	without := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mount -t tmpfs none /dev && exec "$@"`, "sh"}
	out, err := scenario("success", without...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("SKIP: TestScenario")) || !bytes.Contains(out, []byte("there is no /dev/fuse: load the fuse module, or give the container --device /dev/fuse")) {
		t.Errorf("%v\n%s", err, out)
	}
	cmd := scenario("success", without...)
	cmd.Env = append(cmd.Env, requireVariable+"=1")
	out, err = cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("FAIL: TestScenario")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// A user without privileges mounts by way of fusermount3.
func TestUser(t *testing.T) {
	dir := openDir(t)
	device := filepath.Join(dir, "fuse")
	must(t, exec.Command("mknod", "-m", "666", device, "c", "10", "229").Run())
	must(t, exec.Command("cp", self(), filepath.Join(dir, "test")).Run())
	for _, name := range []string{"success", "kill"} {
		cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "sh", "-c",
			`mount --bind "$1/fuse" /dev/fuse || exit 1
			setpriv --reuid 65534 --regid 65534 --clear-groups "$1/test" -test.run='^TestScenario$' -test.v
			for i in $(seq 600); do ls -d "$1"/akvfs-dev-* >/dev/null 2>&1 || { grep "$1.*fuse.akvfs" /proc/self/mounts || echo "all gone"; exit; }; sleep 0.1; done`, "sh", dir)
		cmd.Env = append(os.Environ(), scenarioVariable+"="+name, "TMPDIR="+dir, "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("mounted at "+dir)) || !bytes.Contains(out, []byte("all gone")) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// openDir is a directory that every user may write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "akvfstest")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o777))
	return dir
}

// If test and keeper are both killed, the next test in the same directory
// cleans up.
func TestCleansUpAfterKeeper(t *testing.T) {
	tmp := t.TempDir()
	cmd := scenario("time out")
	cmd.Args = append(cmd.Args, "-test.timeout=1h")
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var seen []byte
	for buf := make([]byte, 1024); !bytes.Contains(seen, []byte("/mount\n")); {
		n, err := out.Read(buf)
		must(t, err)
		seen = append(seen, buf[:n]...)
	}
	dir := mountOf(t, seen)
	keepers, err := exec.Command("pgrep", "--parent", fmt.Sprint(cmd.Process.Pid)).Output()
	must(t, err)
	var keeper int
	_, err = fmt.Sscan(string(keepers), &keeper)
	must(t, err)
	must(t, syscall.Kill(cmd.Process.Pid, syscall.SIGSTOP)) // it can do nothing about it
	must(t, syscall.Kill(keeper, syscall.SIGKILL))
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()                                                                                          // it was killed
	if _, err := os.Stat(dir); !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) { // dead, or dying
		t.Errorf("the mount that is left answers %v", err)
	}
	v := New(t, Options{Dir: tmp})
	gone(t, dir)
	must(t, os.WriteFile(filepath.Join(v.Dir, "file"), nil, 0o600))
}

// A test that has ended before it began mounts nothing.
func TestOptionsAreNonsense(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self())
	cmd.Env = append(os.Environ(), "AKVFS_TETHER_FD=3", configVariable+"={")
	cmd.ExtraFiles = []*os.File{os.Stderr}
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte(configVariable)) {
		t.Errorf("%v\n%s", err, out)
	}
}
