package fsck

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// harm is damage that a repair mends, with what is to be found.
type harm struct {
	name string
	kind Kind
	do   func(s *scene)
}

var harms = []harm{
	{"an orphaned long name", Leftover, func(s *scene) {
		must(s.t, s.st.Unlink(s.longEntry()))
		delete(s.files, "d/"+aLongName)
	}},
	{"temporary files", Leftover, func(s *scene) {
		for _, name := range []string{"keyring.json.tmp", "volume.json.tmp", "keyring.json.prev.tmp"} {
			s.write(path.Join(volume.MetaDir, name), "half of som")
		}
	}},
	{"a journal that never took its place", Leftover, func(s *scene) {
		must(s.t, journal.Create(s.st, volume.JournalDir+".new", 1<<20))
	}},
	{"the empty slot of a header", HeaderSlot, func(s *scene) { s.flip(s.backing("big"), 1024+77) }},
	{"the newer slot of a header, the older one's master key being there", HeaderSlot, func(s *scene) {
		s.rotate(false)
		s.flip(s.backing("big"), 1024+60)
	}},
	{"the older slot of a header", HeaderSlot, func(s *scene) {
		s.rotate(true)
		s.flip(s.backing("big"), 512+60)
	}},
	{"a header's magic", Header, func(s *scene) { s.flip(s.backing("big"), 3) }},
	{"a header's rest", Header, func(s *scene) { s.flip(s.backing("big"), 3000) }},
	{"a header's checksum", Header, func(s *scene) { s.flip(s.backing("big"), 509) }},
	{"a header that was being written", Leftover, func(s *scene) {
		s.truncate(s.backing("emptied"), 100)
	}},
	{"the keyring", Keyring, func(s *scene) { s.flip(path.Join(volume.MetaDir, keymgr.KeyringFile), 300) }},
	{"the keyring's authentication code", Keyring, func(s *scene) {
		name := path.Join(volume.MetaDir, keymgr.KeyringFile)
		attr, err := s.st.Stat(name)
		must(s.t, err)
		s.change(name, attr.Size-20, func(p []byte) {
			if p[0]++; p[0] == 'Z'+1 || p[0] == 'z'+1 || p[0] == '9'+1 || p[0] == '+'+1 {
				p[0] = 'A'
			}
		}, 1)
	}},
	{"no keyring", Keyring, func(s *scene) { must(s.t, s.st.Unlink(path.Join(volume.MetaDir, keymgr.KeyringFile))) }},
	{"a byte of the description", Description, func(s *scene) {
		must(s.t, s.st.Unlink(infoName+".prev"))
		s.flip(infoName, 60)
	}},
	{"the description's authentication code", Description, func(s *scene) {
		must(s.t, s.st.Unlink(infoName+".prev"))
		s.flip(infoName, int64(len(s.content(infoName))-20))
	}},
	{"the description's ID, which is another one now", Description, func(s *scene) {
		s.edit(infoName, "id", "00000000-0000-4000-8000-000000000001")
	}},
	{"the description of another volume", Description, func(s *scene) {
		other := newScene(s.t, volume.NamesPlain)
		s.replace(infoName, other.content(infoName))
	}},
	{"a description that was edited", Description, func(s *scene) { s.edit(infoName, "names", volume.NamesPlain) }},
	{"a description of noise", Description, func(s *scene) { s.replace(infoName, random(9, 300)) }},
	{"no description", Description, func(s *scene) { must(s.t, s.st.Unlink(infoName)) }},
	{"no description, and no keyring but its copy", Keyring, func(s *scene) {
		must(s.t, errors.Join(s.st.Unlink(infoName), s.st.Unlink(path.Join(volume.MetaDir, keymgr.KeyringFile))))
	}},
	{"the description's copy", DescriptionCopy, func(s *scene) { s.flip(infoName+".prev", 60) }},
	{"an entry of a tag page", TagPage, func(s *scene) { s.flip(s.recent(), format.TagPageOffset(0)+50) }},
	{"the trailer of a tag page", TagPage, func(s *scene) { s.flip(s.recent(), format.TagPageOffset(0)+4090) }},
	{"a tag page of zeros", TagPage, func(s *scene) {
		s.change(s.recent(), format.TagPageOffset(0), func(p []byte) { clear(p) }, format.PageSize)
	}},
	{"a tag page of a large write", TagPage, func(s *scene) {
		s.change(s.backing("big"), format.TagPageOffset(1), func(p []byte) { copy(p, random(9, len(p))) }, format.PageSize)
	}},
	{"a tag page of zeros in the midst of a file", Block, func(s *scene) {
		s.change(s.backing("big"), format.TagPageOffset(1), func(p []byte) { clear(p) }, format.PageSize)
	}},
	{"a block that the journal has", Block, func(s *scene) { s.flip(s.recent(), format.BlockOffset(2)+9) }},
	{"something in a hole", Block, func(s *scene) { s.flip(s.backing("sparse"), format.BlockOffset(7)+9) }},
	{"something behind the last page", Tail, func(s *scene) {
		s.flip(s.backing("big"), format.PagesEnd(int64(len(s.files["big"])))+5)
	}},
	{"a file that is longer", Size, func(s *scene) {
		s.truncate(s.backing("big"), format.BackingSize(int64(len(s.files["big"])))+3*format.PageSize+5)
	}},
	{"a file that is longer by groups", Size, func(s *scene) {
		s.truncate(s.backing("big"), format.BackingSize(int64(len(s.files["big"])))+300*format.PageSize)
	}},
	{"a file whose tail is cut", Size, func(s *scene) {
		s.truncate(s.backing("big"), format.BackingSize(int64(len(s.files["big"])))-100)
	}},
}

