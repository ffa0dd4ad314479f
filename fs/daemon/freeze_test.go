package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// copied opens a copy of the backing directory, and tells what a file holds and
// how many records had to be recovered.
func (f *fixture) copied(name string) (content string, recovered bool) {
	f.t.Helper()
	dir := filepath.Join(f.dir, "copy")
	f.must(os.RemoveAll(dir))
	f.must(exec.Command("cp", "-a", f.cfg.Backing, dir).Run())
	st, err := store.OpenDisk(dir)
	f.must(err)
	defer st.Close()
	info, err := volume.ReadInfo(st)
	f.must(err)
	keys, err := keymgr.OpenKeyring(f.t.Context(), volume.Metadata(st), info.ID, func(id string) (keymgr.Provider, error) {
		return f.cfg.Openers.Open(id, keymgr.ProviderOptions{})
	})
	f.must(err)
	defer keys.Destroy()
	v, err := volume.Open(st, keys, volume.Options{})
	f.must(err)
	defer v.Close()
	h, err := v.OpenFile(name, os.O_RDONLY, 0, volume.Owner{})
	f.must(err)
	defer h.Close()
	data := make([]byte, 64)
	n, _ := h.ReadAt(data, 0)
	return string(data[:n]), v.Stats().Recovery.Records > 0
}

func wireCode(err error) string {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Code
	}
	return ""
}

// TestFreeze: while it is frozen, what was written is at home and stays as it
// is, whoever writes; then that goes on.
func TestFreeze(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	name := filepath.Join(f.cfg.Mountpoint, "data")
	f.must(writeSynced(name, "before"))
	_, err := Freeze(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, time.Minute)
	f.must(err)
	if d.Status().FrozenUntil == nil {
		t.Error("the status does not tell")
	}
	if _, err := Freeze(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, time.Minute); wireCode(err) != CodeFrozen {
		t.Errorf("frozen twice: %v", err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := writeSynced(name+"2", "meanwhile"); err != nil {
			t.Error(err)
		}
		if err := writeSynced(name, "after"); err != nil {
			t.Error(err)
		}
	}()
	if got, err := os.ReadFile(name); err != nil || string(got) != "before" {
		t.Errorf("read %q, %v", got, err)
	}
	if got, recovered := f.copied("data"); got != "before" || recovered {
		t.Errorf("a copy has %q, recovered: %v", got, recovered)
	}
	if isClosed(written) {
		t.Error("somebody could write")
	}
	held, err := Thaw(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint)
	f.must(err)
	if held <= 0 {
		t.Errorf("frozen for %v", held)
	}
	within(t, "writing after a thaw", written)
	if got, _ := f.copied("data"); got != "after" {
		t.Errorf("then it has %q", got)
	}
	if _, err := Thaw(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint); wireCode(err) != CodeNotFrozen {
		t.Errorf("thawed twice: %v", err)
	}
}

// TestThawedByItself: whatever ends a freeze but a thaw, writers go on, and
// the thaw that comes too late learns of it.
func TestThawedByItself(t *testing.T) {
	for name, end := range map[string]func(f *fixture, d *Daemon){
		"timeout": func(f *fixture, d *Daemon) {
			for d.Status().FrozenUntil != nil {
				time.Sleep(time.Millisecond)
			}
		},
		"lock":    func(f *fixture, d *Daemon) { f.must(errors.Join(d.lock("a test", nil), d.unlock(f.t.Context(), nil))) },
		"unmount": func(f *fixture, d *Daemon) { f.must(d.Unmount(f.t.Context(), time.Minute)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			d := f.start()
			timeout := time.Minute
			if name == "timeout" {
				timeout = 10 * time.Millisecond
			}
			_, err := Freeze(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint, timeout)
			f.must(err)
			end(f, d)
			if name == "unmount" {
				f.start()
			}
			f.must(writeSynced(filepath.Join(f.cfg.Mountpoint, "data"), "after"))
			if _, err := Thaw(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint); wireCode(err) != CodeNotFrozen {
				t.Errorf("a late thaw: %v", err)
			}
		})
	}
}
