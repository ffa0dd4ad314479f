package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// TestConcurrentFile has several writers on one file, each with bytes of its
// own in every stripe, while others sync, checkpoint, read and look for
// holes. Every writer must read back what it wrote, then and after a reopen.
func TestConcurrentFile(t *testing.T) {
	keys := newTestKeys(t, 11)
	st := onDisk(t)
	create(t, st, keys, NamesEncrypted, 4<<20)
	v := open(t, st, keys)
	h, err := v.OpenFile("shared", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	s := &stripes{t: t, h: h, width: 600_000, writers: 4}
	s.run(v)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, st, keys)
	defer v.Close()
	if s.h, err = v.OpenFile("shared", os.O_RDWR, 0, Owner{}); err != nil {
		t.Fatal(err)
	}
	defer s.h.Close()
	for w := range s.writers {
		for i := range s.done[w] {
			s.verify(w, i)
		}
	}
	if n := v.Stats().IntegrityErrors; n > 0 {
		t.Fatalf("%d integrity errors", n)
	}
}

// stripes is a file in which stripe i of writer w is at (i*writers+w)*width.
type stripes struct {
	t              *testing.T
	h              *Handle
	width, writers int
	done           [4]int
}

func (s *stripes) content(w, i int) []byte {
	return bytes.Repeat([]byte{byte(1 + w*50 + i)}, s.width)
}

func (s *stripes) offset(w, i int) int64 { return int64((i*s.writers + w) * s.width) }

func (s *stripes) run(v *Volume) {
	var writers, others sync.WaitGroup
	var stop atomic.Bool
	for w := range s.writers {
		writers.Go(func() { s.write(w) })
	}
	for _, f := range []func() error{
		v.Checkpoint,
		func() error { return s.h.Sync(true) },
		func() error { return syncThen(s.h, true) },
		func() error { _, err := s.h.Seek(0, unix.SEEK_HOLE); return ignore(err, unix.ENXIO) },
		func() error { _, err := s.h.ReadAt(make([]byte, 1<<20), 12345); return ignore(err, io.EOF) },
		func() error {
			again, err := v.OpenFile("shared", os.O_RDWR, 0, Owner{})
			return errors.Join(err, again.Close())
		},
	} {
		others.Go(func() {
			for !stop.Load() {
				if err := f(); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	others.Wait()
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

func (s *stripes) write(w int) {
	r := rand.New(rand.NewPCG(uint64(w), 5))
	for i := range 25 {
		p := s.content(w, i)
		for off := 0; off < len(p); {
			n := min(1+r.IntN(400_000), len(p)-off)
			if _, err := s.h.WriteAt(p[off:off+n], s.offset(w, i)+int64(off)); err != nil {
				s.t.Errorf("writer %d: %v", w, err)
				return
			}
			off += n
		}
		s.done[w] = i + 1
		s.verify(w, r.IntN(i+1))
	}
}

func (s *stripes) verify(w, i int) {
	got := make([]byte, s.width)
	if _, err := s.h.ReadAt(got, s.offset(w, i)); ignore(err, io.EOF) != nil {
		s.t.Errorf("writer %d, stripe %d: %v", w, i, err)
		return
	}
	if k := firstDifference(got, s.content(w, i)); k >= 0 {
		s.t.Errorf("writer %d, stripe %d: byte %d is %#x", w, i, k, got[k])
	}
}

// TestConcurrentTree has several goroutines make, rename, link, sync and
// remove files of their own in one directory, with a checkpoint going on all
// the time, and reads every file back.
func TestConcurrentTree(t *testing.T) {
	keys := newTestKeys(t, 12)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 4<<20)
	v := open(t, st, keys)
	var workers, checkpoints sync.WaitGroup
	var stop atomic.Bool
	checkpoints.Go(func() {
		for !stop.Load() {
			if err := v.Checkpoint(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for w := range 4 {
		workers.Go(func() {
			for i := range 60 {
				if err := fleeting(v, fmt.Sprintf("gone%d", w)); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
				if err := oneFile(v, fmt.Sprintf("w%d-%d", w, i), bytes.Repeat([]byte{byte(i)}, 1+i*997)); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	checkpoints.Go(func() {
		for !stop.Load() {
			if err := v.commitAll(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	workers.Wait()
	stop.Store(true)
	checkpoints.Wait()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, st, keys)
	defer v.Close()
	entries, err := v.ReadDir(".")
	if err != nil || len(entries) != 4*60 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
}

// fleeting writes to a file and removes it, synced never, while it may be
// under the hands of a commit or a checkpoint.
func fleeting(v *Volume, name string) error {
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600, Owner{})
	if err != nil {
		return err
	}
	_, err = h.WriteAt(make([]byte, 400_000), 0)
	return errors.Join(err, v.Unlink(name), h.Truncate(600_000), h.Close())
}

// oneFile makes a file, syncs, renames and links it, and leaves one name.
func oneFile(v *Volume, name string, content []byte) error {
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600, Owner{})
	if err != nil {
		return err
	}
	if _, err := h.WriteAt(content, 0); err != nil {
		return err
	}
	steps := []func() error{
		func() error { return syncThen(h, false) },
		func() error { return v.Rename(name, name+".new", 0) },
		func() error { return v.Link(name+".new", name+".link") },
		func() error { return v.Unlink(name + ".new") },
		func() error { return h.Sync(true) },
		func() error { return readBack(v, name+".link", content) },
		h.Close,
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("%s, step %d: %w", name, i, err)
		}
	}
	return nil
}

func readBack(v *Volume, name string, want []byte) error {
	h, err := v.OpenFile(name, os.O_RDONLY, 0, Owner{})
	if err != nil {
		return err
	}
	defer h.Close()
	got := make([]byte, len(want)+1)
	n, err := h.ReadAt(got, 0)
	if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
		return fmt.Errorf("%s has %d bytes, want %d: %v", name, n, len(want), err)
	}
	return nil
}
