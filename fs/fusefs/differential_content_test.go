package fusefs

import (
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"
)

// content is a pattern that tells where it comes from.
func content(n int, seed uint32) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(seed) + byte(i) + byte(i>>8)
	}
	return b
}

// shown is what was read, in short.
func shown(b []byte) string { return fmt.Sprintf("%d bytes %08x", len(b), crc32.ChecksumIEEE(b)) }

// place is where a call reads or writes: mostly where files are kept small.
func place(off int64) int64 {
	if off < 0 || off > 1<<20 {
		return off
	}
	return bounded(off)
}

// writeAt is a place for data, which must not make a file huge.
func (c call) writePlace() int64 {
	if c.Off > 1<<20 {
		return bounded(c.Off)
	}
	return c.Off
}

func (a *actor) pwrite(c call) string {
	n, err := unix.Pwrite(a.fd(c.F), content(int(c.Len), c.X), c.writePlace())
	return result(err, n)
}

func (a *actor) write(c call) string {
	if size, ok := regular(a.fd(c.F)); !ok || size > 1<<19 {
		return "left"
	}
	if at, err := unix.Seek(a.fd(c.F), 0, unix.SEEK_CUR); err == nil && at > 1<<20 {
		return "left"
	}
	n, err := unix.Write(a.fd(c.F), content(int(c.Len), c.X))
	return result(err, n)
}

func (a *actor) pread(c call) string {
	b := make([]byte, c.Len)
	n, err := unix.Pread(a.fd(c.F), b, c.Off)
	return result(err, shown(b[:max(n, 0)]))
}

func (a *actor) read(c call) string {
	b := make([]byte, c.Len)
	n, err := unix.Read(a.fd(c.F), b)
	return result(err, shown(b[:max(n, 0)]))
}

func (a *actor) lseek(c call) string {
	if _, ok := regular(a.fd(c.F)); !ok {
		return "left"
	}
	off := c.Off
	if off > 1<<20 {
		off = bounded(off) // beyond 16 TiB only ext4 refuses to go
	}
	at, err := unix.Seek(a.fd(c.F), off, pick(c.X, unix.SEEK_SET, unix.SEEK_CUR, unix.SEEK_END, unix.SEEK_SET))
	return result(err, at)
}

// direct is a read or a write past the cache, aligned as ext4 wants it.
func (a *actor) direct(c call) string {
	fd, err := unix.Open(nameOf(c.N), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return result(err)
	}
	defer unix.Close(fd)
	if _, ok := regular(fd); !ok {
		return "left"
	}
	b := aligned(int(c.Len+4095) &^ 4095)
	at := bounded(c.Off) &^ 4095
	if c.X%2 == 0 {
		n, err := unix.Pread(fd, b, at)
		return result(err, shown(b[:max(n, 0)]))
	}
	copy(b, content(len(b), c.Y))
	n, err := unix.Pwrite(fd, b, at)
	return result(err, n)
}

func (a *actor) vector(c call) string {
	fd, at := a.fd(c.F), bounded(c.Off)
	data := content(int(c.Len), c.Y)
	cut := len(data) / 3
	parts := [][]byte{data[:cut], data[cut:]}
	if c.X%2 == 0 {
		n, err := unix.Preadv(fd, parts, at)
		return result(err, n, shown(data[:max(n, 0)]))
	}
	n, err := unix.Pwritev(fd, parts, at)
	return result(err, n)
}

// size is a size for a truncation: rarely huge.
func (c call) size() int64 {
	if c.Off > 1<<20 && c.X%4 > 0 {
		return bounded(c.Off)
	}
	return min(c.Off, 8<<40)
}

// A truncation to the size that a file has is left out: whether it sets the
// time of modification is a difference, see TestDifferences.

func (a *actor) truncate(c call) string {
	var st unix.Stat_t
	if unix.Stat(nameOf(c.N), &st) == nil && st.Size == c.size() {
		return "left"
	}
	return result(unix.Truncate(nameOf(c.N), c.size()))
}

func (a *actor) ftruncate(c call) string {
	if size, ok := regular(a.fd(c.F)); ok && size == c.size() {
		return "left"
	}
	return result(unix.Ftruncate(a.fd(c.F), c.size()))
}

