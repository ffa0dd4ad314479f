package fuseloop

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// files is a file system of one directory in which every name is a
// file, which the kernel does not cache. What it answers is the test's.
type files struct {
	fuse.RawFileSystem
	read     func(off uint64, buf []byte) (fuse.ReadResult, fuse.Status)
	write    func(data []byte) fuse.Status
	fsync    func(cancel <-chan struct{}) fuse.Status
	getxattr func(buf []byte) (uint32, fuse.Status)
	setxattr func(name string, value []byte) fuse.Status
	ended    chan struct{} // closed by OnUnmount
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

func (f *files) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	return f.read(in.Offset, buf)
}

func (f *files) Writev(_ <-chan struct{}, _ *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	return uint32(len(data[0])), f.write(data[0])
}

func (f *files) Fsync(cancel <-chan struct{}, _ *fuse.FsyncIn) fuse.Status { return f.fsync(cancel) }

func (f *files) GetXAttr(_ <-chan struct{}, _ *fuse.InHeader, _ string, buf []byte) (uint32, fuse.Status) {
	return f.getxattr(buf)
}

func (f *files) SetXAttr(_ <-chan struct{}, _ *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	return f.setxattr(name, value)
}

func (f *files) OnUnmount() { close(f.ended) }

// mounted is a mount of files, unmounted at the test's end.
type mounted struct {
	*testing.T
	*Loop
	fs   *files
	dir  string
	logs *journal
	made *made
}

// journal is what a loop has logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// made is every buffer that a loop has made.
type made struct {
	mu      sync.Mutex
	readers []*reader
	large   []*[]byte
}

func unmounted(t *testing.T, change func(*fuse.MountOptions)) *mounted {
	t.Helper()
	logs := &journal{}
	opts := fuse.MountOptions{
		FsName: "akvfs", Name: "akvfs", MaxWrite: 1 << 20, MaxBackground: 24, Logger: log.New(logs, "", 0), AllowOther: true,
	}
	if change != nil {
		change(&opts)
	}
	m := &mounted{T: t, Loop: New(opts, 50*time.Microsecond), dir: t.TempDir(), logs: logs, made: &made{}}
	m.fs = &files{RawFileSystem: fuse.NewDefaultRawFileSystem(), ended: make(chan struct{})}
	m.pool.New = func() any {
		m.made.mu.Lock()
		defer m.made.mu.Unlock()
		r := m.newReader()
		m.made.readers = append(m.made.readers, r)
		return r
	}
	newLarge := m.large.New
	m.large.New = func() any {
		m.made.mu.Lock()
		defer m.made.mu.Unlock()
		b := newLarge().(*[]byte)
		m.made.large = append(m.made.large, b)
		return b
	}
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
	go m.Serve()
	m.Cleanup(func() {
		if err := m.Unmount(); err != nil && !errors.Is(err, syscall.EINVAL) {
			m.Errorf("unmounting: %v", err)
			_ = unix.Unmount(m.dir, unix.MNT_DETACH)
		}
		<-m.fs.ended
		if said := m.logs.String(); said != "" {
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
	control := "/sys/fs/fuse/connections"
	m.must(os.MkdirAll(control, 0o755))
	name := filepath.Join(control, fmt.Sprint(unix.Minor(st.Dev)), "abort")
	if _, err := os.Stat(name); err != nil {
		m.must(unix.Mount("fusectl", control, "fusectl", 0, ""))
		defer func() { _ = unix.Unmount(control, unix.MNT_DETACH) }()
	}
	m.must(os.WriteFile(name, []byte("1"), 0))
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
