package fsck

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// scrub checks the open volume.
func (s *scene) scrub(v *volume.Volume, keys *keymgr.MasterKeys) *Report {
	s.t.Helper()
	r, err := Scrub(s.t.(*testing.T).Context(), v, s.st, keys, Options{})
	must(s.t, err)
	return r
}

// TestLiveDamage: a check of a volume in use finds what a scrub of its files
// does not see, and a checkpoint makes up for the journal.
func TestLiveDamage(t *testing.T) {
	for _, h := range []harm{
		{"a frame of the journal", Journal, func(s *scene) {
			all := s.frames()
			f := all[len(all)-1]
			s.flip(f.segment, f.off+frameHead+2)
		}},
		{"a segment of the journal", Journal, func(s *scene) { must(s.t, s.st.Unlink(segmentOf(0))) }},
		{"an orphaned long name", Leftover, func(s *scene) { must(s.t, s.st.Unlink(s.longEntry())) }},
		{"no long name", LongName, func(s *scene) { must(s.t, s.st.Unlink(s.longEntry()+volume.LongSuffix)) }},
		{"a temporary file of old", Leftover, func(s *scene) {
			name, old := path.Join(volume.MetaDir, "keyring.json.tmp"), time.Now().Add(-time.Hour)
			s.write(name, "half")
			must(s.t, s.st.Chtimes(name, nil, &old))
		}},
		{"the description's copy", DescriptionCopy, func(s *scene) { s.flip(infoName+".prev", 60) }},
	} {
		t.Run(h.name, func(t *testing.T) {
			s := newScene(t, volume.NamesEncrypted)
			v, keys := s.open()
			defer keys.Destroy()
			defer v.Close()
			s.put(v, "new", random(3, 9_000))
			if r := s.scrub(v, keys); !r.Clean() || !r.Proven {
				t.Fatalf("before: %+v", r.Findings)
			}
			h.do(s)
			r := s.scrub(v, keys)
			if len(r.Findings) == 0 || !hasKind(r, h.kind) {
				t.Fatalf("%+v", r.Findings)
			}
			if h.name != "a frame of the journal" {
				return
			}
			must(t, errors.Join(v.Sync(), v.Checkpoint()))
			if r := s.scrub(v, keys); !r.Clean() {
				t.Fatalf("after a checkpoint: %+v", r.Findings)
			}
		})
	}
}

// TestLiveSoundness: long names that come, go and change places, syncs and
// changes of the keyring are no damage to a check that runs beside them.
func TestLiveSoundness(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	v, keys := s.open()
	defer keys.Destroy()
	defer v.Close()
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := churn(v, fmt.Sprintf("d/%s%d", aLongName, i), n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Go(func() {
		for range 4 {
			if err := errors.Join(keys.AddKey(t.Context(), &second{}), keys.RemoveKey("test://second")); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		if r := s.scrub(v, keys); !r.Clean() {
			t.Errorf("%+v", r.Findings)
			break
		}
	}
	close(stop)
	all.Wait()
}

// churn makes a file of a long name, moves it, and removes it.
func churn(v *volume.Volume, name string, n int) error {
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, volume.Owner{})
	if err != nil {
		return err
	}
	_, err = h.WriteAt([]byte(strings.Repeat("x", 5000)), 0)
	if n%3 == 0 {
		err = errors.Join(err, h.Sync(true))
	}
	return errors.Join(err, h.Close(), v.Rename(name, name+"moved", 0), v.Unlink(name+"moved"))
}
