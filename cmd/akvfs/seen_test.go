package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestMountRolledBack: a volume that was put back to an older state in its place
// does not mount until it is accepted; what was restored from a snapshot, again
// and again into the same directory, does.
func TestMountRolledBack(t *testing.T) {
	w := newVolume(t)
	w.mount()
	w.ok("snapshot", "create", w.mountpoint, "early")
	w.unmount()
	old := join(w.dir, "old")
	w.must(exec.Command("cp", "-aT", w.backing, old).Run())
	w.mount()
	w.write(join(w.mountpoint, "file"), "later")
	w.unmount()
	w.must(os.RemoveAll(w.backing))
	w.must(os.Rename(old, w.backing))
	w.untouched(func() {
		for _, mode := range [][]string{nil, {"--foreground"}, {"--read-only"}} {
			w.refused(14, "the journal is older than this host has seen it", append([]string{"mount", w.backing, w.mountpoint}, mode...)...)
		}
		w.refused(14, "--accept-rollback", "mount", w.backing, w.mountpoint)
	})
	w.mount("--accept-rollback")
	w.unmount()
	w.mount()
	w.unmount()
	if log, err := exec.Command("sh", "-c", `cat "$1"/state/audit/*.log`, "sh", w.dir).Output(); err != nil || !strings.Contains(string(log), `"action":"accept-rollback"`) {
		t.Errorf("it is not on record: %v\n%s", err, log)
	}
	restored := w.mkdir(join(w.dir, "restored"))
	for range 2 {
		w.ok("snapshot", "restore", w.backing, "early", restored)
		w.ok("mount", restored, w.mountpoint)
		for i := range 3 {
			w.write(join(w.mountpoint, strconv.Itoa(i)), "x")
		}
		w.unmount()
		w.must(os.RemoveAll(restored))
	}
}

// TestSandbox: the daemon is in its sandbox unless it is told not to be, and its
// on-alert command with it.
func TestSandbox(t *testing.T) {
	w := newVolume(t)
	inside := func() string {
		t.Helper()
		for line := range strings.Lines(w.read(join("/proc", strconv.Itoa(w.status(w.backing).PID), "status"))) {
			if mode, ok := strings.CutPrefix(line, "Seccomp:"); ok {
				return strings.TrimSpace(mode)
			}
		}
		return "none"
	}
	for mode, want := range map[string]string{"on": "2", "off": "0"} {
		w.mount("-o", "sandbox="+mode)
		if got := inside(); got != want {
			t.Errorf("sandbox=%s: seccomp mode %s", mode, got)
		}
		w.unmount()
	}
	hook := join(w.dir, "hook")
	w.mount("--on-alert", "grep ^Seccomp: /proc/self/status >>"+hook)
	w.ok("lock", w.mountpoint)
	w.ok("unlock", w.mountpoint)
	w.unmount()
	if got := w.read(hook); !strings.Contains(got, "2") {
		t.Errorf("the command ran with %q", got)
	}
	w.refused(2, "must be on or off", "mount", w.backing, w.mountpoint, "-o", "sandbox=maybe")
}