func (s *scene) write(name, text string) {
	s.t.Helper()
	f, err := s.st.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(s.t, err)
	_, err = f.WriteAt([]byte(text), 0)
	must(s.t, errors.Join(err, f.Sync(), f.Close(), s.st.SyncDir(path.Dir(name))))
}

// longEntry is the backing path of the file with the long name.
func (s *scene) longEntry() (found string) {
	walk(s.t, s.st, ".", func(p string, _ store.Attr) {
		if entry, ok := strings.CutSuffix(p, volume.LongSuffix); ok {
			found = entry
		}
	})
	return found
}

// recent makes a file of which the journal has everything, and gives its
// backing path.
func (s *scene) recent() string {
	s.with(func(v *volume.Volume, _ *keymgr.MasterKeys) { s.put(v, "recent", random(5, 3*format.BlockSize+77)) })
	return s.backing("recent")
}

// rotate makes a new master key, brings all files under it and, with retire,
// takes the old one out of the keyring.
func (s *scene) rotate(retire bool) {
	s.with(func(v *volume.Volume, keys *keymgr.MasterKeys) {
		old := keys.Keyring().Active().ID
		_, err := keys.RotateMasterKey(context.Background(), &vault{1})
		must(s.t, err)
		_, err = v.Rewrap(context.Background(), volume.RewrapOptions{Master: keys.Keyring().Active().ID})
		must(s.t, err)
		if retire {
			must(s.t, keys.RetireMasterKey(old))
		}
	})
}

// TestRepairs: each kind of damage is found, repaired, and not found again.
func TestRepairs(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	for _, h := range harms {
		t.Run(h.name, func(t *testing.T) {
			s := base.harmed(t, h)
			before := s.check(Options{})
			if before.Clean() || before.Findings[0].Kind != h.kind || before.Findings[0].State != Found {
				t.Fatalf("found: %+v", before.Findings)
			}
			r := s.check(Options{Repair: true})
			if r.Clean() || r.Count(Repaired) != len(r.Findings) {
				t.Fatalf("repaired: %+v", r.Findings)
			}
			s.clean()
		})
	}
}

