package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// TestInterrupted ends a run after so many files, and goes on, or back.
func TestInterrupted(t *testing.T) {
	keys := newTestKeys(t, 31)
	for files := range int64(11) {
		for _, on := range []Direction{Encrypting, Decrypting} {
			st := store.NewMem(store.Options{})
			fill(t, st)
			want := pictureOf(t, plain{st})
			cfg := keys.config(volume.NamesEncrypted)
			ctx, cancel := context.WithCancel(t.Context())
			cfg.Observe = func(p Progress) {
				if p.Files >= files {
					cancel()
				}
			}
			_, err := Encrypt(ctx, st, cfg)
			cancel()
			if !errors.Is(err, context.Canceled) && files < 10 {
				t.Fatalf("after %d files: %v", files, err)
			}
			if d, err := Unfinished(st); err != nil || d != Encrypting {
				t.Fatalf("after %d files: unfinished %q, %v", files, d, err)
			}
			if _, err := volume.ReadInfo(st); !errors.Is(err, volume.ErrConverting) {
				t.Fatalf("after %d files it is a volume: %v", files, err)
			}
			if a, err := st.Stat("."); err != nil || a.Mode&0o7777 != 0o700 || a.UID != 0 {
				t.Fatalf("others may look in: %o of %d, %v", a.Mode, a.UID, err)
			}
			r, err := run(t.Context(), st, keys.config(volume.NamesEncrypted), on)
			must(t, err)
			if !r.Resumed {
				t.Error("it does not say that it went on")
			}
			if on == Encrypting {
				same(t, "gone on", keys.sealedPicture(t, st), want)
			} else {
				same(t, "gone back", pictureOf(t, plain{st}), want)
			}
		}
	}
}

// TestChangedMeanwhile: a file that is written while it is copied stays plain.
func TestChangedMeanwhile(t *testing.T) {
	keys := newTestKeys(t, 32)
	st := store.NewMem(store.Options{})
	fill(t, st)
	cfg := keys.config(volume.NamesEncrypted)
	once := false
	cfg.Observe = func(Progress) {
		if !once {
			put(t, st, "journal/log.1", 7, map[int64]string{0: "hello, "})
			once = true
		}
	}
	_, err := Encrypt(t.Context(), st, cfg)
	var failed *FilesError
	if !errors.As(err, &failed) || !errors.Is(err, ErrChanged) || len(failed.Failed) != 1 {
		t.Fatal(err)
	}
	if data, err := readAll(st, "journal/log.1"); err != nil || string(data) != "hello, " {
		t.Errorf("it is %q, %v", data, err)
	}
	if _, err := st.Stat("zero"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("the others stayed: %v", err)
	}
	_, err = Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
	_, err = Decrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
	if data, err := readAll(st, "journal/log.1"); err != nil || string(data) != "hello, " {
		t.Errorf("in the end it is %q, %v", data, err)
	}
}

// flipping is a store of a disk that gives back other bytes than it was given.
type flipping struct {
	store.FS
	on   *bool
	from int64 // the offset of reads from which on it does
}

type flippingFile struct {
	store.File
	flipping
}

func (f flipping) OpenFile(name string, flag int, perm uint32) (store.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || strings.HasPrefix(name, metaDir) {
		return file, err
	}
	return flippingFile{file, f}, nil
}

func (f flipping) SyncAll() error                         { return syncAll(f.FS) }
func (f flipping) TryLock(name string) (io.Closer, error) { return f.FS.(store.Locker).TryLock(name) }
func (f flippingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if *f.on && n > 0 && off >= f.from {
		p[0] ^= 1
	}
	return n, err
}

