package fusefs

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

var contentCases = []posixCase{
	{"read and write", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o640)
		r.pwrite(fd, "hello", 0)
		r.pwrite(fd, "world", 10000)
		r.pread(fd, 8, 0)
		r.pread(fd, 100, 9998)
		r.pread(fd, 10, 10005)
		r.pread(fd, 10, 1<<40)
		r.fstat(fd)
		r.stat("f")
	}},
	{"write only, then read by another", func(r *trace) {
		w := r.open("f", unix.O_CREAT|unix.O_WRONLY, 0o600)
		r.pwrite(w, "abc", 4094) // the cache reads what is around it
		r.pwrite(w, "x", 1)
		_, err := unix.Pread(w, make([]byte, 1), 0)
		r.note("pread of a write-only file", err)
		rd := r.open("f", unix.O_RDONLY, 0)
		r.pread(rd, 5000, 4090)
		_, err = unix.Pwrite(rd, []byte("x"), 0)
		r.note("pwrite of a read-only file", err)
	}},
	{"append from two", func(r *trace) {
		a := r.open("f", unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND, 0o600)
		b := r.open("f", unix.O_WRONLY|unix.O_APPEND, 0)
		for i := range 3 {
			for _, fd := range []int{a, b} {
				k, err := unix.Write(fd, []byte(fmt.Sprintf("%d-%d.", i, k2(fd == a))))
				r.note("write", err, k)
			}
		}
		r.read("f")
	}},
	{"truncate", func(r *trace) {
		r.file("f", strings.Repeat("abcdefgh", 2000), 0o600)
		for _, size := range []int64{5000, 4096, 4097, 9000, 1, 0, 12345} {
			r.note(fmt.Sprint("truncate ", size), unix.Truncate(r.p("f"), size))
			r.stat("f")
		}
		fd := r.open("f", unix.O_RDWR, 0)
		r.pwrite(fd, "tail", 12000)
		r.note("ftruncate", unix.Ftruncate(fd, 12002))
		r.pread(fd, 100, 11998)
		r.note("ftruncate", unix.Ftruncate(fd, 12004))
		r.pread(fd, 100, 11998)
		r.note("ftruncate below 0", unix.Ftruncate(fd, -1))
		ro := r.open("f", unix.O_RDONLY, 0)
		r.note("ftruncate read-only", unix.Ftruncate(ro, 1))
		r.note("truncate a directory", unix.Truncate(r.p("."), 1))
		r.open("f", unix.O_WRONLY|unix.O_TRUNC, 0)
		r.stat("f")
	}},
	{"holes", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		r.pwrite(fd, "x", 1<<20)
		r.pwrite(fd, "y", 3<<20)
		seeks(r, fd, 0, 1<<20, 1<<20+5000, 3<<20, 3<<20+1, 4<<20) // nothing is written back yet
		r.note("fsync", unix.Fsync(fd))
		seeks(r, fd, 0, 1<<20, 1<<20+5000, 3<<20, 3<<20+1, 4<<20)
		r.note("ftruncate", unix.Ftruncate(fd, 8<<20))
		seeks(r, fd, 3<<20, 5<<20, 8<<20)
	}},
	{"fallocate", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		r.pwrite(fd, strings.Repeat("z", 20000), 0)
		for _, c := range []struct {
			mode     uint32
			off, len int64
		}{
			{0, 0, 30000},
			{unix.FALLOC_FL_KEEP_SIZE, 40000, 10000},
			{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, 100, 10000},
			{unix.FALLOC_FL_ZERO_RANGE, 15000, 3000},
			{unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE, 29000, 9000},
			{unix.FALLOC_FL_PUNCH_HOLE, 0, 1},
			{0, 0, 0},
			{0, -1, 10},
		} {
			r.note(fmt.Sprintf("fallocate %#x %d %d", c.mode, c.off, c.len), unix.Fallocate(fd, c.mode, c.off, c.len))
			r.fstat(fd)
		}
		r.read("f")
		ro := r.open("f", unix.O_RDONLY, 0)
		r.note("fallocate read-only", unix.Fallocate(ro, 0, 0, 10))
	}},
	{"direct", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o600)
		b := aligned(16384)
		copy(b, strings.Repeat("direct..", 2048))
		k, err := unix.Pwrite(fd, b, 4096)
		r.note("pwrite", err, k)
		k, err = unix.Pread(fd, b, 0)
		r.note("pread", err, k, string(b[4090:4104]))
		cached := r.open("f", unix.O_RDWR, 0)
		r.pread(cached, 20, 4090)
		r.pwrite(cached, "cached", 8192)
		k, err = unix.Pread(fd, b, 8192)
		r.note("pread", err, k, string(b[:10]))
		copy(b, "again")
		k, err = unix.Pwrite(fd, b[:4096], 8192)
		r.note("pwrite", err, k)
		r.pread(cached, 10, 8192)
	}},
	{"vectors", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		k, err := unix.Pwritev(fd, [][]byte{[]byte("one"), []byte("two"), []byte("three")}, 5)
		r.note("pwritev", err, k)
		a, b := make([]byte, 7), make([]byte, 4)
		k, err = unix.Preadv(fd, [][]byte{a, b}, 3)
		r.note("preadv", err, k, fmt.Sprintf("%q %q", a, b))
	}},
	{"sync writes", func(r *trace) {
		for _, flag := range []int{unix.O_SYNC, unix.O_DSYNC} {
			fd := r.open("f", unix.O_CREAT|unix.O_RDWR|flag, 0o600)
			r.pwrite(fd, "synced", 3)
			r.note("fdatasync", unix.Fdatasync(fd))
			r.note("fsync", unix.Fsync(fd))
			r.note("sync_file_range", unix.SyncFileRange(fd, 0, 4096, unix.SYNC_FILE_RANGE_WRITE))
			r.note("syncfs", unix.Syncfs(fd))
		}
		r.read("f")
	}},
	{"copies in the kernel", func(r *trace) {
		r.file("a", strings.Repeat("0123456789", 3000), 0o600)
		from, to := r.open("a", unix.O_RDONLY, 0), r.open("b", unix.O_CREAT|unix.O_RDWR, 0o600)
		in, out := int64(100), int64(7)
		for range 2 {
			k, err := unix.CopyFileRange(from, &in, to, &out, 20000, 0)
			r.note("copy_file_range", err, k, in, out)
		}
		r.read("b")
		s := r.open("c", unix.O_CREAT|unix.O_WRONLY, 0o600)
		off := int64(29990)
		k, err := unix.Sendfile(s, from, &off, 100)
		r.note("sendfile", err, k, off)
		r.read("c")
	}},
	{"8 TiB", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		const end = 8 << 40
		r.pwrite(fd, "the end", end-7)
		r.pwrite(fd, "middle", end/2+123)
		r.note("fsync", unix.Fsync(fd))
		r.fstat(fd)
		r.pread(fd, 20, end-10)
		r.pread(fd, 10, end/2+121)
		r.pread(fd, 10, end/4)
		r.note("ftruncate", unix.Ftruncate(fd, end/2+126))
		r.fstat(fd)
		r.pread(fd, 20, end/2+120)
	}},
	{"unlinked, still open", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		r.pwrite(fd, "gone but here", 0)
		r.note("unlink", unix.Unlink(r.p("f")))
		r.stat("f")
		r.fstat(fd)
		r.pwrite(fd, "more", 100000)
		r.note("fsync", unix.Fsync(fd))
		r.pread(fd, 13, 0)
		r.note("fchmod", unix.Fchmod(fd, 0o444))
		r.note("fchown", unix.Fchown(fd, 5, 6))
		r.note("ftruncate", unix.Ftruncate(fd, 8))
		ts := []unix.Timespec{{Sec: 5}, {Sec: 6}}
		r.note("futimens", unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), ts, 0))
		r.fstat(fd)
		r.pread(fd, 100, 0)
		again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR, 0)
		r.note("reopen", err)
		r.pwrite(again, "X", 0)
		r.note("close", unix.Close(fd2(r, fd)))
		r.pread(again, 100, 0)
		r.note("close", unix.Close(again))
		r.file("f", "another", 0o600)
		r.read("f")
	}},
	{"replaced, still open", func(r *trace) {
		r.file("old", "old contents", 0o600)
		r.file("new", "new", 0o600)
		fd := r.open("old", unix.O_RDWR, 0)
		r.note("rename", unix.Rename(r.p("new"), r.p("old")))
		r.pread(fd, 100, 0)
		r.fstat(fd)
		r.pwrite(fd, "still", 0)
		r.read("old")
		r.pread(fd, 100, 0)
		r.stat("new")
	}},
	{"shared mapping", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		r.note("ftruncate", unix.Ftruncate(fd, 20000))
		m, err := unix.Mmap(fd, 0, 20000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		r.note("mmap", err)
		copy(m[5000:], "through the mapping")
		r.pread(fd, 30, 4995)
		r.pwrite(fd, "through write", 12000)
		r.note("seen", nil, fmt.Sprintf("%q", m[11998:12015]))
		r.note("msync", unix.Msync(m, unix.MS_SYNC))
		other := r.open("f", unix.O_RDONLY, 0)
		n, err := unix.Mmap(other, 0, 20000, unix.PROT_READ, unix.MAP_SHARED)
		r.note("mmap", err)
		m[19999] = '!'
		r.note("seen", nil, fmt.Sprintf("%q %q", n[5000:5005], n[19998:]))
		r.note("close", unix.Close(fd2(r, fd)))
		m[0] = 'A'
		r.note("munmap", unix.Munmap(m))
		r.note("munmap", unix.Munmap(n))
		r.read("f")
	}},
	{"private mapping", func(r *trace) {
		r.file("f", strings.Repeat("p", 5000), 0o600)
		fd := r.open("f", unix.O_RDONLY, 0)
		m, err := unix.Mmap(fd, 0, 5000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		r.note("mmap", err)
		copy(m, "mine alone")
		r.read("f")
		r.note("seen", nil, fmt.Sprintf("%q", m[:12]))
		r.note("munmap", unix.Munmap(m))
		_, err = unix.Mmap(fd, 0, 5000, unix.PROT_WRITE, unix.MAP_SHARED)
		r.note("mmap for writing of a read-only file", err)
	}},
	{"size after a buffered write", func(r *trace) {
		fd := r.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		for i := range 5 {
			r.pwrite(fd, "chunk", int64(i*4000))
			r.fstat(fd)
			r.stat("f")
		}
		end, err := unix.Seek(fd, 0, io.SeekEnd)
		r.note("lseek", err, end)
		var st unix.Stat_t
		must(r.t, unix.Fstat(fd, &st))
		r.note("fsync", unix.Fsync(fd))
		var after unix.Stat_t
		must(r.t, unix.Stat(r.p("f"), &after))
		r.note("mtime kept by fsync", nil, st.Mtim == after.Mtim, st.Size == after.Size)
	}},
}

