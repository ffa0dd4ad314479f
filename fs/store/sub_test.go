package store

import (
	"errors"
	"syscall"
	"testing"
)

func TestSub(t *testing.T) {
	below := NewMem(Options{})
	if err := below.Mkdir("dir", 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, below, "outside", "x")
	s := NewSub(below, "dir")
	mustWrite(t, s, "inside", "y")
	if _, err := below.Stat("dir/inside"); err != nil {
		t.Error(err)
	}
	if _, err := s.Stat("outside"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("what is outside: %v", err)
	}
	for _, name := range []string{"..", "../outside", "/outside", "a/../../outside", ""} {
		if _, err := s.Stat(name); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%q: %v, not EINVAL", name, err)
		}
	}
	lock, err := s.TryLock("lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := below.TryLock("dir/lock"); !errors.Is(err, ErrLocked) {
		t.Errorf("the lock below: %v", err)
	}
	if err := errors.Join(lock.Close(), s.SyncAll(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := below.Crash(1).Stat("dir/inside"); err != nil {
		t.Errorf("after SyncAll and a cut: %v", err)
	}
}
