package daemon

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr/project"
)

// Users of the tests, and a group: an owner's.
const (
	anOwner    = 70001
	aViewer    = 70002
	aStranger  = 70003
	theirGroup = 70010
)

func testRoles() project.Roles {
	return project.Roles{Owners: []string{"70001", "@70010"}, Viewers: []string{"70002"}}
}

func rolesFixture(t *testing.T) (*fixture, *Daemon) {
	f := observedFixture(t)
	f.cfg.Roles = func(p control.Peer) project.Role { return testRoles().Of(p.UID, p.Groups) }
	return f, f.start()
}

// TestRoles: every method, as everybody.
func TestRoles(t *testing.T) {
	_, d := rolesFixture(t)
	looks := map[string]bool{MethodStatus: true, MethodKeyList: true, MethodKeyCheck: true, MethodSnapshotDirs: true}
	methods := d.methods()
	if len(methods) < 10 {
		t.Fatalf("%d methods", len(methods))
	}
	for method := range methods {
		for _, c := range []struct {
			peer control.Peer
			may  bool
		}{
			{control.Peer{UID: 0}, true},
			{control.Peer{UID: anOwner}, true},
			{control.Peer{UID: aStranger, Groups: []uint32{1, theirGroup}}, true},
			{control.Peer{UID: aViewer}, looks[method]},
			{control.Peer{UID: aStranger, Groups: []uint32{1, aViewer}}, false},
		} {
			err := d.authorize(c.peer, method)
			denied, isError := errors.AsType[*control.Error](err)
			if (err == nil) != c.may || err != nil && (!isError || denied.Code != control.CodeDenied || !strings.Contains(err.Error(), method)) {
				t.Errorf("%s as %+v: %v", method, c.peer, err)
			}
		}
	}
	if err := d.authorize(control.Peer{UID: aViewer}, "no.such.method"); err == nil {
		t.Error("a viewer may do what nobody knows")
	}
}

// Without roles nobody else gets in, as ever.
func TestNoRoles(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	if err := d.authorize(control.Peer{UID: anOwner}, MethodStatus); err == nil {
		t.Error("a stranger may ask")
	}
	files, err := filepath.Glob(filepath.Join(f.cfg.RunDir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range append(files, f.cfg.RunDir) {
		if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
}

// TestRefusalsAreBounded: who is refused is on record, but cannot fill the disk.
func TestRefusalsAreBounded(t *testing.T) {
	f, d := rolesFixture(t)
	count := func() (lines, untold int) {
		for _, r := range events[audit.Record](t, f.auditFile(d)) {
			if r.Result == audit.ResultRefused {
				lines++
				untold += r.Untold
			}
		}
		return lines, untold
	}
	for range 100 {
		_ = d.authorize(control.Peer{UID: aStranger}, MethodUnmount)
	}
	if lines, untold := count(); lines != audit.RefusalsOfUser || untold != 0 {
		t.Errorf("%d lines, %d untold", lines, untold)
	}
	_ = d.authorize(control.Peer{UID: aViewer}, MethodUnmount) // another user's is told, and of the others how many
	if lines, untold := count(); lines != audit.RefusalsOfUser+1 || untold != 100-audit.RefusalsOfUser {
		t.Errorf("%d lines, %d untold", lines, untold)
	}
	for uid := range uint32(1000) {
		_ = d.authorize(control.Peer{UID: 100_000 + uid}, MethodUnmount)
	}
	if lines, _ := count(); lines > audit.RefusalsOfAll {
		t.Errorf("%d lines", lines)
	}
	var r audit.Refusals
	for range 2 * audit.RefusalsOfUser {
		r.Note(1, time.Hour)
	}
	if untold, told := r.Note(1, time.Hour+audit.RefusalWhile); !told || untold != audit.RefusalsOfUser {
		t.Errorf("after a while: %d, %v", untold, told)
	}
}

// TestGuarded: who is not root cannot have root's daemon write or read
// wherever they like.
func TestGuarded(t *testing.T) {
	f, d := rolesFixture(t)
	for _, c := range []struct {
		uid    uint32
		method string
		params string
		may    bool
	}{
		{anOwner, MethodSnapshotCreate, `{"name":"a"}`, true},
		{anOwner, MethodSnapshotCreate, `{"name":"a","dir":"` + f.cfg.Backing + `.snapshots"}`, true},
		{anOwner, MethodSnapshotCreate, `{"name":"a","dir":"/etc"}`, false},
		{0, MethodSnapshotCreate, `{"name":"a","dir":"/etc"}`, true},
		{anOwner, MethodKeyRotate, `{"to":"file:///etc/shadow"}`, false},
		{anOwner, MethodKeyAdd, `{"to":"FILE:///etc/shadow"}`, false},
		{anOwner, MethodKeyCheck, `{"to":"file:///etc/shadow"}`, false},
		{anOwner, MethodKeyRotate, `{"to":"` + f.store.KeyID() + `"}`, true},
		{anOwner, MethodKeyRotate, `{"to":"https://acme.vault.azure.net/keys/k"}`, true},
		{anOwner, MethodKeyRotate, ``, true},
		{0, MethodKeyRotate, `{"to":"file:///etc/shadow"}`, true},
	} {
		err := d.guarded([]byte(c.params), &control.Call{Peer: control.Peer{UID: c.uid}, Method: c.method})
		if (err == nil) != c.may {
			t.Errorf("user %d, %s %s: %v", c.uid, c.method, c.params, err)
		}
	}
}

// roleVariable makes this test's binary ask for a status, and for an unmount,
// as whoever runs it.
const roleVariable = "AKVFS_DAEMON_ROLE"

func init() {
	path := os.Getenv(roleVariable)
	if path == "" {
		return
	}
	dir, err := control.OpenDir(path, false)
	if err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	entries, err := dir.Entries()
	if err != nil || len(entries) != 1 {
		os.Stdout.WriteString("no entry")
		os.Exit(1)
	}
	for _, method := range []string{MethodStatus, MethodUnmount} {
		err := dir.Client(entries[0].Name).Call(context.Background(), method, nil, nil, nil)
		text := "ok"
		if denied, ok := errors.AsType[*control.Error](err); ok {
			text = denied.Code
		} else if err != nil {
			text = err.Error()
		}
		os.Stdout.WriteString(method + " " + text + "\n")
	}
	os.Exit(0)
}

// TestRolesOverTheSocket: the kernel says who calls.
func TestRolesOverTheSocket(t *testing.T) {
	f, _ := rolesFixture(t)
	if err := os.Chmod(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(f.dir, "guest")
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid   uint32
		group uint32
		want  string
	}{
		{aStranger, 1, "status denied\nunmount denied\n"},
		{aViewer, 1, "status ok\nunmount denied\n"},
		{aStranger, theirGroup, "status ok\nunmount ok\n"},
	} {
		cmd := exec.Command(program)
		cmd.Env = []string{roleVariable + "=" + f.cfg.RunDir}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: 1, Groups: []uint32{c.group}}}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != c.want {
			t.Errorf("user %d with group %d: %v\n%s", c.uid, c.group, err, out)
		}
	}
}
