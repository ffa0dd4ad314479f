package fsck

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// victim is a regular file of the backing directory, volume's own or tree's.
type victim struct {
	path string
	size int64
}

// victims are all files in which every byte matters, as docs/FORMAT.md tells:
// not the lock, and not a journal of which nothing is needed.
func (s *scene) victims() (all []victim) {
	walk(s.t, s.st, ".", func(p string, attr store.Attr) {
		if attr.Mode&unix.S_IFMT == unix.S_IFREG && attr.Size > 0 && p != path.Join(volume.MetaDir, "lock") && !strings.HasPrefix(p, volume.JournalDir) {
			all = append(all, victim{p, attr.Size})
		}
	})
	return all
}

// copy is the same volume once more.
func (s *scene) copy(t tb) *scene { return &scene{t: t, st: s.st.Crash(0), files: s.files} }

// found reports whether a check with keys finds anything, or refuses the volume:
// without a report.
func (s *scene) found(repair bool) (bool, *Report) {
	r, err := Run(context.Background(), s.st, Options{Keys: openKeys, Repair: repair})
	if err != nil {
		return true, nil
	}
	return !r.Clean(), r
}

// harmless wants every block of every file to read as what was written, or to
// be an error.
func (s *scene) harmless() {
	info, err := volume.ReadInfo(s.st)
	if err != nil {
		return
	}
	keys, err := openKeys(context.Background(), volume.Metadata(s.st), info.ID)
	if err != nil {
		return
	}
	defer keys.Destroy()
	v, err := volume.Open(s.st, keys, volume.Options{ReadOnly: true})
	if err != nil {
		return
	}
	defer v.Close()
	for name, want := range s.files {
		h, err := v.OpenFile(name, os.O_RDONLY, 0, volume.Owner{})
		if err != nil {
			continue
		}
		got := make([]byte, format.BlockSize)
		for off := 0; off < len(want); off += len(got) {
			n, err := h.ReadAt(got, int64(off))
			if err != nil && !errors.Is(err, io.EOF) {
				if volume.Errno(err) != syscall.EIO {
					s.t.Fatalf("%s: %v", name, err)
				}
				continue
			}
			if n < min(len(got), len(want)-off) && n > 0 || !bytes.Equal(got[:n], want[off:off+n]) {
				s.t.Fatalf("%s: block %d reads as something else", name, off/format.BlockSize)
			}
		}
		h.Close()
	}
}

// TestEveryByteMatters flips random bytes, and cuts files at random places:
// every time a check with keys must find it, and a repair must not turn
// anything into what was never written.
func TestEveryByteMatters(t *testing.T) {
	for _, names := range []string{volume.NamesEncrypted, volume.NamesPlain} {
		t.Run(names, func(t *testing.T) {
			base := newScene(t, names)
			all := base.victims()
			rapid.Check(t, func(t *rapid.T) {
				s := base.copy(t)
				v := rapid.SampledFrom(all).Draw(t, "file")
				if rapid.IntRange(0, 4).Draw(t, "cut") == 0 {
					size := rapid.Int64Range(0, v.size-1).Draw(t, "size")
					if inTree(v.path) && (size == 0 || size == format.PageSize) {
						t.Skip("a file without content")
					}
					s.truncate(v.path, size)
				} else {
					off := rapid.Int64Range(0, v.size-1).Draw(t, "byte")
					bit := rapid.IntRange(0, 7).Draw(t, "bit")
					s.change(v.path, off, func(p []byte) { p[0] ^= 1 << bit }, 1)
				}
				if found, _ := s.found(false); !found {
					t.Fatalf("nothing was found")
				}
				_, r := s.found(true)
				s.harmless()
				if found, again := s.found(false); r != nil && found == (r.Count(Left) == 0) {
					t.Fatalf("after a repair that left %d: found %v\n%v\n%v", r.Count(Left), found, r.Findings, again)
				}
			})
		})
	}
}

func inTree(name string) bool {
	return !strings.HasPrefix(name, volume.MetaDir+"/") && !strings.HasSuffix(name, volume.LongSuffix)
}

