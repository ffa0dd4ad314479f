package main

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
)

func TestMountInBackground(t *testing.T) {
	w := newVolume(t)
	w.mount()
	// Usable at once.
	w.write(join(w.mountpoint, "data"), "hello")
	s := w.status(w.mountpoint)
	if s.State != daemon.StateMounted || s.PID == os.Getpid() || s.PID <= 0 {
		t.Fatalf("%+v", s)
	}
	proc := join("/proc", strconv.Itoa(s.PID))
	if cwd, err := os.Readlink(join(proc, "cwd")); err != nil || cwd != "/" {
		t.Errorf("it stays in %q, %v", cwd, err)
	}
	for fd, want := range map[string]string{"0": "/dev/null", "1": "/dev/null", "2": join(w.dir, "run", "akvfs.log")} {
		if got, err := os.Readlink(join(proc, "fd", fd)); err != nil || got != want {
			t.Errorf("descriptor %s is %q, %v", fd, got, err)
		}
	}
	stat := strings.Fields(w.read(join(proc, "stat")))
	if stat[5] != strconv.Itoa(s.PID) {
		t.Errorf("its session is %s, not its own", stat[5])
	}
	w.unmount()
	if !gone(s.PID) {
		t.Error("its process is still there")
	}
	if w.mounted(w.mountpoint) {
		t.Error("still mounted")
	}
	w.mount()
	if got := w.read(join(w.mountpoint, "data")); got != "hello" {
		t.Errorf("read %q", got)
	}
	w.unmount()
}

func TestMountOverItself(t *testing.T) {
	w := newVolume(t)
	w.mountpoint = w.backing
	w.mount()
	if _, err := os.Stat(join(w.backing, ".akvfs")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its own files are visible: %v", err)
	}
	w.write(join(w.backing, "data"), "hello")
	if s := w.status(w.backing); s.Backing != w.backing || s.Mountpoint != w.backing || s.State != daemon.StateMounted {
		t.Errorf("%+v", s)
	}
	w.refused(15, "already", "mount", w.backing, w.backing)
	w.unmount()
	if s := w.status(w.backing); s.State != daemon.StateUnmounted {
		t.Errorf("%+v", s)
	}
	w.mount()
	if got := w.read(join(w.backing, "data")); got != "hello" {
		t.Errorf("read %q", got)
	}
	w.unmount()
}

// Relative paths and links name the same directories from anywhere.
func TestMountRelative(t *testing.T) {
	w := newVolume(t)
	w.must(os.Symlink("mount", join(w.dir, "link")))
	w.ok("mount", "backing", "./link/")
	if s := w.status("link"); s.Mountpoint != w.mountpoint || s.Backing != w.backing {
		t.Errorf("%+v", s)
	}
	w.ok("unmount", "link/../link")
	w.ok("mount", "backing", "mount")
	w.ok("unmount", w.status("backing").VolumeID)
}

func TestMountTableAndOptions(t *testing.T) {
	w := newVolume(t)
	for _, c := range []struct {
		args   []string
		source string
		has    []string
		hasNot []string
	}{
		{nil, "akvfs", []string{"rw", "nosuid", "nodev"}, []string{"ro", "noexec"}},
		{[]string{"-o", "fsname=rs0,suid,dev", "-o", "noexec,noauto,x-systemd.automount"}, "rs0", []string{"rw", "noexec"}, []string{"nosuid", "nodev"}},
		{[]string{"-o", "sync,dirsync,noatime"}, "akvfs", []string{"rw", "noatime"}, []string{"relatime"}},
		{[]string{"-o", "ro"}, "akvfs", []string{"ro"}, []string{"rw"}},
		{[]string{"--read-only", "-o", "allow_other"}, "akvfs", []string{"ro"}, []string{"rw"}},
	} {
		w.mount(c.args...)
		mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(w.mountpoint))
		if err != nil || len(mounts) != 1 {
			t.Fatalf("%v, %v", mounts, err)
		}
		m := mounts[0]
		options := strings.Split(m.Options, ",")
		if m.FSType != "fuse.akvfs" || m.Source != c.source {
			t.Errorf("%v: type %q, source %q", c.args, m.FSType, m.Source)
		}
		for _, o := range c.has {
			if !slices.Contains(options, o) {
				t.Errorf("%v: %q is missing from %q", c.args, o, options)
			}
		}
		for _, o := range c.hasNot {
			if slices.Contains(options, o) {
				t.Errorf("%v: %q is in %q", c.args, o, options)
			}
		}
		err = os.WriteFile(join(w.mountpoint, "x"), nil, 0o600)
		if readOnly := slices.Contains(c.has, "ro"); readOnly != errors.Is(err, syscall.EROFS) || !readOnly && err != nil {
			t.Errorf("%v: writing answers %v", c.args, err)
		}
		w.unmount()
	}
}