// fallocate has the modes that a FUSE file system is asked for; the kernel
// refuses the others.
func (a *actor) fallocate(c call) string {
	mode := pick(c.X, uint32(0), unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE)
	return result(unix.Fallocate(a.fd(c.F), mode, place(c.writePlace()), c.Len))
}

func (a *actor) copyRange(c call) string {
	from, to := bounded(c.Off), int64(c.Y)
	n, err := unix.CopyFileRange(a.fd(c.F), &from, a.fd(c.G), &to, int(c.Len), 0)
	return result(err, n, from, to)
}

func (a *actor) sendfile(c call) string {
	if size, ok := regular(a.fd(c.G)); !ok || size > 1<<19 {
		return "left"
	}
	off := bounded(c.Off)
	n, err := unix.Sendfile(a.fd(c.F), a.fd(c.G), &off, int(c.Len))
	return result(err, n)
}

func (a *actor) clone(c call) string {
	if c.X%2 == 0 {
		return result(unix.IoctlFileClone(a.fd(c.F), a.fd(c.G)))
	}
	return result(unix.IoctlFileCloneRange(a.fd(c.F), &unix.FileCloneRange{Src_fd: int64(a.fd(c.G)), Src_length: 4096}))
}

func (a *actor) sync(c call) string {
	fd := a.fd(c.F)
	return result(pick(c.X, func() error { return unix.Fsync(fd) }, func() error { return unix.Fdatasync(fd) },
		func() error { return unix.SyncFileRange(fd, bounded(c.Off), c.Len, unix.SYNC_FILE_RANGE_WRITE) })())
}

// mapFile maps a file for as long as it takes until another is.
func (a *actor) mapFile(c call) string {
	i := c.X % 2
	a.drop(int(i))
	size, ok := regular(a.fd(c.F))
	if !ok || size == 0 || size > 1<<20 {
		return "left"
	}
	m, err := unix.Mmap(a.fd(c.F), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return result(err)
	}
	fd, err := unix.FcntlInt(uintptr(a.fd(c.F)), unix.F_DUPFD_CLOEXEC, 0)
	a.maps[i], a.mapf[i] = m, fd
	return result(err, size)
}

func (a *actor) drop(i int) {
	if a.maps[i] != nil {
		unix.Munmap(a.maps[i])
		unix.Close(a.mapf[i])
		a.maps[i] = nil
	}
}

func (a *actor) unmap(c call) string {
	a.drop(int(c.X % 2))
	return "ok"
}

// mapped is as much of a mapping as there is file for: beyond is SIGBUS.
func (a *actor) mapped(c call) []byte {
	m := a.maps[c.X%2]
	if m == nil {
		return nil
	}
	size, _ := regular(a.mapf[c.X%2])
	m = m[:min(int64(len(m)), size)]
	from := min(bounded(c.Off), int64(len(m)))
	return m[from:min(from+c.Len, int64(len(m)))]
}

// mapWrite writes back first: whether a page that is dirty already makes the
// file younger once more is up to the kernel.
func (a *actor) mapWrite(c call) string {
	if m := a.maps[c.X%2]; m != nil {
		if err := unix.Msync(m, unix.MS_SYNC); err != nil {
			return result(err)
		}
	}
	n := copy(a.mapped(c), content(int(c.Len), c.Y))
	if m := a.maps[c.X%2]; m != nil && c.Y%4 == 0 {
		return result(unix.Msync(m, pick(c.Y/4, unix.MS_SYNC, unix.MS_ASYNC)), n)
	}
	return result(nil, n)
}

func (a *actor) mapRead(c call) string { return result(nil, shown(a.mapped(c))) }

func (a *actor) flock(c call) string {
	return result(unix.Flock(a.fd(c.F), pick(c.X, unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN)|unix.LOCK_NB))
}

func (c call) flock() *unix.Flock_t {
	return &unix.Flock_t{Type: int16(pick(c.X, unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK)), Start: bounded(c.Off), Len: c.Len}
}

func (a *actor) lock(c call) string {
	return result(unix.FcntlFlock(uintptr(a.fd(c.F)), pick(c.Y, unix.F_SETLK, unix.F_OFD_SETLK), c.flock()))
}

func (a *actor) askLock(c call) string {
	l := c.flock()
	err := unix.FcntlFlock(uintptr(a.fd(c.F)), pick(c.Y, unix.F_GETLK, unix.F_OFD_GETLK), l)
	return result(err, l.Type, l.Start, l.Len)
}
