package fusefs

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// lockArgs are those of the lock role: a process that locks a file in one way,
// says so, and holds the lock until its standard input ends.
type lockArgs struct {
	Path, Kind string
	Write      bool
}

func lockRole() int {
	var a lockArgs
	roleArgs(&a)
	fd, err := unix.Open(a.Path, unix.O_RDWR, 0)
	if err == nil {
		err = lock(fd, a.Kind, a.Write)
	}
	fmt.Println(errnoOf(err))
	bufio.NewReader(os.Stdin).ReadString('\n')
	return 0
}

// lock tries a lock without waiting.
func lock(fd int, kind string, write bool) error {
	l := unix.Flock_t{Type: unix.F_RDLCK, Start: 10, Len: 20}
	how := unix.LOCK_SH
	if write {
		l.Type, how = unix.F_WRLCK, unix.LOCK_EX
	}
	switch kind {
	case "posix":
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &l)
	case "ofd":
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l)
	}
	return unix.Flock(fd, how|unix.LOCK_NB)
}

// TestLocksBetweenProcesses: a second database on the same directory must be
// refused. The kernel keeps the locks; the server never hears of them.
func TestLocksBetweenProcesses(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		for _, kind := range []string{"posix", "ofd", "flock"} {
			for _, c := range []struct {
				theirs, ours bool // for writing
				want         string
			}{{true, true, "EAGAIN"}, {true, false, "EAGAIN"}, {false, true, "EAGAIN"}, {false, false, "ok"}} {
				t.Run(fmt.Sprintf("%s %v", kind, c), func(t *testing.T) {
					path := m.path(kind)
					must(t, os.WriteFile(path, make([]byte, 100), 0o600))
					cmd, in, out := child(t, "lock", lockArgs{path, kind, c.theirs})
					must(t, cmd.Start())
					if line, err := out.ReadString('\n'); line != "ok\n" {
						t.Fatal("the first lock:", line, err)
					}
					fd, err := unix.Open(path, unix.O_RDWR, 0)
					must(t, err)
					defer unix.Close(fd)
					if got := errnoOf(lock(fd, kind, c.ours)); got != c.want {
						t.Errorf("a second lock answers %s, want %s", got, c.want)
					}
					must(t, in.Close())
					must(t, cmd.Wait())
					must(t, lock(fd, kind, true))
				})
			}
		}
	})
}

// TestLockOfAKilledProcess: its locks are gone with it.
func TestLockOfAKilledProcess(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		path := m.path("mongod.lock")
		must(t, os.WriteFile(path, make([]byte, 100), 0o600))
		cmd, _, out := child(t, "lock", lockArgs{path, "posix", true})
		must(t, cmd.Start())
		if line, err := out.ReadString('\n'); line != "ok\n" {
			t.Fatal(line, err)
		}
		must(t, cmd.Process.Kill())
		if err := cmd.Wait(); err == nil {
			t.Fatal("a killed process has ended well")
		}
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		must(t, err)
		defer unix.Close(fd)
		must(t, lock(fd, "posix", true))
	})
}