func TestUnmountByOthers(t *testing.T) {
	w := newVolume(t)
	for _, how := range []func(){
		func() { w.must(unix.Unmount(w.mountpoint, 0)) },
		func() { w.must(exec.Command("umount", w.mountpoint).Run()) },
		func() { w.must(exec.Command("fusermount3", "-u", w.mountpoint).Run()) },
	} {
		w.mount()
		w.write(join(w.mountpoint, "data"), "x")
		pid := w.status(w.backing).PID
		how()
		// The next mount waits for the commit of the one before.
		w.mount()
		if now := w.status(w.backing).PID; now == pid {
			t.Errorf("process %d still serves", pid)
		}
		if got := w.read(join(w.mountpoint, "data")); got != "x" {
			t.Errorf("read %q", got)
		}
		w.unmount()
	}
}

func TestUnmountBusy(t *testing.T) {
	w := newVolume(t)
	w.mount()
	f, err := os.Create(join(w.mountpoint, "held"))
	w.must(err)
	me := strings.TrimSpace(w.read("/proc/self/comm"))
	w.refused(15, w.mountpoint+" is in use by "+me, "unmount", w.mountpoint, "--wait", "0s")
	w.refused(15, "(process "+strconv.Itoa(os.Getpid())+": "+w.mountpoint+"/held)", "unmount", w.backing, "--wait", "200ms")
	if _, err := f.WriteString("still works"); err != nil {
		t.Error(err)
	}
	// Who holds it lets go while the command waits.
	cmd := w.command("unmount", w.mountpoint, "--wait", "1m")
	w.must(cmd.Start())
	time.Sleep(300 * time.Millisecond)
	w.must(f.Close())
	w.must(cmd.Wait())
	if w.mounted(w.mountpoint) {
		t.Error("still mounted")
	}
}

func TestUnmountBadInput(t *testing.T) {
	w := newVolume(t)
	w.refused(2, "MOUNTPOINT is missing", "unmount")
	w.refused(2, "does not exist", "unmount", join(w.dir, "none"))
	w.refused(1, "no akvfs volume is mounted at", "unmount", w.mountpoint)
	w.refused(1, "no akvfs volume is mounted at", "unmount", w.backing)
	w.refused(1, "is mounted", "unmount", w.status(w.backing).VolumeID)
	w.refused(2, "--wait must not be negative", "unmount", w.mountpoint, "--wait", "-1s")
}

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		w := newVolume(t)
		w.mount()
		w.write(join(w.mountpoint, "data"), "x")
		w.must(syscall.Kill(w.status(w.backing).PID, s))
		eventually(t, "unmounted", func() bool { return !w.mounted(w.mountpoint) })
		w.mount()
		if got := w.read(join(w.mountpoint, "data")); got != "x" {
			t.Errorf("read %q", got)
		}
		w.unmount()
	}
}

// A busy mount is not torn away: the daemon waits, says for whom, and goes
// once they have gone.
func TestSignalWhileBusy(t *testing.T) {
	w := newVolume(t)
	log := join(w.dir, "log")
	w.mount("--log-file", log)
	f, err := os.Create(join(w.mountpoint, "held"))
	w.must(err)
	pid := w.status(w.backing).PID
	for range 2 { // a second signal changes nothing
		w.must(syscall.Kill(pid, syscall.SIGTERM))
	}
	eventually(t, "says who holds it", func() bool { return strings.Contains(w.read(log), "still in use") })
	if s := w.status(w.backing); !s.Stopping || s.State != daemon.StateMounted {
		t.Errorf("%+v", s)
	}
	if text := w.ok("status", w.backing).out; !strings.Contains(text, "mounted, stopping") {
		t.Error(text)
	}
	_, err = f.WriteString("still works")
	w.check(err)
	w.check(f.Sync())
	w.must(f.Close())
	eventually(t, "ended", func() bool { return gone(pid) })
	if w.mounted(w.mountpoint) {
		t.Error("still mounted")
	}
	w.mount()
	if got := w.read(join(w.mountpoint, "held")); got != "still works" {
		t.Errorf("read %q", got)
	}
	w.unmount()
}

func (w *world) kill() {
	w.t.Helper()
	pid := w.status(w.backing).PID
	w.must(syscall.Kill(pid, syscall.SIGKILL))
	eventually(w.t, "killed", func() bool { return gone(pid) })
}

