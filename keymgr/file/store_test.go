package file

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/keymgr"
)

func TestCreate(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	info, err := os.Lstat(s.Path())
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	l, err := s.Show()
	must(t, err)
	if l.Path != s.Path() || l.KeyID != s.KeyID() || l.Type != "RSA" || l.Size != minBits || !l.Created.Equal(start) || len(l.Versions) != 1 {
		t.Errorf("%+v", l)
	}
	v := l.Versions[0]
	if v.State != Usable || !v.Current || !v.Enabled || !v.Created.Equal(start) || v.KeyID != s.KeyID()+"?version="+v.ID {
		t.Errorf("%+v", v)
	}
	_, err = Create(s.Path(), c.options())
	if !is(err, keymgr.Invalid, "KeyExists", s.Path()) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	if again, err := Open(s.Path(), c.options()); err != nil || again.KeyID() != s.KeyID() {
		t.Errorf("open: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(s.Path()))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v (%v)", entries, err)
	}
}

// TestRealKey makes a key of the default size with the default generator.
func TestRealKey(t *testing.T) {
	s, err := Create(filepath.Join(t.TempDir(), "key.json"), Options{})
	must(t, err)
	l, err := s.Show()
	must(t, err)
	if l.Size != DefaultBits || time.Since(l.Created) < 0 {
		t.Errorf("%+v", l)
	}
	p, err := OpenProvider(s.KeyID(), keymgr.ProviderOptions{})
	must(t, err)
	w, err := p.Wrap(t.Context(), []byte("plaintext"))
	must(t, err)
	got, err := p.Unwrap(t.Context(), w)
	if err != nil || string(got) != "plaintext" || len(w.Ciphertext) != DefaultBits/8 {
		t.Errorf("%q, %v, %d bytes", got, err, len(w.Ciphertext))
	}
}

func TestCreateRefusals(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	must(t, os.WriteFile(filepath.Join(dir, "other"), []byte("something else"), 0o600))
	for _, tc := range []struct {
		path  string
		bits  int
		class keymgr.Class
		code  string
	}{
		{"none/key.json", 0, keymgr.Unreachable, "FileNotFound"},
		{"link", 0, keymgr.Invalid, "KeyExists"},
		{"other", 0, keymgr.Invalid, "KeyExists"},
		{".", 0, keymgr.Invalid, "KeyExists"},
		{"new", 1024, keymgr.Invalid, "BadKeySize"},
		{"new", 8192, keymgr.Invalid, "BadKeySize"},
		{"new", 2049, keymgr.Invalid, "BadKeySize"},
		{"a\nb", 0, keymgr.Invalid, "BadPath"},
	} {
		path := filepath.Join(dir, tc.path)
		_, err := Create(path, Options{Bits: tc.bits, generate: fromPool})
		if !is(err, tc.class, tc.code, path) {
			t.Errorf("%q, %d bits: %v", tc.path, tc.bits, err)
		}
	}
	if _, err := Create("", Options{}); !is(err, keymgr.Invalid, "BadPath", "") {
		t.Errorf("no path: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the directory holds %v (%v)", entries, err)
	}
	broken := Options{generate: func(int) ([]byte, error) { return nil, errors.New("no entropy") }}
	if _, err := Create(filepath.Join(dir, "new"), broken); !is(err, keymgr.Invalid, "KeyGeneration", filepath.Join(dir, "new")) {
		t.Errorf("no key: %v", err)
	}
}

// TestUnsafeFiles: each is refused by every reader, and never waited for.
func TestUnsafeFiles(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"group may read":    func(p string) error { return os.Chmod(p, 0o640) },
		"others may read":   func(p string) error { return os.Chmod(p, 0o604) },
		"others may write":  func(p string) error { return os.Chmod(p, 0o602) },
		"group may execute": func(p string) error { return os.Chmod(p, 0o610) },
		"symbolic link": func(p string) error {
			return errors.Join(os.Rename(p, p+".real"), os.Symlink(p+".real", p))
		},
		"directory": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
		"named pipe": func(p string) error {
			return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600))
		},
	} {
		c := &clock{start}
		s := mustCreate(t, c)
		must(t, spoil(s.Path()))
		for who, err := range everyReader(t, s, c) {
			if !is(err, keymgr.Invalid, "UnsafeFile", s.Path()) {
				t.Errorf("%s, %s: %v", name, who, err)
			}
		}
	}
}

// everyReader is what each way to use a store answers.
func everyReader(t *testing.T, s *Store, c *clock) map[string]error {
	p := mustProvider(t, s.KeyID(), c)
	_, wrap := p.Wrap(t.Context(), []byte("x"))
	_, unwrap := p.Unwrap(t.Context(), keymgr.Wrapped{
		KeyID: s.KeyID(), Version: strings.Repeat("0", 32), Operation: keymgr.OpWrap,
		Algorithm: keymgr.AlgRSAOAEP256, Ciphertext: make([]byte, 256),
	})
	_, describe := p.Describe(t.Context())
	_, show := s.Show()
	_, open := Open(s.Path(), c.options())
	_, rotate := s.Rotate()
	return map[string]error{
		"wrap": wrap, "unwrap": unwrap, "describe": describe, "show": show, "open": open, "rotate": rotate,
		"disable": s.Disable(""), "enable": s.Enable(""), "expire": s.Expire("", start), "delete": s.Delete(),
		"recover": s.Recover(), "purge": s.Purge(),
	}
}

