package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

var options = Options{Openers: keymgr.Openers{file.Scheme: file.OpenProvider}}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newVolume makes a volume and calls fill with it open for writing.
func newVolume(t testing.TB, names string, fill func(v *volume.Volume)) (backing string) {
	t.Helper()
	top := t.TempDir()
	backing = filepath.Join(top, "backing")
	must(t, os.Mkdir(backing, 0o755))
	key := filepath.Join(top, "key.json")
	makeKey(t, key)
	_, err := daemon.Create(t.Context(), daemon.CreateConfig{
		Backing: backing, KeyID: "file://" + key, Names: names, JournalSize: 1 << 20, Openers: options.Openers,
	})
	must(t, err)
	withVolume(t, backing, fill)
	return backing
}

// withVolume calls use with the volume open for writing, and closes it.
func withVolume(t testing.TB, backing string, use func(v *volume.Volume)) {
	t.Helper()
	st, err := store.OpenDisk(backing)
	must(t, err)
	defer st.Close()
	info, err := volume.ReadInfo(st)
	must(t, err)
	keys, err := keymgr.OpenKeyring(t.Context(), volume.Metadata(st), info.ID, func(id string) (keymgr.Provider, error) {
		return options.Openers.Open(id, keymgr.ProviderOptions{})
	})
	must(t, err)
	defer keys.Destroy()
	v, err := volume.Open(st, keys, volume.Options{})
	must(t, err)
	defer func() { must(t, v.Close()) }()
	use(v)
}

func put(t testing.TB, v *volume.Volume, name string, data []byte) {
	t.Helper()
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640, volume.Owner{})
	must(t, err)
	_, err = h.WriteAt(data, 0)
	must(t, err)
	must(t, h.Sync(true))
	must(t, h.Close())
}

// big takes several groups of blocks; medium, which fstest reads byte by byte, some blocks.
var (
	big    = bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	medium = big[:9000]
)

func fillTree(t testing.TB) func(v *volume.Volume) {
	return func(v *volume.Volume) {
		must(t, v.Mkdir("journal", 0o750, volume.Owner{}))
		must(t, v.Mkdir("empty", 0o700, volume.Owner{}))
		put(t, v, "small", []byte("small"))
		put(t, v, "nothing", nil)
		put(t, v, "journal/big", medium)
		put(t, v, "journal/"+string(bytes.Repeat([]byte("n"), 255)), []byte("long"))
		must(t, v.Symlink("journal/big", "link", volume.Owner{}))
		must(t, v.Symlink("../small", "journal/up", volume.Owner{}))
		must(t, v.Setxattr("small", "user.note", []byte("value"), 0))
	}
}

