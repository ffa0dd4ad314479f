package fsck

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

func segmentOf(i int64) string { return path.Join(volume.JournalDir, fmt.Sprintf("%03d", i)) }

// needed are the numbers of the frames that a crash left to be recovered.
func (s *scene) needed() (first, last uint64) {
	s.t.Helper()
	shape, err := journal.Look(s.st, volume.JournalDir)
	must(s.t, err)
	return shape.Newest - uint64(shape.Needed) + 1, shape.Newest
}

// lose damages a frame.
func (s *scene) lose(number uint64) {
	s.t.Helper()
	for _, f := range s.frames() {
		if f.number == number {
			s.flip(f.segment, f.off+frameHead+2)
			return
		}
	}
	s.t.Fatalf("there is no frame %d", number)
}

// crashWith leaves a volume with a journal of three files: a frame for each
// sync, in this order.
func (s *scene) crashWith() {
	s.t.Helper()
	v, keys := s.open()
	for i, name := range []string{"first", "second", "third"} {
		s.put(v, name, random(uint64(20+i), 8_000+500*i))
	}
	s.put(v, "second", random(30, 8_500))
	s.put(v, "third", random(31, 20_000))
	s.st = s.st.Kill()
	_ = v.Close() // its store is gone
	keys.Destroy()
}

// TestJournalWithAGap: frames that are missing are refused, and, if the loss is
// accepted, given up: what the others have comes home, what they cannot give
// is listed by file and range, and the volume opens again. Whatever reads is
// something that was written.
func TestJournalWithAGap(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	base.crashWith()
	first, last := base.needed()
	if last-first < 4 {
		t.Fatalf("frames %d to %d", first, last)
	}
	for n := first; n < last; n++ {
		t.Run(fmt.Sprint("frame ", n-first), func(t *testing.T) {
			s := base.harmed(t, harm{do: func(s *scene) { s.lose(n) }})
			if r := s.check(Options{Repair: true}); r.Count(Left) == 0 || !hasKind(r, Journal) || len(r.Notes) == 0 {
				t.Fatalf("without consent: %+v", r)
			}
			r := s.check(Options{Repair: true, AcceptLoss: true})
			if !hasKind(r, Journal) || !hasKind(r, LostWrite) || r.Count(Left) == 0 {
				t.Fatalf("%+v", r)
			}
			for _, f := range r.Findings {
				if f.Kind == Journal && (f.State != Repaired || !strings.Contains(f.Detail, fmt.Sprint("frames ", n))) {
					t.Errorf("%+v", f)
				}
				if f.Kind == LostWrite && f.Name == "" && f.Length > 0 {
					t.Errorf("without its name: %+v", f)
				}
			}
			s.writtenOnce(base, "first", random(20, 8_000))
			s.writtenOnce(base, "second", random(21, 8_500), random(30, 8_500))
			s.writtenOnce(base, "third", random(22, 9_000), random(31, 20_000))
			s.readAll([]string{"first", "second", "third"})
			if shape, err := journal.Look(s.st, volume.JournalDir); err != nil || shape.Newest <= last {
				t.Errorf("the new journal: %+v, %v", shape, err)
			}
		})
	}
}

// writtenOnce wants each block of a file to be one of what was written there,
// or an error.
func (s *scene) writtenOnce(base *scene, name string, versions ...[]byte) {
	s.t.Helper()
	s.with(func(v *volume.Volume, _ *keymgr.MasterKeys) {
		got, err := read(v, name)
		if err != nil {
			return // it is listed, or was never there
		}
		for off := 0; off < len(got); off += format.BlockSize {
			block, ok := got[off:min(off+format.BlockSize, len(got))], false
			for _, want := range versions {
				ok = ok || off < len(want) && bytes.HasPrefix(want[off:], block)
			}
			if !ok {
				s.t.Fatalf("%s: what is at %d was never written", name, off)
			}
		}
	})
}

