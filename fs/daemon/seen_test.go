package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/highwater"
)

// rolled is a volume that has been mounted twice, with a new version of its
// key in between, and what it was before that.
type rolled struct {
	*fixture
	old string // a copy of the backing directory
}

func newRolled(t *testing.T) *rolled {
	t.Helper()
	f := newFixture(t)
	f.cfg.StateDir = filepath.Join(f.dir, "state")
	r := &rolled{f, filepath.Join(f.dir, "old")}
	r.once("first")
	f.copy(f.cfg.Backing, r.old)
	_, err := f.store.Rotate()
	f.must(err)
	d := f.start()
	f.must(f.call(MethodKeyRotate, KeyParams{From: f.store.KeyID()}, nil))
	f.must(d.Unmount(t.Context(), time.Minute))
	r.once("second")
	return r
}

// once mounts, writes a file and unmounts.
func (r *rolled) once(name string) {
	r.t.Helper()
	d := r.start()
	r.must(writeSynced(filepath.Join(r.cfg.Mountpoint, name), name))
	r.must(d.Unmount(r.t.Context(), time.Minute))
}

func (f *fixture) copy(from, to string) {
	f.t.Helper()
	if out, err := exec.Command("cp", "-aT", from, to).CombinedOutput(); err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
}

// putBack replaces something of the volume by what it was.
func (r *rolled) putBack(names ...string) {
	r.t.Helper()
	for _, name := range names {
		r.must(os.RemoveAll(filepath.Join(r.cfg.Backing, name)))
		r.copy(filepath.Join(r.old, name), filepath.Join(r.cfg.Backing, name))
	}
}

func (r *rolled) refused(part highwater.Part) {
	r.t.Helper()
	for _, readOnly := range []bool{false, true} {
		cfg := r.cfg
		cfg.ReadOnly = readOnly
		_, err := Start(r.t.Context(), cfg)
		if older, ok := errors.AsType[*highwater.RollbackError](err); !ok || older.Part != part || older.Found >= older.Seen {
			r.t.Fatalf("%T: %v", err, err)
		}
	}
}

// TestRolledBack: an older keyring or journal put back is refused, by a mount
// and by a command on the keys, until somebody says that it was on purpose.
func TestRolledBack(t *testing.T) {
	for name, c := range map[string]struct {
		back []string
		part highwater.Part
	}{
		"the keyring":    {[]string{".akvfs/keyring.json"}, highwater.Keyring},
		"the journal":    {[]string{".akvfs/journal"}, highwater.Journal},
		"all":            {[]string{""}, highwater.Keyring},
		"by another one": {[]string{".akvfs"}, highwater.Keyring},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRolled(t)
			r.putBack(c.back...)
			r.refused(c.part)
			if c.part == highwater.Keyring {
				err := r.call(MethodKeyRotate, KeyParams{From: r.store.KeyID()}, nil)
				if Code(err) != CodeIntegrity {
					t.Errorf("a command on the keys: %v", err)
				}
			}
			accepting := *r
			accepting.fixture = &fixture{t: t, dir: r.dir, store: r.store, cfg: r.cfg, log: r.log}
			accepting.cfg.AcceptRollback = true
			accepting.once("accepted")
			if !strings.Contains(r.log.String(), "taken all the same") {
				t.Errorf("nothing in the log:\n%s", r.log)
			}
			r.once("from here on")
		})
	}
}

// TestRolledBackAfterKill: what a daemon had recorded before it was killed is
// held against the journal as what one had that ended well.
func TestRolledBackAfterKill(t *testing.T) {
	r := newRolled(t)
	before := r.mark()
	arm, gone := r.startDoomed("keyring is replaced", 1)
	for i := 0; r.mark().Journal < before.Journal+10; i++ {
		r.must(writeSynced(filepath.Join(r.cfg.Mountpoint, fmt.Sprint(i)), "x"))
	}
	_, err := r.store.Rotate()
	r.must(err)
	arm()
	if err := r.call(MethodKeyRotate, KeyParams{From: r.store.KeyID()}, nil); err == nil {
		t.Error("it lives")
	}
	gone()
	r.copy(r.cfg.Backing, filepath.Join(r.dir, "killed"))
	r.putBack(".akvfs/journal")
	r.refused(highwater.Journal)
	r.must(os.RemoveAll(r.cfg.Backing))
	r.copy(filepath.Join(r.dir, "killed"), r.cfg.Backing)
	r.once("as it was left")
}

// record is what is kept of the volume.
func (r *rolled) record() *highwater.Record {
	r.t.Helper()
	s, err := Inspect(r.cfg.Backing)
	r.must(err)
	return highwater.At(r.cfg.StateDir, uuid.MustParse(s.VolumeID), r.cfg.Backing)
}

func (r *rolled) mark() highwater.Mark {
	r.t.Helper()
	m, err := r.record().Read()
	r.must(err)
	return m
}

// TestOlderElsewhere: a copy of an older volume in another directory is a
// volume of its own, and so is one that was made anew in a place.
func TestOlderElsewhere(t *testing.T) {
	r := newRolled(t)
	elsewhere := *r.fixture
	elsewhere.cfg.Backing = r.old
	d := elsewhere.start()
	r.must(d.Unmount(t.Context(), time.Minute))
	r.putBack("")
	s, err := Inspect(r.cfg.Backing)
	r.must(err)
	r.must(ForgetSeen(r.cfg.StateDir, uuid.MustParse(s.VolumeID), r.cfg.Backing))
	r.once("made anew")
}

// TestSeenIsNoReason: whatever is the matter with the record, the volume
// mounts, and the log says that nothing would be noticed.
func TestSeenIsNoReason(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(r *rolled, record string)
		told bool
	}{
		"no state directory": {func(r *rolled, _ string) { r.cfg.StateDir = "" }, false},
		"removed":            {func(r *rolled, _ string) { r.must(os.RemoveAll(r.cfg.StateDir)) }, false},
		"empty":              {func(r *rolled, record string) { r.must(os.WriteFile(record, nil, 0o600)) }, true},
		"nonsense":           {func(r *rolled, record string) { r.must(os.WriteFile(record, []byte(`{"format":7}`), 0o600)) }, true},
		"a directory": {func(r *rolled, record string) {
			r.must(os.Remove(record))
			r.must(os.Mkdir(record, 0o700))
		}, true},
		"a file in the place of its directory": {func(r *rolled, record string) {
			r.must(os.RemoveAll(filepath.Dir(record)))
			r.must(os.WriteFile(filepath.Dir(record), nil, 0o600))
		}, true},
		"read-only": {func(r *rolled, record string) {
			r.cfg.AuditLog = AuditNone
			dir := filepath.Dir(record)
			r.must(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
			r.t.Cleanup(func() { r.must(unix.Unmount(dir, 0)) })
			r.must(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRolled(t)
			if m := r.mark(); m.Keyring < 2 || m.Journal < 2 {
				t.Fatalf("the record has %+v", m)
			}
			c.harm(r, r.record().Path())
			r.once("third")
			if told := strings.Contains(r.log.String(), "unnoticed") || strings.Contains(r.log.String(), "not be noticed"); told != c.told {
				t.Errorf("told: %v\n%s", told, r.log)
			}
		})
	}
}
