package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLockedBy: both kinds of lock that a mongod may hold are seen.
func TestLockedBy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mongod.lock")
	want := func(locked bool) {
		t.Helper()
		pid, err := lockedBy(path)
		if err != nil || (pid > 0) != locked {
			t.Errorf("locked by %d, %v", pid, err)
		}
	}
	want(false) // there is none
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want(false)
	// An open file description's lock conflicts with this process's own calls, too.
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	want(true)
	lock.Type = unix.F_UNLCK
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	want(false)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	want(true)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	want(false)
}
