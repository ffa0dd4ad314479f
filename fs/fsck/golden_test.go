package fsck

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/file"
)

// The golden volumes are of every format that was released. They are made once,
// with -golden.make, and never again: what opens them now must open them for
// ever.
var makeGolden = flag.String("golden.make", "", "make the golden volumes of the present format in a `directory`")

const (
	goldenDir = "testdata/v1"
	// goldenKey is where the volumes' key store lay when they were made; its
	// path is in their keyrings.
	goldenKey = "/var/tmp/akvfs-golden/key.json"
	sumsName  = "sums.json" // SHA-256 by volume and path
)

var goldenVolumes = []string{"encrypted", "plain", "unclean"}

// goldenKeys is Options.Keys, with the key store at hand in the place of the
// one in the keyring.
func goldenKeys(dir string) func(context.Context, keymgr.Storage, uuid.UUID) (*keymgr.MasterKeys, error) {
	return func(ctx context.Context, meta keymgr.Storage, id uuid.UUID) (*keymgr.MasterKeys, error) {
		return keymgr.OpenKeyring(ctx, meta, id, func(keyID string) (keymgr.Provider, error) {
			if keyID != file.KeyID(goldenKey) {
				return nil, fmt.Errorf("the golden volumes are not under %s", keyID)
			}
			p, err := file.OpenProvider(file.KeyID(filepath.Join(dir, "key.json")), keymgr.ProviderOptions{})
			return goldenProvider{p, dir}, err
		})
	}
}

// goldenProvider is the key store under the path that it had.
type goldenProvider struct {
	keymgr.Provider
	dir string
}

func (p goldenProvider) KeyID() string { return file.KeyID(goldenKey) }

func (p goldenProvider) Unwrap(ctx context.Context, w keymgr.Wrapped) ([]byte, error) {
	w.KeyID = p.Provider.KeyID()
	return p.Provider.Unwrap(ctx, w)
}

// TestGolden: every volume of a released format opens, reads as it did, and is
// found to be without damage.
func TestGolden(t *testing.T) {
	if *makeGolden != "" {
		t.Skip("they are being made")
	}
	var sums map[string]map[string]string
	text, err := os.ReadFile(filepath.Join(goldenDir, sumsName))
	must(t, err)
	must(t, json.Unmarshal(text, &sums))
	for _, name := range goldenVolumes {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			unpack(t, filepath.Join(goldenDir, name+".tar.gz"), dir)
			key, err := os.ReadFile(filepath.Join(goldenDir, "key.json"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "key.json"), key, 0o600))
			st, err := store.OpenDisk(filepath.Join(dir, name))
			must(t, err)
			defer st.Close()
			keys := goldenKeys(dir)
			r, err := Run(t.Context(), st, Options{Keys: keys})
			must(t, err)
			if !r.Clean() || !r.Proven || (r.Pending > 0) != (name == "unclean") {
				t.Fatalf("%s\n%+v", r.Summary(), r)
			}
			readSums(t, st, keys, sums[name], volume.Options{ReadOnly: true})
			readSums(t, st, keys, sums[name], volume.Options{})
			if r, err = Run(t.Context(), st, Options{Keys: keys}); err != nil || !r.Clean() || r.Pending > 0 {
				t.Fatalf("after it was opened for writing: %+v, %v", r, err)
			}
		})
	}
}