// harmed is a copy with some damage, all of it durable.
func (s *scene) harmed(t tb, h harm) *scene {
	c := s.copy(t)
	c.files = map[string][]byte{}
	for name, content := range s.files {
		c.files[name] = content
	}
	h.do(c)
	must(t, c.st.SyncAll())
	return c
}

// TestNothingIsWritten: a check without a repair changes nothing, whatever it
// finds.
func TestNothingIsWritten(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	for _, h := range harms {
		s := base.harmed(t, h)
		s.st.SetHook(func(op store.Op) error {
			if op.Mutates() {
				t.Errorf("%s: %v", h.name, op)
			}
			return nil
		})
		if found, _ := s.found(false); !found {
			t.Errorf("%s: nothing was found", h.name)
		}
	}
}

// TestRepairPowerCut cuts the power at every operation of every repair that
// changes something or makes it durable. Another repair then comes to its end,
// and nothing is wrong any more.
func TestRepairPowerCut(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	points := 0
	for _, h := range append(harms, harm{"a journal that is to be replayed", "", (*scene).crash}) {
		points += cutEverywhere(t, base.harmed(t, h), Options{Repair: true}, func(s *scene) {
			if r := s.check(Options{Repair: true}); r.Count(Left) > 0 {
				t.Fatalf("%s: %+v", h.name, r.Findings)
			}
			s.clean()
		})
	}
	t.Logf("%d crash points", points)
}

// crash leaves the volume as a killed daemon does, with records in its journal.
func (s *scene) crash() {
	v, keys := s.open()
	s.put(v, "late", random(6, 20_000))
	s.put(v, "big", random(7, 50_000)) // its start
	s.files["big"] = append(random(7, 50_000), random(1, manyBlocks*format.BlockSize-1000)[50_000:]...)
	s.st = s.st.Kill()
	_ = v.Close() // its store is gone
	keys.Destroy()
}

// TestReplay: a journal that waits for a mount is no damage, and is brought
// home by a repair.
func TestReplay(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	s.crash()
	if r := s.check(Options{}); !r.Clean() || r.Pending == 0 {
		t.Fatalf("%+v", r)
	}
	if r, err := Run(t.Context(), s.st, Options{}); err != nil || !r.Clean() || len(r.Notes) != 1 {
		t.Fatalf("without keys: %+v, %v", r, err)
	}
	if r := s.check(Options{Repair: true}); !r.Clean() || r.Replayed == 0 || r.Pending != 0 {
		t.Fatalf("%+v", r)
	}
	if shape, err := journal.Look(s.st, volume.JournalDir); err != nil || !shape.Clean {
		t.Fatalf("%+v, %v", shape, err)
	}
	s.clean()
}

// forget overwrites everything that the journal has of the past.
func (s *scene) forget() {
	s.with(func(v *volume.Volume, _ *keymgr.MasterKeys) {
		for range 100 {
			s.put(v, "filler", random(8, 12*format.BlockSize))
		}
	})
}

// TestLost: what nothing can bring back is told of, by file and range; it stays
// an error; and the rest is copied out.
func TestLost(t *testing.T) {
	eachNames(t, func(t *testing.T, s *scene) {
		s.forget()
		big := s.backing("big")
		for _, b := range []int64{3, 4, 90, manyBlocks - 1} {
			s.flip(big, format.BlockOffset(b)+1)
		}
		s.flip(big, format.TagPageOffset(1)+100)
		salvage := &Salvage{Dir: filepath.Join(t.TempDir(), "out")}
		must(t, salvage.Prepare())
		r := s.check(Options{Repair: true, Salvage: salvage})
		const bs, size = format.BlockSize, manyBlocks*format.BlockSize - 1000
		lost := []Range{{3 * bs, 2 * bs}, {90 * bs, bs}, {101 * bs, 101 * bs}, {(manyBlocks - 1) * bs, bs - 1000}}
		if len(r.Findings) != len(lost) || r.Count(Left) != len(lost) {
			t.Fatalf("%+v", r.Findings)
		}
		for i, f := range r.Findings {
			if f.Name != "big" || (Range{f.Offset, f.Length}) != lost[i] {
				t.Errorf("%+v, not %+v", f, lost[i])
			}
		}
		s.readAll([]string{"big"})
		s.harmless()
		s.with(func(v *volume.Volume, _ *keymgr.MasterKeys) {
			if _, err := read(v, "big"); err == nil {
				t.Error("what is lost reads")
			}
		})
		s.isSalvaged(t, salvage, size, lost)
	})
}

