package fusefs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// maxModel bounds the file of the model test: some hundred pages, and more
// than one READ.
const maxModel = 1 << 18

// fileModel is one file, reached in every way there is, and what it must hold.
type fileModel struct {
	m    *mounted
	path string
	fd   int
	want []byte
}

// TestFileModel does random things to a file in the mount, in the manner of
// fsx, and compares its contents with a model after each.
func TestFileModel(t *testing.T) {
	eachBackend(t, func(t *testing.T, m *mounted) {
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			n++
			f := &fileModel{m: m, path: m.path(fmt.Sprint("file", n))}
			f.open(rt, os.O_CREATE|os.O_EXCL|os.O_RDWR)
			defer f.remove(rt)
			rt.Repeat(map[string]func(*rapid.T){
				"":              f.check,
				"write":         f.write,
				"write direct":  f.writeDirect,
				"append":        f.append,
				"write mapping": f.writeMapping,
				"truncate":      f.truncate,
				"allocate":      f.allocate,
				"punch":         f.punch,
				"zero":          f.zero,
				"copy range":    f.copyRange,
				"sync":          f.sync,
				"reopen":        f.reopen,
				"read":          f.read,
				"seek":          f.seek,
				"rename":        f.rename,
				"drop caches":   func(*rapid.T) { m.do("drop") },
			})
		})
	})
}

func ok(t *rapid.T, what string, err error) {
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (f *fileModel) open(t *rapid.T, flags int) {
	fd, err := unix.Open(f.path, flags|unix.O_CLOEXEC, 0o600)
	ok(t, "open", err)
	f.fd = fd
}

func (f *fileModel) remove(t *rapid.T) {
	ok(t, "close", unix.Close(f.fd))
	ok(t, "unlink", unix.Unlink(f.path))
}

// span draws a place in the file, and somewhat past its end.
func (f *fileModel) span(t *rapid.T) (off, n int) {
	off = rapid.IntRange(0, maxModel-1).Draw(t, "off")
	if rapid.Bool().Draw(t, "page") {
		off &^= 4095
	}
	n = rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(1, 3*4096), rapid.IntRange(1, maxModel)).Draw(t, "n")
	return off, min(n, maxModel-off)
}

// put is what a write at off makes of the model.
func (f *fileModel) put(data []byte, off int) {
	f.grow(off + len(data))
	copy(f.want[off:], data)
}

func (f *fileModel) grow(size int) {
	if size > len(f.want) {
		f.want = append(f.want, make([]byte, size-len(f.want))...)
	}
}

// data is a pattern that tells where and when it was written.
func data(t *rapid.T, n int) []byte {
	seed := rapid.Byte().Draw(t, "seed")
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i) + byte(i>>8)
	}
	return b
}

func (f *fileModel) write(t *rapid.T) {
	off, n := f.span(t)
	b := data(t, n)
	k, err := unix.Pwrite(f.fd, b, int64(off))
	ok(t, "pwrite", err)
	f.put(b[:k], off)
}

func (f *fileModel) writeDirect(t *rapid.T) {
	off, n := f.span(t)
	off &^= 4095
	n = min((n+4095)&^4095, maxModel-off)
	b := aligned(n)
	copy(b, data(t, n))
	fd, err := unix.Open(f.path, unix.O_RDWR|unix.O_DIRECT, 0)
	ok(t, "open", err)
	k, err := unix.Pwrite(fd, b, int64(off))
	ok(t, "pwrite", err)
	f.put(b[:k], off)
	ok(t, "close", unix.Close(fd))
}

func (f *fileModel) append(t *rapid.T) {
	b := data(t, rapid.IntRange(0, min(9000, maxModel-len(f.want))).Draw(t, "n"))
	fd, err := unix.Open(f.path, unix.O_WRONLY|unix.O_APPEND, 0)
	ok(t, "open", err)
	k, err := unix.Write(fd, b)
	ok(t, "write", err)
	f.put(b[:k], len(f.want))
	ok(t, "close", unix.Close(fd))
}