// TestJournalOlderThanHome: what a missing frame had brought home stays, although
// an older record that is left would take it away again, and all would verify.
// What is in a newer record comes home all the same.
func TestJournalOlderThanHome(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	want := make([]byte, 400*format.BlockSize)
	s.with(func(v *volume.Volume, _ *keymgr.MasterKeys) {
		f := s.edited(v, "large", want)
		f.write(0, random(39, 3*format.BlockSize))
		must(t, f.Truncate(int64(len(want))))
		must(t, f.Sync(true))
	})
	v, keys := s.open()
	f := s.edited(v, "large", want)
	f.write(110, random(40, 180*format.BlockSize)) // holes: a record lists them
	must(t, f.Sync(true))                          // and another one that they are at home
	_, commit := s.needed()
	must(t, v.Rename("large", "there", 0)) // brings it home
	must(t, v.Rename("there", "large", 0))
	f.write(0, random(41, format.BlockSize))
	must(t, f.Sync(true))
	s.st = s.st.Kill()
	_ = v.Close() // its store is gone
	keys.Destroy()

	s.lose(commit)
	s.check(Options{Repair: true, AcceptLoss: true})
	s.reads("large", want)
}

// TestJournalHomeInPart: where the power was cut while a file came home, so that
// one group of it is there and another is not, its records are brought home, be
// they older than the group that is there or not.
func TestJournalHomeInPart(t *testing.T) {
	for name, each := range map[string]bool{"a record each": true, "one record": false} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, volume.NamesEncrypted)
			v, keys := s.open()
			want := random(50, 250*format.BlockSize)
			s.put(v, "multi", want)
			f := s.edited(v, "multi", want)
			must(t, v.Checkpoint())
			backing := s.backing("multi")
			s.put(v, "other", random(41, 9_000))
			_, other := s.needed()
			for i, block := range []int64{5, 210} {
				f.write(block, random(uint64(51+i), format.BlockSize))
				if each {
					must(t, f.Sync(true))
				}
			}
			must(t, f.Sync(true))
			away := s.keep(backing, format.TagPageOffset(0), format.BlockOffset(5))
			s.st.SetHook(func(op store.Op) error {
				if op.Kind == store.OpDatasync && op.Name == backing {
					return syscall.EIO // the machine dies here
				}
				return nil
			})
			if err := v.Checkpoint(); err == nil {
				t.Fatal("the checkpoint has ended")
			}
			s.st.SetHook(nil)
			s.st = s.st.Kill()
			_ = v.Close() // its store is gone
			keys.Destroy()
			away()

			s.lose(other)
			s.check(Options{Repair: true, AcceptLoss: true})
			s.reads("multi", want)
		})
	}
}

// edited is a file that is written together with what it is to be.
type edited struct {
	*volume.Handle
	t    tb
	want []byte
}

func (s *scene) edited(v *volume.Volume, name string, want []byte) *edited {
	s.t.Helper()
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, volume.Owner{})
	must(s.t, err)
	return &edited{h, s.t, want}
}

// write writes from the start of a block on.
func (f *edited) write(block int64, p []byte) {
	f.t.Helper()
	copy(f.want[block*format.BlockSize:], p)
	_, err := f.WriteAt(p, block*format.BlockSize)
	must(f.t, err)
}

// keep puts pages of a backing file back as they are now.
func (s *scene) keep(backing string, offs ...int64) (putBack func()) {
	s.t.Helper()
	pages := map[int64][]byte{}
	for _, off := range offs {
		s.change(backing, off, func(p []byte) { pages[off] = bytes.Clone(p) }, format.PageSize)
	}
	return func() {
		s.t.Helper()
		for off, page := range pages {
			s.change(backing, off, func(p []byte) {
				if bytes.Equal(p, page) {
					s.t.Fatal("it was not written")
				}
				copy(p, page)
			}, format.PageSize)
		}
	}
}

// reads wants a file to have this content.
func (s *scene) reads(name string, want []byte) {
	s.t.Helper()
	s.with(func(v *volume.Volume, _ *keymgr.MasterKeys) {
		if got, err := read(v, name); err != nil || !bytes.Equal(got, want) {
			s.t.Fatalf("%s is not what was synced: %v", name, err)
		}
	})
}