func (s *scene) isSalvaged(t *testing.T, salvage *Salvage, size int64, lost []Range) {
	if len(salvage.Files) != 1 || salvage.Files[0].Size != size {
		t.Fatalf("%+v", salvage.Files)
	}
	for i, r := range salvage.Files[0].Missing {
		if r != lost[i] {
			t.Errorf("missing is %+v, not %+v", r, lost[i])
		}
	}
	want := bytes.Clone(s.files["big"])
	for _, r := range lost {
		clear(want[r.Offset : r.Offset+r.Length])
	}
	got, err := os.ReadFile(filepath.Join(salvage.Dir, "big"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("salvaged: %d bytes, %v", len(got), err)
	}
	if text, err := os.ReadFile(filepath.Join(salvage.Dir, "big"+MissingSuffix)); err != nil || !strings.Contains(string(text), `"length": 8192`) {
		t.Errorf("the map: %s, %v", text, err)
	}
	var full *NotEmptyError
	if err := salvage.Prepare(); !errors.As(err, &full) {
		t.Errorf("salvaged twice: %v", err)
	}
}

// TestUnrepairable: what cannot be proven is left as it is.
func TestUnrepairable(t *testing.T) {
	base := newScene(t, volume.NamesEncrypted)
	for _, h := range []harm{
		{"the ID of a header", Header, func(s *scene) { s.flip(s.backing("big"), 20) }},
		{"the only slot of a header", Header, func(s *scene) { s.flip(s.backing("big"), 560) }},
		{"the newer slot, the older one's master key being retired", Header, func(s *scene) {
			s.rotate(true)
			s.flip(s.backing("big"), 1024+60)
		}},
		{"a long name", Name, func(s *scene) { s.flip(s.longEntry()+volume.LongSuffix, 30) }},
		{"no long name", LongName, func(s *scene) { must(s.t, s.st.Unlink(s.longEntry()+volume.LongSuffix)) }},
		{"keyring and copy", Keyring, func(s *scene) {
			s.flip(path.Join(volume.MetaDir, keymgr.KeyringFile), 300)
			s.flip(path.Join(volume.MetaDir, prevName), 300)
		}},
		{"a foreign name", Name, func(s *scene) { s.write("foreign", "x") }},
		{"a journal without a frame", Journal, func(s *scene) {
			for _, segment := range []string{"000", "001", "002", "003"} {
				s.change(path.Join(volume.JournalDir, segment), 0, func(p []byte) { clear(p) }, 256<<10)
			}
		}},
		{"a journal without a segment", Journal, func(s *scene) { must(s.t, s.st.Unlink(volume.JournalDir+"/002")) }},
		{"no journal", Journal, func(s *scene) { must(s.t, removeTree(s.st, volume.JournalDir)) }},
	} {
		t.Run(h.name, func(t *testing.T) {
			s := base.harmed(t, h)
			r := s.check(Options{Repair: true})
			if r.Count(Left) == 0 || r.Count(Repaired) > 0 {
				t.Fatalf("%+v", r.Findings)
			}
			if !hasKind(r, h.kind) {
				t.Fatalf("no %s: %+v", h.kind, r.Findings)
			}
			again := s.check(Options{})
			if again.Count(Found) != r.Count(Left) {
				t.Fatalf("found again: %+v, not %+v", again.Findings, r.Findings)
			}
			s.harmless()
		})
	}
}

func hasKind(r *Report, k Kind) bool {
	for _, f := range r.Findings {
		if f.Kind == k {
			return true
		}
	}
	return false
}