// TestBadDisk: no plaintext goes whose copy does not read back.
func TestBadDisk(t *testing.T) {
	keys := newTestKeys(t, 33)
	st := store.NewMem(store.Options{})
	fill(t, st)
	want := pictureOf(t, plain{st})
	bad := true
	cfg := keys.config(volume.NamesEncrypted)
	open := cfg.Open
	cfg.Open = func(ctx context.Context, backing store.FS) (*volume.Volume, func(), error) {
		return open(ctx, flipping{backing, &bad, 8192}) // behind header and tag page
	}
	var failed *FilesError
	if _, err := Encrypt(t.Context(), st, cfg); !errors.As(err, &failed) || len(failed.Failed) != 6 { // all with content, or only size

		t.Fatalf("%v", err)
	}
	for _, name := range []string{"WiredTiger.wt", "journal/log.1", "journal/deep/sparse", "journal/deep/other-name"} {
		if _, err := st.Stat(name); err != nil {
			t.Errorf("%v", err)
		}
	}
	bad = false
	_, err := Decrypt(t.Context(), st, cfg)
	must(t, err)
	same(t, "gone back", pictureOf(t, plain{st}), want)

	_, err = Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
	cfg.Open = func(ctx context.Context, backing store.FS) (*volume.Volume, func(), error) {
		s, err := loadState(st)
		must(t, err)
		bad = s != nil // the volume is out of the way, and only plain files are read badly
		return open(ctx, backing)
	}
	_, err = Decrypt(t.Context(), flipping{st, &bad, 0}, cfg)
	if !errors.As(err, &failed) || !errors.Is(err, ErrReadBack) || len(failed.Failed) != 5 {
		t.Fatalf("%v", err)
	}
	_, err = Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
	same(t, "encrypted again", keys.sealedPicture(t, st), want)
}

// TestProblems: what cannot be converted is refused before anything is changed.
func TestProblems(t *testing.T) {
	keys := newTestKeys(t, 34)
	dir := t.TempDir()
	st, err := store.OpenDisk(filepath.Join(dir))
	must(t, err)
	defer st.Close()
	must(t, st.Mkdir("db", 0o755))
	db := store.NewSub(st, "db")
	fill(t, db)
	must(t, st.Link("db/WiredTiger.wt", "outside"))
	before, err := db.Stat(".")
	must(t, err)
	var problems *ProblemsError
	_, err = Encrypt(t.Context(), db, keys.config(volume.NamesEncrypted))
	if !errors.As(err, &problems) || len(problems.Problems) != 1 {
		t.Fatalf("%v", err)
	}
	for _, says := range []string{"3 hard links, of which 2 are in the directory"} {
		if !strings.Contains(fmt.Sprint(problems.Problems), says) {
			t.Errorf("%q is not in %v", says, problems.Problems)
		}
	}
	after, err := db.Stat(".")
	after.Atime = before.Atime // it was looked through
	if err != nil || after != before {
		t.Errorf("the directory has changed: %+v, %v", after, err)
	}
	plan, err := Measure(t.Context(), db, keys.config(volume.NamesEncrypted), Encrypting)
	if err != nil || len(plan.Problems) != 1 {
		t.Errorf("%+v, %v", plan, err)
	}
}

// TestLostFound: what fsck has found is plaintext, too.
func TestLostFound(t *testing.T) {
	keys := newTestKeys(t, 41)
	st := store.NewMem(store.Options{})
	must(t, st.Mkdir(lostFound, 0o700))
	put(t, st, "file", 1, map[int64]string{0: "x"})
	put(t, st, lostFound+"/#12", 1, map[int64]string{0: "x"})
	var problems *ProblemsError
	if _, err := Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted)); !errors.As(err, &problems) || problems.Problems[0].Path != lostFound {
		t.Fatalf("%v", err)
	}
	if p, err := Measure(t.Context(), st, keys.config(volume.NamesEncrypted), Encrypting); err != nil || len(p.Problems) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	must(t, st.Unlink(lostFound+"/#12"))
	_, err := Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
	_, err = Decrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
	if _, err := st.Stat(lostFound); err != nil {
		t.Error(err)
	}
}