// TestJournalGone: without a journal, or with one that holds nothing, a new one
// is made if that is accepted, and what lies at home is as it was.
func TestJournalGone(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	for what, do := range map[string]func(s *scene){
		"no journal":        func(s *scene) { must(s.t, removeTree(s.st, volume.JournalDir)) },
		"no segment 002":    func(s *scene) { must(s.t, s.st.Unlink(segmentOf(2))) },
		"a shorter segment": func(s *scene) { s.truncate(segmentOf(1), 100) },
		"no frame": func(s *scene) {
			for i := range int64(4) {
				s.change(segmentOf(i), 0, func(p []byte) { clear(p) }, 256<<10)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := base.harmed(t, harm{do: do})
			r := s.check(Options{Repair: true, AcceptLoss: true})
			if len(r.Findings) == 0 || r.Count(Repaired) != len(r.Findings) {
				t.Fatalf("%+v", r)
			}
			s.clean()
		})
	}
}

// TestJournalGapPowerCut: a repair that gives a journal up may be cut off
// anywhere, and begun again.
func TestJournalGapPowerCut(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	base.crashWith()
	first, _ := base.needed()
	damaged := base.harmed(t, harm{do: func(s *scene) { s.lose(first + 2) }})
	points := cutEverywhere(t, damaged, Options{Repair: true, AcceptLoss: true}, func(s *scene) {
		r := s.check(Options{Repair: true, AcceptLoss: true})
		if again := s.check(Options{}); !again.Proven || hasKind(again, Journal) {
			t.Fatalf("%+v\n%+v", r, again)
		}
		s.writtenOnce(base, "second", random(21, 8_500), random(30, 8_500))
	})
	t.Logf("%d crash points", points)
}

// TestJournalOversized: a size in the journal that the store cannot have, as a
// version that did not bound sizes could commit, keeps the volume from being
// opened for writing. It is listed, and given up if that is accepted; what was
// committed before it comes home.
func TestJournalOversized(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	const huge = 1 << 40
	v, keys := s.open()
	s.put(v, "grown", random(33, 9_000))
	h, err := v.OpenFile("grown", os.O_RDWR, 0, volume.Owner{})
	must(t, err)
	must(t, errors.Join(h.Truncate(huge), h.Sync(true)))
	s.st = s.st.Kill()
	_ = v.Close() // its store is gone
	keys.Destroy()

	check := func(opts Options) *Report {
		opts.Keys = openKeys
		r, err := Run(t.Context(), small{s.st}, opts)
		must(t, err)
		return r
	}
	if r := check(Options{Repair: true}); r.Count(Left) != 1 || !hasKind(r, Journal) || r.Replayed != 0 {
		t.Fatalf("without consent: %+v", r)
	}
	r := check(Options{Repair: true, AcceptLoss: true})
	if r.Count(Left) != 1 || r.Count(Repaired) != 1 || !hasKind(r, LostWrite) || r.Replayed == 0 {
		t.Fatalf("%+v", r)
	}
	if r := check(Options{}); !r.Clean() || !r.Proven || r.Pending != 0 {
		t.Fatalf("%+v", r)
	}
	s.readAll(nil)
}

// small is a store whose files have at most a GiB.
type small struct{ *store.Mem }

// OpenFile is store.FS's.
func (s small) OpenFile(name string, flag int, perm uint32) (store.File, error) {
	f, err := s.Mem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return smallFile{f}, nil
}

type smallFile struct{ store.File }

// Truncate is store.File's.
func (f smallFile) Truncate(size int64) error {
	if size > 1<<30 {
		return syscall.EFBIG
	}
	return f.File.Truncate(size)
}

// cutEverywhere cuts the power at every operation of a repair that changes
// something or makes it durable, until one comes to its end; after is called
// with what each has left. It gives the number of cuts.
func cutEverywhere(t *testing.T, harmed *scene, opts Options, after func(s *scene)) (points int) {
	opts.Keys = openKeys
	for at := uint64(1); ; at++ {
		s := harmed.copy(t)
		s.files = harmed.files
		var n atomic.Uint64
		s.st.SetHook(func(op store.Op) error {
			if (op.Mutates() || op.Kind.Syncs()) && n.Add(1) >= at {
				return store.ErrCut
			}
			return nil
		})
		_, err := Run(t.Context(), s.st, opts)
		if err == nil {
			return points
		}
		if !errors.Is(err, store.ErrCut) {
			t.Fatalf("cut at %d: %v", at, err)
		}
		points++
		s.st = s.st.Crash(at)
		after(s)
	}
}
