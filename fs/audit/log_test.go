package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// lines reads records, and fails for a line that is none.
func lines(t *testing.T, path string) []Record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []Record
	for s := bufio.NewScanner(f); s.Scan(); {
		var r Record
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("%s: %q: %v", path, s.Text(), err)
		}
		all = append(all, r)
	}
	return all
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state", "audit", "v.log")
	l := open(t, path)
	if err := l.Append(Record{Action: "one"}); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	again := open(t, path)
	if err := again.Append(Record{Action: "two"}); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); len(got) != 2 || got[0].Action != "one" || got[1].Action != "two" {
		t.Errorf("%+v", got)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if err := l.Append(Record{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe, link, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, dir, "/dev/null", filepath.Join(file, "below")} {
		_, err := Open(path)
		if e, ok := errors.AsType[*Error](err); !ok || e.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Whatever logrotate does while many write, each line is in one of the files,
// whole and once.
func TestRotation(t *testing.T) {
	for name, rotate := range map[string]func(path, to string) error{
		"rename": os.Rename,
		"rename and create": func(path, to string) error {
			if err := os.Rename(path, to); err != nil {
				return err
			}
			// As logrotate does: what somebody else has made by now stays.
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
			if errors.Is(err, os.ErrExist) {
				return nil
			}
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			l := open(t, path)
			const writers, each, rotations = 8, 200, 10
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() {
					for i := range each {
						if err := l.Append(Record{Action: fmt.Sprintf("%d-%d", w, i)}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			files, more := []string{path}, 0
			for i := range rotations {
				to := fmt.Sprintf("%s.%d", path, i)
				for rotate(path, to) != nil { // nobody has written since the last, or will
					if err := l.Append(Record{Action: fmt.Sprintf("more-%d", more)}); err != nil {
						t.Error(err)
					}
					more++
				}
				files = append(files, to)
			}
			all.Wait()
			if err := l.Append(Record{Action: "last"}); err != nil {
				t.Fatal(err)
			}
			seen := make(map[string]int)
			for _, f := range files {
				for _, r := range lines(t, f) {
					seen[r.Action]++
				}
			}
			if want := writers*each + more + 1; len(seen) != want {
				t.Errorf("%d different lines, want %d", len(seen), want)
			}
			for action, n := range seen {
				if n != 1 {
					t.Errorf("%s is there %d times", action, n)
				}
			}
		})
	}
}

// A log that was truncated in place goes on at its new end.
func TestCopyTruncate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	for i := range 100 {
		if err := l.Append(Record{Action: "before"}); err != nil {
			t.Fatal(err)
		}
		if i == 50 {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := lines(t, path); len(got) != 49 {
		t.Errorf("%d lines", len(got))
	}
}

// While the directory is away every line fails, and when it is back lines are
// written again.
func TestGoneAndBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	path := filepath.Join(dir, "audit.log")
	l := open(t, path)
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(Record{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(Record{Action: "back"}); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); len(got) != 1 || got[0].Action != "back" {
		t.Errorf("%+v", got)
	}
}

// Writes that are cut short, as by a full disk, spoil no other line.
func TestTorn(t *testing.T) {
	top := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(top, "")
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var want []string
		for i := range rapid.IntRange(1, 20).Draw(t, "lines") {
			cut := rapid.IntRange(-3, 40).Draw(t, "cut")
			l.write = func(f io.Writer, line []byte) (int, error) {
				if cut < 0 || cut >= len(line) {
					return f.Write(line)
				}
				n, _ := f.Write(line[:cut])
				return n, unix.ENOSPC
			}
			action := fmt.Sprint("action-", i)
			if l.Append(Record{Action: action}) == nil {
				want = append(want, action)
			}
		}
		data, err := os.ReadFile(l.Path())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.SplitSeq(string(data), "\n") {
			var r Record
			if json.Unmarshal([]byte(line), &r) == nil {
				got = append(got, r.Action)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("whole lines %v, want %v, in\n%s", got, want, data)
		}
	})
}

func TestProcess(t *testing.T) {
	me := Process(int32(os.Getpid()), 7)
	if me.UID != 7 || me.PID != int32(os.Getpid()) || !strings.HasPrefix("audit.test", me.Command) || me.Command == "" {
		t.Errorf("%+v", me)
	}
	if gone := Process(1<<30, 0); gone.Command != "" {
		t.Errorf("%+v", gone)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"mongod", "a\nb", "\x1b[2J", "\xff\xfe", "ключ", "\u202e", strings.Repeat("é", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s, 64)
		if len(got) > 64 || strings.ContainsAny(got, "\n\r\x1b\x00\u202e") || strings.ToValidUTF8(got, "") != got {
			t.Errorf("%q became %q", s, got)
		}
	})
}
