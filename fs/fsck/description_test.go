package fsck

import (
	"encoding/json"
	"path"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

var infoName = path.Join(volume.MetaDir, volume.InfoFile)

// content is a backing file's.
func (s *scene) content(name string) []byte {
	s.t.Helper()
	attr, err := s.st.Stat(name)
	must(s.t, err)
	var content []byte
	s.change(name, 0, func(p []byte) { content = append(content, p...) }, int(attr.Size))
	return content
}

// replace gives a backing file another content.
func (s *scene) replace(name string, content []byte) {
	s.t.Helper()
	s.truncate(name, 0)
	s.write(name, string(content))
}

// edit changes a member of a JSON file, which stays in its form.
func (s *scene) edit(name, member, value string) {
	s.t.Helper()
	text := string(s.content(name))
	_, rest, found := strings.Cut(text, `"`+member+`": "`)
	old, _, closed := strings.Cut(rest, `"`)
	if !found || !closed {
		s.t.Fatalf("%s has no %q", name, member)
	}
	s.replace(name, []byte(strings.Replace(text, `"`+member+`": "`+old+`"`, `"`+member+`": "`+value+`"`, 1)))
}

// loseDescription removes the description and its copy.
func (s *scene) loseDescription() {
	s.t.Helper()
	must(s.t, s.st.Unlink(infoName))
	must(s.t, s.st.Unlink(infoName+".prev"))
}

// TestDescriptionAnew: without any copy the description is made anew, with the
// names that what is authentic shows, once somebody says what the cluster is
// called. Until then nothing is written.
func TestDescriptionAnew(t *testing.T) {
	eachNames(t, func(t *testing.T, s *scene) {
		before := s.info()
		s.recent() // there is a record of it in the journal
		s.loseDescription()
		r := s.check(Options{Repair: true})
		if r.Proven || r.Count(Left) != 1 || r.Findings[0].Kind != Description || !strings.Contains(strings.Join(r.Notes, " "), "what the cluster is called") {
			t.Fatalf("%+v", r)
		}
		name := "rs7"
		if r := s.check(Options{Cluster: &name}); !r.Proven || r.Count(Found) != 1 {
			t.Fatalf("without a repair: %+v", r)
		}
		if _, err := s.st.Stat(infoName); err == nil {
			t.Fatal("written without a repair")
		}
		if r := s.check(Options{Cluster: &name, Repair: true}); !r.Proven || r.Count(Repaired) != 1 || len(r.Findings) != 1 {
			t.Fatalf("%+v", r)
		}
		after := s.info()
		if after.ID != before.ID || after.Names != before.Names || after.Cluster != name || after.Created.IsZero() {
			t.Fatalf("%+v, not %+v", after, before)
		}
		s.clean()
	})
}

func (s *scene) info() volume.Info {
	s.t.Helper()
	info, err := volume.ReadInfo(s.st)
	must(s.t, err)
	return info
}

// TestDescriptionNotGuessed: where nothing that is authentic tells how names
// lie, nobody says so.
func TestDescriptionNotGuessed(t *testing.T) {
	name := "rs0"
	for what, do := range map[string]func(s *scene){
		"plain names, and a journal without records": func(s *scene) {
			for _, segment := range []string{"000", "001", "002", "003"} {
				s.change(path.Join(volume.JournalDir, segment), 0, func(p []byte) { clear(p) }, 256<<10)
			}
		},
		"plain names that look encrypted": func(s *scene) {
			must(s.t, removeTree(s.st, volume.JournalDir))
			s.write("3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAA", "x")
		},
		"another volume's keyring": func(s *scene) {
			other := newScene(s.t, volume.NamesEncrypted)
			for _, file := range []string{keymgr.KeyringFile, prevName} {
				s.replace(path.Join(volume.MetaDir, file), other.content(path.Join(volume.MetaDir, file)))
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newScene(t, volume.NamesPlain)
			s.recent()
			s.loseDescription()
			do(s)
			r := s.check(Options{Repair: true, Cluster: &name})
			if r.Proven || !hasKind(r, Description) || r.Count(Repaired) > 0 || len(r.Notes) == 0 {
				t.Fatalf("%+v", r)
			}
			if _, err := s.st.Stat(infoName); err == nil {
				t.Fatal("a description was made")
			}
		})
	}
}

// TestDescriptionFromElsewhere: another copy of the description counts if it is
// this volume's.
func TestDescriptionFromElsewhere(t *testing.T) {
	s := newScene(t, volume.NamesPlain)
	copied, other := s.content(infoName), newScene(t, volume.NamesPlain).content(infoName)
	var forged volume.Info
	must(t, json.Unmarshal(copied, &forged))
	forged.Names = volume.NamesEncrypted
	edited, err := forged.Document()
	must(t, err)
	s.loseDescription()
	s.change(path.Join(volume.JournalDir, "000"), 0, func(p []byte) { clear(p) }, 256<<10) // nothing else tells
	if r := s.check(Options{Repair: true, Copies: [][]byte{other, edited, nil}}); r.Count(Left) == 0 || r.Proven {
		t.Fatalf("%+v", r)
	}
	if r := s.check(Options{Copies: [][]byte{other, edited, copied}, Repair: true}); r.Count(Repaired) != 1 {
		t.Fatalf("%+v", r)
	}
	if again := s.content(infoName); string(again) != string(copied) {
		t.Fatalf("%s", again)
	}
}
