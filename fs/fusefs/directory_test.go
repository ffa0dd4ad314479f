package fusefs

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var directoryEntries = flag.Int("directory.entries", 3000, "entries of TestDirectory")

// TestDirectory: a directory that grows and shrinks through the mount while it
// is read. Who reads it sees each entry that stays once, also from places where
// it was before; find sees all of them; and the daemon's memory is bounded by
// what the kernel remembers, which comes back. `make directory-soak` does it
// with 10^6 entries.
func TestDirectory(t *testing.T) {
	n := *directoryEntries
	m := mount(t, serveArgs{Backend: "engine"})
	must(t, os.Mkdir(m.path("d"), 0o755))
	before := m.memory()
	tell := stages(t, m)
	inParallel(t, n, func(i int) error { return makeEmpty(m.path(entryName("stays", i))) })
	tell("created %d entries", n)
	m.do("drop")
	tell("dropped the kernel's caches")

	d, err := os.Open(m.path("d"))
	must(t, err)
	defer d.Close()
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // others come and go
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := m.path(entryName("goes", i%500))
			if err := makeEmpty(name); err != nil {
				t.Error(err)
				return
			}
			if err := os.Remove(name); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2 { // the second time from its middle on, and from its start
		seen := staying(t, int(d.Fd()), max(n/4000, 1))
		if len(seen) != n {
			t.Errorf("%d of %d entries show", len(seen), n)
		}
		_, err := unix.Seek(int(d.Fd()), 0, unix.SEEK_SET)
		must(t, err)
	}
	close(stop)
	all.Wait()
	tell("read it twice while entries came and went")

	out, err := exec.Command("find", m.path("d"), "-name", "stays-*7", "-type", "f", "-printf", "x").Output()
	if must(t, err); len(out) != (n+2)/10 {
		t.Errorf("find has found %d", len(out))
	}
	tell("found")
	inParallel(t, n, func(i int) error { return os.Remove(m.path(entryName("stays", i))) })
	must(t, os.Remove(m.path("d")))
	tell("removed")
	m.do("drop")
	tell("dropped the kernel's caches")
	if after := m.memory(); after > before+200+n/4000 {
		t.Errorf("%d MiB in the end, and %d before", after, before)
	}
}

func entryName(kind string, i int) string { return fmt.Sprintf("d/%s-%07d", kind, i) }

// stages tells what each part of a long test took.
func stages(t *testing.T, m *mounted) func(format string, args ...any) {
	last := time.Now()
	return func(format string, args ...any) {
		t.Helper()
		t.Logf("%s: %v, daemon %d MiB", fmt.Sprintf(format, args...), time.Since(last).Round(time.Millisecond), m.memory())
		last = time.Now()
	}
}

func makeEmpty(name string) error {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return unix.Close(fd)
}

// inParallel does something n times, four at a time.
func inParallel(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	const jobs = 4
	var all sync.WaitGroup
	for job := range jobs {
		all.Go(func() {
			for i := job; i < n; i += jobs {
				if err := do(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// staying reads a directory whole, and gives those of its entries that stay. In
// the midst, and every so often, it goes back to where it was before.
func staying(t *testing.T, fd, every int) map[string]bool {
	t.Helper()
	seen, b := map[string]bool{}, make([]byte, 32<<10)
	for i := 0; ; i++ {
		at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		must(t, err)
		names := entries(t, fd, b)
		if names == nil {
			return seen
		}
		if i%every == every-1 { // and goes on from there
			_, err := unix.Seek(fd, at, unix.SEEK_SET)
			must(t, err)
			again := entries(t, fd, b)
			if was, is := stayOnly(names), stayOnly(again); len(was) > 0 && len(is) > 0 && was[0] != is[0] {
				t.Errorf("from %d on, %s comes first, and %s did", at, is[0], was[0])
			}
			names = again
		}
		for _, name := range stayOnly(names) {
			if seen[name] {
				t.Errorf("%s shows twice", name)
			}
			seen[name] = true
		}
	}
}

func entries(t *testing.T, fd int, b []byte) []string {
	t.Helper()
	n, err := unix.ReadDirent(fd, b)
	must(t, err)
	if n == 0 {
		return nil
	}
	_, _, names := unix.ParseDirent(b[:n], -1, []string{})
	return names
}

func stayOnly(names []string) (stay []string) {
	for _, name := range names {
		if strings.HasPrefix(name, "stays-") {
			stay = append(stay, name)
		}
	}
	return stay
}
