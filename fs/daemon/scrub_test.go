package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/fsck"
)

// firing reports whether the volume's scrubs have raised their alert.
func firingScrub(d *Daemon) bool {
	return slices.ContainsFunc(d.Status().Alerts, func(a alert.Alert) bool { return a.Name == alert.ScrubDamage })
}

// until waits for something that comes about by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// harm flips a byte of the first block of the only file in the backing directory.
func (f *fixture) harm() {
	f.t.Helper()
	all, err := filepath.Glob(filepath.Join(f.cfg.Backing, "[^.]*"))
	if err != nil || len(all) != 1 {
		f.t.Fatal(all, err)
	}
	file, err := os.OpenFile(all[0], os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = file.ReadAt(b, format.BlockOffset(0))
	b[0] ^= 1
	_, err2 := file.WriteAt(b, format.BlockOffset(0))
	if err := errors.Join(err, err2, file.Close()); err != nil {
		f.t.Fatal(err)
	}
}

// TestScrubs: the schedule finds damage and tells of it, across a remount; and
// no more once a scrub finds none.
func TestScrubs(t *testing.T) {
	f := newFixture(t)
	f.cfg.StateDir, f.cfg.Scrub, f.cfg.ScrubRate = filepath.Join(f.dir, "state"), 50*time.Millisecond, 0
	d := f.start()
	data := filepath.Join(f.cfg.Mountpoint, "data")
	write(t, data, strings.Repeat("hello", 5000))
	until(t, "a first scrub", func() bool { return d.Status().Scrub.Finished != nil })
	if firingScrub(d) {
		t.Error("there is no damage")
	}
	if err := d.Unmount(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	f.harm()
	d = f.start()
	until(t, "the alert", func() bool { return firingScrub(d) })
	s := d.Status()
	if s.Scrub.Findings == 0 || s.Stats.IntegrityErrors == 0 || d.snapshot().Scrub.Findings == 0 || d.snapshot().Scrub.Read == 0 {
		t.Errorf("%+v", s.Scrub)
	}
	if err := d.Unmount(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	f.cfg.Scrub = 0
	d = f.start()
	until(t, "the alert after a remount", func() bool { return firingScrub(d) })
	c := &KeyClient{RunDir: f.cfg.RunDir}
	r, err := c.Fsck(t.Context(), f.cfg.Mountpoint, FsckRequest{})
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Kind != fsck.Block || r.Findings[0].Name != "data" {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	if r, err = c.Fsck(t.Context(), f.cfg.Backing, FsckRequest{}); err != nil || !r.Clean() {
		t.Fatalf("%+v, %v", r, err)
	}
	until(t, "the end of the alert", func() bool { return !firingScrub(d) })
}

// TestScrubOfLocked: a locked volume cannot be checked, and says so.
func TestScrubOfLocked(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	if err := Lock(t.Context(), f.cfg.RunDir, f.cfg.Mountpoint); err != nil {
		t.Fatal(err)
	}
	c := &KeyClient{RunDir: f.cfg.RunDir}
	if _, err := c.Fsck(t.Context(), f.cfg.Mountpoint, FsckRequest{}); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("checked: %v", err)
	}
	if _, err := os.Stat(f.cfg.Mountpoint + "/x"); !errors.Is(err, unix.ENOKEY) {
		t.Errorf("%v", err)
	}
	if d.Status().Scrub.Running {
		t.Error("it goes on")
	}
}

// TestScrubDue: a schedule goes on from mount to mount.
func TestScrubDue(t *testing.T) {
	at := time.Unix(1e9, 0)
	for _, c := range []struct {
		kept scrubState
		due  time.Time
	}{
		{scrubState{Since: at}, at.Add(time.Hour)},
		{scrubState{Since: at, Finished: at.Add(time.Minute)}, at.Add(61 * time.Minute)},
		{scrubState{Since: at, Finished: at.Add(time.Minute), Next: "x"}, time.Time{}},
	} {
		if got := c.kept.due(time.Hour); !got.Equal(c.due) {
			t.Errorf("%+v is due at %v", c.kept, got)
		}
	}
}
