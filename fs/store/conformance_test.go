package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// conformance is what every store must do.
var conformance = map[string]func(*testing.T, FS){
	"create and reopen":              testCreate,
	"open flags":                     testOpenFlags,
	"only regular files open":        testOpenOthers,
	"permissions whatever the umask": testUmask,
	"read at the end":                testReadEnd,
	"wrong handles":                  testWrongHandles,
	"sparse to 8 TiB":                testSparse,
	"allocate and punch":             testAllocate,
	"truncate clears":                testTruncate,
	"directories":                    testDirectories,
	"deep names":                     testDeep,
	"malformed names":                testMalformed,
	"nothing follows a link":         testLinksNotFollowed,
	"rename flags":                   testRename,
	"hard links":                     testHardLinks,
	"unlinked but open":              testUnlinkedOpen,
	"files without a name":           testNameless,
	"times":                          testTimes,
	"birth":                          testBirth,
	"attributes of a link":           testLinkMeta,
	"extended attributes":            testXattr,
	"special files":                  testMknod,
	"direct I/O":                     testDirect,
	"locks":                          testLocks,
	"closed":                         testClosed,
	"attributes by handle":           testHandleMeta,
	"many at once":                   testConcurrent,
	"space":                          testStatfs,
	"errors name the operation":      testErrors,
}

