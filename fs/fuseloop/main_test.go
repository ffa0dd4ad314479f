package fuseloop

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// answers are what the file system of a test does.
type answers struct {
	read     func(off uint64, buf []byte) (fuse.ReadResult, fuse.Status)
	write    func(data []byte) fuse.Status
	fsync    func(cancel <-chan struct{}) fuse.Status
	getxattr func(buf []byte) (uint32, fuse.Status)
	setxattr func(name string, value []byte) fuse.Status
	forget   func()
	during   func(cancel <-chan struct{}) // nil, or also called, with what names the request
}

// files is a file system of one directory in which every name is a
// file, which the kernel does not cache.
type files struct {
	fuse.RawFileSystem
	answers shared[answers]
	ended   chan struct{} // closed by OnUnmount
}

// shared is a value that handlers and tests share. What orders them goes by way
// of the kernel, of which the race detector knows nothing.
type shared[T any] struct {
	mu sync.Mutex
	v  T
}

func (s *shared[T]) get() T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v
}

func (s *shared[T]) set(v T) { s.change(func(old *T) { *old = v }) }

func (s *shared[T]) change(do func(*T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(&s.v)
}

const size = 16 << 20

func attrOf(node uint64) fuse.Attr {
	if node == fuse.FUSE_ROOT_ID {
		return fuse.Attr{Ino: 1, Mode: syscall.S_IFDIR | 0o777, Nlink: 2}
	}
	return fuse.Attr{Ino: node, Mode: syscall.S_IFREG | 0o666, Nlink: 1, Size: size}
}

// Lookup makes an inode of every name: the kernel syncs one file at a time.
func (f *files) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	var n uint64 = 2
	_, _ = fmt.Sscanf(name, "file%d", &n)
	*out = fuse.EntryOut{NodeId: n, Attr: attrOf(n)}
	return fuse.OK
}

func (f *files) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = attrOf(in.NodeId)
	return fuse.OK
}

func (f *files) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

func (f *files) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (f *files) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f.during(cancel)
	return f.answers.get().read(in.Offset, buf)
}

func (f *files) Writev(cancel <-chan struct{}, _ *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	f.during(cancel)
	return uint32(len(data[0])), f.answers.get().write(data[0])
}

func (f *files) during(cancel <-chan struct{}) {
	if during := f.answers.get().during; during != nil {
		during(cancel)
	}
}

func (f *files) Fsync(cancel <-chan struct{}, _ *fuse.FsyncIn) fuse.Status {
	return f.answers.get().fsync(cancel)
}

func (f *files) GetXAttr(_ <-chan struct{}, _ *fuse.InHeader, _ string, buf []byte) (uint32, fuse.Status) {
	return f.answers.get().getxattr(buf)
}

func (f *files) SetXAttr(_ <-chan struct{}, _ *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	return f.answers.get().setxattr(name, value)
}

func (f *files) Forget(_, _ uint64) {
	if forget := f.answers.get().forget; forget != nil {
		forget()
	}
}

func (f *files) OnUnmount() { close(f.ended) }

// mounted is a mount of files, unmounted at the test's end.
type mounted struct {
	*testing.T
	*Loop
	fs   *files
	dir  string
	logs *logged
	made shared[made]
}

// set changes what the file system answers from now on.
func (m *mounted) set(change func(*answers)) { m.fs.answers.change(change) }

// logged is what a loop has logged.
type logged struct{ text shared[string] }

func (l *logged) Write(p []byte) (int, error) {
	l.text.change(func(text *string) { *text += string(p) })
	return len(p), nil
}

// made is everything that a loop has made to hold requests and answers.
type made struct {
	readers []*reader
	buffers [][]byte
}

