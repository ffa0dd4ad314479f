package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// usage asks for the use of a key below the fixture's directory.
func (f *fixture) usage(aki string) KeyUsage {
	f.t.Helper()
	u, err := Usage(f.t.Context(), f.cfg.RunDir, f.cfg.Openers, aki, []string{f.dir})
	f.must(err)
	return u
}

// Every version that some master key is under is found, in volumes that are
// mounted, unmounted, copies, or inside of others; with each a date.
func TestUsage(t *testing.T) {
	f := newFixture(t)
	nested := filepath.Join(f.cfg.Backing, "copies", "copy")
	f.must(os.MkdirAll(filepath.Dir(nested), 0o755))
	f.must(exec.Command("cp", "-a", filepath.Join(f.cfg.Backing, ".akvfs"), filepath.Join(f.dir, "meta")).Run())
	f.must(os.Mkdir(nested, 0o755))
	f.must(os.Rename(filepath.Join(f.dir, "meta"), filepath.Join(nested, ".akvfs")))
	first := f.listing().MasterKeys[0].Wraps[0].Version
	_, err := f.store.Rotate()
	f.must(err)
	d := f.start()
	_, _, err = d.admin.rotateMaster(t.Context(), nil) // the old one stays under the first version
	f.must(err)
	second := d.keys.keyring().Wraps()[0].Version
	u := f.usage(f.store.KeyID())
	want := map[string]int{f.cfg.Backing + first: 1, f.cfg.Backing + second: 1, nested + first: 1}
	for _, use := range u.Uses {
		want[use.Backing+use.Version]--
		if use.Created.IsZero() || use.OtherKeys != 0 || use.VolumeID == "" || (use.Mountpoint != "") != (use.Backing == f.cfg.Backing) {
			t.Errorf("%+v", use)
		}
	}
	for use, n := range want {
		if n != 0 {
			t.Errorf("%s: %d", use, n)
		}
	}
	if len(u.Uses) != 3 || u.Volumes != 2 || len(u.Unread) != 0 {
		t.Errorf("%+v", u)
	}
	if u := f.usage(f.store.KeyID() + "?version=" + second); len(u.Uses) != 1 || !u.Uses[0].Active {
		t.Errorf("%+v", u.Uses)
	}
	if u := f.usage("file:///other.json"); len(u.Uses) != 0 {
		t.Errorf("%+v", u.Uses)
	}
}

// What cannot be read is told, so that nobody takes silence for leave.
func TestUsageUnread(t *testing.T) {
	f := newFixture(t)
	f.must(os.WriteFile(filepath.Join(f.cfg.Backing, ".akvfs", "keyring.json"), []byte("{}"), 0o600))
	if u := f.usage(f.store.KeyID()); len(u.Unread) != 1 || u.Unread[0].Path != f.cfg.Backing || len(u.Uses) != 0 {
		t.Errorf("%+v", u)
	}
	f = newFixture(t)
	d := f.start()
	f.cfg.RunDir = filepath.Join(f.dir, "other-run")
	u := f.usage(f.store.KeyID())
	if len(u.Unread) != 1 || u.Unread[0].Path != f.cfg.Mountpoint || len(u.Uses) != 1 {
		t.Errorf("%+v", u)
	}
	f.cfg.RunDir = d.cfg.RunDir
	f.must(d.Unmount(t.Context(), time.Minute))
	f.must(os.Remove(filepath.Join(f.cfg.Backing, ".akvfs", "volume.json"))) // a creation that was interrupted
	if u := f.usage(f.store.KeyID()); len(u.Unread) != 0 || len(u.Uses) != 0 {
		t.Errorf("%+v", u)
	}
	if _, err := Usage(t.Context(), f.cfg.RunDir, f.cfg.Openers, f.store.KeyID(), []string{f.dir + "/none"}); err == nil {
		t.Error("a directory that is not there was scanned")
	}
}
