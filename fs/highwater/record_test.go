package highwater

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/internal/replace/replacetest"
)

var testVolume = uuid.MustParse("00000000-0000-4000-8000-000000000001")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantMark(t testing.TB, r *Record, want Mark) {
	t.Helper()
	if got, err := r.Read(); err != nil || got != want {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r := At(dir, testVolume, "/data/enc")
	wantMark(t, r, Mark{})
	must(t, r.Raise(Mark{}))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a record of nothing was made: %v", err)
	}
	must(t, r.Raise(Mark{Keyring: 3, Journal: 70}))
	must(t, At(dir, testVolume, "/data/enc").Raise(Mark{Keyring: 2, Journal: 90})) // by another process
	wantMark(t, r, Mark{Keyring: 3, Journal: 90})
	for _, other := range []*Record{At(dir, testVolume, "/data/enc2"), At(dir, uuid.New(), "/data/enc")} {
		wantMark(t, other, Mark{})
	}
	info, err := os.Stat(r.Path())
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
	must(t, r.Reset(Mark{Keyring: 1, Journal: 2}))
	wantMark(t, r, Mark{Keyring: 1, Journal: 2})
	must(t, r.Forget())
	must(t, r.Forget())
	wantMark(t, r, Mark{})
	must(t, r.Raise(Mark{Keyring: 1}))
	wantMark(t, r, Mark{Keyring: 1})
}

// TestFoundIsWrittenAgain: what is found on record may not be durable, and is
// written once more; what this Record has written is not.
func TestFoundIsWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	must(t, At(dir, testVolume, "/data/enc").Raise(Mark{Journal: 5})) // by a daemon that was killed, for all we know
	r := At(dir, testVolume, "/data/enc")
	for _, again := range []bool{true, false} {
		before, err := os.Stat(r.Path())
		must(t, err)
		must(t, r.Raise(Mark{Journal: 4}))
		after, err := os.Stat(r.Path())
		must(t, err)
		if os.SameFile(before, after) == again {
			t.Errorf("written: %v, want %v", !again, again)
		}
		wantMark(t, r, Mark{Journal: 5})
	}
}

// TestNotDurable: a directory that its user can write to and not open takes a
// record, and does not make it durable: that is an error.
func TestNotDurable(t *testing.T) {
	dir := t.TempDir()
	seen := filepath.Join(dir, dirName)
	must(t, os.Mkdir(seen, 0o700))
	replacetest.Undurable(t, seen, func() {
		r := At(dir, testVolume, "/data/enc")
		for what, do := range map[string]func() error{
			"raise": func() error { return r.Raise(Mark{Journal: 5}) }, "reset": func() error { return r.Reset(Mark{}) }, "forget": r.Forget,
		} {
			if err := do(); !errors.Is(err, os.ErrPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestNoRecord: what is no record, or another's, is an error and is replaced.
func TestNoRecord(t *testing.T) {
	dir := t.TempDir()
	other := At(dir, testVolume, "/other")
	must(t, other.Raise(Mark{Keyring: 9}))
	another, err := os.ReadFile(other.Path())
	must(t, err)
	for name, content := range map[string]string{
		"empty": "", "nonsense": "{", "newer": `{"format":2}`, "unknown field": `{"format":1,"x":1}`, "of another place": string(another),
	} {
		t.Run(name, func(t *testing.T) {
			r := At(dir, testVolume, "/data/enc")
			must(t, os.WriteFile(r.Path(), []byte(content), 0o600))
			if m, err := r.Read(); !errors.Is(err, ErrRecord) || m != (Mark{}) || !strings.Contains(err.Error(), r.Path()) {
				t.Fatalf("%+v, %v", m, err)
			}
			must(t, r.Raise(Mark{Keyring: 1}))
			wantMark(t, At(dir, testVolume, "/data/enc"), Mark{Keyring: 1})
		})
	}
}

// TestNoFile: a pipe or a link in its place is an error, and is not waited for
// or followed.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	r := At(dir, testVolume, "/data/enc")
	must(t, r.Raise(Mark{Keyring: 5}))
	moved := r.Path() + ".moved"
	must(t, os.Rename(r.Path(), moved))
	for _, make := range []func() error{
		func() error { return unix.Mkfifo(r.Path(), 0o600) },
		func() error { return os.Symlink(moved, r.Path()) },
		func() error { return os.Mkdir(r.Path(), 0o700) },
	} {
		must(t, make())
		if m, err := At(dir, testVolume, "/data/enc").Read(); err == nil {
			t.Errorf("read %+v", m)
		}
		must(t, os.Remove(r.Path()))
	}
}

// TestNobodyIsLockedOut: a volume goes on, its daemon records what was durable
// before, and dies at any moment. The volume as it is is never refused, and one
// put back to before a recorded moment always is.
func TestNobodyIsLockedOut(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		r := At(dir, uuid.New(), "/data/enc")
		var durable, recorded Mark
		history := []Mark{durable}
		recent := durable // what the daemon has in hand to record
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				durable.Keyring++
			case 1:
				durable.Journal += uint64(rapid.IntRange(1, 9).Draw(t, "frames"))
			case 2:
				recent = durable
			case 3:
				if err := r.Raise(recent); err != nil {
					t.Fatal(err)
				}
				recorded = recent
			case 4: // it dies, and the next one begins with what is there
				r = At(dir, r.volume, "/data/enc")
				recent = durable
			}
			history = append(history, durable)
			mark, err := r.Read()
			if err != nil || mark != recorded {
				t.Fatalf("%+v, %v; recorded was %+v", mark, err, recorded)
			}
			if err := errors.Join(mark.CheckKeyring(durable.Keyring), mark.CheckJournal(durable.Journal)); err != nil {
				t.Fatal(err)
			}
			for _, old := range history {
				err := errors.Join(mark.CheckKeyring(old.Keyring), mark.CheckJournal(old.Journal))
				if older := old.Keyring < recorded.Keyring || old.Journal < recorded.Journal; older != (err != nil) {
					t.Fatalf("%+v, recorded %+v: %v", old, recorded, err)
				}
			}
		}
	})
}

func TestRollbackError(t *testing.T) {
	err := Mark{Keyring: 5}.CheckKeyring(4)
	if older, ok := errors.AsType[*RollbackError](err); !ok || *older != (RollbackError{Keyring, 4, 5}) ||
		!strings.Contains(err.Error(), "keyring is older") {
		t.Fatal(err)
	}
}

// FuzzParse: no record makes the parser fail otherwise than with an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"volume":"00000000-0000-4000-8000-000000000001","backing":"/data/enc","keyring":3,"journal":70}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"keyring":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := parse(data); err == nil && d.Format != recordFormat {
			t.Fatalf("accepted %+v", d)
		}
	})
}
