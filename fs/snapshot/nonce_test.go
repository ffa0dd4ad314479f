package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// nonces are all pairs of key and nonce that were ever written, with the tag of
// what was encrypted under each: those that are written over at once, too.
type nonces struct {
	mu     sync.Mutex // guards the rest
	seen   map[string][]byte
	frames []byte // of all journals
	twice  []string
}

// add notes a pair. It may be seen again only with the same tag: then it is a
// copy, and not used again.
func (n *nonces) add(key string, nonce, tag []byte) {
	if bytes.Equal(nonce, make([]byte, len(nonce))) {
		return // a hole, or an empty slot
	}
	pair := key + string(nonce)
	if old, ok := n.seen[pair]; ok && !bytes.Equal(old, tag) {
		n.twice = append(n.twice, fmt.Sprintf("nonce %x under key %x", nonce, key))
	}
	n.seen[pair] = bytes.Clone(tag)
}

// trailer notes the end of a tag page, which is encrypted as a whole.
func (n *nonces) trailer(id string, t []byte) {
	at := len(t) - crypto.NonceSize - crypto.TagSize
	n.add(id, t[at:at+crypto.NonceSize], t[at+crypto.NonceSize:])
}

func (n *nonces) entry(id string, e *format.Entry) {
	n.add(id, e[:crypto.NonceSize], e[crypto.NonceSize:])
}

// home notes what is written to a file of the tree, whose first bytes are head.
func (n *nonces) home(head, p []byte, off int64) {
	id := string(head[16:32])
	for ; len(p) >= format.PageSize && off%format.PageSize == 0; p, off = p[format.PageSize:], off+format.PageSize {
		switch at := off / format.PageSize; {
		case at == 0:
			for _, slot := range []int{512, 1024} {
				n.slot(p[slot:])
			}
		case format.TagPageOffset((at-1)/(format.GroupBlocks+1)) == off:
			tags := (*format.TagPage)(p)
			for i := range format.GroupBlocks {
				n.entry(id, tags.Entry(i))
			}
			n.trailer(id, tags[format.PageSize-format.TrailerSize:])
		}
	}
}

// slot notes a wrapped file key.
func (n *nonces) slot(p []byte) {
	const wrapped = 24 // behind sequence and master key
	n.add(string(p[8:wrapped]), p[wrapped:wrapped+crypto.NonceSize], p[wrapped+crypto.NonceSize:wrapped+crypto.WrappedKeySize])
}

// frame notes a frame of a journal; what is sealed in it is looked at in the end.
func (n *nonces) frame(p []byte) {
	if len(p) < format.PageSize || !bytes.HasPrefix(p, []byte("AKVFSJF1")) {
		return
	}
	sealed := 128 + binary.LittleEndian.Uint32(p[32:])
	n.add("journal", p[64:64+crypto.NonceSize], p[sealed-crypto.TagSize:sealed])
	n.frames = append(n.frames, p...)
}

// unseal notes what all frames held.
func (n *nonces) unseal(t *testing.T, cfg journal.Config) {
	t.Helper()
	mem := store.NewMem(store.Options{})
	must(t, mem.Mkdir("j", 0o700))
	for i := range 4 {
		f, err := mem.OpenFile(fmt.Sprintf("j/%03d", i), os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		if i == 0 {
			_, err = f.WriteAt(n.frames, 0)
		}
		must(t, errors.Join(err, f.Truncate(int64(len(n.frames)+journal.MinSize)), f.Close()))
	}
	past, err := journal.Read(mem, "j", cfg)
	must(t, err)
	for _, r := range past.Records {
		for _, g := range r.Groups {
			n.trailer(string(r.File[:]), g.Trailer[:])
			for i := range g.Blocks {
				n.entry(string(r.File[:]), &g.Blocks[i].Entry)
			}
		}
	}
}

// journals notes the frames that lie in a volume's journal: a snapshot's and a
// restored volume's are not written through a recorder.
func (n *nonces) journals(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, volume.JournalDir, "*"))
	must(t, err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(t, err)
		for at := 0; at < len(data); at += format.PageSize {
			n.frame(data[at:min(len(data), at+journal.MinSize)])
		}
	}
}

// recorder is a store that shows nonces all that is written.
type recorder struct {
	*store.Disk
	seen *nonces
}

func (r recorder) OpenFile(name string, flag int, perm uint32) (store.File, error) {
	f, err := r.Disk.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return recorded{f, name, r.seen}, nil
}

type recorded struct {
	store.File
	name string
	seen *nonces
}

func (f recorded) WriteAt(p []byte, off int64) (int, error) {
	f.seen.mu.Lock()
	defer f.seen.mu.Unlock()
	switch {
	case strings.HasPrefix(f.name, volume.JournalDir+"/"):
		f.seen.frame(p)
	case !strings.HasPrefix(f.name, volume.MetaDir+"/"):
		head := make([]byte, 32)
		if off == 0 && len(p) >= len(head) {
			copy(head, p)
		} else if _, err := f.ReadAt(head, 0); err != nil {
			return 0, err
		}
		f.seen.home(head, p, off)
	}
	return f.File.WriteAt(p, off)
}

// TestNoncesOfClones: a volume, what is restored from its snapshots, and copies
// of it as a crash or a snapshot of its disk leaves them are all written
// further, beside each other, and none ever encrypts under a nonce of another:
// not what is at home, nor what lay in a journal for a moment.
func TestNoncesOfClones(t *testing.T) {
	s := newScene(t, volume.NamesPlain)
	r := rand.New(rand.NewPCG(3, 4))
	seen := &nonces{seen: map[string][]byte{}}
	s.close()
	s.below = func(d *store.Disk) store.FS { return recorder{d, seen} }
	s.open()
	change := func(v *volume.Volume) {
		for i := range 4 {
			data := make([]byte, 1+r.IntN(60_000))
			for j := range data {
				data[j] = byte(r.Uint32())
			}
			off := int64(r.IntN(500_000))
			for range 3 { // synced, and written over before it is at home
				data[0]++
				writeTo(t, v, fmt.Sprint("f", i), data, off)
			}
		}
	}
	further := func(dir string) {
		for range 2 {
			st, keys, v := s.openAt(dir)
			change(v)
			must(t, v.Close())
			keys.Destroy()
			must(t, st.Close())
		}
	}
	change(s.v)
	for round := range 3 {
		name := fmt.Sprint("s", round)
		s.create(name)
		seen.journals(t, path.Join(s.c.Dir, name))
		crashed := filepath.Join(s.dir, "crashed"+name)
		must(t, exec.Command("cp", "-a", s.backing, crashed).Run()) // open, with a journal in use
		change(s.v)
		must(t, s.v.Checkpoint())
		restored := filepath.Join(s.dir, "restored"+name)
		s.restore(name, restored)
		further(restored)
		further(crashed)
		change(s.v)
		s.close() // and opened anew
		s.open()
	}
	atHome := len(seen.seen)
	key, err := s.keys.VolumeKey("journal")
	must(t, err)
	cipher, err := crypto.NewBlockCipher(key)
	must(t, err)
	defer cipher.Destroy()
	seen.unseal(t, journal.Config{Volume: s.v.Info().ID, Cipher: cipher})
	for _, what := range seen.twice {
		t.Error(what, "was used twice")
	}
	t.Logf("%d nonces, %d of them in journals alone", len(seen.seen), len(seen.seen)-atHome)
	if atHome < 500 || len(seen.seen)-atHome < 500 {
		t.Error("that is too few to tell")
	}
}
