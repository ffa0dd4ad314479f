package convert

import (
	"context"
	"errors"
	"flag"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

var crashStride = flag.Uint64("convert.stride", 17, "cut the power at every so manieth operation")

// base is a tree, all of it durable, plain or encrypted.
func newBase(t *testing.T, keys *testKeys, encrypted bool) (*store.Mem, map[string]string) {
	st := store.NewMem(store.Options{})
	fill(t, st)
	want := pictureOf(t, plain{st})
	if encrypted {
		_, err := Encrypt(t.Context(), st, keys.config(volume.NamesEncrypted))
		must(t, err)
	}
	must(t, st.SyncAll())
	return st, want
}

func otherWay(d Direction) Direction {
	if d == Encrypting {
		return Decrypting
	}
	return Encrypting
}

// TestPowerCut cuts the power at operations of the store in turn. Every file
// must then be there in full, where the state says; the conversion goes on,
// cut once more half of the time, every third time it is turned round, and in
// the end everything is as it was.
func TestPowerCut(t *testing.T) {
	keys := newTestKeys(t, 11)
	for _, direction := range []Direction{Encrypting, Decrypting} {
		t.Run(string(direction), func(t *testing.T) {
			base, want := newBase(t, keys, direction == Decrypting)
			points := uint64(0)
			for at := uint64(1); ; at += *crashStride {
				st := base.Crash(0)
				ended := cutAt(t, keys, st, at, direction)
				if ended {
					break
				}
				points++
				recoverFrom(t, keys, st, at, points, direction, want)
			}
			t.Logf("%d crash points", points)
		})
	}
}

// cutAt runs a conversion to an operation, and reports whether it ended before.
func cutAt(t *testing.T, keys *testKeys, st *store.Mem, at uint64, d Direction) (ended bool) {
	var n atomic.Uint64
	st.SetHook(func(store.Op) error {
		if n.Add(1) >= at {
			return store.ErrCut
		}
		return nil
	})
	_, err := run(context.Background(), st, keys.config(volume.NamesEncrypted), d)
	if err == nil && n.Load() >= at {
		t.Fatalf("cut at %d: no error", at)
	}
	if err == nil {
		st.SetHook(nil)
	}
	return err == nil
}

// recoverFrom goes on after a cut until all is done.
func recoverFrom(t *testing.T, keys *testKeys, st *store.Mem, at, point uint64, d Direction, want map[string]string) {
	st = st.Crash(at)
	st.SetHook(nil)
	inFull(t, keys, st, at, want)
	if point%2 == 0 && !cutAt(t, keys, st, at*31%997+1, d) {
		st = st.Crash(at + 1)
		st.SetHook(nil)
		inFull(t, keys, st, at, want)
	}
	if point%3 == 0 {
		d = otherWay(d)
	}
	_, err := run(t.Context(), st, keys.config(volume.NamesEncrypted), d)
	if err != nil && !errors.Is(err, ErrVolume) && !errors.Is(err, ErrNothing) {
		t.Fatalf("cut at %d: going on: %v", at, err)
	}
	if _, err := st.Stat(stateDir); !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("cut at %d: the state is still there: %v", at, err)
	}
	var got map[string]string
	if d == Encrypting {
		got = keys.sealedPicture(t, st)
		noPlaintext(t, st, ".", true)
	} else {
		got = pictureOf(t, plain{st})
	}
	same(t, "cut at operation "+store.Op{N: at}.String(), got, want)
}

// inFull holds what is there while files are converted against what is wanted:
// each file where the state says that it counts. A copy of the store is looked at.
func inFull(t *testing.T, keys *testKeys, st *store.Mem, at uint64, want map[string]string) {
	s, err := loadState(st)
	must(t, err)
	if s == nil || s.Phase != phaseFiles {
		return
	}
	copied := st.AfterCrash(0)
	list, err := loadDone(copied)
	must(t, err)
	v, err := volume.Open(store.NewSub(copied, volumeDir), keys, volume.Options{ReadOnly: true})
	must(t, err)
	defer v.Close()
	var from, to tree = plain{copied}, sealed{v}
	if s.Direction == Decrypting {
		from, to = to, from
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if name == "." || strings.HasPrefix(want[name], "4") { // a directory
			continue
		}
		side := from
		done := slices.ContainsFunc(list, func(d done) bool { return string(d.Name) == name })
		if _, err := from.Stat(name); errors.Is(err, syscall.ENOENT) || done {
			side = to
		}
		attr, err := side.Stat(name)
		if err != nil {
			t.Fatalf("cut at %d: %q is lost: %v", at, name, err)
		}
		if attr.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		c := &conversion{ctx: context.Background(), buf: make([]byte, chunkSize)}
		d, err := c.readBack(side, name, attr.Size)
		if err != nil || !strings.Contains(want[name], hexOf(d)) {
			t.Fatalf("cut at %d: %q is not in full: %v", at, name, err)
		}
	}
}

// TestFaults makes operations fail in turn, once each. The run may fail; the
// next one must end well.
func TestFaults(t *testing.T) {
	keys := newTestKeys(t, 21)
	for _, direction := range []Direction{Encrypting, Decrypting} {
		base, want := newBase(t, keys, direction == Decrypting)
		for i, at := 0, uint64(1); ; i, at = i+1, at+*crashStride*2 {
			st := base.Crash(0)
			errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[i%2]
			var n atomic.Uint64
			st.SetHook(func(op store.Op) error {
				if n.Add(1) == at && op.Kind != store.OpClose {
					return errno
				}
				return nil
			})
			_, _ = run(context.Background(), st, keys.config(volume.NamesEncrypted), direction)
			reached := n.Load() >= at
			st = st.Crash(at)
			st.SetHook(nil)
			_, err := run(t.Context(), st, keys.config(volume.NamesEncrypted), direction)
			if err != nil && !errors.Is(err, ErrVolume) && !errors.Is(err, ErrNothing) {
				t.Fatalf("%v at operation %d: going on: %v", errno, at, err)
			}
			var got map[string]string
			if direction == Encrypting {
				got = keys.sealedPicture(t, st)
			} else {
				got = pictureOf(t, plain{st})
			}
			same(t, "after a fault", got, want)
			if !reached {
				t.Logf("%s: %d operations failed", direction, i)
				break
			}
		}
	}
}