func TestFS(t *testing.T) {
	for _, names := range []string{volume.NamesEncrypted, volume.NamesPlain} {
		t.Run(names, func(t *testing.T) {
			backing := newVolume(t, names, fillTree(t))
			f, err := Open(t.Context(), backing, options)
			must(t, err)
			defer f.Close()
			must(t, fstest.TestFS(f, "small", "nothing", "journal/big", "empty", "link", "journal/up"))
			for name, want := range map[string][]byte{"small": []byte("small"), "journal/big": medium, "link": medium, "journal/up": []byte("small"), "nothing": {}} {
				if got, err := fs.ReadFile(f, name); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			if found, err := fs.Glob(f, "*/b*"); err != nil || fmt.Sprint(found) != "[journal/big]" {
				t.Errorf("glob: %v, %v", found, err)
			}
			if x, err := f.Xattrs("small"); err != nil || string(x["user.note"]) != "value" {
				t.Errorf("xattrs: %q, %v", x, err)
			}
			info, err := f.Stat("journal/big")
			must(t, err)
			if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink != 1 || info.Mode() != 0o640 || info.Size() != int64(len(medium)) {
				t.Errorf("%v, %+v", info, info.Sys())
			}
		})
	}
}

// TestLinks: links out of the volume, in circles and to nothing lead nowhere.
func TestLinks(t *testing.T) {
	backing := newVolume(t, volume.NamesEncrypted, func(v *volume.Volume) {
		must(t, v.Mkdir("d", 0o700, volume.Owner{}))
		put(t, v, "d/f", []byte("x"))
		for name, target := range map[string]string{
			"abs": "/etc/passwd", "out": "../../etc/passwd", "d/out": "../../x", "loop": "loop", "a": "b", "b": "a", "none": "nothing",
			"dir": "d", "d/self": ".", "d/back": "../d/f",
		} {
			must(t, v.Symlink(target, name, volume.Owner{}))
		}
	})
	f, err := Open(t.Context(), backing, options)
	must(t, err)
	defer f.Close()
	for name, want := range map[string]error{
		"abs": syscall.ENOENT, "out": syscall.ENOENT, "d/out": syscall.ENOENT, "loop": syscall.ELOOP, "a": syscall.ELOOP, "none": syscall.ENOENT,
		"dir/f": nil, "d/self/self/f": nil, "dir/back": nil, "d/f/x": syscall.ENOTDIR, "../d": fs.ErrInvalid, "": fs.ErrInvalid, "/d": fs.ErrInvalid, "d//f": fs.ErrInvalid, "d\x00": fs.ErrInvalid,
	} {
		if _, err := f.Stat(name); !errors.Is(err, want) {
			t.Errorf("%q: %v, not %v", name, err, want)
		}
	}
	if target, err := f.ReadLink("out"); err != nil || target != "../../etc/passwd" {
		t.Errorf("%q, %v", target, err)
	}
}

// TestManyReaders: goroutines that share a file read the same.
func TestManyReaders(t *testing.T) {
	backing := newVolume(t, volume.NamesEncrypted, func(v *volume.Volume) { put(t, v, "big", big) })
	f, err := Open(t.Context(), backing, options)
	must(t, err)
	defer f.Close()
	open, err := f.Open("big")
	must(t, err)
	defer open.Close()
	file := open.(*File)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			p := make([]byte, 5000)
			for i := range 100 {
				off := int64((w*7919 + i*10007) % (len(big) - len(p)))
				if _, err := file.ReadAt(p, off); err != nil || !bytes.Equal(p, big[off:off+int64(len(p))]) {
					t.Errorf("at %d: %v", off, err)
				}
			}
			if all, err := fs.ReadFile(f, "big"); err != nil || !bytes.Equal(all, big) {
				t.Errorf("whole: %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := file.Seek(-16, io.SeekEnd); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(file); err != nil || string(rest) != "0123456789abcdef" {
		t.Errorf("the end: %q, %v", rest, err)
	}
}

// TestCrashedVolume: what a killed daemon left in the journal is there, and
// not a byte of the backing directory changes.
func TestCrashedVolume(t *testing.T) {
	var crashed string
	newest := []byte("synced, and not at home")
	backing := newVolume(t, volume.NamesEncrypted, func(v *volume.Volume) { put(t, v, "f", []byte("old")) })
	withVolume(t, backing, func(v *volume.Volume) {
		put(t, v, "f", newest)
		crashed = filepath.Join(t.TempDir(), "copy")
		must(t, os.CopyFS(crashed, os.DirFS(backing))) // as the disk is now
	})
	before := snapshot(t, crashed)
	f, err := Open(t.Context(), crashed, options)
	must(t, err)
	if got, err := fs.ReadFile(f, "f"); err != nil || !bytes.Equal(got, newest) {
		t.Errorf("%q, %v", got, err)
	}
	must(t, f.Close())
	for name, data := range snapshot(t, crashed) {
		if !bytes.Equal(before[name], data) {
			t.Errorf("%s has changed", name)
		}
	}
}

func snapshot(t testing.TB, dir string) map[string][]byte {
	files := map[string][]byte{}
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[name], err = os.ReadFile(filepath.Join(dir, name))
		}
		return err
	}))
	return files
}