func TestOwner(t *testing.T) {
	st := unix.Stat_t{Mode: unix.S_IFREG | 0o600, Uid: 1000}
	if err := safe(&st, 1000); err != nil {
		t.Errorf("own file: %v", err)
	}
	for _, euid := range []int{0, 1001} {
		if err := safe(&st, euid); !errors.Is(err, errUnsafe) {
			t.Errorf("user %d uses user 1000's file: %v", euid, err)
		}
	}
}

func TestMissingFile(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	must(t, os.Remove(s.Path()))
	for who, err := range everyReader(t, s, c) {
		if !is(err, keymgr.Unreachable, "FileNotFound", s.Path()) || !strings.Contains(err.Error(), s.Path()) {
			t.Errorf("%s: %v", who, err)
		}
	}
	must(t, os.Remove(filepath.Dir(s.Path())))
	for who, err := range everyReader(t, s, c) {
		if !is(err, keymgr.Unreachable, "FileNotFound", s.Path()) {
			t.Errorf("%s, directory gone: %v", who, err)
		}
	}
}

// TestAccessDenied takes the permission to read away: from this thread alone,
// since root would not notice.
func TestAccessDenied(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	must(t, os.Chmod(filepath.Dir(s.Path()), 0))
	defer os.Chmod(filepath.Dir(s.Path()), 0o700)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Geteuid() == 0 {
		must(t, unix.Setfsuid(65534))
		defer unix.Setfsuid(0)
	}
	for who, err := range everyReader(t, s, c) {
		if !is(err, keymgr.Credentials, "AccessDenied", s.Path()) {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// TestReadOnlyDirectory: a write that is refused leaves nothing behind.
func TestReadOnlyDirectory(t *testing.T) {
	c := &clock{start}
	dir, err := os.MkdirTemp("", "akvfs-test-")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o555))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Geteuid() == 0 {
		must(t, unix.Setfsuid(65534))
		defer unix.Setfsuid(0)
	}
	path := filepath.Join(dir, "key.json")
	if _, err := Create(path, c.options()); !is(err, keymgr.Credentials, "AccessDenied", path) {
		t.Errorf("%v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestReadFailure(t *testing.T) {
	if err := readFailure("unwrap", "/k", unix.EIO); !is(err, keymgr.Unreachable, "ReadFailed", "/k") {
		t.Errorf("%v", err)
	}
}

// TestEdits does every edit in turn and looks at the listing after each.
func TestEdits(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	first := versions(t, s)[0]
	second, err := s.Rotate()
	must(t, err)
	c.t = c.t.Add(time.Hour)
	later := c.t.Add(time.Hour).In(time.FixedZone("there", 7200))
	for _, tc := range []struct {
		name    string
		edit    func() error
		states  [2]State
		current string
	}{
		{"disable one", func() error { return s.Disable(first) }, [2]State{Disabled, Usable}, second},
		{"disable all", func() error { return s.Disable("") }, [2]State{Disabled, Disabled}, ""},
		{"enable the older", func() error { return s.Enable(first) }, [2]State{Usable, Disabled}, first},
		{"enable all", func() error { return s.Enable("") }, [2]State{Usable, Usable}, second},
		{"expire later", func() error { return s.Expire(first, later) }, [2]State{Usable, Usable}, second},
		{"expire now", func() error { return s.Expire(second, c.t) }, [2]State{Usable, Expired}, first},
		{"not before now", func() error { return s.NotBefore(first, c.t) }, [2]State{Usable, Expired}, first},
		{"not before later", func() error { return s.NotBefore(first, later) }, [2]State{NotYetValid, Expired}, ""},
		{"never expire", func() error { return s.Expire("", time.Time{}) }, [2]State{NotYetValid, Usable}, second},
		{"valid already", func() error { return s.NotBefore("", time.Time{}) }, [2]State{Usable, Usable}, second},
		{"expire all", func() error { return s.Expire("", c.t.Add(-time.Second)) }, [2]State{Expired, Expired}, ""},
		{"never expire again", func() error { return s.Expire("", time.Time{}) }, [2]State{Usable, Usable}, second},
		{"delete", s.Delete, [2]State{Usable, Usable}, ""},
		{"recover", s.Recover, [2]State{Usable, Usable}, second},
	} {
		if err := tc.edit(); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		l, err := s.Show()
		must(t, err)
		current := ""
		for i, v := range l.Versions {
			if v.State != tc.states[i] {
				t.Errorf("%s: version %d is %s instead of %s", tc.name, i, v.State, tc.states[i])
			}
			if v.Current {
				current += v.ID
			}
		}
		if current != tc.current {
			t.Errorf("%s: current is %q instead of %q", tc.name, current, tc.current)
		}
		if l.Deleted.IsZero() == (tc.name == "delete") {
			t.Errorf("%s: deleted at %v", tc.name, l.Deleted)
		}
	}
}

func TestEditRefusals(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	before := mustReadFile(t, s.Path())
	none := strings.Repeat("0", 32)
	tests := map[string]struct {
		err  error
		code string
	}{
		"disable unknown": {s.Disable(none), "KeyVersionNotFound"},
		"enable unknown":  {s.Enable("x"), "KeyVersionNotFound"},
		"expire unknown":  {s.Expire(none, start), "KeyVersionNotFound"},
		"year 10000":      {s.Expire("", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)), "BadTime"},
		"before 1970":     {s.NotBefore("", time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)), "BadTime"},
		"recover":         {s.Recover(), "KeyNotDeleted"},
		"purge":           {s.Purge(), "KeyNotDeleted"},
	}
	for name, tc := range tests {
		if ke, ok := errors.AsType[*keymgr.KeyError](tc.err); !ok || ke.Code != tc.code {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	if !bytes.Equal(mustReadFile(t, s.Path()), before) {
		t.Error("a refusal changed the file")
	}
	must(t, s.Delete())
	deleted := mustReadFile(t, s.Path())
	_, rotate := s.Rotate()
	for name, err := range map[string]error{"rotate": rotate, "disable": s.Disable(""), "delete": s.Delete()} {
		if !is(err, keymgr.Revoked, "KeyDeleted", s.Path()) {
			t.Errorf("%s when deleted: %v", name, err)
		}
	}
	if !bytes.Equal(mustReadFile(t, s.Path()), deleted) {
		t.Error("a refusal changed the deleted key's file")
	}
}

func TestPurge(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	must(t, s.Delete())
	must(t, s.Purge())
	for who, err := range everyReader(t, s, c) {
		if who == "show" || who == "open" {
			must(t, err)
		} else if !is(err, keymgr.Revoked, "KeyNotFound", s.Path()) {
			t.Errorf("%s: %v", who, err)
		}
	}
	if data := mustReadFile(t, s.Path()); bytes.Contains(data, []byte("private_key")) {
		t.Error("the file still has a private key")
	}
	l, err := s.Show()
	if err != nil || len(l.Versions) != 0 || !l.Purged.Equal(start) {
		t.Errorf("%+v, %v", l, err)
	}
	again, err := Create(s.Path(), c.options())
	must(t, err)
	if len(versions(t, again)) != 1 {
		t.Error("no new key after a purge")
	}
}

func TestTooManyVersions(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	for range maxVersions - 1 {
		_, err := s.Rotate()
		must(t, err)
	}
	if _, err := s.Rotate(); !is(err, keymgr.Invalid, "TooManyVersions", s.Path()) {
		t.Errorf("%v", err)
	}
	if n := len(versions(t, s)); n != maxVersions {
		t.Errorf("%d versions", n)
	}
}

// TestConcurrentEdits: no edit is lost, and a reader sees a whole file always.
func TestConcurrentEdits(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	const editors, edits = 4, 5
	var wg, reading sync.WaitGroup
	done := make(chan struct{})
	reading.Go(func() {
		p := mustProvider(t, s.KeyID(), c)
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := p.Describe(t.Context()); err != nil {
				t.Errorf("a reader met %v", err)
				return
			}
		}
	})
	for range editors {
		wg.Go(func() {
			mine, err := Open(s.Path(), c.options())
			if err != nil {
				t.Error(err)
				return
			}
			for range edits {
				if _, err := mine.Rotate(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	reading.Wait()
	if n := len(versions(t, s)); n != 1+editors*edits {
		t.Errorf("%d versions", n)
	}
}

// TestNoSecretsInTexts looks for the private key in everything that is printed.
func TestNoSecretsInTexts(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	data := mustReadFile(t, s.Path())
	d, err := parse(data)
	must(t, err)
	encoded := base64.StdEncoding.EncodeToString(d.Versions[0].PrivateKey)
	const piece = 24
	var texts []string
	l, err := s.Show()
	must(t, err)
	listing, err := json.Marshal(l)
	must(t, err)
	texts = append(texts, string(listing), fmt.Sprintf("%+v %+v", l, s))
	at := bytes.Index(data, []byte(encoded))
	for _, spoil := range []func([]byte){
		func(b []byte) { b[at+100] = '!' },
		func(b []byte) { b[at+100] = '"' },
		func(b []byte) { b[at+100] = '\n' },
		func(b []byte) { b[at-1] = '1' },
		func(b []byte) { b[at-1] = '[' },
		func(b []byte) { copy(b[at:], "MIIE") },
		func(b []byte) { b[at+40] = 'A' ^ b[at+40]&3 },
	} {
		bad := bytes.Clone(data)
		spoil(bad)
		if d, err := parse(bad); err != nil {
			texts = append(texts, err.Error())
		} else if _, err := parseKey(d.Versions[0].PrivateKey, minBits); err != nil {
			texts = append(texts, err.Error())
		}
	}
	for _, text := range texts {
		for i := 0; i+piece < len(encoded); i++ {
			if strings.Contains(text, encoded[i:i+piece]) {
				t.Fatalf("a private key's bytes are in %q", text)
			}
		}
	}
}