func (f *fileModel) writeMapping(t *rapid.T) {
	if len(f.want) == 0 {
		return
	}
	off, n := f.span(t)
	off = min(off, len(f.want)-1)
	n = min(n, len(f.want)-off)
	b := data(t, n)
	mem, err := unix.Mmap(f.fd, 0, len(f.want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	ok(t, "mmap", err)
	copy(mem[off:], b)
	f.put(b, off)
	if !bytes.Equal(mem, f.want) {
		t.Fatal("the mapping shows something else")
	}
	if rapid.Bool().Draw(t, "msync") {
		ok(t, "msync", unix.Msync(mem, unix.MS_SYNC))
	}
	ok(t, "munmap", unix.Munmap(mem))
}

func (f *fileModel) truncate(t *rapid.T) {
	size := rapid.IntRange(0, maxModel).Draw(t, "size")
	if rapid.Bool().Draw(t, "by path") {
		ok(t, "truncate", unix.Truncate(f.path, int64(size)))
	} else {
		ok(t, "ftruncate", unix.Ftruncate(f.fd, int64(size)))
	}
	f.grow(size)
	f.want = f.want[:size:size]
}

func (f *fileModel) allocate(t *rapid.T) {
	off, n := f.span(t)
	mode := rapid.SampledFrom([]uint32{0, unix.FALLOC_FL_KEEP_SIZE}).Draw(t, "mode")
	ok(t, "fallocate", unix.Fallocate(f.fd, mode, int64(off), int64(n)))
	if mode == 0 {
		f.grow(off + n)
	}
}

func (f *fileModel) punch(t *rapid.T) {
	off, n := f.span(t)
	ok(t, "punch", unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
	f.clear(off, n)
}

func (f *fileModel) clear(off, n int) {
	if off < len(f.want) {
		clear(f.want[off:min(off+n, len(f.want))])
	}
}

func (f *fileModel) zero(t *rapid.T) {
	off, n := f.span(t)
	keep := rapid.Bool().Draw(t, "keep")
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if keep {
		mode |= unix.FALLOC_FL_KEEP_SIZE
	} else {
		f.grow(off + n)
	}
	ok(t, "zero", unix.Fallocate(f.fd, mode, int64(off), int64(n)))
	f.clear(off, n)
}

func (f *fileModel) copyRange(t *rapid.T) {
	off, n := f.span(t)
	from, to := int64(off), int64(rapid.IntRange(0, maxModel-n).Draw(t, "to"))
	if from < to+int64(n) && to < from+int64(n) {
		return // EINVAL: they overlap
	}
	at := int(to)
	k, err := unix.CopyFileRange(f.fd, &from, f.fd, &to, n, 0)
	ok(t, "copy_file_range", err)
	if k > 0 {
		f.put(bytes.Clone(f.want[off:off+k]), at)
	}
}

func (f *fileModel) sync(t *rapid.T) {
	if rapid.Bool().Draw(t, "data only") {
		ok(t, "fdatasync", unix.Fdatasync(f.fd))
	} else {
		ok(t, "fsync", unix.Fsync(f.fd))
	}
}

func (f *fileModel) reopen(t *rapid.T) {
	ok(t, "close", unix.Close(f.fd))
	f.open(t, os.O_RDWR)
}

func (f *fileModel) rename(t *rapid.T) {
	to := f.path + "'"
	if len(f.path) > 0 && f.path[len(f.path)-1] == '\'' {
		to = f.path[:len(f.path)-1]
	}
	ok(t, "rename", unix.Rename(f.path, to))
	f.path = to
}

func (f *fileModel) read(t *rapid.T) {
	off, n := f.span(t)
	b := make([]byte, n)
	k, err := unix.Pread(f.fd, b, int64(off))
	ok(t, "pread", err)
	want := f.want[min(off, len(f.want)):min(off+n, len(f.want))]
	if !bytes.Equal(b[:k], want) {
		t.Fatalf("%d bytes at %d are not what was written", n, off)
	}
}

// seek: what the kernel calls a hole must hold zeros, and data must be found.
func (f *fileModel) seek(t *rapid.T) {
	off, _ := f.span(t)
	next, err := unix.Seek(f.fd, int64(off), unix.SEEK_DATA)
	if off >= len(f.want) {
		if err != unix.ENXIO {
			t.Fatalf("SEEK_DATA past the end: %d, %v", next, err)
		}
		return
	}
	if err == unix.ENXIO {
		next, err = int64(len(f.want)), nil
	}
	ok(t, "SEEK_DATA", err)
	if skipped := f.want[off:next]; len(bytes.Trim(skipped, "\x00")) > 0 {
		t.Fatalf("SEEK_DATA from %d goes to %d, past data", off, next)
	}
	hole, err := unix.Seek(f.fd, int64(off), unix.SEEK_HOLE)
	ok(t, "SEEK_HOLE", err)
	if hole < int64(off) || hole > int64(len(f.want)) {
		t.Fatalf("SEEK_HOLE from %d goes to %d of %d", off, hole, len(f.want))
	}
}

// check compares size and contents, through the cache.
func (f *fileModel) check(t *rapid.T) {
	var st unix.Stat_t
	ok(t, "fstat", unix.Fstat(f.fd, &st))
	if st.Size != int64(len(f.want)) {
		t.Fatalf("size %d, want %d", st.Size, len(f.want))
	}
	got := make([]byte, len(f.want)+10)
	n, err := io.ReadFull(io.NewSectionReader(fdReader(f.fd), 0, int64(len(got))), got)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:n], f.want) {
		i := 0
		for i < min(n, len(f.want)) && got[i] == f.want[i] {
			i++
		}
		t.Fatalf("%d bytes, want %d; first difference at %d", n, len(f.want), i)
	}
}

type fdReader int

func (fd fdReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(int(fd), p, off)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}
