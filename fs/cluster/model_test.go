package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/file"
)

// A history takes about a second. -rapid.checks and -rapid.steps make more.
func init() {
	_ = flag.Set("rapid.checks", "6")
	_ = flag.Set("rapid.steps", "20")
}

// clusterModel is a cluster, and what must be true of it.
type clusterModel struct {
	*scene
	rt       *rapid.T
	separate bool
	state    State // "": there is no record
	daemon   *daemon.Daemon
	files    map[string]string // content of the database's files
}

func (m *clusterModel) fatal(format string, a ...any) {
	m.rt.Helper()
	m.rt.Fatalf(format, a...)
}

// interrupt is a context that ends when so many files are done; 0: never.
func interrupt(ctx context.Context, files int64) (context.Context, func(convert.Progress), context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, func(p convert.Progress) {
		if files > 0 && p.Files >= files {
			cancel()
		}
	}, cancel
}

// recorded is the state that is on record.
func (m *clusterModel) recorded() State {
	c, err := m.Load("rs0")
	if _, none := errors.AsType[*confdir.NoEntryError](err); none {
		return ""
	}
	must(m.t, err)
	return c.State
}

// worked takes what an enable or a disable came to. One that ends without an
// error has the state that it goes to; one that was interrupted is on the way or
// where it was, or had no file to be interrupted at.
func (m *clusterModel) worked(err error, to, on State) {
	m.rt.Helper()
	now := m.recorded()
	switch {
	case err == nil && now == to:
	case errors.Is(err, context.Canceled) && (now == on || now == m.state):
	default:
		m.fatal("from %q: %v, and it is %q", m.state, err, now)
	}
	m.state = now
}

func (m *clusterModel) enableSome(files int64) {
	ctx, observe, cancel := interrupt(m.t.Context(), files)
	defer cancel()
	o := m.enabling(m.separate)
	o.Observe = observe
	_, err := m.Enable(ctx, o)
	if m.state == StateEnabled {
		if _, already := errors.AsType[*EnabledError](err); !already {
			m.fatal("enabled twice: %v", err)
		}
		return
	}
	m.worked(err, StateEnabled, StateEnabling)
}

func (m *clusterModel) disableSome(files int64) {
	ctx, observe, cancel := interrupt(m.t.Context(), files)
	defer cancel()
	_, err := m.Disable(ctx, "rs0", observe)
	switch _, none := errors.AsType[*confdir.NoEntryError](err); {
	case m.state == "" && none:
		return
	case m.daemon != nil:
		if _, inUse := errors.AsType[*daemon.InUseError](err); !inUse {
			m.fatal("disabled while mounted: %v", err)
		}
		return
	}
	m.worked(err, "", StateDisabling)
}

func (m *clusterModel) mount() {
	c, p, err := m.Ready("rs0")
	if (err == nil) != (m.state == StateEnabled) {
		m.fatal("%q is ready: %v", m.state, err)
	}
	if err != nil || m.daemon != nil {
		return
	}
	must(m.t, m.Shut(c))
	cfg := daemon.NewConfig()
	cfg.Backing, cfg.Mountpoint, cfg.RunDir, cfg.StateDir, cfg.AllowOther = c.Backing, c.Data, m.RunDir, m.StateDir, true
	m.Govern(&cfg, p)
	m.daemon, err = daemon.Start(m.t.Context(), cfg)
	must(m.t, err)
}

func (m *clusterModel) unmount() {
	if m.daemon == nil {
		return
	}
	must(m.t, m.daemon.Unmount(context.WithoutCancel(m.t.Context()), time.Minute))
	<-m.daemon.Done()
	m.daemon = nil
}

// seen reports whether the database would see its files.
func (m *clusterModel) seen() bool { return m.state == "" || m.daemon != nil }

func (m *clusterModel) write(name, content string) {
	if !m.seen() {
		return
	}
	path := filepath.Join(m.data, name)
	must(m.t, os.WriteFile(path, []byte(content), 0o600))
	must(m.t, os.Chown(path, nobody, nobody))
	m.files[name] = content
}