func TestConformance(t *testing.T) {
	stores := map[string]func(t *testing.T) FS{
		"disk":   func(t *testing.T) FS { return openDisk(t, t.TempDir()) },
		"mem":    func(t *testing.T) FS { return NewMem(Options{}) },
		"faulty": func(t *testing.T) FS { return NewFaulty(openDisk(t, t.TempDir()), nil) },
		"killed": func(t *testing.T) FS { return NewMem(Options{}).Kill() },
		"crashed": func(t *testing.T) FS {
			m := NewMem(Options{})
			mustWrite(t, m, "lost", "x")
			return m.Crash(0)
		},
	}
	for kind, open := range stores {
		for name, test := range conformance {
			t.Run(kind+"/"+name, func(t *testing.T) {
				st := open(t)
				for _, e := range must(st.ReadDir("."))(t) {
					must0(t, st.Unlink(e.Name))
				}
				test(t, st)
				st.Close()
			})
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must0(t, err)
		return v
	}
}

func must0(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails demands one error, and that the error is or wraps an errno.
func fails(t testing.TB, err, want error) {
	t.Helper()
	var errno syscall.Errno
	if !errors.Is(err, want) || want != io.EOF && !errors.As(err, &errno) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

const rwc = os.O_RDWR | os.O_CREATE

func createFile(t testing.TB, st FS, name string) File {
	t.Helper()
	return must(st.OpenFile(name, rwc, 0o600))(t)
}

func mustWrite(t testing.TB, st FS, name, content string) {
	t.Helper()
	f := createFile(t, st, name)
	must0(t, f.Truncate(0))
	must(f.WriteAt([]byte(content), 0))(t)
	must0(t, f.Close())
}

func contentOf(t testing.TB, st FS, name string) string {
	t.Helper()
	f := must(st.OpenFile(name, os.O_RDONLY, 0))(t)
	defer f.Close()
	return fileContent(t, f)
}

func fileContent(t testing.TB, f File) string {
	t.Helper()
	b := make([]byte, must(f.Stat())(t).Size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func testCreate(t *testing.T, st FS) {
	fails(t, errOf(st.OpenFile("a", os.O_RDWR, 0)), syscall.ENOENT)
	mustWrite(t, st, "a", "hello")
	same(t, "content", contentOf(t, st, "a"), "hello")
	f := must(st.OpenFile("a", os.O_RDWR, 0))(t)
	defer f.Close()
	must(f.WriteAt([]byte("p!"), 3))(t)
	same(t, "content", fileContent(t, f), "help!")
	a := must(st.Stat("a"))(t)
	same(t, "size", a.Size, 5)
	same(t, "type", a.Mode&unix.S_IFMT, unix.S_IFREG)
	same(t, "links", a.Nlink, 1)
	same(t, "attributes by name and by handle", a, must(f.Stat())(t))
	must0(t, f.Sync())
	must0(t, f.Datasync())
	must0(t, st.SyncDir("."))
}

func errOf[T any](_ T, err error) error { return err }

func testOpenFlags(t *testing.T, st FS) {
	mustWrite(t, st, "a", "content")
	fails(t, errOf(st.OpenFile("a", rwc|os.O_EXCL, 0o600)), syscall.EEXIST)
	f := must(st.OpenFile("new", rwc|os.O_EXCL, 0o600))(t)
	must0(t, f.Close())
	f = must(st.OpenFile("a", rwc, 0o640))(t) // keeps content and mode
	same(t, "content", fileContent(t, f), "content")
	same(t, "mode", must(f.Stat())(t).Mode, unix.S_IFREG|0o600)
	must0(t, f.Close())
	f = must(st.OpenFile("a", os.O_RDWR|os.O_TRUNC|unix.O_DSYNC, 0))(t)
	same(t, "content", fileContent(t, f), "")
	must0(t, f.Close())
	for _, flag := range []int{os.O_WRONLY, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_TRUNC, os.O_RDWR | unix.O_PATH, 3} {
		fails(t, errOf(st.OpenFile("a", flag, 0)), syscall.EINVAL)
	}
}

func testOpenOthers(t *testing.T, st FS) {
	must0(t, st.Mkdir("dir", 0o700))
	must0(t, st.Symlink("dir", "link"))
	must0(t, st.Mknod("fifo", unix.S_IFIFO|0o600, 0))
	must0(t, st.Mknod("socket", unix.S_IFSOCK|0o600, 0))
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR, rwc} {
		fails(t, errOf(st.OpenFile("dir", flag, 0o600)), syscall.EISDIR)
		fails(t, errOf(st.OpenFile(".", flag, 0o600)), syscall.EISDIR)
		fails(t, errOf(st.OpenFile("link", flag, 0o600)), syscall.ELOOP)
		fails(t, errOf(st.OpenFile("fifo", flag, 0o600)), syscall.ENXIO)
		fails(t, errOf(st.OpenFile("socket", flag, 0o600)), syscall.ENXIO)
	}
}

func testUmask(t *testing.T, st FS) {
	defer unix.Umask(unix.Umask(0o077))
	f := must(st.OpenFile("file", rwc, 0o666))(t)
	f.Close()
	f = must(st.OpenFile("exclusive", rwc|os.O_EXCL, 0o4755))(t)
	f.Close()
	must0(t, st.Mkdir("dir", 0o1777))
	must0(t, st.Mknod("fifo", unix.S_IFIFO|0o666, 0))
	must0(t, st.Mknod("node", 0o644, 0))
	for name, mode := range map[string]uint32{
		"file": unix.S_IFREG | 0o666, "exclusive": unix.S_IFREG | 0o4755, "dir": unix.S_IFDIR | 0o1777,
		"fifo": unix.S_IFIFO | 0o666, "node": unix.S_IFREG | 0o644,
	} {
		same(t, name, must(st.Stat(name))(t).Mode, mode)
	}
}

func testReadEnd(t *testing.T, st FS) {
	mustWrite(t, st, "a", "0123456789")
	f := must(st.OpenFile("a", os.O_RDONLY, 0))(t)
	defer f.Close()
	for _, c := range []struct {
		off, length, n int
		err            error
	}{{0, 10, 10, nil}, {0, 11, 10, io.EOF}, {9, 1, 1, nil}, {10, 1, 0, io.EOF}, {50, 1, 0, io.EOF}, {5, 0, 0, nil}, {50, 0, 0, nil}} {
		n, err := f.ReadAt(make([]byte, c.length), int64(c.off))
		if n != c.n || err != c.err {
			t.Fatalf("reading %d at %d: %d, %v; want %d, %v", c.length, c.off, n, err, c.n, c.err)
		}
	}
	fails(t, errOf(f.ReadAt(make([]byte, 1), -1)), syscall.EINVAL)
}

func testWrongHandles(t *testing.T, st FS) {
	mustWrite(t, st, "a", "x")
	r := must(st.OpenFile("a", os.O_RDONLY, 0))(t)
	defer r.Close()
	fails(t, errOf(r.WriteAt([]byte("y"), 0)), syscall.EBADF)
	fails(t, r.Truncate(0), syscall.EINVAL)
	fails(t, r.Allocate(0, 0, 1), syscall.EBADF)
	w := must(st.OpenFile("a", os.O_RDWR, 0))(t)
	defer w.Close()
	fails(t, errOf(w.WriteAt([]byte("y"), -1)), syscall.EINVAL)
	fails(t, w.Truncate(-1), syscall.EINVAL)
	fails(t, w.Allocate(0, 0, 0), syscall.EINVAL)
	fails(t, w.Allocate(unix.FALLOC_FL_PUNCH_HOLE, 0, 1), syscall.EOPNOTSUPP)
	fails(t, errOf(w.Seek(0, io.SeekStart)), syscall.EINVAL)
	same(t, "content", fileContent(t, w), "x")
}

func testSparse(t *testing.T, st FS) {
	const size = 8 << 40
	f := createFile(t, st, "sparse")
	defer f.Close()
	must0(t, f.Truncate(size))
	must(f.WriteAt([]byte("end"), size-3))(t)
	b := make([]byte, 8192)
	must(f.ReadAt(b, size-8192))(t)
	same(t, "the last bytes", string(b[8180:]), "\x00\x00\x00\x00\x00\x00\x00\x00\x00end")
	must(f.ReadAt(b, size/2))(t)
	same(t, "the middle is a hole", zeros(b, 0, 8192), true)
	if blocks := must(f.Stat())(t).Blocks; blocks > 1024 {
		t.Fatalf("%d blocks for one page", blocks)
	}
	if pos := must(f.Seek(0, unix.SEEK_DATA))(t); pos < size-1<<21 || pos >= size {
		t.Fatalf("data at %d", pos)
	}
	same(t, "hole", must(f.Seek(0, unix.SEEK_HOLE))(t), 0)
	same(t, "the end is a hole", must(f.Seek(size-1, unix.SEEK_HOLE))(t), size)
	fails(t, errOf(f.Seek(size, unix.SEEK_DATA)), syscall.ENXIO)
	must0(t, f.Truncate(size-3))
	must0(t, f.Truncate(0))
}

func testAllocate(t *testing.T, st FS) {
	f := createFile(t, st, "a")
	defer f.Close()
	must0(t, f.Allocate(unix.FALLOC_FL_KEEP_SIZE, 0, 65536))
	same(t, "size kept", must(f.Stat())(t).Size, 0)
	if blocks := must(f.Stat())(t).Blocks; blocks < 128 {
		t.Fatalf("%d blocks are allocated", blocks)
	}
	must0(t, f.Allocate(0, 4096, 4096))
	same(t, "size grown", must(f.Stat())(t).Size, 8192)
	must(f.WriteAt(bytes.Repeat([]byte{1}, 16384), 0))(t)
	must0(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100, 12000))
	b := []byte(fileContent(t, f))
	for i := range b {
		if want := i < 100 || i >= 12100; (b[i] == 1) != want {
			t.Fatalf("byte %d is %d after the punch", i, b[i])
		}
	}
	same(t, "size", len(b), 16384)
	if hole := must(f.Seek(0, unix.SEEK_HOLE))(t); hole != 4096 {
		t.Fatalf("hole at %d", hole)
	}
	must0(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 16000, 1<<20))
	same(t, "size after a punch across the end", must(f.Stat())(t).Size, 16384)
}

func testTruncate(t *testing.T, st FS) {
	f := createFile(t, st, "a")
	defer f.Close()
	must(f.WriteAt(bytes.Repeat([]byte{7}, 10000), 0))(t)
	must0(t, f.Truncate(5000))
	must0(t, f.Truncate(9000))
	b := []byte(fileContent(t, f))
	same(t, "size", len(b), 9000)
	same(t, "what was cut off", zeros(b, 5000, 9000), true)
	same(t, "what was not", bytes.Count(b, []byte{7}), 5000)
}

func testDirect(t *testing.T, st FS) {
	f, err := st.OpenFile("a", rwc|unix.O_DIRECT|unix.O_DSYNC, 0o600)
	if errors.Is(err, syscall.EINVAL) {
		return // this file system has none, as FS allows
	}
	must0(t, err)
	defer f.Close()
	b := AlignedBuffer(16384)
	for i := range b {
		b[i] = byte(i % 251)
	}
	must(f.WriteAt(b, 4096))(t)
	got := AlignedBuffer(32768)
	n, err := f.ReadAt(got, 0)
	same(t, "read to the end", fmt.Sprint(n, err), "20480 EOF")
	same(t, "content", bytes.Equal(got[4096:20480], b), true)
	must0(t, f.Truncate(4100))
	n, err = f.ReadAt(got, 0)
	same(t, "read to an odd end", fmt.Sprint(n, err), "4100 EOF")
}

func testLocks(t *testing.T, st FS) {
	l := st.(Locker)
	held := must(l.TryLock("lock"))(t)
	_, err := l.TryLock("lock")
	fails(t, err, ErrLocked)
	fails(t, err, syscall.EWOULDBLOCK)
	other := must(l.TryLock("other"))(t)
	must0(t, held.Close())
	must0(t, must(l.TryLock("lock"))(t).Close())
	must0(t, other.Close())
	must0(t, st.Mkdir("d", 0o700))
	fails(t, errOf(l.TryLock("d")), syscall.EISDIR)
}

func testClosed(t *testing.T, st FS) {
	f := createFile(t, st, "a")
	must0(t, st.Close())
	fails(t, st.Close(), syscall.EBADF)
	fails(t, errOf(st.Stat("a")), syscall.EBADF)
	fails(t, errOf(st.Statfs()), syscall.EBADF)
	fails(t, st.Rename("a", "b", 0), syscall.EBADF)
	fails(t, errOf(st.OpenFile("a", os.O_RDONLY, 0)), syscall.EBADF)
	must(f.WriteAt([]byte("still"), 0))(t)
	same(t, "content", fileContent(t, f), "still")
	must0(t, f.Close())
	for op, err := range map[string]error{
		"close": f.Close(), "sync": f.Sync(), "datasync": f.Datasync(), "truncate": f.Truncate(0), "stat": errOf(f.Stat()),
		"read": errOf(f.ReadAt(make([]byte, 1), 0)), "write": errOf(f.WriteAt(make([]byte, 1), 0)),
		"seek": errOf(f.Seek(0, unix.SEEK_DATA)), "allocate": f.Allocate(0, 0, 1), "chmod": f.Chmod(0o600),
	} {
		if !errors.Is(err, syscall.EBADF) {
			t.Fatalf("%s of a closed file: %v", op, err)
		}
	}
}

// testConcurrent uses one file and one directory from many goroutines, and
// closes the file under them: nobody may meet another file's bytes.
func testConcurrent(t *testing.T, st FS) {
	mustWrite(t, st, "a", strings.Repeat("a", 8192))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			own := fmt.Sprint("own", g)
			for range 40 {
				mustWrite(t, st, own, strings.Repeat("z", 8192))
				if _, err := st.ReadDir("."); err != nil {
					t.Error(err)
				}
				if err := st.Rename(own, own+"'", 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 60 {
		f := must(st.OpenFile("a", os.O_RDONLY, 0))(t)
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() { readUntilClosed(t, f) })
		}
		must0(t, f.Close())
		readers.Wait()
	}
	wg.Wait()
}

func readUntilClosed(t *testing.T, f File) {
	b := make([]byte, 8192)
	for {
		_, err := f.ReadAt(b, 0)
		if errors.Is(err, syscall.EBADF) {
			return
		}
		if pos, errSeek := f.Seek(0, unix.SEEK_DATA); errSeek == nil && pos != 0 {
			t.Errorf("data at %d", pos)
		}
		if err != nil || bytes.Count(b, []byte("a")) != len(b) {
			t.Errorf("read %q…, %v", b[:8], err)
			return
		}
	}
}

func testStatfs(t *testing.T, st FS) {
	s := must(st.Statfs())(t)
	if s.Bsize <= 0 || s.Blocks == 0 || s.Bfree > s.Blocks || s.Bavail > s.Bfree || s.NameMax != 255 {
		t.Fatalf("%+v", s)
	}
}

func testHandleMeta(t *testing.T, st FS) {
	f := createFile(t, st, "a")
	defer f.Close()
	must0(t, f.Chmod(0o6755))
	same(t, "mode", must(st.Stat("a"))(t).Mode, unix.S_IFREG|0o6755)
	must0(t, f.Chown(-1, -1)) // takes the set-ID bits away all the same
	same(t, "mode", must(f.Stat())(t).Mode, unix.S_IFREG|0o755)
	if os.Geteuid() == 0 {
		must0(t, f.Chown(12, 34))
		a := must(f.Stat())(t)
		same(t, "owner", [2]uint32{a.UID, a.GID}, [2]uint32{12, 34})
	}
}

func testErrors(t *testing.T, st FS) {
	_, err := st.Stat("no/such")
	var path *fs.PathError
	if !errors.As(err, &path) || path.Op != "stat" || path.Path != "no/such" {
		t.Fatalf("%v", err)
	}
	var link *os.LinkError
	if err := st.Link("from", "to"); !errors.As(err, &link) || link.Op != "link" || link.Old != "from" || link.New != "to" {
		t.Fatalf("%v", err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v is no fs.ErrNotExist", err)
	}
	f := createFile(t, st, "a")
	must0(t, f.Close())
	if err := f.Sync(); !errors.As(err, &path) || path.Op != "sync" || path.Path != "a" {
		t.Fatalf("%v", err)
	}
}