func TestMountAfterKill(t *testing.T) {
	for _, same := range []bool{false, true} {
		w := newVolume(t)
		if same {
			w.mountpoint = w.backing
		}
		w.mount()
		f, err := os.Create(join(w.mountpoint, "data"))
		w.must(err)
		_, err = f.WriteString("acknowledged")
		w.must(err)
		w.must(f.Sync())
		w.kill()
		if _, err := os.Stat(join(w.mountpoint, "data")); !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("the dead mount answers %v", err)
		}
		s := w.status(w.mountpoint)
		if s.State != daemon.StateUnmounted || !strings.Contains(s.Note, "killed") || s.Backing != w.backing {
			t.Errorf("%+v", s)
		}
		w.mount() // with f still open
		if err := f.Sync(); !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("syncing a file of the dead mount: %v", err)
		}
		if err := f.Close(); !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("closing a file of the dead mount: %v", err)
		}
		if got := w.read(join(w.mountpoint, "data")); got != "acknowledged" {
			t.Errorf("read %q", got)
		}
		w.unmount()
		if w.mounted(w.mountpoint) {
			t.Error("the dead mount is still there")
		}
	}
}

// A volume that is mounted somewhere else after a kill takes its dead mount
// along, and one that is not mounted again is cleaned up by unmount.
func TestCleanUpAfterKill(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.kill()
	other := w.mkdir(join(w.dir, "other"))
	w.ok("mount", w.backing, other)
	if w.mounted(w.mountpoint) {
		t.Error("the dead mount is still there")
	}
	first := w.mountpoint
	w.mountpoint = other
	w.kill()
	w.mountpoint = first
	if r := w.ok("unmount", other); !strings.Contains(r.err, "had been killed") || w.mounted(other) {
		t.Errorf("%+v", r)
	}
	w.refused(1, "no akvfs volume is mounted at", "unmount", other)
}

func TestForeground(t *testing.T) {
	w := newVolume(t)
	socket := join(w.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	w.must(err)
	defer l.Close()
	cmd := w.command("mount", w.backing, w.mountpoint, "--foreground")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+socket)
	stderr, err := cmd.StderrPipe()
	w.must(err)
	w.must(cmd.Start())
	message := func() string {
		b := make([]byte, 4096)
		w.must(l.SetReadDeadline(time.Now().Add(time.Minute)))
		n, err := l.Read(b)
		w.must(err)
		return string(b[:n])
	}
	if m := message(); !strings.HasPrefix(m, "READY=1\n") || !strings.Contains(m, "MAINPID="+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("notified of %q", m)
	}
	if !w.mounted(w.mountpoint) {
		t.Error("not mounted when ready")
	}
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	if m := message(); !strings.HasPrefix(m, "STOPPING=1\n") {
		t.Errorf("notified of %q", m)
	}
	var log strings.Builder
	for s := bufio.NewScanner(stderr); s.Scan(); {
		log.WriteString(s.Text() + "\n")
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(log.String(), "msg=mounted") || !strings.Contains(log.String(), "everything is committed") {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// A service whose manager cannot be told that it is ready does not stay mounted.
func TestForegroundNotifyFails(t *testing.T) {
	w := newVolume(t)
	cmd := w.command("mount", w.backing, w.mountpoint, "--foreground")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+join(w.dir, "nobody-listens"))
	if r := w.finish(cmd); r.code != 1 || !strings.Contains(r.err, "cannot tell systemd") {
		t.Errorf("exit code %d\n%s", r.code, r.err)
	}
	if w.mounted(w.mountpoint) {
		t.Error("still mounted")
	}
}

func TestLogFile(t *testing.T) {
	w := newVolume(t)
	log := join(w.dir, "log")
	w.mount("--log-file", "log")
	w.unmount()
	if text := w.read(log); !strings.Contains(text, "msg=mounted") || !strings.Contains(text, "everything is committed") {
		t.Error(text)
	}
	if fi, err := os.Stat(log); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// Two copies of one volume, as from a restored snapshot, can be mounted at
// once.
func TestMountCopies(t *testing.T) {
	w := newVolume(t)
	copied, second := join(w.dir, "copy"), w.mkdir(join(w.dir, "second"))
	w.must(exec.Command("cp", "-a", w.backing, copied).Run())
	w.mount()
	w.ok("mount", copied, second)
	a, b := w.status(w.mountpoint), w.status(second)
	if a.VolumeID != b.VolumeID || a.Backing != w.backing || b.Backing != copied {
		t.Errorf("%+v\n%+v", a, b)
	}
	w.ok("unmount", second)
	w.unmount()
}
