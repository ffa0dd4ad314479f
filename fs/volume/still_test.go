package volume

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/store"
)

// copied copies a file of the store under another name.
func copied(t *testing.T, st store.FS, from, to string) {
	t.Helper()
	src, err := st.OpenFile(from, os.O_RDONLY, 0)
	must(t, err)
	attr, err := src.Stat()
	must(t, err)
	data := make([]byte, attr.Size)
	if _, err := src.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	dst, err := st.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	_, err = dst.WriteAt(data, 0)
	must(t, errors.Join(err, src.Close(), dst.Close()))
}

// TestStill: a copy of a backing file, with what was away from home put over
// it, is the file as it was while the volume stood still, whatever has become
// of it since.
func TestStill(t *testing.T) {
	s := newScene(t)
	h, grown, timed := s.open("f"), s.open("grown"), s.open("timed")
	for _, file := range []*Handle{h, grown, timed} {
		s.put(file, blocksOf('a', 100))
	}
	wake, err := s.v.Rest()
	must(t, err)
	s.put(h, blocksOf('b', 50))
	_, err = grown.WriteAt([]byte("end"), 1_000_000)
	must(t, err) // and it is not committed
	long := time.Unix(1_000_000_000, 0)
	must(t, timed.Chtimes(nil, &long))
	copies := map[*Handle]string{h: "copy", grown: "copy of grown", timed: "copy of timed"}
	var away Away
	_, err = s.v.Still(func(a Away) error {
		away = a
		for file, name := range copies {
			copied(t, s.st, file.e.file.Path(), name)
		}
		return nil
	})
	must(t, err)
	wake()
	for _, with := range []byte{'c', 'd'} { // the second takes the first one's memory
		for file := range copies {
			s.put(file, blocksOf(with, 100))
		}
		must(t, s.v.Checkpoint())
	}
	names := map[*Handle]string{}
	for file, name := range copies {
		a := away[file.e.ino]
		if a == nil {
			t.Fatalf("%s: nothing was away", name)
		}
		if file == timed && !a.Modified.Equal(long) {
			t.Errorf("%v is not the time of modification", a.Modified)
		}
		back, err := s.st.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		must(t, errors.Join(a.Onto(back), back.Close()))
		names[file] = file.e.file.Path()
	}
	must(t, s.v.Close())
	for file, name := range copies {
		must(t, s.st.Rename(name, names[file], 0))
	}
	v := open(t, s.st, s.keys)
	defer v.Close()
	must(t, readBack(v, "f", append(blocksOf('b', 50), blocksOf('a', 50)...)))
	must(t, readBack(v, "grown", append(append(blocksOf('a', 100), make([]byte, 1_000_000-100*4096)...), "end"...)))
	must(t, readBack(v, "timed", blocksOf('a', 100)))
}

// TestStillHolds: while the volume stands still, changes wait and reads do not.
func TestStillHolds(t *testing.T) {
	s := newScene(t)
	h := s.open("f")
	s.put(h, []byte("old"))
	done := make(chan error, 1)
	_, err := s.v.Still(func(Away) error {
		go func() {
			_, err := h.WriteAt([]byte("new"), 0)
			done <- err
		}()
		got := make([]byte, 3)
		if _, err := h.ReadAt(got, 0); err != nil || !bytes.Equal(got, []byte("old")) {
			t.Errorf("%q, %v", got, err)
		}
		select {
		case err := <-done:
			t.Errorf("a write that did not wait: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		return syscall.EIO
	})
	if err != syscall.EIO {
		t.Errorf("what picture answers is %v", err)
	}
	must(t, <-done)
}

// TestRest: while somebody copies, what is committed may stay away for longer.
func TestRest(t *testing.T) {
	s := newScene(t)
	h := s.open("f")
	s.put(h, blocksOf('a', 10))
	first, err := s.v.Rest()
	must(t, err)
	if _, _, away, _ := h.e.file.Pending(); away {
		t.Error("not everything was brought home")
	}
	second, err := s.v.Rest()
	must(t, err)
	first()
	if interval, full := s.v.back.limits(); interval != restInterval || full != restEnough {
		t.Error("one of two ends the rest of both")
	}
	second()
	if interval, full := s.v.back.limits(); interval != checkpointInterval || full != fullEnough {
		t.Error("it goes on resting")
	}
}

// TestMakeRoom: everything is committed, and comes home if it takes up room.
func TestMakeRoom(t *testing.T) {
	s := newScene(t)
	s.v.stopBackground()
	h := s.open("f")
	_, err := h.WriteAt(blocksOf('a', 10), 0)
	must(t, errors.Join(err, s.v.MakeRoom()))
	if commit, _, away, _ := h.e.file.Pending(); commit || !away {
		t.Errorf("a little: to be committed %v, away from home %v", commit, away)
	}
	for n := 0; s.v.journal.Fill() <= mostlyFree; n++ {
		s.put(h, blocksOf(byte(n), 16))
	}
	must(t, s.v.MakeRoom())
	if _, _, away, _ := h.e.file.Pending(); away || s.v.journal.Fill() > mostlyFree {
		t.Errorf("much: away from home %v, in use %.2f", away, s.v.journal.Fill())
	}
}
