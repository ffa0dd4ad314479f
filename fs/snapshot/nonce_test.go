package snapshot

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/volume"
)

// nonces are all pairs of file and nonce that were ever seen at home, with what
// was encrypted under each.
type nonces map[string][]byte

// collect adds what lies in a backing directory. A pair may be seen again only
// with the same ciphertext: then it is a copy, and not used again.
func (n nonces) collect(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == volume.MetaDir {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(name)
		must(t, err)
		size, ok := format.PlainSize(int64(len(data)))
		if !ok || size == 0 {
			return nil
		}
		id := string(data[:32]) // up to the end of the file ID
		page := func(off int64) []byte {
			p := make([]byte, format.PageSize)
			copy(p, data[off:])
			return p
		}
		for b := range format.Blocks(size) {
			tags := (*format.TagPage)(page(format.TagPageOffset(format.Group(b))))
			e := tags.Entry(int(b % format.GroupBlocks))
			n.add(t, name, id, e[:format.NonceSize], append(page(format.BlockOffset(b)), e[format.NonceSize:]...))
			if b%format.GroupBlocks == 0 {
				n.add(t, name, id, tags.Nonce(), tags[:])
			}
		}
		return nil
	}))
}

func (n nonces) add(t *testing.T, name, id string, nonce, sealed []byte) {
	t.Helper()
	if bytes.Equal(nonce, make([]byte, len(nonce))) {
		return // a hole
	}
	key := id + string(nonce)
	if old, ok := n[key]; ok && !bytes.Equal(old, sealed) {
		t.Fatalf("%s: nonce %x was used twice", name, nonce)
	}
	n[key] = bytes.Clone(sealed)
}

// TestNoncesOfClones: a volume, what is restored from its snapshots, and copies
// of it as a crash or a snapshot of its disk leaves them are all written
// further, beside each other, and none ever encrypts under a nonce of another.
func TestNoncesOfClones(t *testing.T) {
	s := newScene(t, volume.NamesPlain)
	r := rand.New(rand.NewPCG(3, 4))
	seen := nonces{}
	change := func(v *volume.Volume) {
		for i := range 4 {
			data := make([]byte, 1+r.IntN(60_000))
			for j := range data {
				data[j] = byte(r.Uint32())
			}
			writeTo(t, v, fmt.Sprint("f", i), data, int64(r.IntN(500_000)))
		}
	}
	further := func(dir string) {
		for range 2 {
			st, keys, v := s.openAt(dir)
			change(v)
			must(t, v.Close())
			keys.Destroy()
			must(t, st.Close())
			seen.collect(t, dir)
		}
	}
	change(s.v)
	for round := range 3 {
		name := fmt.Sprint("s", round)
		s.create(name)
		crashed := filepath.Join(s.dir, "crashed"+name)
		must(t, exec.Command("cp", "-a", s.backing, crashed).Run()) // open, with a journal in use
		change(s.v)
		must(t, s.v.Checkpoint())
		seen.collect(t, s.backing)
		restored := filepath.Join(s.dir, "restored"+name)
		s.restore(name, restored)
		seen.collect(t, restored)
		further(restored)
		further(crashed)
		change(s.v)
		s.close() // and opened anew
		seen.collect(t, s.backing)
		s.open()
	}
	if len(seen) < 500 {
		t.Errorf("only %d nonces were seen", len(seen))
	}
}
