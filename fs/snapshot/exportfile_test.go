package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	akvfs "github.com/akvfs/akvfs/fs"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// two makes snapshots "one" and "two" of a volume that changed in between.
func (s *scene) two() (one, two *Snapshot) {
	s.t.Helper()
	s.fill()
	s.create("one")
	s.write("d/f3000000", bytes.Repeat([]byte("changed"), 20_000), 1_500_000)
	h, err := s.v.OpenFile("d/f500000", os.O_RDWR, 0, volume.Owner{})
	must(s.t, err)
	must(s.t, errors.Join(h.Truncate(100_000), h.Truncate(300_000), h.Sync(true), h.Close()))
	s.write("new", []byte("new"), 0)
	s.create("two")
	one, err = s.c.Get("one")
	must(s.t, err)
	two, err = s.c.Get("two")
	must(s.t, err)
	return one, two
}

// TestExportGoesOn: an export that ended anywhere, by a kill or a power cut, is
// gone on with, and comes to the same stream.
func TestExportGoesOn(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	one, two := s.two()
	for _, base := range []*Snapshot{nil, one} {
		var whole bytes.Buffer
		_, err := Export(t.Context(), &whole, two, base, nil)
		must(t, err)
		stream := whole.Bytes()
		name := filepath.Join(s.dir, fmt.Sprint("stream", base != nil))
		r := rand.New(rand.NewPCG(7, 8))
		kept := int64(0)
		for i := range 60 {
			cut := r.IntN(len(stream) + 1)
			left := bytes.Clone(stream[:cut])
			switch i % 3 {
			case 1: // the file had grown, and nothing was written there
				left = append(left, make([]byte, 5000)...)
			case 2:
				if cut > 0 {
					left[r.IntN(cut)] ^= 1
				}
			}
			must(t, os.WriteFile(name+exportSuffix, left, 0o600))
			done, err := ExportFile(t.Context(), name, two, base, nil)
			if errors.As(err, new(*FileExistsError)) && i%3 != 0 && (cut < len(streamMagic) || !bytes.HasPrefix(left, []byte(streamMagic))) {
				continue // that is no stream
			}
			must(t, err)
			got, err := os.ReadFile(name)
			must(t, err)
			if !bytes.Equal(got, stream) || done.Bytes != int64(len(stream)) || done.Kept > int64(cut) {
				t.Fatalf("cut at %d: %+v, and the stream is the same: %v", cut, done, bytes.Equal(got, stream))
			}
			kept += done.Kept
			must(t, os.Remove(name))
		}
		if kept == 0 {
			t.Error("nothing was ever kept")
		}
	}
}