// TestForeignMetadata: what others keep in .akvfs does not go with the volume.
func TestForeignMetadata(t *testing.T) {
	keys := newTestKeys(t, 40)
	st := store.NewMem(store.Options{})
	fill(t, st)
	_, err := Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
	must(t, st.Mkdir(".akvfs/precious", 0o700))
	var problems *ProblemsError
	if _, err := Decrypt(t.Context(), st, keys.config(volume.NamesEncrypted)); !errors.As(err, &problems) || problems.Problems[0].Path != ".akvfs/precious" {
		t.Fatalf("%v", err)
	}
	must(t, st.Rmdir(".akvfs/precious"))
	_, err = Decrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
}

// TestSpace: the largest file must fit beside itself, and nothing more.
func TestSpace(t *testing.T) {
	keys := newTestKeys(t, 35)
	const files, small, large, volumeBytes = 24, 1 << 20, 8 << 20, 2 << 20
	for _, short := range []int64{0, 4 << 20} {
		st := store.NewMem(store.Options{})
		for i := range files {
			put(t, st, fmt.Sprint(i), small, map[int64]string{0: strings.Repeat("s", small)})
		}
		put(t, st, "large", large, map[int64]string{0: strings.Repeat("l", large)})
		want := pictureOf(t, plain{st})
		const capacity, need = 100 << 20, large + large/64 + 1<<20 + volumeBytes
		st.SetCapacity(capacity)
		free, err := freeSpace(st)
		must(t, err)
		st.SetCapacity(capacity - free + need - short)
		cfg := keys.config(volume.NamesEncrypted)
		cfg.VolumeBytes = volumeBytes
		_, err = Encrypt(t.Context(), st, cfg)
		var space *SpaceError
		if short > 0 {
			if !errors.As(err, &space) || space.Path != "large" || space.Need-space.Free > short || space.Free <= 0 {
				t.Errorf("%v", err)
			}
			same(t, "refused", pictureOf(t, plain{st}), want)
			continue
		}
		must(t, err)
		same(t, "encrypted", keys.sealedPicture(t, st), want)
		_, err = Decrypt(t.Context(), st, cfg)
		must(t, err)
		same(t, "decrypted", pictureOf(t, plain{st}), want)
	}
}

// TestKeyRefused: without a key the directory stays what it was.
func TestKeyRefused(t *testing.T) {
	keys := newTestKeys(t, 36)
	st := store.NewMem(store.Options{})
	fill(t, st)
	want := pictureOf(t, plain{st})
	cfg := keys.config(volume.NamesEncrypted)
	refused := errors.New("the vault says no")
	cfg.Create = func(context.Context, store.FS) error { return refused }
	if _, err := Encrypt(t.Context(), st, cfg); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	same(t, "refused", pictureOf(t, plain{st}), want)
	if d, err := Unfinished(st); d != "" || err != nil {
		t.Errorf("unfinished: %q, %v", d, err)
	}
}

// TestOnlyEmpty: what is in a directory that was to be empty stays as it is,
// also what looks like a conversion that somebody else has begun.
func TestOnlyEmpty(t *testing.T) {
	keys := newTestKeys(t, 38)
	cfg := keys.config(volume.NamesEncrypted)
	cfg.OnlyEmpty = true
	wantRefusal := func(st store.FS, what string) {
		t.Helper()
		want := pictureOf(t, plain{st})
		_, err := Encrypt(t.Context(), st, cfg)
		if p, ok := errors.AsType[*ProblemsError](err); !ok || p.Problems[0].Path != what {
			t.Errorf("%s: %v", what, err)
		}
		same(t, what, pictureOf(t, plain{st}), want)
	}
	st := store.NewMem(store.Options{})
	must(t, errors.Join(st.Chown(".", 1000, 1000), st.Mkdir("a", 0o755)))
	wantRefusal(st, "a")
	if d, err := Unfinished(st); d != "" || err != nil {
		t.Errorf("unfinished: %q, %v", d, err)
	}

	st = store.NewMem(store.Options{})
	must(t, errors.Join(st.Mkdir(stateDir, 0o700), st.Chown(stateDir, 1000, 1000)))
	wantRefusal(st, stateDir)

	st = store.NewMem(store.Options{})
	must(t, errors.Join(st.Chown(".", 1000, 1000), st.Mkdir(lostFound, 0o700)))
	if _, err := Encrypt(t.Context(), st, cfg); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
}

