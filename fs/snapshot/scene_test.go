package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	akvfs "github.com/akvfs/akvfs/fs"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

var openers = keymgr.Openers{file.Scheme: file.OpenProvider}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scene is a volume that is open for writing, and a collection beside it.
type scene struct {
	t       testing.TB
	dir     string
	backing string
	key     string
	st      *store.Tracker
	keys    *keymgr.MasterKeys
	v       *volume.Volume
	c       *Collection
	below   func(*store.Disk) store.FS // what volumes are opened on; nil: the disk itself
}

func newScene(t testing.TB, names string) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "akvfs-snapshot")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return newSceneIn(t, names, dir)
}

// onDisks runs a test where files are copied, and on an XFS, where they share
// blocks.
func onDisks(t *testing.T, names string, test func(t *testing.T, s *scene)) {
	t.Run("copied", func(t *testing.T) { test(t, newScene(t, names)) })
	t.Run("shared", func(t *testing.T) { test(t, newSceneIn(t, names, newXFS(t))) })
}

// newXFS mounts an XFS of its own.
func newXFS(t *testing.T) (dir string) {
	t.Helper()
	base, err := os.MkdirTemp("/var/tmp", "akvfs-snapshot")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	dir, image := filepath.Join(base, "disk"), filepath.Join(base, "image")
	must(t, errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 1<<30)))
	program(t, "mkfs.xfs", "-q", image)
	device := program(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() { program(t, "losetup", "--detach", device) })
	must(t, unix.Mount(device, dir, "xfs", unix.MS_NOATIME, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// program runs a program that must succeed, and gives its output.
func program(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func newSceneIn(t testing.TB, names, dir string) *scene {
	t.Helper()
	s := &scene{t: t, dir: dir, backing: filepath.Join(dir, "enc"), key: filepath.Join(dir, "key.json")}
	_, err := file.Create(s.key, file.Options{Bits: 2048})
	must(t, err)
	must(t, os.Mkdir(s.backing, 0o700))
	st, err := store.OpenDisk(s.backing)
	must(t, err)
	_, err = volume.Create(st, volume.Config{Names: names, JournalSize: 4 << 20, Cluster: "rs0"}, func(id uuid.UUID, meta volume.MetadataFiles) (volume.Keys, error) {
		p, err := s.provider("file://" + s.key)
		must(t, err)
		return keymgr.CreateKeyring(t.Context(), meta, id, p)
	})
	must(t, errors.Join(err, st.Close()))
	s.c, err = OpenCollection(filepath.Join(dir, "enc.snapshots"), true)
	must(t, err)
	t.Cleanup(func() { s.c.Close() })
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *scene) provider(id string) (keymgr.Provider, error) {
	return openers.Open(id, keymgr.ProviderOptions{})
}

func (s *scene) open() { s.st, s.keys, s.v = s.openAt(s.backing) }

func (s *scene) openAt(dir string) (*store.Tracker, *keymgr.MasterKeys, *volume.Volume) {
	s.t.Helper()
	disk, err := store.OpenDisk(dir)
	must(s.t, err)
	var below store.FS = disk
	if s.below != nil {
		below = s.below(disk)
	}
	st := store.NewTracker(below)
	info, err := volume.ReadInfo(st)
	must(s.t, err)
	keys, err := keymgr.OpenKeyring(s.t.Context(), volume.Metadata(st), info.ID, s.provider)
	must(s.t, err)
	v, err := volume.Open(st, keys, volume.Options{})
	must(s.t, err)
	return st, keys, v
}

func (s *scene) close() {
	if s.v == nil {
		return
	}
	must(s.t, s.v.Close())
	s.keys.Destroy()
	must(s.t, s.st.Close())
	s.v = nil
}

func (s *scene) source() Source { return Source{Store: s.st, Volume: s.v, Keys: s.keys} }

func (s *scene) create(name string) *Manifest {
	s.t.Helper()
	m, err := Create(s.t.Context(), s.source(), s.c, Options{Name: name})
	must(s.t, err)
	return m
}

// write writes a file at a place, and syncs.
func (s *scene) write(name string, data []byte, off int64) {
	s.t.Helper()
	writeTo(s.t, s.v, name, data, off)
}

func writeTo(t testing.TB, v *volume.Volume, name string, data []byte, off int64) {
	t.Helper()
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640, volume.Owner{})
	must(t, err)
	_, err = h.WriteAt(data, off)
	must(t, errors.Join(err, h.Sync(true), h.Close()))
}

// verified is what a full verification of a snapshot finds.
func (s *scene) verified(name string) *Report {
	s.t.Helper()
	snap, err := s.c.Get(name)
	must(s.t, err)
	st, err := store.OpenDisk(snap.Dir)
	must(s.t, err)
	defer st.Close()
	r, err := Verify(s.t.Context(), st, nil)
	must(s.t, err)
	plain, err := akvfs.Open(s.t.Context(), snap.Dir, akvfs.Options{Openers: openers})
	must(s.t, err)
	defer plain.Close()
	must(s.t, VerifyBlocks(s.t.Context(), st, plain.Keys(), plain, r, nil, nil))
	return r
}

// sound wants a snapshot without damage.
func (s *scene) sound(name string) {
	s.t.Helper()
	if r := s.verified(name); len(r.Damages) > 0 || !r.Proven {
		s.t.Errorf("%s: %+v", name, r)
	}
}

// contents describes the plaintext tree of a volume that nobody has open.
func (s *scene) contents(dir string) string {
	s.t.Helper()
	plain, err := akvfs.Open(s.t.Context(), dir, akvfs.Options{Openers: openers})
	must(s.t, err)
	defer plain.Close()
	var all strings.Builder
	must(s.t, iofs.WalkDir(plain, ".", func(name string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "%q %v", name, info.Mode())
		if info.Mode()&iofs.ModeSymlink != 0 {
			target, err := plain.ReadLink(name)
			fmt.Fprintf(&all, " -> %q %v", target, err)
		} else {
			attrs, err := plain.Xattrs(name)
			for _, attr := range slices.Sorted(maps.Keys(attrs)) {
				fmt.Fprintf(&all, " %s=%q", attr, attrs[attr])
			}
			must(s.t, err)
		}
		if info.Mode().IsRegular() {
			data, err := plain.ReadFile(name)
			fmt.Fprintf(&all, " %v %d %x %v", info.ModTime(), len(data), digest(data), err)
		}
		all.WriteString("\n")
		return nil
	}))
	return all.String()
}

func digest(data []byte) (sum uint64) {
	for _, b := range data {
		sum = sum*1099511628211 + uint64(b)
	}
	return sum
}

// picture describes the volume as it is now, without disturbing it.
func (s *scene) picture() string {
	s.t.Helper()
	s.close()
	defer s.open()
	return s.contents(s.backing)
}

func (s *scene) restore(name, dir string) {
	s.t.Helper()
	snap, err := s.c.Get(name)
	must(s.t, err)
	must(s.t, Restore(s.t.Context(), snap, dir, nil))
}

// fill makes one object of every kind, and files of many sizes.
func (s *scene) fill() {
	s.t.Helper()
	owner := volume.Owner{}
	must(s.t, s.v.Mkdir("d", 0o750, owner))
	must(s.t, s.v.Mkdir("d/deep", 0o2755, owner))
	for _, size := range []int{0, 1, 4095, 4096, 4097, 101 * 4096, 500_000, 3_000_000} {
		s.write(path.Join("d", fmt.Sprint("f", size)), bytes.Repeat([]byte("mongod"), size/6+1)[:size], 0)
	}
	s.write("sparse", []byte("end"), 10_000_000)
	s.write("d/deep/"+strings.Repeat("n", 250), []byte("long"), 0)
	must(s.t, s.v.Symlink("../elsewhere/ü", "d/link", owner))
	must(s.t, s.v.Link("d/f4097", "d/deep/again"))
	must(s.t, s.v.Setxattr("d/f1", "user.colour", []byte("blue"), 0))
}

// leftIn lists a collection's directory, but for its mark.
func leftIn(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.Name() != markName {
			names = append(names, e.Name())
		}
	}
	return names
}

// wait returns when ok does, or fails.
func wait(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// readAll is a file's content.
func readAll(t testing.TB, v *volume.Volume, name string) []byte {
	t.Helper()
	h, err := v.OpenFile(name, os.O_RDONLY, 0, volume.Owner{})
	must(t, err)
	attr, err := v.Stat(name)
	must(t, err)
	data := make([]byte, attr.Size)
	if _, err := h.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	must(t, h.Close())
	return data
}