// TestExportInterrupted: Ctrl-C leaves what the next one goes on with; a file
// of others is not touched.
func TestExportInterrupted(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	one, two := s.two()
	name := filepath.Join(s.dir, "stream")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := ExportFile(ctx, name, two, nil, func(p Progress) {
		if p.Bytes > 1_000_000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	f, err := os.Open(name + exportSuffix)
	must(t, err)
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	if _, err := ExportFile(t.Context(), name, two, nil, nil); !errors.As(err, new(*FileInUseError)) {
		t.Errorf("beside another: %v", err)
	}
	must(t, f.Close())
	done, err := ExportFile(t.Context(), name, two, nil, nil)
	must(t, err)
	if done.Kept == 0 {
		t.Error("it began anew")
	}
	if _, err := ExportFile(t.Context(), name, two, nil, nil); !errors.As(err, new(*FileExistsError)) {
		t.Errorf("over a file: %v", err)
	}
	must(t, os.Rename(name, name+exportSuffix))
	other, err := ExportFile(t.Context(), name, one, nil, nil)
	must(t, err)
	if other.Kept != 0 {
		t.Errorf("%d bytes of another snapshot were kept", other.Kept)
	}
	must(t, os.Remove(name))
	must(t, os.WriteFile(name+exportSuffix, []byte("somebody's"), 0o600))
	if _, err := ExportFile(t.Context(), name, two, nil, nil); !errors.As(err, new(*FileExistsError)) {
		t.Errorf("over somebody's file: %v", err)
	}
}

// TestVerifyGoesOn: a verification that was interrupted reads no proven file
// again, and finds what is damaged among the others, and that again.
func TestVerifyGoesOn(t *testing.T) {
	s := newScene(t, volume.NamesPlain)
	s.fill()
	for i := range 100 + 8*readers() { // more than are being read when two runs are interrupted
		s.write(fmt.Sprint("d/many", i), []byte("small"), 0)
	}
	s.create("one")
	snap, err := s.c.Get("one")
	must(t, err)
	flip(t, filepath.Join(snap.Dir, "d/f500000"), 3*4096+7)
	logs := filepath.Join(s.dir, "state")
	const all = 1 << 40
	// verify goes on, and is interrupted when it tells of more than so many
	// bytes; it tells how many files it read, and what it found.
	verify := func(goOn bool, most int64) (r *Report, files int) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		st, err := store.OpenDisk(snap.Dir)
		must(t, err)
		defer st.Close()
		plain, err := akvfs.Open(t.Context(), snap.Dir, akvfs.Options{Openers: openers})
		must(t, err)
		defer plain.Close()
		p, err := OpenProofs(logs, snap.Manifest, goOn)
		must(t, err)
		r = &Report{}
		err = VerifyBlocks(ctx, st, plain.Keys(), plain, r, p, func(p Progress) {
			if files = p.Files; p.Bytes > most {
				cancel()
			}
		})
		if (err == nil) != (most == all) || err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		must(t, p.Close(err != nil))
		return r, files
	}
	_, every := verify(false, all)
	verify(false, 0)
	verify(true, 0)
	entries, err := os.ReadDir(logs)
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("%v", entries)
	}
	log, err := os.OpenFile(filepath.Join(logs, entries[0].Name()), os.O_RDWR|os.O_APPEND, 0)
	must(t, err)
	_, err = log.WriteString("torn")
	must(t, errors.Join(err, log.Close()))
	r, rest := verify(true, all)
	if rest == 0 || rest >= every || len(r.Damages) != 1 {
		t.Errorf("%d of %d files, %q", rest, every, r.Damages)
	}
	if entries, err := os.ReadDir(logs); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestDiffTags: a file whose blocks are others is told from one that is not,
// whatever size and time it has.
func TestDiffTags(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	s.fill()
	before, err := s.v.Stat("d/f500000")
	must(t, err)
	s.create("one")
	s.write("d/f500000", []byte("X"), 250_000)
	must(t, s.v.Chtimes("d/f500000", nil, &before.Mtime))
	now := before.Mtime.Add(1)
	must(t, s.v.Chtimes("d/f4095", nil, &now))
	s.create("two")
	var snaps [2]*Snapshot
	var trees [2]*akvfs.FS
	for i, name := range []string{"one", "two"} {
		snaps[i], err = s.c.Get(name)
		must(t, err)
		trees[i], err = akvfs.Open(t.Context(), snaps[i].Dir, akvfs.Options{Openers: openers})
		must(t, err)
		defer trees[i].Close()
	}
	same, done, err := ByTags(snaps[0], snaps[1])
	must(t, err)
	defer done()
	for want, judge := range map[string]Same{
		"[{d/f4095 changed [time] 4095 4095} {d/f500000 changed [content] 500000 500000}]": same,
		"[{d/f4095 changed [content] 4095 4095}]":                                          BySizeAndTime,
		"[{d/f4095 changed [time] 4095 4095}]":                                             func(_, _ iofs.FileInfo) (bool, error) { return true, nil },
	} {
		changes, err := Diff(t.Context(), trees[0], trees[1], judge)
		must(t, err)
		if got := fmt.Sprint(changes); got != want {
			t.Errorf("%s\nand not\n%s", got, want)
		}
	}
}