// watch notes what a loop makes.
func (m *mounted) watch() {
	m.pool.New = func() any {
		r := newReader()
		m.made.change(func(all *made) { all.readers = append(all.readers, r) })
		return r
	}
	for class := range m.buffers.pools {
		fresh := m.buffers.pools[class].New
		m.buffers.pools[class].New = func() any {
			first := fresh().(*byte)
			m.made.change(func(all *made) { all.buffers = append(all.buffers, unsafe.Slice(first, 1<<class+overhead)) })
			return first
		}
	}
}

func unmounted(t *testing.T, change func(*fuse.MountOptions)) *mounted {
	t.Helper()
	logs := &logged{}
	opts := fuse.MountOptions{
		FsName: "akvfs", Name: "akvfs", MaxWrite: 1 << 20, MaxBackground: 24, Logger: log.New(logs, "", 0), AllowOther: true,
	}
	if change != nil {
		change(&opts)
	}
	m := &mounted{T: t, Loop: New(opts, 50*time.Microsecond, nil), dir: t.TempDir(), logs: logs}
	m.fs = &files{RawFileSystem: fuse.NewDefaultRawFileSystem(), ended: make(chan struct{})}
	m.watch()
	return m
}

func mount(t *testing.T) *mounted {
	t.Helper()
	m := unmounted(t, nil)
	m.serve()
	return m
}

func (m *mounted) serve() { m.Helper(); m.serveThis(m.fs) }

func (m *mounted) serveThis(fs fuse.RawFileSystem) {
	m.Helper()
	m.must(m.Mount(fs, m.dir, unix.MS_NOSUID|unix.MS_NODEV, nil))
	m.run()
}

// run serves a mount that is made, until the test's end.
func (m *mounted) run() {
	m.Helper()
	go m.Serve()
	m.Cleanup(func() {
		if err := m.Unmount(); err != nil && m.mounts() {
			m.Errorf("unmounting: %v", err)
			_ = unix.Unmount(m.dir, unix.MNT_DETACH)
		}
		<-m.fs.ended
		if said := m.logs.text.get(); said != "" {
			m.Errorf("the loop logged: %s", said)
		}
	})
	m.must(m.Ready())
}

func (m *mounted) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *mounted) open() *os.File { m.Helper(); return m.openNth(2) }

func (m *mounted) openNth(n int) *os.File {
	m.Helper()
	// Not os.OpenFile: the runtime must not poll files of its own mount.
	fd, err := unix.Open(filepath.Join(m.dir, fmt.Sprint("file", n)), unix.O_RDWR|unix.O_CLOEXEC, 0)
	m.must(err)
	f := os.NewFile(uintptr(fd), "file")
	m.Cleanup(func() { f.Close() })
	return f
}

// abort ends the connection without unmounting.
func (m *mounted) abort() {
	m.Helper()
	var st unix.Stat_t
	m.must(unix.Stat(m.dir, &st))
	control := m.TempDir()
	m.must(unix.Mount("fusectl", control, "fusectl", 0, ""))
	defer func() { _ = unix.Unmount(control, unix.MNT_DETACH) }()
	m.must(os.WriteFile(filepath.Join(control, fmt.Sprint(unix.Minor(st.Dev)), "abort"), []byte("1"), 0))
}

// eventually waits for what is to become true.
func (m *mounted) eventually(what string, is func() bool) {
	m.Helper()
	for range 3000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Fatalf("%s: not in 30 s", what)
}

func (m *mounted) mounts() bool {
	m.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	m.must(err)
	return strings.Contains(string(table), m.dir+" ")
}

func fill(marker byte) func(uint64, []byte) (fuse.ReadResult, fuse.Status) {
	return func(_ uint64, buf []byte) (fuse.ReadResult, fuse.Status) {
		for i := range buf {
			buf[i] = marker
		}
		return fuse.ReadResultData(buf), fuse.OK
	}
}

// cachedFiles are files that the kernel caches.
type cachedFiles struct{ *files }

func (cachedFiles) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	*out = fuse.OpenOut{}
	return fuse.OK
}