// TestOneAtATime: two conversions of one directory do not meet.
func TestOneAtATime(t *testing.T) {
	keys := newTestKeys(t, 37)
	st := store.NewMem(store.Options{})
	fill(t, st)
	cfg := keys.config(volume.NamesEncrypted)
	tried := false
	cfg.Observe = func(Progress) {
		if !tried {
			tried = true
			if _, err := Decrypt(t.Context(), st, keys.config(volume.NamesEncrypted)); !errors.Is(err, ErrInUse) {
				t.Errorf("%v", err)
			}
		}
	}
	_, err := Encrypt(t.Context(), st, cfg)
	must(t, err)
}

// TestMeasure: a plan changes nothing and tells a rate, both ways.
func TestMeasure(t *testing.T) {
	keys := newTestKeys(t, 38)
	eachStore(t, func(t *testing.T, st store.FS, names string) {
		fill(t, st)
		want := pictureOf(t, plain{st})
		p, err := Measure(t.Context(), st, keys.config(names), Encrypting)
		if err != nil || p.Files != 10 || p.Dirs != 4 || len(p.Problems) != 0 || p.Rate <= 0 || p.Seconds <= 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		same(t, "planned", pictureOf(t, plain{st}), want)
		_, err = Encrypt(t.Context(), st, keys.config(names))
		must(t, err)
		back, err := Measure(t.Context(), st, keys.config(names), Decrypting)
		if err != nil || back.Files != p.Files || back.Dirs != p.Dirs || back.Rate <= 0 {
			t.Fatalf("%+v, %v", back, err)
		}
		same(t, "planned back", keys.sealedPicture(t, st), want)
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"direction":"encrypt","phase":"files","root":{"mode":448},"dirs":{"a/b":{"mode":1}}}`))
	f.Add([]byte(`{"version":1,"direction":"decrypt","phase":"out"}`))
	f.Add([]byte(`{"version":1,"direction":"encrypt","phase":"files","dirs":{"../b":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Error(err)
			}
			return
		}
		for name := range s.Dirs {
			if !filepath.IsLocal(name) || strings.HasPrefix(name, stateDir+"/") {
				t.Errorf("%q leads out", name)
			}
		}
	})
}

func FuzzDone(f *testing.F) {
	f.Add([]byte(`[{"name":"a/b","ino":7,"size":1,"mtime":"2026-01-02T03:04:05.000000006Z"}]`))
	f.Add([]byte(`[{"name":".akvfs-convert/volume"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseDone(data)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Error(err)
			}
			return
		}
		for _, d := range list {
			if !filepath.IsLocal(string(d.Name)) || d.Name == "." || strings.HasPrefix(string(d.Name), stateDir+"/") {
				t.Errorf("%q leads out", d.Name)
			}
		}
	})
}

// TestDamagedState: nothing is done on the word of a state that cannot be read.
func TestDamagedState(t *testing.T) {
	keys := newTestKeys(t, 39)
	st := store.NewMem(store.Options{})
	fill(t, st)
	cfg := keys.config(volume.NamesEncrypted)
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Observe = func(Progress) { cancel() }
	if _, err := Encrypt(ctx, st, cfg); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	good, err := readAll(st, stateName)
	must(t, err)
	for _, bad := range [][]byte{{}, []byte("{"), bytes.Replace(good, []byte(`"files"`), []byte(`"fines"`), 1), bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1)} {
		must(t, st.Unlink(stateName))
		put(t, st, stateName, int64(len(bad)), map[int64]string{0: string(bad)})
		for _, d := range []Direction{Encrypting, Decrypting} {
			if _, err := run(t.Context(), st, keys.config(volume.NamesEncrypted), d); !errors.Is(err, ErrState) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	must(t, st.Unlink(stateName))
	put(t, st, stateName, int64(len(good)), map[int64]string{0: string(good)})
	_, err = Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
	must(t, err)
}
