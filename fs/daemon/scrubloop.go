package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/akvfs/akvfs/fs/fsck"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/internal/replace"
)

// scrubState is what is kept of a volume's scrubs from mount to mount. Paths
// are those of the backing directory, which tell no more than that does.
type scrubState struct {
	Backing  string      `json:"backing"`
	Since    time.Time   `json:"since"`    // when the schedule began
	Finished time.Time   `json:"finished"` // when a scrub last came to its end; zero: never
	Next     volume.Path `json:"next"`     // where one goes on that was interrupted; "": none was
	Findings int         `json:"findings"` // so far, of the one that was interrupted, else of the last
	Before   int         `json:"before"`   // of the last, while another is under way
}

// due is when the next scrub begins or goes on.
func (k *scrubState) due(every time.Duration) time.Time {
	switch {
	case k.Next != "":
		return time.Time{}
	case k.Finished.IsZero():
		return k.Since.Add(every)
	}
	return k.Finished.Add(every)
}

const (
	// scrubWait bounds how long the schedule sleeps, and is how soon a scrub
	// that a lock ended is tried again.
	scrubWait = time.Hour
	// scrubKeep is how often the place that a scrub has come to is kept.
	scrubKeep = 10 * time.Second
)

// scrubFile is where the state lies, "" for nowhere.
func (d *Daemon) scrubFile() string {
	if d.cfg.StateDir == "" {
		return ""
	}
	return filepath.Join(d.cfg.StateDir, "scrub", d.info.ID.String()+".json")
}

// loadScrub reads what is kept. What cannot be read, or is another copy's of
// the volume, begins anew.
func (d *Daemon) loadScrub() {
	fresh := scrubState{Backing: d.cfg.Backing, Since: d.cfg.Now().UTC()}
	kept := fresh
	if path := d.scrubFile(); path != "" {
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &kept)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("what was kept of scrubs cannot be read; they begin anew", "file", path, "error", err)
			kept = fresh
		}
	}
	if kept.Backing != d.cfg.Backing {
		kept = fresh
	}
	d.scrubs.change(func(k *scrubState) { *k = kept })
	d.keepScrub(kept)
	d.tellDamage(kept)
}

// keepScrub writes it. Without it a scrub begins anew: that is worth a line of
// the log, and no more.
func (d *Daemon) keepScrub(k scrubState) {
	path := d.scrubFile()
	if path == "" {
		return
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err == nil {
		err = replace.Dir(filepath.Dir(path))
	}
	if err == nil {
		err = replace.File(path, append(data, '\n'), 0o600)
	}
	if err != nil {
		d.log.Warn("how far the scrub is cannot be kept", "file", path, "error", err)
	}
}

// scrubLoop scrubs the volume on its schedule, until ctx ends.
func (d *Daemon) scrubLoop(ctx context.Context) {
	d.loadScrub()
	if d.cfg.Scrub <= 0 {
		return
	}
	for {
		kept := d.scrubs.change(func(*scrubState) {})
		wait := kept.due(d.cfg.Scrub).Sub(d.cfg.Now())
		if wait <= 0 {
			wait = 0
			if !d.scrubOnce(ctx, kept) {
				wait = min(scrubWait, d.cfg.CheckInterval)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(wait, scrubWait)):
		}
	}
}

// scrubOnce is one scrub of the schedule, or what is left of one. It reports
// whether that came to its end.
func (d *Daemon) scrubOnce(ctx context.Context, from scrubState) bool {
	if from.Next == "" {
		d.scrubs.change(func(k *scrubState) { k.Before, k.Findings = k.Findings, 0 })
	}
	saved := time.Now()
	report, err := d.scrub(ctx, FsckParams{From: from.Next, Jobs: 1, Rate: d.cfg.ScrubRate}, func(p volume.ScrubProgress) {
		if time.Since(saved) >= scrubKeep {
			saved = time.Now()
			d.keepScrub(d.scrubs.change(func(k *scrubState) { k.Next = p.Next }))
		}
	}, d.scrubFound)
	if report == nil { // it is locked, or the mount ends
		return false
	}
	kept := d.scrubs.change(func(k *scrubState) {
		if k.Next = report.Next; err == nil {
			k.Finished, k.Next, k.Before = d.cfg.Now().UTC(), "", 0
		}
	})
	d.keepScrub(kept)
	d.tellDamage(kept)
	if err != nil && !interrupted(err) {
		d.log.Warn("the scrub was ended; it goes on where it stopped", "error", err)
	}
	d.log.Info("scrubbed", "objects", report.Objects, "bytes", report.Bytes, "complete", err == nil)
	return err == nil
}

// scrubFound tells of damage at once.
func (d *Daemon) scrubFound(f fsck.Finding) {
	d.log.Error("scrub found damage", "kind", f.Kind, "backing_file", f.Path, "detail", f.Detail)
	d.tellDamage(d.scrubs.change(func(k *scrubState) { k.Findings++ }))
}
