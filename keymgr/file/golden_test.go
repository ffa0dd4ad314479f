package file

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

var update = flag.Bool("update", false, "write the golden files anew: only before a format is released")

const (
	goldenStore = "testdata/key-v1.json" // its keys are for this test alone
	goldenWraps = "testdata/key-v1.wraps.json"
)

func writeGolden(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	p := mustProvider(t, s.KeyID(), c)
	wraps := []keymgr.Wrapped{mustWrap(t, p)}
	second, err := s.Rotate()
	must(t, err)
	wraps = append(wraps, mustWrap(t, p))
	must(t, s.Expire(second, start.Add(time.Hour)))
	must(t, s.NotBefore(second, start))
	for i := range wraps {
		wraps[i].KeyID = "" // has the path of a temporary directory
	}
	text, err := json.MarshalIndent(wraps, "", "  ")
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(goldenStore), 0o755))
	must(t, os.WriteFile(goldenStore, mustReadFile(t, s.Path()), 0o644))
	must(t, os.WriteFile(goldenWraps, append(text, '\n'), 0o644))
}

// TestGolden: a store that format 1 wrote opens for ever what it wrapped.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	must(t, os.WriteFile(path, mustReadFile(t, goldenStore), 0o600))
	var wraps []keymgr.Wrapped
	must(t, json.Unmarshal(mustReadFile(t, goldenWraps), &wraps))
	c := &clock{start}
	p := mustProvider(t, KeyID(path), c)
	for i, w := range wraps {
		w.KeyID = KeyID(path)
		if got, err := p.Unwrap(t.Context(), w); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("wrap %d: %q, %v", i, got, err)
		}
	}
	if len(wraps) != 2 {
		t.Errorf("%d wraps", len(wraps))
	}
	c.t = start.Add(time.Hour)
	wraps[1].KeyID = KeyID(path)
	if _, err := p.Unwrap(t.Context(), wraps[1]); !is(err, keymgr.Revoked, "KeyExpired", path) {
		t.Errorf("expired: %v", err)
	}
}
