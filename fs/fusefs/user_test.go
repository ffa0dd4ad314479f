package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// nobody is a user that every system has by name, as fusermount3 wants.
const nobody = 65534

// userRole is an ordinary user who mounts, by way of fusermount3.
func userRole() int {
	var dirs []string
	roleArgs(&dirs)
	if err := mountAsUser(dirs[0], dirs[1]); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("ok")
	return 0
}

func mountAsUser(backing, at string) error {
	st, err := store.OpenDisk(backing)
	if err != nil {
		return err
	}
	s, err := MountFS(passthrough{st}, at, Options{FSName: "mine", Extra: []string{"noexec"}})
	if err != nil {
		return err
	}
	file := filepath.Join(at, "f")
	f, err := os.Create(file)
	if err != nil {
		return errors.Join(err, s.Unmount())
	}
	busy := s.Unmount()
	_, err = f.WriteString("hello")
	err = errors.Join(err, f.Close())
	table, err2 := os.ReadFile("/proc/self/mountinfo")
	var info unix.Stat_t
	err = errors.Join(err, err2, unix.Stat(file, &info), s.Unmount())
	if !errors.Is(busy, syscall.EBUSY) {
		err = errors.Join(err, fmt.Errorf("unmount in use: %v", busy))
	}
	if !strings.Contains(string(table), " fuse.akvfs mine ") || !strings.Contains(string(table), "noexec") {
		err = errors.Join(err, fmt.Errorf("mount table:\n%s", table))
	}
	if info.Uid != uint32(os.Geteuid()) {
		err = errors.Join(err, fmt.Errorf("owner %d", info.Uid))
	}
	return err
}

// TestOrdinaryUser mounts as a user, in a mount namespace of its own where the
// FUSE device is everybody's, as it is on most hosts. The namespace lets go of
// the mounts of tests that run beside this one.
func TestOrdinaryUser(t *testing.T) {
	base := t.TempDir()
	backing, at := filepath.Join(base, "backing"), filepath.Join(base, "mount")
	for _, d := range []string{backing, at} {
		must(t, os.Mkdir(d, 0o755))
		must(t, os.Chown(d, nobody, nobody))
	}
	for d := base; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	binary := filepath.Join(base, "test")
	data, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(binary, data, 0o755))
	script := `set -e
		mount --make-rprivate /
		findmnt -rn -t fuse.akvfs -o TARGET | xargs -r umount -i -c -l || true
		mknod -m 666 "$1/fuse" c 10 229
		mount --bind "$1/fuse" /dev/fuse
		exec setpriv --reuid $2 --regid $3 --clear-groups "$1/test"`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script, "sh", base, fmt.Sprint(nobody), fmt.Sprint(nobody))
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), role+"=user", fmt.Sprintf(`%s_ARGS=[%q,%q]`, role, backing, at))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(backing, "f")); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}