// TestRefusals: what cannot be opened says why, and leaves nothing open.
func TestRefusals(t *testing.T) {
	backing := newVolume(t, volume.NamesEncrypted, fillTree(t))
	withVolume(t, backing, func(*volume.Volume) {
		if _, err := Open(t.Context(), backing, options); !errors.Is(err, volume.ErrInUse) {
			t.Errorf("in use: %v", err)
		}
	})
	if _, err := Open(t.Context(), t.TempDir(), options); !errors.Is(err, volume.ErrNotVolume) {
		t.Errorf("no volume: %v", err)
	}
	var key *keymgr.KeyError
	if _, err := Open(t.Context(), backing, Options{}); !errors.As(err, &key) {
		t.Errorf("no provider: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, backing, options); err == nil {
		t.Error("opened with a context that had ended")
	}
	f, err := Open(t.Context(), backing, options)
	must(t, err)
	open, err := f.Open("small")
	must(t, err)
	must(t, f.Close())
	if _, err := open.Read(make([]byte, 1)); err == nil {
		t.Error("a file that outlives its volume reads")
	}
}

func makeKey(t testing.TB, path string) {
	t.Helper()
	_, err := file.Create(path, file.Options{})
	must(t, err)
}

// TestReadOnlyMedia: a volume whose daemon was killed is read from media that
// nobody can write to.
func TestReadOnlyMedia(t *testing.T) {
	backing := newVolume(t, volume.NamesEncrypted, func(v *volume.Volume) { put(t, v, "f", []byte("old")) })
	media := t.TempDir()
	withVolume(t, backing, func(v *volume.Volume) {
		put(t, v, "f", []byte("newest"))
		must(t, os.CopyFS(filepath.Join(media, "crashed"), os.DirFS(backing)))
	})
	must(t, unix.Mount(media, media, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(media, unix.MNT_DETACH)) })
	must(t, unix.Mount("", media, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if err := os.WriteFile(filepath.Join(media, "x"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("the media can be written to: %v", err)
	}
	f, err := Open(t.Context(), filepath.Join(media, "crashed"), options)
	must(t, err)
	defer f.Close()
	if got, err := fs.ReadFile(f, "f"); err != nil || string(got) != "newest" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestExample builds the example program and runs it on a volume.
func TestExample(t *testing.T) {
	backing := newVolume(t, volume.NamesEncrypted, fillTree(t))
	program := filepath.Join(t.TempDir(), "readvolume")
	if out, err := exec.Command("go", "build", "-o", program, "../examples/readvolume").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program, backing).CombinedOutput()
	must(t, err)
	for name, data := range map[string][]byte{"small": []byte("small"), "nothing": nil, "journal/big": medium} {
		if want := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name); !bytes.Contains(out, []byte(want)) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if out, err := exec.Command(program, t.TempDir()).CombinedOutput(); err == nil {
		t.Errorf("it reads what is no volume: %s", out)
	}
}

// TestNamesOnly: names and types need no journal. What was committed to one is
// not shown then, and no file opens.
func TestNamesOnly(t *testing.T) {
	backing := newVolume(t, volume.NamesEncrypted, func(v *volume.Volume) {
		must(t, v.Mkdir("d", 0o755, volume.Owner{}))
		put(t, v, "d/file", []byte("content"))
		must(t, v.Symlink("d", "link", volume.Owner{}))
	})
	crashed := filepath.Join(t.TempDir(), "crashed")
	withVolume(t, backing, func(v *volume.Volume) {
		put(t, v, "d/file", bytes.Repeat([]byte("x"), 10_000)) // committed, not at home
		must(t, exec.Command("cp", "-a", backing, crashed).Run())
	})
	must(t, os.RemoveAll(filepath.Join(crashed, volume.JournalDir)))
	if _, err := Open(t.Context(), crashed, options); err == nil {
		t.Error("without a journal it opens")
	}
	opts := options
	opts.NamesOnly = true
	vol, err := Open(t.Context(), crashed, opts)
	must(t, err)
	defer vol.Close()
	var names []string
	must(t, fs.WalkDir(vol, ".", func(name string, d fs.DirEntry, err error) error {
		names = append(names, fmt.Sprint(name, " ", d.Type()))
		return err
	}))
	if got, want := fmt.Sprint(names), "[. d--------- d d--------- d/file ---------- link L---------]"; got != want {
		t.Errorf("%s and not %s", got, want)
	}
	if _, err := vol.Open("link/file"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a file opened: %v", err)
	}
	if _, err := fs.ReadFile(vol, "d/file"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a file was read: %v", err)
	}
}
