package host

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/keymgr/file"
	"github.com/akvfs/akvfs/keymgr/project"
)

// fixture is a service, asked as root, with a project.
type fixture struct {
	t      *testing.T
	host   cluster.Host
	client *control.Client
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	top := place(t)
	f := &fixture{t: t, host: cluster.Host{
		ConfigDir: filepath.Join(top, "etc"), StateDir: filepath.Join(top, "state"), RunDir: filepath.Join(top, "run"),
	}}
	key := filepath.Join(top, "key.json")
	_, err := file.Create(key, file.Options{Bits: 2048})
	f.must(err)
	f.must(f.host.Projects().Save("trial", project.Config{Version: 1, KeyID: file.KeyID(key), Roles: project.Roles{Owners: []string{"70001"}}}))
	dir, err := control.OpenDir(f.host.RunDir, true)
	f.must(err)
	l, remove, err := dir.ListenService(Name)
	f.must(err)
	s := &Service{Host: f.host, Code: func(err error) string {
		if _, stale := errors.AsType[*StaleError](err); stale {
			return "stale"
		}
		return control.CodeFailed
	}}
	server := s.Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), remove(), <-served); err != nil {
			t.Error(err)
		}
		server.Close(time.Minute)
	})
	f.client = dir.Client(Name)
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) call(method string, params, result any) error {
	return f.client.Call(context.Background(), method, params, result, nil)
}

func (f *fixture) refused(code, method string, params any) {
	f.t.Helper()
	err := f.call(method, params, nil)
	if wire, ok := errors.AsType[*control.Error](err); !ok || wire.Code != code {
		f.t.Errorf("%s with %+v: %v, want the code %s", method, params, err, code)
	}
}

// What a service does for nobody, it does not for root either: root needs none.
func TestRefusedToAll(t *testing.T) {
	f := newFixture(t)
	f.refused(control.CodeDenied, MethodProjectConfigure, Of{Project: "new"})
	f.refused(control.CodeFailed, MethodProjectConfigure, Of{Project: "trial"}) // it exists
	f.refused(control.CodeFailed, MethodClusterMount, Of{Cluster: "none"})
	f.refused(control.CodeFailed, MethodSnapshotList, Of{Volume: "/none"})
	f.refused(control.CodeFailed, MethodSnapshotList, Of{Volume: "0e0b4f4e-95a6-4b54-9b1d-0a6d7e3e5c11"})
	f.refused(control.CodeBadRequest, MethodProjectUpdate, ChangeParams{Of: Of{Project: "trial"}, Timeout: "-1s"})
	f.refused(control.CodeBadRequest, MethodClusterEnable, EnableParams{Of: Of{Project: "trial"}, Data: "/x", Timeout: "1s"})
	good := EnableParams{Of: Of{Project: "trial", Cluster: "c"}, Data: "/x", Names: "plain", JournalSize: 1 << 20, Timeout: "1s"}
	for _, c := range []struct {
		code   string
		change func(p *EnableParams)
	}{
		{control.CodeBadRequest, func(p *EnableParams) { p.Data = "x" }}, {control.CodeBadRequest, func(p *EnableParams) { p.Data = "" }},
		{control.CodeBadRequest, func(p *EnableParams) { p.Names = "odd" }}, {control.CodeBadRequest, func(p *EnableParams) { p.JournalSize = -1 }},
		{control.CodeDenied, func(p *EnableParams) { p.JournalSize = 2 << 30 }}, {control.CodeDenied, func(p *EnableParams) { p.Data = "/etc" }},
	} {
		p := good
		c.change(&p)
		f.refused(c.code, MethodClusterEnable, p)
	}
	f.refused(control.CodeBadRequest, MethodProjectShow, map[string]any{"project": "trial", "path": "/etc/shadow"})
	f.refused(control.CodeNoMethod, "project.frobnicate", nil)
	var shown Project
	f.must(f.call(MethodProjectShow, Of{Project: "trial"}, &shown))
	after := shown.Config
	after.CAFile = "/etc/shadow"
	f.refused(control.CodeDenied, MethodProjectUpdate, ChangeParams{Of: Of{Project: "trial"}, Before: shown.Config, After: after, Timeout: "1s"})
	log, err := os.ReadFile(filepath.Join(f.host.StateDir, "audit", "host.log"))
	f.must(err)
	var last audit.Record
	for line := range strings.Lines(string(log)) {
		f.must(json.Unmarshal([]byte(line), &last))
	}
	if last.Result != audit.ResultRefused || last.Project != "trial" || last.Action != MethodProjectUpdate || !strings.Contains(last.Error, "ca_file") {
		t.Errorf("%+v", last)
	}
}

// Of two who change the same configuration the second is told.
func TestStale(t *testing.T) {
	f := newFixture(t)
	var shown Project
	f.must(f.call(MethodProjectShow, Of{Project: "trial"}, &shown))
	change := func(viewer string) ChangeParams {
		after := shown.Config
		after.Roles = project.Roles{Owners: []string{"70001"}, Viewers: []string{viewer}}
		return ChangeParams{Of: Of{Project: "trial"}, Before: shown.Config, After: after, Timeout: "10s"}
	}
	var changed Changed
	f.must(f.call(MethodProjectUpdate, change("70002"), &changed))
	if !changed.Report.Proven || changed.Failure != nil {
		t.Errorf("%+v", changed)
	}
	f.refused("stale", MethodProjectUpdate, change("70003"))
	p, err := f.host.Projects().Load("trial")
	f.must(err)
	if len(p.Config.Roles.Viewers) != 1 || p.Config.Roles.Viewers[0] != "70002" {
		t.Errorf("%+v", p.Config.Roles)
	}
}

// Many ask at once, and everybody gets an answer to his own question.
func TestAtOnce(t *testing.T) {
	f := newFixture(t)
	var all sync.WaitGroup
	for range 8 {
		for method, params := range map[string]any{
			MethodProjectList: nil, MethodProjectShow: Of{Project: "trial"}, MethodClusterList: nil, MethodClusterShow: Of{Cluster: "none"},
		} {
			all.Go(func() {
				err := f.call(method, params, nil)
				if (err == nil) != (method != MethodClusterShow) {
					t.Errorf("%s: %v", method, err)
				}
			})
		}
	}
	all.Wait()
}
