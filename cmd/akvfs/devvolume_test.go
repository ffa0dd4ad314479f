//go:build !race

// No race is to be found here that other tests do not find: these are many
// short runs of the program, which take long under the detector.

package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
)

// devVolume prepares `akvfs dev-volume` in the world's directory.
func (w *world) devVolume(args ...string) *exec.Cmd {
	return w.command(append([]string{"dev-volume", "--dir", w.mkdir(join(w.dir, "dev")), "--journal-size", "1M"}, args...)...)
}

// nothingLeft waits until no throwaway volume is left.
func (w *world) nothingLeft() {
	w.t.Helper()
	dir := join(w.dir, "dev")
	eventually(w.t, "all removed", func() bool {
		left, err := os.ReadDir(dir)
		w.must(err)
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		w.must(err)
		return len(left)+len(mounts) == 0
	})
}

func TestDevVolume(t *testing.T) {
	w := newWorld(t)
	cmd := w.devVolume("--names", "plain", "--log-file", "log", "-o", "noexec,check-interval=1h", "--", "sh", "-c", `
		set -e
		cat >"$AKVFS_DEV_VOLUME/file"
		cmp "$AKVFS_DEV_VOLUME/file" /proc/self/exe >/dev/null && exit 9
		grep -q " $AKVFS_DEV_VOLUME fuse.akvfs .*noexec" /proc/self/mounts
		test -s "$AKVFS_DEV_BACKING/file"
		! grep -q "what was sent" "$AKVFS_DEV_BACKING/file"
		"$0" status "$AKVFS_DEV_VOLUME" | grep -q "every 1h"
		"$0" dev-key rotate "$AKVFS_DEV_KEY" >/dev/null
		"$0" key rotate "$AKVFS_DEV_VOLUME" >/dev/null
		"$0" snapshot create "$AKVFS_DEV_VOLUME" one >/dev/null
		cat "$AKVFS_DEV_VOLUME/file"
		echo to standard error >&2
		exit 42`, binary)
	cmd.Stdin = strings.NewReader("what was sent")
	r := w.finish(cmd)
	if r.code != 42 || r.out != "what was sent" || r.err != "to standard error\n" {
		t.Errorf("%+v", r)
	}
	w.nothingLeft()
	if log := w.read(join(w.dir, "log")); !strings.Contains(log, "everything is committed") {
		t.Error(log)
	}
}

func TestDevVolumeExitStatus(t *testing.T) {
	w := newWorld(t)
	w.write(join(w.dir, "script"), "")
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{0, "", []string{"true"}},
		{1, "", []string{"false"}},
		{128 + 9, "", []string{"--", "sh", "-c", "kill -9 $$"}},
		{127, "cannot run no-such-program", []string{"no-such-program"}},
		{127, "cannot run ./nothing", []string{"./nothing"}},
		{126, "cannot run ./script", []string{"./script"}},
		{2, "COMMAND is missing", nil},
		{2, `mount option "colour" is unknown`, []string{"-o", "colour", "true"}},
		{2, "--names is", []string{"--names", "x", "true"}},
		{2, "--journal-size is between", []string{"--journal-size", "1K", "true"}},
		{1, "no such file or directory", []string{"--dir", "missing", "true"}},
	} {
		r := w.finish(w.devVolume(c.args...))
		if r.code != c.code || !strings.Contains(r.err, c.says) || c.says == "" && r.err != "" {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	w.nothingLeft()
}

// What still uses the mount is named, and does not keep it.
func TestDevVolumeBusy(t *testing.T) {
	w := newWorld(t)
	r := w.finish(w.devVolume("sh", "-c", `cd "$AKVFS_DEV_VOLUME" && { sleep 1000 >/dev/null 2>&1 & echo $!; }`))
	if r.code != 0 || !strings.Contains(r.err, "is in use by sleep") {
		t.Errorf("%+v", r)
	}
	w.nothingLeft()
	w.must(exec.Command("kill", strings.TrimSpace(r.out)).Run())
}

// started runs a command line of the shell with a volume, and returns once that
// has said that it is ready.
func (w *world) started(script string) (cmd *exec.Cmd, end func() result) {
	w.t.Helper()
	cmd = w.devVolume("--", "sh", "-c", script)
	end = w.start(cmd)
	eventually(w.t, "ready", func() bool {
		_, err := os.Stat(join(w.dir, "ready"))
		return err == nil
	})
	return cmd, end
}

func TestDevVolumeForwardsSignals(t *testing.T) {
	w := newWorld(t)
	names := []string{"INT", "HUP", "QUIT", "USR1", "USR2", "TERM"}
	cmd, end := w.started(`for s in ` + strings.Join(names, " ") + `; do trap "echo $s >>caught" $s; done
		trap "echo TERM >>caught; exit 7" TERM
		touch ready; while :; do sleep 0.02; done`)
	caught := ""
	for i, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM} {
		w.must(cmd.Process.Signal(s))
		caught += names[i] + "\n"
		eventually(t, "caught "+names[i], func() bool {
			text, err := os.ReadFile(join(w.dir, "caught"))
			return err == nil && string(text) == caught
		})
	}
	if r := end(); r.code != 7 {
		t.Errorf("%+v", r)
	}
	w.nothingLeft()
}

