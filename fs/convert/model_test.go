package convert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// TestRandomTrees converts random trees to and fro, with runs that are cut off,
// killed, or fail, and wants each to be what it was.
func TestRandomTrees(t *testing.T) {
	keys := newTestKeys(t, 51)
	rapid.Check(t, func(r *rapid.T) {
		st := store.NewMem(store.Options{})
		randomTree(t, r, st)
		want := pictureOf(t, plain{st})
		must(t, st.SyncAll())
		names := rapid.SampledFrom([]string{volume.NamesEncrypted, volume.NamesPlain}).Draw(r, "names")
		for range rapid.IntRange(1, 5).Draw(r, "runs") {
			d := rapid.SampledFrom([]Direction{Encrypting, Decrypting}).Draw(r, "direction")
			st = endsSomehow(r, st, keys.config(names), d)
		}
		_, err := Encrypt(t.Context(), st, keys.config(names))
		if err != nil && !errors.Is(err, ErrVolume) {
			r.Fatal(err)
		}
		same(t, "encrypted", keys.sealedPicture(t, st), want)
		_, err = Decrypt(t.Context(), st, keys.config(names))
		must(t, err)
		same(t, "decrypted", pictureOf(t, plain{st}), want)
	})
}

// endsSomehow runs a conversion whose process or power ends at some operation,
// if it comes so far.
func endsSomehow(r *rapid.T, st *store.Mem, cfg Config, d Direction) *store.Mem {
	at := rapid.Uint64Range(1, 2000).Draw(r, "at")
	kill := rapid.Bool().Draw(r, "kill")
	var n atomic.Uint64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st.SetHook(func(store.Op) error {
		if n.Add(1) < at {
			return nil
		}
		if kill {
			cancel()
			return nil
		}
		return store.ErrCut
	})
	_, _ = run(ctx, st, cfg, d)
	if kill {
		st.SetHook(nil)
		return st
	}
	st = st.Crash(at)
	st.SetHook(nil)
	return st
}

func randomTree(t testing.TB, r *rapid.T, st store.FS) {
	dirs, files := []string{"."}, []string{}
	for i := range rapid.IntRange(0, 15).Draw(r, "objects") {
		name := fmt.Sprint(rapid.SampledFrom(dirs).Draw(r, "dir"), "/", i, strings.Repeat("n", rapid.SampledFrom([]int{0, 0, 180}).Draw(r, "longer")))
		name = strings.TrimPrefix(name, "./")
		switch kind := rapid.IntRange(0, 5).Draw(r, "kind"); {
		case kind == 0:
			must(t, st.Mkdir(name, 0o755))
			dirs = append(dirs, name)
		case kind == 1 && len(files) > 0:
			must(t, st.Link(rapid.SampledFrom(files).Draw(r, "file"), name))
		case kind == 2:
			must(t, st.Symlink(strings.Repeat("t", i+1), name))
		default:
			size := rapid.SampledFrom([]int64{0, 1, 4095, 4096, 4097, 20000, 100 << 12, 420_000}).Draw(r, "size")
			parts := map[int64]string{}
			for range rapid.IntRange(0, 2).Draw(r, "parts") {
				parts[rapid.Int64Range(0, size).Draw(r, "offset")] = strings.Repeat("p", rapid.IntRange(1, 9000).Draw(r, "length"))
			}
			put(t, st, name, size, parts)
			files = append(files, name)
		}
	}
}