func readSums(t *testing.T, st *store.Disk, openKeys func(context.Context, keymgr.Storage, uuid.UUID) (*keymgr.MasterKeys, error), want map[string]string, opts volume.Options) {
	t.Helper()
	info, err := volume.ReadInfo(st)
	must(t, err)
	keys, err := openKeys(t.Context(), volume.Metadata(st), info.ID)
	must(t, err)
	defer keys.Destroy()
	v, err := volume.Open(st, keys, opts)
	must(t, err)
	if len(want) < 7 {
		t.Errorf("only %d files are known", len(want))
	}
	for name, sum := range want {
		got, err := read(v, name)
		if err != nil || fmt.Sprintf("%x", sha256.Sum256(got)) != sum {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	target, err := v.Readlink("link")
	value, err2 := v.Getxattr("d/small", "user.color")
	if err = errors.Join(err, err2, v.Close()); err != nil || target != "d/small" || string(value) != "blue" {
		t.Errorf("%q, %q, %v", target, value, err)
	}
}

func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	if out, err := exec.Command("tar", "-C", dir, "--xattrs", "--xattrs-include=user.*", "-xzf", archive).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestMakeGolden makes the volumes, if it is told to.
func TestMakeGolden(t *testing.T) {
	if *makeGolden == "" {
		checkGolden(t)
		return
	}
	must(t, os.MkdirAll(filepath.Dir(goldenKey), 0o700))
	defer os.RemoveAll(filepath.Dir(goldenKey))
	_, err := file.Create(goldenKey, file.Options{Bits: 2048})
	must(t, err)
	sums := map[string]map[string]string{}
	for _, name := range goldenVolumes {
		sums[name] = makeOne(t, name, filepath.Dir(goldenKey))
		archive := filepath.Join(*makeGolden, name+".tar.gz")
		if out, err := exec.Command("tar", "-C", filepath.Dir(goldenKey), "--xattrs", "--sparse", "-czf", archive, name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	text, err := json.MarshalIndent(sums, "", "  ")
	must(t, err)
	key, err := os.ReadFile(goldenKey)
	must(t, errors.Join(err,
		os.WriteFile(filepath.Join(*makeGolden, sumsName), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(*makeGolden, "key.json"), key, 0o600)))
}

// makeOne copies a scene to a real directory, under a real key store.
func makeOne(t *testing.T, name, dir string) map[string]string {
	must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	disk, err := store.OpenDisk(filepath.Join(dir, name))
	must(t, err)
	defer disk.Close()
	provider, err := file.OpenProvider(file.KeyID(goldenKey), keymgr.ProviderOptions{})
	must(t, err)
	names := volume.NamesEncrypted
	if name == "plain" {
		names = volume.NamesPlain
	}
	var keys *keymgr.MasterKeys
	id, err := volume.Create(disk, volume.Config{Names: names, JournalSize: 1 << 20, Cluster: "golden"}, func(id uuid.UUID, meta volume.MetadataFiles) (volume.Keys, error) {
		keys, err = keymgr.CreateKeyring(t.Context(), meta, id, provider)
		return keys, err
	})
	must(t, err)
	_, err = keys.RotateMasterKey(t.Context(), provider)
	must(t, err)
	v, err := volume.Open(disk, keys, volume.Options{})
	must(t, err)
	s := &scene{t: t, files: map[string][]byte{}}
	s.fill(v, 5)
	_, err = v.Rewrap(t.Context(), volume.RewrapOptions{Master: keys.Keyring().Active().ID})
	must(t, err)
	if name == "unclean" { // as a killed daemon leaves it
		s.put(v, "late", random(6, 20_000))
		copied := filepath.Join(dir, "copy")
		if out, err := exec.Command("cp", "-a", filepath.Join(dir, name), copied).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		must(t, errors.Join(v.Close(), os.RemoveAll(filepath.Join(dir, name)), os.Rename(copied, filepath.Join(dir, name))))
	} else {
		must(t, v.Close())
	}
	t.Log(name, id)
	sums := map[string]string{}
	for name, content := range s.files {
		sums[name] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return sums
}

// checkGolden wants archives that are whole, and small.
func checkGolden(t *testing.T) {
	for _, name := range goldenVolumes {
		f, err := os.Open(filepath.Join(goldenDir, name+".tar.gz"))
		must(t, err)
		defer f.Close()
		z, err := gzip.NewReader(f)
		must(t, err)
		n := 0
		for r := tar.NewReader(z); ; n++ {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if fi, err := f.Stat(); err != nil || fi.Size() > 256<<10 || n < 15 {
			t.Errorf("%s: %d entries, %v", name, n, err)
		}
	}
}
