//go:build integration

package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/scripts/rig"
)

// turnReadOnly has the backing ext4 find an error in itself and remount itself
// read-only, as errors=remount-ro asks it to.
func (v *volume) turnReadOnly() {
	v.t.Helper()
	v.must(unix.Mount(v.disk.Device, v.disk.Dir, "", unix.MS_REMOUNT|unix.MS_NOATIME, "errors=remount-ro"))
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(v.disk.Device), "trigger_fs_error")
	v.must(os.WriteFile(trigger, []byte("1"), 0))
}

// TestBackingTurnsReadOnly has the backing file system turn read-only under a
// load. The load hears of it; the daemon goes on; no sync succeeds after that;
// the unmount says that not everything is at home; and the next mount brings
// all that was acknowledged home.
func TestBackingTurnsReadOnly(t *testing.T) {
	// The audit log is elsewhere: what cannot be put on record is not done.
	v := newVolume(t, "ext4", rig.Options{MountOptions: []string{"audit-log=" + filepath.Join(newScratch(t), "audit.log")}})
	w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
	w.run("load", "--records", "5000")
	f, err := os.Create(filepath.Join(v.Dir(), "file"))
	v.must(err)
	_, err = f.WriteString("acknowledged")
	v.must(err)
	v.must(f.Sync())
	p := v.start(w.command("commit", "--seconds", "600"))
	v.let(p, 3*time.Second)
	v.turnReadOnly()
	v.fails(p, "") // what WiredTiger says depends on what it was doing
	_, err = f.WriteAt([]byte("never"), 0)
	if err == nil {
		err = f.Sync()
	}
	if again := f.Sync(); err == nil && again == nil {
		t.Error("a sync succeeds on what cannot be written")
	}
	f.Close() // whatever it answers
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := v.Unmount(ctx); err == nil || !strings.Contains(err.Error(), "brought home") {
		t.Errorf("the unmount says %v", err)
	}
	v.must(v.disk.Again())
	v.mustMount()
	w.check()
	if got, err := os.ReadFile(filepath.Join(v.Dir(), "file")); err != nil || string(got) != "acknowledged" {
		t.Errorf("%q, %v", got, err)
	}
}
