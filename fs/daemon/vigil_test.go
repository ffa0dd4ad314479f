package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/vigil"
)

// syncs has a program write and sync, over and over, until done says so.
func syncs(t *testing.T, dir string, done func() bool) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for deadline := time.Now().Add(time.Minute); !done(); {
		if _, err := f.WriteAt([]byte("entry"), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("a minute of syncs kept nothing awake")
		}
	}
}

// TestProcessors: syncs one after the other keep processors awake, where that is
// possible, and a status tells; where it is not, it tells why.
func TestProcessors(t *testing.T) {
	f := newFixture(t)
	d := f.start()
	p := d.Status().Processors
	if probe, err := vigil.Open(); err != nil {
		if p.Reason != err.Error() || p.Awake || p.Seconds != 0 {
			t.Errorf("where it is not possible (%v): %+v", err, p)
		}
		return
	} else if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	if p.Reason != "" {
		t.Errorf("where it is possible: %+v", p)
	}
	syncs(t, f.cfg.Mountpoint, func() bool { return d.Status().Processors.Awake })
	for deadline := time.Now().Add(time.Minute); d.Status().Processors.Awake; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still awake a minute after the last request")
		}
	}
	if p := d.Status().Processors; p.Seconds <= 0 {
		t.Errorf("afterwards: %+v", p)
	}
}

// TestProcessorsMaySleep: nothing is kept awake where that is not wanted.
func TestProcessorsMaySleep(t *testing.T) {
	f := newFixture(t)
	f.cfg.MaySleep = true
	d := f.start()
	n := 0
	syncs(t, f.cfg.Mountpoint, func() bool { n++; return n > 200 })
	if p := d.Status().Processors; p.Awake || p.Seconds != 0 || p.Reason == "" {
		t.Errorf("%+v", p)
	}
}