// If akvfs itself is killed, the command ends, and nothing is left.
func TestDevVolumeKilled(t *testing.T) {
	w := newWorld(t)
	cmd, end := w.started(`echo $$ >pid; echo x >"$AKVFS_DEV_VOLUME/file"; exec 9<"$AKVFS_DEV_VOLUME/file"; touch ready; while :; do sleep 0.05; done`)
	w.must(cmd.Process.Kill())
	if r := end(); r.code != -1 {
		t.Errorf("%+v", r)
	}
	w.nothingLeft()
	pid := strings.TrimSpace(w.read(join(w.dir, "pid")))
	eventually(t, "the command is gone", func() bool {
		_, err := os.Stat(join("/proc", pid, "exe"))
		return errors.Is(err, os.ErrNotExist)
	})
}

// If the process that serves the volume is killed, that is said.
func TestDevVolumeKeeperKilled(t *testing.T) {
	w := newWorld(t)
	r := w.finish(w.devVolume("--", "sh", "-c", `kill -9 $("$0" status "$AKVFS_DEV_VOLUME" --json | sed -n 's/^ *"pid": \([0-9]*\),/\1/p'); sleep 0.2; ls "$AKVFS_DEV_VOLUME"`, binary))
	if r.code != 1 || !strings.Contains(r.err, "the process that keeps the volume ended: signal: killed") {
		t.Errorf("%+v", r)
	}
	w.nothingLeft()
}

func TestDevVolumeWithoutFUSE(t *testing.T) {
	w := newWorld(t)
	cmd := w.devVolume("true")
	without := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", `mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"`, "sh"}, cmd.Args...)...)
	without.Env, without.Dir = cmd.Env, cmd.Dir
	if r := w.finish(without); r.code != 1 || !strings.Contains(r.err, "--device /dev/fuse") {
		t.Errorf("%+v", r)
	}
	w.nothingLeft()
}

// A container: a root, processes, mounts and a network of its own, and
// /dev/fuse. A user: nobody, with fusermount3.
func TestDevVolumeInContainerAndAsUser(t *testing.T) {
	w := newWorld(t)
	root, home := w.mkdir(join(w.dir, "root")), w.nobodysDir()
	w.must(os.Chmod(w.dir, 0o755))
	w.must(exec.Command("cp", binary, join(home, "akvfs")).Run())
	w.write(join(w.dir, "script"), `
set -e
for dir in bin sbin usr lib lib64 etc; do
	if [ -L /$dir ]; then cp -d /$dir "$ROOT/$dir"; elif [ -d /$dir ]; then mkdir "$ROOT/$dir"; mount --rbind -o ro /$dir "$ROOT/$dir"; fi
done
mkdir -m 1777 "$ROOT/tmp"
mkdir "$ROOT/proc" "$ROOT/dev" "$ROOT/home"
mount -t tmpfs none "$ROOT/dev"
mknod -m 666 "$ROOT/dev/fuse" c 10 229
mknod -m 666 "$ROOT/dev/null" c 1 3
mount -t proc proc "$ROOT/proc"
mount --bind "$SELF" "$ROOT/home"
run='test "$(id -u)" = $WANT && echo hello >"$AKVFS_DEV_VOLUME/file" && cat "$AKVFS_DEV_VOLUME/file"'
WANT=0 chroot "$ROOT" /home/akvfs dev-volume --journal-size 1M -- sh -c "$run"
WANT=65534 HOME=/tmp chroot "$ROOT" setpriv --reuid 65534 --regid 65534 --clear-groups /home/akvfs dev-volume --journal-size 1M -- sh -c "$run"
ls "$ROOT/tmp"
`)
	cmd := exec.Command("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--propagation", "private", "sh", join(w.dir, "script"))
	cmd.Env = append(os.Environ(), "ROOT="+root, "SELF="+home)
	if r := w.finish(cmd); r.code != 0 || r.out != "hello\nhello\n" || r.err != "" {
		t.Errorf("%+v", r)
	}
}
