package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is systemd's side of the notify protocol.
type manager struct {
	w    *world
	conn *net.UnixConn
	path string
}

func newManager(w *world) *manager {
	w.t.Helper()
	path := join(w.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	w.must(err)
	w.t.Cleanup(func() { w.check(conn.Close()) })
	return &manager{w, conn, path}
}

// next is the next message; ok is false if none comes within a time.
func (m *manager) next(within time.Duration) (message string, ok bool) {
	m.w.t.Helper()
	b := make([]byte, 4096)
	m.w.must(m.conn.SetReadDeadline(time.Now().Add(within)))
	n, err := m.conn.Read(b)
	if err, timeout := err.(net.Error); timeout && err.Timeout() {
		return "", false
	}
	m.w.must(err)
	return string(b[:n]), true
}

// wants passes over signs of life until a message begins as wanted.
func (m *manager) wants(prefix string) string {
	m.w.t.Helper()
	for {
		message, ok := m.next(time.Minute)
		if !ok || message != "WATCHDOG=1" && !strings.HasPrefix(message, prefix) {
			m.w.t.Fatalf("notified of %q, want %q", message, prefix)
		}
		if strings.HasPrefix(message, prefix) {
			return message
		}
	}
}

// A service is alive for as long as its mount answers.
func TestWatchdog(t *testing.T) {
	w := newVolume(t)
	m := newManager(w)
	cmd := w.command("mount", w.backing, w.mountpoint, "--foreground")
	// systemd would say whose the watchdog is; without a word it is for anybody.
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	end := w.start(cmd)
	m.wants("READY=1\n")
	for range 3 {
		m.wants("WATCHDOG=1")
	}
	// Locked, it answers, too.
	w.ok("lock", w.mountpoint)
	for range 3 {
		m.wants("WATCHDOG=1")
	}
	w.ok("unlock", w.mountpoint)
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	m.wants("STOPPING=1\n")
	if r := end(); r.code != 0 {
		t.Errorf("%+v", r)
	}
	for message, ok := m.next(time.Millisecond); ok; message, ok = m.next(time.Millisecond) {
		t.Errorf("notified of %q after the end", message)
	}
}

// A mount that does not answer is not alive, and is asked once only.
func TestKeepAlive(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked, release, alive := make(chan bool), make(chan bool), make(chan bool)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		keepAlive(ctx, time.Millisecond, func() { asked <- true; <-release }, func() { alive <- true })
	}()
	for range 3 {
		<-asked
		select { // however many ticks pass
		case <-asked:
			t.Fatal("asked again without an answer")
		case <-alive:
			t.Fatal("alive without an answer")
		case <-time.After(20 * time.Millisecond):
		}
		release <- true
		<-alive
	}
	<-asked
	cancel()
	<-ended
	close(release)
}

// SIGHUP has the log opened anew, in the foreground and in the background, and
// systemd told when that is done.
func TestReload(t *testing.T) {
	w := newVolume(t)
	m := newManager(w)
	log := join(w.dir, "log")
	moved := func(pid int) {
		t.Helper()
		w.must(os.Rename(log, log+".1"))
		w.must(syscall.Kill(pid, syscall.SIGHUP))
		eventually(t, "reopened", func() bool {
			text, err := os.ReadFile(log)
			return err == nil && strings.Contains(string(text), "msg=reloaded")
		})
	}
	cmd := w.command("mount", w.backing, w.mountpoint, "--foreground", "--log-file", "log")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path)
	end := w.start(cmd)
	m.wants("READY=1\n")
	moved(cmd.Process.Pid)
	if text := m.wants("RELOADING=1\n"); !strings.Contains(text, "\nMONOTONIC_USEC=") {
		t.Errorf("notified of %q", text)
	}
	m.wants("READY=1")
	w.ok("unmount", w.mountpoint)
	if r := end(); r.code != 0 || !strings.Contains(w.read(log), "everything is committed") {
		t.Errorf("%+v\n%s", r, w.read(log))
	}

	w.mount("--log-file", log)
	pid := w.status(w.backing).PID
	moved(pid)
	if got, err := os.Readlink(join("/proc", strconv.Itoa(pid), "fd", "2")); err != nil || got != log {
		t.Errorf("standard error is %q, %v", got, err)
	}
	w.unmount()
}

// A log that cannot be opened anew goes on as it was.
func TestReloadFails(t *testing.T) {
	w := newVolume(t)
	dir := w.mkdir(join(w.dir, "logs"))
	w.mount("--log-file", join(dir, "log"))
	w.must(os.Rename(dir, dir+".1"))
	w.must(syscall.Kill(w.status(w.backing).PID, syscall.SIGHUP))
	eventually(t, "said", func() bool {
		return strings.Contains(w.read(join(dir+".1", "log")), "cannot open the log anew")
	})
	w.unmount()
}