func k2(first bool) int {
	if first {
		return 1
	}
	return 2
}

// fd2 is a duplicate: closing it flushes, and leaves the descriptor that the
// test closes at its end.
func fd2(r *trace, fd int) int {
	d, err := unix.Dup(fd)
	must(r.t, err)
	return d
}

func seeks(r *trace, fd int, offs ...int64) {
	for _, off := range offs {
		for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
			pos, err := unix.Seek(fd, off, whence)
			r.note(fmt.Sprintf("lseek %d %d", off, whence), err, pos)
		}
	}
}

// aligned is memory that direct I/O takes.
func aligned(n int) []byte {
	b := make([]byte, n+4096)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 4095
	return b[skip : skip+n]
}

var openCases = []posixCase{
	{"flags of open", func(r *trace) {
		r.open("missing", unix.O_RDWR, 0)
		r.open("f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666)
		r.open("f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666)
		r.open("f", unix.O_CREAT|unix.O_RDWR, 0o666)
		r.open("f", unix.O_DIRECTORY, 0)
		r.open("f/below", unix.O_RDONLY, 0)
		r.mkdir("d", 0o755)
		r.open("d", unix.O_RDWR, 0)
		r.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		r.open("d", unix.O_CREAT|unix.O_RDWR, 0o600)
		r.note("symlink", os.Symlink("f", r.p("l")))
		r.open("l", unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		r.open("l", unix.O_RDONLY, 0)
		r.open("l", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
		r.open("f", unix.O_PATH, 0)
		r.open("f", unix.O_RDONLY|unix.O_NOATIME, 0)
	}},
	{"without a name", func(r *trace) {
		fd := r.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o640)
		r.fstat(fd)
		r.pwrite(fd, "nameless", 0)
		link := func(name string, fd int) {
			r.note("linkat "+name, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, r.p(name), unix.AT_SYMLINK_FOLLOW))
		}
		link("named", fd)
		r.fstat(fd)
		r.read("named")
		link("named twice", fd)
		r.stat("named twice")
		link("named", fd)
		r.pwrite(fd, "NAME", 0)
		r.read("named twice")
		only := r.open(".", unix.O_TMPFILE|unix.O_EXCL|unix.O_WRONLY, 0o600)
		link("never", only)
		r.open("named", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	}},
	{"special files", func(r *trace) {
		r.note("mkfifo", unix.Mkfifo(r.p("fifo"), 0o640))
		r.stat("fifo")
		fd := r.open("fifo", unix.O_RDWR|unix.O_NONBLOCK, 0)
		k, err := unix.Write(fd, []byte("through"))
		r.note("write", err, k)
		b := make([]byte, 20)
		k, err = unix.Read(fd, b)
		r.note("read", err, string(b[:max(k, 0)]))
		r.note("mknod char", unix.Mknod(r.p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		r.note("mknod block", unix.Mknod(r.p("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
		r.note("mknod regular", unix.Mknod(r.p("regular"), unix.S_IFREG|0o604, 0))
		r.note("mknod again", unix.Mknod(r.p("regular"), unix.S_IFREG|0o604, 0))
		for _, name := range []string{"null", "block", "regular"} {
			r.stat(name)
		}
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		r.note("socket", err)
		defer unix.Close(s)
		// By way of the directory, as an address is short.
		d := r.open(".", unix.O_PATH|unix.O_DIRECTORY, 0)
		address := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/socket", d)}
		r.note("bind", unix.Bind(s, address))
		r.note("listen", unix.Listen(s, 1))
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		r.note("socket", err)
		defer unix.Close(c)
		r.note("connect", unix.Connect(c, address))
		r.stat("socket")
	}},
}
