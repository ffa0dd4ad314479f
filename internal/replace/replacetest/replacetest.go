// Package replacetest gives tests a directory in which names can be changed and
// not made durable.
package replacetest

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Undurable runs f as a user who may write to a directory, and not open it.
func Undurable(t testing.TB, dir string, f func()) {
	t.Helper()
	uid := os.Geteuid()
	if uid == 0 { // who may open everything
		uid = 65534
		must(t, os.Chown(dir, uid, -1))
	}
	must(t, os.Chmod(dir, 0o300))
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with its rights
		unix.Setfsuid(uid)
		f()
	}()
	<-done
	must(t, os.Chmod(dir, 0o700))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
