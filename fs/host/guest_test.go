package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr/project"
)

// guestVariable makes this test's binary send the requests of its standard
// input to the service in a run directory, as whoever runs it.
const guestVariable = "AKVFS_HOST_GUEST"

func TestMain(m *testing.M) {
	if path := os.Getenv(guestVariable); path != "" {
		os.Exit(guest(path))
	}
	os.Exit(m.Run())
}

// request is a call as a client that is none of ours may make it.
type request struct {
	Method string
	Params map[string]any
}

func guest(path string) int {
	dir, err := control.OpenDir(path, false)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var all []request
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		fmt.Println(err)
		return 1
	}
	for _, r := range all {
		err := dir.Client(Name).Call(context.Background(), r.Method, r.Params, nil, nil)
		code := "ok"
		if wire, ok := errors.AsType[*control.Error](err); ok {
			code = wire.Code
		} else if err != nil {
			code = err.Error()
		}
		fmt.Println(code)
	}
	return 0
}

// as makes requests as another user, and returns the code of each answer.
func (f *fixture) as(uid uint32, all []request) []string {
	f.t.Helper()
	program := filepath.Join(filepath.Dir(f.host.RunDir), "guest")
	data, err := os.ReadFile("/proc/self/exe")
	f.must(err)
	f.must(os.WriteFile(program, data, 0o755))
	in, err := json.Marshal(all)
	f.must(err)
	cmd := exec.Command(program)
	cmd.Env, cmd.Stdin = []string{guestVariable + "=" + f.host.RunDir}, strings.NewReader(string(in))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(string(out))
}

// TestMixedUp: a role in one project is good for nothing in another, however
// a request names both.
func TestMixedUp(t *testing.T) {
	f := newFixture(t)
	p, err := f.host.Projects().Load("trial")
	f.must(err)
	config := p.Config
	config.Roles = project.Roles{}
	f.must(f.host.Projects().Save("other", config))
	top := filepath.Dir(f.host.RunDir)
	for name, of := range map[string]string{"mine": "trial", "theirs": "other"} {
		o := cluster.Enabling{Name: name, Project: of, Data: mkdir(t, filepath.Join(top, name), 0, 0o755), JournalSize: 1 << 20}
		_, err := f.host.Enable(t.Context(), o)
		f.must(err)
	}
	mine, theirs := filepath.Join(top, "mine"), filepath.Join(top, "theirs")
	abouts := []map[string]any{
		{"project": "other"}, {"cluster": "theirs"}, {"volume": theirs}, {"project": "trial", "cluster": "theirs"}, {"project": "other", "cluster": "mine"},
		{"project": "other", "cluster": "new"}, {"project": "other", "volume": mine}, {"cluster": "theirs", "volume": mine}, {"cluster": "mine", "volume": theirs},
		{"project": "trial", "cluster": "mine", "volume": theirs}, {"project": "trial", "cluster": "no-such"}, {"project": "no-such", "cluster": "mine"},
		{"volume": mine + "/../theirs"}, {"volume": "/"}, {"cluster": "../clusters/theirs"}, {"project": "../projects/other"}, {"project": "trial\x00"},
	}
	more := map[string]map[string]any{
		MethodProjectUpdate: {"before": config, "after": config, "timeout": "1s"}, MethodProjectRotate: {"before": config, "after": config, "timeout": "1s"},
		MethodClusterEnable:  {"data": theirs, "timeout": "1s", "names": "plain", "journal_size": 1 << 20},
		MethodClusterDisable: {"timeout": "1s"}, MethodSnapshotShow: {"name": "s"}, MethodSnapshotVerify: {"name": "s", "timeout": "1s"},
		MethodSnapshotDelete: {"name": "s"}, MethodSnapshotPrune: {"keep": 1}, MethodSnapshotRestore: {"name": "s", "dir": theirs},
	}
	var all []request
	for method := range (&Service{}).methods() {
		for _, about := range abouts {
			params := map[string]any{}
			for _, part := range []map[string]any{about, more[method]} {
				for name, value := range part {
					params[name] = value
				}
			}
			all = append(all, request{method, params})
		}
	}
	for i, code := range f.as(70001, all) {
		if code != control.CodeDenied && code != control.CodeBadRequest {
			t.Errorf("%s %v: %s", all[i].Method, all[i].Params, code)
		}
	}
	if of, err := f.host.OfProject("other"); err != nil || len(of) != 1 || of[0].State != cluster.StateEnabled {
		t.Errorf("%+v, %v", of, err)
	}
	// And what the role is good for.
	codes := f.as(70001, []request{
		{MethodProjectShow, map[string]any{"project": "trial"}}, {MethodClusterShow, map[string]any{"cluster": "mine"}},
		{MethodSnapshotList, map[string]any{"volume": mine}}, {MethodProjectList, nil},
	})
	if strings.Join(codes, " ") != "ok ok ok ok" {
		t.Errorf("%q", codes)
	}
}