func (m *clusterModel) remove(name string) {
	if _, there := m.files[name]; !m.seen() || !there {
		return
	}
	must(m.t, os.Remove(filepath.Join(m.data, name)))
	delete(m.files, name)
}

// rotate makes a new version of the key, and brings an enabled cluster under it.
func (m *clusterModel) rotate() {
	path, _, err := file.ParseKeyID(m.key)
	must(m.t, err)
	store, err := file.Open(path, file.Options{})
	must(m.t, err)
	version, err := store.Rotate()
	must(m.t, err)
	if m.state != StateEnabled {
		return
	}
	c, err := m.Load("rs0")
	must(m.t, err)
	client := daemon.KeyClient{RunDir: m.RunDir, StateDir: m.StateDir, Openers: m.Openers("trial")}
	var change daemon.KeyChange
	must(m.t, client.Call(m.t.Context(), c.Backing, daemon.MethodKeyRotate, daemon.KeyParams{}, &change, nil))
	if change.After.Version != version {
		m.fatal("rotated to %s, not to %s", change.After.Version, version)
	}
}

// check holds what is there against the model.
func (m *clusterModel) check() {
	m.rt.Helper()
	if now := m.recorded(); now != m.state {
		m.fatal("it is %q, not %q", now, m.state)
	}
	if !m.seen() {
		if m.writes(m.data) || m.separate && m.state == StateEnabled && m.writes(m.backing) {
			m.fatal("the database's user can write while it is %q and not mounted", m.state)
		}
		return
	}
	entries, err := os.ReadDir(m.data)
	must(m.t, err)
	if len(entries) != len(m.files) {
		m.fatal("there are %v, not %d files", entries, len(m.files))
	}
	for name, want := range m.files {
		if got, err := os.ReadFile(filepath.Join(m.data, name)); err != nil || string(got) != want {
			m.fatal("%s holds %d bytes, not %d: %v", name, len(got), len(want), err)
		}
	}
	if !m.writes(m.data) {
		m.fatal("the database's user cannot write")
	}
}

// TestHistories: a cluster that is enabled, disabled, interrupted, continued,
// turned round, mounted and rotated in any order has its files, and is shut
// whenever they are not to be seen.
func TestHistories(t *testing.T) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			m := &clusterModel{scene: newScene(t), rt: rt, separate: rapid.Bool().Draw(rt, "separate"), files: map[string]string{}}
			defer func() { m.unmount() }()
			files := rapid.Int64Range(0, 5)
			name := rapid.SampledFrom([]string{"a.wt", "b.wt", "c.wt", "d.wt", "e.wt", "WiredTiger"})
			for _, name := range []string{"a.wt", "b.wt", "c.wt", "d.wt"} {
				m.write(name, name+" as it was")
			}
			rt.Repeat(map[string]func(*rapid.T){
				"enable":  func(rt *rapid.T) { m.enableSome(files.Draw(rt, "files")) },
				"disable": func(rt *rapid.T) { m.disableSome(files.Draw(rt, "files")) },
				"mount":   func(*rapid.T) { m.mount() },
				"unmount": func(*rapid.T) { m.unmount() },
				"write": func(rt *rapid.T) {
					m.write(name.Draw(rt, "name"), rapid.StringN(0, 20_000, 20_000).Draw(rt, "content"))
				},
				"remove": func(rt *rapid.T) { m.remove(name.Draw(rt, "name")) },
				"rotate": func(*rapid.T) { m.rotate() },
				"plan": func(*rapid.T) {
					// Whether there is one or not, nothing is changed.
					_, _ = m.PlanEnable(t.Context(), m.enabling(m.separate))
					_, _ = m.PlanDisable(t.Context(), "rs0")
				},
				"": func(*rapid.T) { m.check() },
			})
		})
	})
}
