package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/keymgr"
)

// rotation is a volume's key life with a power cut in it.
type rotation struct {
	*keyed
	t     *testing.T
	files map[string]string // synced content
	now   []string          // the keys that open the volume
	next  []string          // and those after the step under way
}

func newRotation(t *testing.T) *rotation {
	r := &rotation{keyed: newKeyed(t, store.NewMem(store.Options{}), NamesEncrypted), t: t, files: map[string]string{}}
	must(t, r.v.Mkdir("d", 0o755, Owner{}))
	for i, name := range []string{"a", "b", "d/c", "d/" + strings.Repeat("long", 50), "empty"} {
		r.files[name] = strings.Repeat(name, 2000*i%9000)
		put(t, r.v, name, r.files[name])
	}
	must(t, errors.Join(r.v.Link("a", "d/hard"), r.close(), r.st.(*store.Mem).SyncAll()))
	r.files["d/hard"] = r.files["a"]
	r.now = []string{"test://a"}
	return r
}

// step is one command of an operator, or work of a program meanwhile.
type step struct {
	name string
	do   func(*rotation) error
	keys []string // that open the volume afterwards; nil: as before
}

var steps = []step{
	{"write", func(r *rotation) error { return r.write("w1") }, nil},
	{"rotate to a newer version", func(r *rotation) error {
		r.vaults[0].version++
		return r.keys.Rewrap(context.Background(), "test://a", r.vaults[0])
	}, nil},
	{"add", func(r *rotation) error { return r.keys.AddKey(context.Background(), r.vaults[1]) }, []string{"test://a", "test://b"}},
	{"rotate master key", func(r *rotation) error { return second(r.keyed.rotate()) }, nil},
	{"write under two master keys", func(r *rotation) error { return r.write("w2") }, nil},
	{"re-wrap and retire", func(r *rotation) error { return second(r.rewrap()) }, nil},
	{"remove", func(r *rotation) error { return r.keys.RemoveKey("test://a") }, []string{"test://b"}},
	{"rotate to another key", func(r *rotation) error {
		return r.keys.Rewrap(context.Background(), "test://b", r.vaults[0])
	}, []string{"test://a"}},
	{"write again", func(r *rotation) error { return r.write("w3") }, nil},
}

func second[T any](_ T, err error) error { return err }

// write makes a file and syncs it, and leaves it open.
func (r *rotation) write(name string) error {
	h, err := r.v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		return err
	}
	if _, err := h.WriteAt([]byte(name), 0); err != nil {
		return err
	}
	if err := h.Sync(false); err != nil {
		return err
	}
	r.files[name] = name
	return nil
}

// play takes all steps, and reports whether it was cut.
func (r *rotation) play(st *store.Mem) (cut bool) {
	err := r.open(st)
	for i := 0; i < len(steps) && err == nil; i++ {
		if r.next = steps[i].keys; r.next == nil {
			r.next = r.now
		}
		if err = steps[i].do(r); err == nil {
			r.now = r.next
		} else if !errors.Is(err, store.ErrCut) {
			r.t.Fatalf("%s: %v", steps[i].name, err)
		}
	}
	if r.v != nil {
		r.v.stopBackground()
		r.keys.Destroy()
	}
	return err != nil
}

// check opens the volume after the cut, with each of its keys alone.
func (r *rotation) check(st *store.Mem, at uint64) {
	keyring, err := keymgr.LoadKeyring(Metadata(st))
	must(r.t, err)
	var have []string
	for _, w := range keyring.Wraps() {
		have = append(have, w.KeyID)
	}
	if !slices.Equal(have, r.now) && !slices.Equal(have, r.next) {
		r.t.Fatalf("cut at %d: %q open it, not %q or %q", at, have, r.now, r.next)
	}
	all := r.vaults
	for _, id := range have {
		r.vaults = vaults{all[slices.IndexFunc(all, func(v *vault) bool { return v.KeyID() == id })]}
		r.readAll(st, at)
	}
	r.vaults = all
	must(r.t, r.open(st))
	defer func() { must(r.t, r.close()) }()
	_, err = r.keyed.rotate()
	must(r.t, errors.Join(err, second(r.rewrap())))
	if id, n := r.keys.Keyring().Active().ID, under(r.t, st, "."); len(n) != 1 || n[id] == 0 || len(r.keys.Keyring().MasterKeys()) != 1 {
		r.t.Fatalf("cut at %d: after another rotation %v, %s", at, n, r.keys.Keyring())
	}
}

func (r *rotation) readAll(st *store.Mem, at uint64) {
	if err := r.open(st); err != nil {
		r.t.Fatalf("cut at %d: %v", at, err)
	}
	for name, want := range r.files {
		if err := readBack(r.v, name, []byte(want)); err != nil {
			r.t.Fatalf("cut at %d: %s: %v", at, name, err)
		}
	}
	if n := r.v.Stats().IntegrityErrors; n > 0 {
		r.t.Fatalf("cut at %d: %d integrity errors", at, n)
	}
	must(r.t, r.close())
}

// TestRotationPowerCut cuts the power at every operation of the store in a
// life of rotations. Whenever it is, the volume opens with the keys of before
// or after the step, with each of them alone, every synced byte reads back,
// and a new rotation comes to its end.
func TestRotationPowerCut(t *testing.T) {
	base := newRotation(t)
	points := 0
	for at := uint64(1); ; at += everyNth {
		r := *base
		r.t, r.files = t, map[string]string{}
		r.keyed = &keyed{id: base.id, vaults: vaults{{"a", 1}, {"b", 1}}}
		for name, content := range base.files {
			r.files[name] = content
		}
		st := base.st.(*store.Mem).AfterCrash(0)
		var n atomic.Uint64
		st.SetHook(func(store.Op) error {
			if n.Add(1) >= at {
				return store.ErrCut
			}
			return nil
		})
		r.next = r.now
		if cut := r.play(st); !cut {
			break
		}
		points++
		r.check(st.Crash(at), at)
	}
	t.Log(fmt.Sprint(points, " crash points"))
}
