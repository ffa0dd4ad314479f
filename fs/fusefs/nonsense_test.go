package fusefs

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// memory is what the server of a mount has in memory, in MiB.
func (m *mounted) memory() int {
	m.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	must(m.t, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	must(m.t, err)
	return kib >> 10
}

// alive fails the test unless the mount still keeps what it is given.
func (m *mounted) alive() {
	m.t.Helper()
	must(m.t, os.WriteFile(m.path("alive"), []byte("alive"), 0o600))
	b, err := os.ReadFile(m.path("alive"))
	if err != nil || string(b) != "alive" {
		m.t.Fatalf("%q, %v", b, err)
	}
	must(m.t, os.Remove(m.path("alive")))
}

// TestNonsense: arguments at the edge of what there is, and beyond, get an
// answer, harm nothing and cost no memory that grows with them.
func TestNonsense(t *testing.T) {
	eachEngine(t, func(t *testing.T, m *mounted) {
		before := m.memory()
		must(t, os.WriteFile(m.path("f"), []byte("steady"), 0o600))
		fd, err := unix.Open(m.path("f"), unix.O_RDWR, 0)
		must(t, err)
		edges := []int64{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 - 4095, math.MaxInt64 - 4096, 1 << 62, 1<<62 - 1, 1 << 44, -1, math.MinInt64}
		for _, at := range edges {
			for _, n := range []int64{0, 1, 4095, 4097, 1 << 20, at} {
				nonsenseAt(m, fd, at, n)
			}
		}
		nonsenseNames(m)
		_ = unix.Close(fd) // tells that what was written far away is lost
		m.do("drop")
		b := make([]byte, 6)
		fd, err = unix.Open(m.path("f"), unix.O_RDONLY, 0)
		must(t, err)
		if _, err := unix.Pread(fd, b, 0); err != nil || string(b) != "steady" {
			t.Errorf("%q, %v", b, err)
		}
		must(t, unix.Close(fd))
		m.alive()
		if after := m.memory(); after > before+200 {
			t.Errorf("%d MiB, and %d before", after, before)
		}
	})
}

// nonsenseAt asks for all kinds of things at a place. What they answer is told
// elsewhere; here it is that they do.
func nonsenseAt(m *mounted, fd int, at, n int64) {
	b := make([]byte, n&(1<<20-1))
	_, _ = unix.Pread(fd, b, at)
	if at > 1<<44 || at < 0 {
		_, _ = unix.Pwrite(fd, b, at)
	}
	for _, whence := range []int{unix.SEEK_SET, unix.SEEK_END, unix.SEEK_DATA, unix.SEEK_HOLE, 7} {
		_, _ = unix.Seek(fd, at, whence)
	}
	for mode := range uint32(256) {
		if at > 1<<44 || at < 0 {
			_ = unix.Fallocate(fd, mode, at, n)
		}
	}
	from, to := at, at&(1<<44-1)|1<<44 // not onto what must stay
	_, _ = unix.CopyFileRange(fd, &from, fd, &to, 1<<14, 0)
	_ = unix.SyncFileRange(fd, at, n, unix.SYNC_FILE_RANGE_WRITE)
	_ = unix.Fadvise(fd, at, n, unix.FADV_WILLNEED)
	if at > 1<<44 || at < 0 {
		_ = unix.Truncate(m.path("f"), at)
	}
}

func nonsenseNames(m *mounted) {
	for _, name := range []string{strings.Repeat("x", 256), strings.Repeat("x", 4096), strings.Repeat("y/", 2040), ".akvfs", ".akvfs/keyring.json", "\x01", "."} {
		for _, size := range []int{0, 1, 255, 4095, 65536, 65537} {
			_ = unix.Setxattr(m.path("f"), "user."+name, make([]byte, size), 0)
			_, _ = unix.Getxattr(m.path("f"), "user."+name, make([]byte, size))
		}
		_ = unix.Mkdir(m.path(name), 0o700)
		_ = unix.Symlink(strings.Repeat("t", 4095), m.path(name))
		_ = unix.Mknod(m.path(name), unix.S_IFCHR|0o7777, math.MaxInt)
		_ = unix.Rename(m.path(name), m.path("f/"+name))
		_ = unix.Link(m.path(name), m.path("."))
	}
}

// TestThousandsOfHandles: handles cost memory for as long as they are open.
func TestThousandsOfHandles(t *testing.T) {
	eachEngine(t, func(t *testing.T, m *mounted) {
		const files, handles = 800, 3000
		before := m.memory()
		var fds []int
		for i := range handles {
			fd, err := unix.Open(m.path(fmt.Sprint("f", i%files)), unix.O_CREAT|unix.O_RDWR, 0o600)
			must(t, err)
			fds = append(fds, fd)
			_, err = unix.Pwrite(fd, []byte(fmt.Sprint(i)), 0)
			must(t, err)
		}
		open := m.memory()
		for _, fd := range fds {
			must(t, unix.Close(fd))
		}
		m.do("drop")
		m.alive()
		if open > before+400 {
			t.Errorf("%d MiB with %d handles on %d files, and %d before", open, handles, files, before)
		}
	})
}

// TestFewDescriptors: a server that runs out of descriptors says so to whoever
// wants one more, loses nothing, and has them again when files are closed.
func TestFewDescriptors(t *testing.T) {
	eachEngine(t, func(t *testing.T, m *mounted) {
		limit := unix.Rlimit{Cur: 200, Max: 200}
		must(t, unix.Prlimit(m.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil))
		var fds []int
		refused := 0
		for i := range 400 {
			fd, err := unix.Open(m.path(fmt.Sprint("f", i)), unix.O_CREAT|unix.O_RDWR, 0o600)
			if err != nil {
				if err != unix.ENFILE {
					t.Fatal(err)
				}
				refused++
				continue
			}
			_, err = unix.Pwrite(fd, []byte("kept"), 0)
			must(t, err)
			fds = append(fds, fd)
		}
		if refused == 0 || len(fds) < 90 {
			t.Fatalf("%d opened, %d refused", len(fds), refused)
		}
		for _, fd := range fds {
			must(t, unix.Fsync(fd))
			must(t, unix.Close(fd))
		}
		m.do("drop")
		for i := 0; ; i++ { // a file is let go of when it is at home
			fd, err := unix.Open(m.path(fmt.Sprint("f", i%100)), unix.O_RDWR, 0)
			if err == nil {
				must(t, unix.Close(fd))
				break
			}
			if err != unix.ENFILE {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// TestHugeDirectory: a directory of hugeEntries, 10^5, lists each of them once, from
// wherever a reader goes on, while others remove some; and many who read it at
// the same time do not cost a listing each for ever.
func TestHugeDirectory(t *testing.T) {
	backing := filepath.Join(t.TempDir(), "backing")
	must(t, os.Mkdir(backing, 0o755))
	v, closeVolume, err := backends["engine"](backing, false)
	must(t, err)
	must(t, v.Mkdir("huge", 0o755, Owner{}))
	for i := range hugeEntries {
		must(t, v.Mknod(fmt.Sprintf("huge/entry-%06d", i), unix.S_IFREG|0o600, 0, Owner{}))
	}
	must(t, closeVolume())
	m := mount(t, serveArgs{Backend: "engine", Backing: backing})
	before := m.memory()

	d, err := os.Open(m.path("huge"))
	must(t, err)
	defer d.Close()
	first := seekable(t, int(d.Fd()), 200)
	var others []*os.File
	for range 6 {
		o, err := os.Open(m.path("huge"))
		must(t, err)
		defer o.Close()
		_, err = o.Readdirnames(10) // and holds the rest
		must(t, err)
		others = append(others, o)
	}
	for i := 0; i < hugeEntries; i += 1000 {
		must(t, os.Remove(m.path(fmt.Sprintf("huge/entry-%06d", i))))
	}
	rest, err := others[0].Readdirnames(-1) // which has been forgotten, and is read anew
	must(t, err)
	if len(rest) < hugeEntries-hugeEntries/1000-10 {
		t.Errorf("%d entries are left of a listing that was begun", len(rest))
	}
	slices.Sort(rest)
	if n := len(slices.Compact(slices.Clone(rest))); n != len(rest) {
		t.Errorf("%d entries show twice", len(rest)-n)
	}
	if n := len(first); n != hugeEntries {
		t.Errorf("%d different entries, want %d", n, hugeEntries)
	}
	if after := m.memory(); after > before+600 {
		t.Errorf("%d MiB, and %d before", after, before)
	}
}

// seekable reads a directory whole, noting where it is every so often, and
// goes back to each of these places: what comes next must be the same again.
func seekable(t *testing.T, fd, every int) map[string]bool {
	t.Helper()
	type mark struct {
		at   int64
		next []string
	}
	seen, marks, b := map[string]bool{}, []mark{}, make([]byte, 4096)
	for i := 0; ; i++ {
		at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		must(t, err)
		n, err := unix.ReadDirent(fd, b)
		must(t, err)
		if n == 0 {
			break
		}
		_, _, names := unix.ParseDirent(b[:n], -1, nil)
		if i%every == 0 {
			marks = append(marks, mark{at, names})
		}
		for _, name := range names {
			if seen[name] {
				t.Errorf("%s shows twice", name)
			}
			seen[name] = true
		}
	}
	slices.Reverse(marks)
	for _, m := range marks {
		_, err := unix.Seek(fd, m.at, unix.SEEK_SET)
		must(t, err)
		n, err := unix.ReadDirent(fd, b)
		must(t, err)
		if _, _, names := unix.ParseDirent(b[:n], -1, nil); len(names) == 0 || names[0] != m.next[0] {
			t.Errorf("other entries from %d on", m.at)
		}
	}
	return seen
}