// TestEachClass flips one byte in the middle, and at both ends, of everything
// that the format knows.
func TestEachClass(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	big := base.backing("big")
	sparse := base.backing("sparse")
	tail := format.PagesEnd(int64(len(base.files["big"])))
	for what, at := range map[string]struct {
		name     string
		off, len int64
	}{
		"magic":                {big, 0, 8},
		"version":              {big, 8, 2},
		"reserved":             {big, 10, 6},
		"file ID":              {big, 16, 16},
		"rest of the sector":   {big, 32, 476},
		"header's checksum":    {big, 508, 4},
		"sequence":             {big, 512, 8},
		"master key":           {big, 520, 16},
		"wrapped key":          {big, 536, 104},
		"rest of the slot":     {big, 640, 380},
		"slot's checksum":      {big, 1020, 4},
		"empty slot":           {big, 1024, 512},
		"rest of the header":   {big, 1536, 2560},
		"entry":                {big, format.TagPageOffset(1) + 40, 40},
		"entry past the end":   {big, format.TagPageOffset(2) + 4000, 40},
		"size":                 {big, format.TagPageOffset(2) + 4040, 8},
		"more":                 {big, format.TagPageOffset(0) + 4040, 8},
		"flags":                {big, format.TagPageOffset(0) + 4048, 8},
		"nonce":                {big, format.TagPageOffset(0) + 4056, 24},
		"tag":                  {big, format.TagPageOffset(0) + 4080, 16},
		"block":                {big, format.BlockOffset(50), 4096},
		"padding":              {big, tail - 1000, 1000},
		"tail":                 {big, tail, 3096},
		"hole in a group":      {sparse, format.BlockOffset(7), 4096},
		"tag page of holes":    {sparse, format.TagPageOffset(1), 4096},
		"block of such":        {sparse, format.BlockOffset(150), 4096},
		"header of empty file": {base.backing("emptied"), 0, 4096},
	} {
		t.Run(what, func(t *testing.T) {
			for _, off := range []int64{at.off, at.off + at.len/2, at.off + at.len - 1} {
				s := base.copy(t)
				s.flip(at.name, off)
				if found, _ := s.found(false); !found {
					t.Errorf("byte %d was changed unseen", off)
				}
			}
		})
	}
}

// TestNeededFrames flips a byte in every part of every frame that recovery
// needs, but for the newest, which could as well be torn: the journal is found
// to be damaged.
func TestNeededFrames(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	base.crash()
	frames := base.frames()
	newest := frames[len(frames)-1]
	flips := 0
	for _, f := range frames[:len(frames)-1] {
		if f.number < newest.tail {
			continue
		}
		data := (frameHead+f.sealed+format.PageSize-1)/format.PageSize*format.PageSize + 5
		for _, off := range []int64{0, 9, 13, 17, 25, 33, 37, 41, 45, 50, 70, 90, frameHead, frameHead + f.sealed - 1, data} {
			if off == data && f.blocks == 0 {
				continue
			}
			s := base.copy(t)
			s.flip(f.segment, f.off+off)
			flips++
			if found, r := s.found(false); !found || r != nil && !hasKind(r, Journal) {
				t.Errorf("frame %d, byte %d: %+v", f.number, off, r)
			}
		}
	}
	if flips < 20 {
		t.Errorf("only %d bytes were flipped", flips)
	}
}

const frameHead = 128

// frame is what a journal frame's header says.
type frame struct {
	segment        string
	off            int64
	number, tail   uint64
	sealed, blocks int64
}

// frames are those of the journal, in order.
func (s *scene) frames() (all []frame) {
	entries, err := s.st.ReadDir(volume.JournalDir)
	must(s.t, err)
	for _, e := range entries {
		name := path.Join(volume.JournalDir, e.Name)
		f, err := s.st.OpenFile(name, os.O_RDONLY, 0)
		must(s.t, err)
		defer f.Close()
		head := make([]byte, frameHead)
		for off := int64(0); ; off += format.PageSize {
			if _, err := f.ReadAt(head, off); err != nil {
				break
			}
			if le := binary.LittleEndian; string(head[:8]) == "AKVFSJF1" {
				all = append(all, frame{name, off, le.Uint64(head[16:]), le.Uint64(head[24:]), int64(le.Uint32(head[32:])), int64(le.Uint32(head[36:]))})
			}
		}
	}
	slices.SortFunc(all, func(a, b frame) int { return cmp.Compare(a.number, b.number) })
	return all
}
