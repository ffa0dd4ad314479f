package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// This test is what makes Mem worth trusting: the same random operations on
// it and on a real directory must answer alike, error for error, and leave
// the same tree.

// errnoOf names an error as a program would see it.
func errnoOf(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.As(err, &e):
		return unix.ErrnoName(e)
	}
	return "no errno: " + err.Error()
}

// twins is a Disk and a Mem that were told the same.
type twins struct {
	disk  FS
	mem   FS
	files []twinFile
	// what the real file system can do
	linksOfDirs, tempFiles, zeroRange, root bool
}

type twinFile struct{ disk, mem File }

// describe is what an Attr must have in common in both stores. Times that
// were set are far in the past.
func (w *twins) describe(a Attr) string {
	size, nlink := a.Size, a.Nlink
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
		if !w.linksOfDirs {
			nlink = 0
		}
	}
	mtime := "now"
	if a.Mtime.Year() < 2010 {
		mtime = a.Mtime.UTC().Format(time.RFC3339Nano)
	}
	if !w.root {
		a.UID, a.GID = 0, 0 // Mem is root's
	}
	return fmt.Sprintf("%o %d %d:%d %x %d %s", a.Mode, nlink, a.UID, a.GID, a.Rdev, size, mtime)
}

var twinNames = []string{
	".", "a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/f", "a/b", "d/nothing/x", strings.Repeat("n", 256),
	"", "/a", "../x", "d/../a", "d//a", "d/", "a\x00b",
}

func drawName(t *rapid.T) string {
	// The first eleven are what there is room for; the rest is rare.
	return twinNames[rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(1, 9), rapid.IntRange(0, len(twinNames)-1)).Draw(t, "name")]
}

var drawPos = rapid.OneOf(
	rapid.Int64Range(0, 300),
	rapid.Int64Range(0, 5*4096),
	rapid.SampledFrom([]int64{0, 512, 4095, 4096, 4097, 8192, 12288, 16384}),
)

// both runs one operation on each and compares what they answer.
func (w *twins) both(t *rapid.T, what string, f func(st FS) (any, error)) {
	d, errD := f(w.disk)
	m, errM := f(w.mem)
	if errnoOf(errD) != errnoOf(errM) {
		t.Fatalf("%s: disk answers %s (%v), memory %s (%v)", what, errnoOf(errD), errD, errnoOf(errM), errM)
	}
	if fmt.Sprint(d) != fmt.Sprint(m) {
		t.Fatalf("%s: disk gives %v, memory %v", what, d, m)
	}
}

func only(err error) (any, error) { return nil, err }

// nameOps are the operations of FS.
var nameOps = map[string]func(*twins, *rapid.T){
	"stat": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.both(t, "stat", func(st FS) (any, error) {
			a, err := st.Stat(name)
			if err != nil {
				return nil, err
			}
			return w.describe(a), nil
		})
	},
	"readdir": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.both(t, "readdir", func(st FS) (any, error) {
			list, err := st.ReadDir(name)
			return listing(list), err
		})
	},
	"readlink": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.both(t, "readlink", func(st FS) (any, error) { return st.Readlink(name) })
	},
	"mkdir": func(w *twins, t *rapid.T) {
		name, perm := drawName(t), w.drawPerm(t)
		w.both(t, "mkdir", func(st FS) (any, error) { return only(st.Mkdir(name, perm)) })
	},
	"mknod": func(w *twins, t *rapid.T) {
		name, perm := drawName(t), w.drawPerm(t)
		kinds := []uint32{0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFDIR, unix.S_IFLNK}
		if w.root {
			kinds = append(kinds, unix.S_IFCHR, unix.S_IFBLK)
		}
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		w.both(t, "mknod", func(st FS) (any, error) { return only(st.Mknod(name, kind|perm, unix.Mkdev(7, 3))) })
	},
	"symlink": func(w *twins, t *rapid.T) {
		name := drawName(t)
		target := rapid.SampledFrom([]string{"a", "d", "..", "/etc/passwd", "", strings.Repeat("t", 5000)}).Draw(t, "target")
		w.both(t, "symlink", func(st FS) (any, error) { return only(st.Symlink(target, name)) })
	},
	"link": func(w *twins, t *rapid.T) {
		from, to := drawName(t), drawName(t)
		w.both(t, "link", func(st FS) (any, error) { return only(st.Link(from, to)) })
	},
	"unlink": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.both(t, "unlink", func(st FS) (any, error) { return only(st.Unlink(name)) })
	},
	"rmdir": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.both(t, "rmdir", func(st FS) (any, error) { return only(st.Rmdir(name)) })
	},
	"rename": func(w *twins, t *rapid.T) {
		from, to := drawName(t), drawName(t)
		flags := rapid.SampledFrom([]uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, 3, unix.RENAME_WHITEOUT}).Draw(t, "flags")
		w.both(t, fmt.Sprintf("rename %q %q %d", from, to, flags), func(st FS) (any, error) {
			err := st.Rename(from, to, flags)
			if flags == 0 && errors.Is(err, unix.EEXIST) {
				err = unix.ENOTEMPTY // POSIX lets a file system say either; XFS says this one
			}
			return nil, err
		})
	},
	"chmod": func(w *twins, t *rapid.T) {
		name, perm := drawName(t), w.drawPerm(t)
		w.both(t, "chmod", func(st FS) (any, error) { return only(st.Chmod(name, perm)) })
	},
	"chown": func(w *twins, t *rapid.T) {
		name, uid, gid := drawName(t), w.drawID(t), w.drawID(t)
		w.both(t, "chown", func(st FS) (any, error) { return only(st.Chown(name, uid, gid)) })
	},
	"chtimes": func(w *twins, t *rapid.T) {
		name, atime, mtime := drawName(t), drawTime(t), drawTime(t)
		w.both(t, "chtimes", func(st FS) (any, error) { return only(st.Chtimes(name, atime, mtime)) })
	},
	"xattr": func(w *twins, t *rapid.T) {
		name := drawName(t)
		attr := rapid.SampledFrom([]string{"user.a", "user.b", "user.", "nospace.x", "", "user." + strings.Repeat("x", 300)}).Draw(t, "attr")
		value := []byte(rapid.SampledFrom([]string{"", "v", strings.Repeat("w", 300), strings.Repeat("x", xattrMax+1)}).Draw(t, "value"))
		flags := rapid.SampledFrom([]int{0, unix.XATTR_CREATE, unix.XATTR_REPLACE, 8}).Draw(t, "flags")
		w.both(t, "setxattr "+attr, func(st FS) (any, error) { return only(st.Setxattr(name, attr, value, flags)) })
		w.both(t, "getxattr "+attr, func(st FS) (any, error) { return st.Getxattr(name, attr) })
	},
	"listxattr": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.both(t, "listxattr", func(st FS) (any, error) { return userXattrs(st, name) })
	},
	"removexattr": func(w *twins, t *rapid.T) {
		name := drawName(t)
		attr := rapid.SampledFrom([]string{"user.a", "user.b", "user.", "nospace.x"}).Draw(t, "attr")
		w.both(t, "removexattr "+attr, func(st FS) (any, error) { return only(st.Removexattr(name, attr)) })
	},
	"syncdir": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.both(t, "syncdir", func(st FS) (any, error) { return only(st.SyncDir(name)) })
	},
	"open":  (*twins).open,
	"open2": (*twins).open,
}

func listing(list []DirEntry) string {
	var names []string
	for _, e := range list {
		names = append(names, fmt.Sprintf("%s:%o", e.Name, e.Type))
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

// userXattrs leaves out what security modules put on real files.
func userXattrs(st FS, name string) ([]string, error) {
	list, err := st.Listxattr(name)
	list = slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(s, "user.") })
	sort.Strings(list)
	return list, err
}

// drawPerm leaves others than root the right to use what they make, and no
// bits that Linux takes away from them.
func (w *twins) drawPerm(t *rapid.T) uint32 {
	perms := []uint32{0o700, 0o755, 0o777, 0o1777}
	if w.root {
		perms = append(perms, 0o600, 0o644, 0o2755, 0o4755, 0o6711)
	}
	return rapid.SampledFrom(perms).Draw(t, "perm")
}

func (w *twins) drawID(t *rapid.T) int {
	if !w.root {
		return -1
	}
	return rapid.SampledFrom([]int{-1, 0, 1, 1000}).Draw(t, "id")
}

func drawTime(t *rapid.T) *time.Time {
	n := rapid.IntRange(0, 3).Draw(t, "time")
	if n == 0 {
		return nil
	}
	at := time.Unix(int64(n)*1e8, int64(n))
	return &at
}

// open opens a file in both and keeps the pair.
func (w *twins) open(t *rapid.T) {
	flags := []int{
		os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_EXCL,
		os.O_RDWR | os.O_TRUNC, os.O_RDWR | os.O_CREATE | unix.O_DSYNC, os.O_RDONLY | os.O_CREATE, os.O_WRONLY,
		os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_TRUNC,
	}
	if w.tempFiles {
		flags = append(flags, os.O_RDWR|unix.O_TMPFILE, os.O_RDWR|unix.O_TMPFILE|os.O_EXCL, os.O_RDONLY|unix.O_TMPFILE)
	}
	name, perm := drawName(t), w.drawPerm(t)
	flag := rapid.SampledFrom(flags).Draw(t, "flag")
	var pair []File
	w.both(t, fmt.Sprintf("open %q %#x", name, flag), func(st FS) (any, error) {
		f, err := st.OpenFile(name, flag, perm)
		if err == nil {
			pair = append(pair, f)
		}
		return nil, err
	})
	if pair != nil {
		w.files = append(w.files, twinFile{pair[0], pair[1]})
	}
}

// bothFiles picks an open file and runs one operation on it in both.
func (w *twins) bothFiles(t *rapid.T, what string, f func(file File) (any, error)) {
	if len(w.files) == 0 {
		return
	}
	pair := rapid.SampledFrom(w.files).Draw(t, "file")
	w.both(t, what, func(st FS) (any, error) {
		if st == w.disk {
			return f(pair.disk)
		}
		return f(pair.mem)
	})
}

// fileOps are the operations of File.
var fileOps = map[string]func(*twins, *rapid.T){
	"read": func(w *twins, t *rapid.T) {
		off, n := drawPos.Draw(t, "off"), drawPos.Draw(t, "len")
		w.bothFiles(t, "read", func(f File) (any, error) { return readSome(f, off, n) })
	},
	"write":  (*twins).write,
	"write2": (*twins).write,
	"truncate": func(w *twins, t *rapid.T) {
		size := rapid.OneOf(drawPos, rapid.SampledFrom([]int64{-1, 8 << 40})).Draw(t, "size")
		w.bothFiles(t, "truncate", func(f File) (any, error) { return only(f.Truncate(size)) })
	},
	"fstat": func(w *twins, t *rapid.T) {
		w.bothFiles(t, "fstat", func(f File) (any, error) {
			a, err := f.Stat()
			return w.describe(a), err
		})
	},
	"sync": func(w *twins, t *rapid.T) {
		w.bothFiles(t, "sync", func(f File) (any, error) { return only(f.Sync()) })
	},
	"datasync": func(w *twins, t *rapid.T) {
		w.bothFiles(t, "datasync", func(f File) (any, error) { return only(f.Datasync()) })
	},
	"allocate": func(w *twins, t *rapid.T) {
		modes := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE}
		if w.zeroRange {
			modes = append(modes, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE)
		}
		mode, off := rapid.SampledFrom(modes).Draw(t, "mode"), drawPos.Draw(t, "off")
		n := rapid.OneOf(drawPos, rapid.Just(int64(-1))).Draw(t, "len")
		w.bothFiles(t, fmt.Sprintf("allocate %d %d %d", mode, off, n), func(f File) (any, error) { return only(f.Allocate(mode, off, n)) })
	},
	"seek": (*twins).seek,
	"fchmod": func(w *twins, t *rapid.T) {
		p := w.drawPerm(t)
		w.bothFiles(t, "fchmod", func(f File) (any, error) { return only(f.Chmod(p)) })
	},
	"fchown": func(w *twins, t *rapid.T) {
		uid, gid := w.drawID(t), w.drawID(t)
		w.bothFiles(t, "fchown", func(f File) (any, error) { return only(f.Chown(uid, gid)) })
	},
	"fchtimes": func(w *twins, t *rapid.T) {
		atime, mtime := drawTime(t), drawTime(t)
		w.bothFiles(t, "fchtimes", func(f File) (any, error) { return only(f.Chtimes(atime, mtime)) })
	},
	"linkto": func(w *twins, t *rapid.T) {
		name := drawName(t)
		w.bothFiles(t, "linkto "+name, func(f File) (any, error) { return only(f.LinkTo(name)) })
	},
	"close": func(w *twins, t *rapid.T) {
		if len(w.files) > 0 {
			i := rapid.IntRange(0, len(w.files)-1).Draw(t, "file")
			w.files[i].close(t)
			w.files = slices.Delete(w.files, i, i+1)
		}
	},
}

func (p twinFile) close(t *rapid.T) {
	if err := errors.Join(p.disk.Close(), p.mem.Close()); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func readSome(f File, off, n int64) (any, error) {
	buf := make([]byte, n)
	got, err := f.ReadAt(buf, off)
	return fmt.Sprintf("%d %x", got, buf[:got]), err
}

func (w *twins) write(t *rapid.T) {
	off, n := drawPos.Draw(t, "off"), rapid.OneOf(rapid.Int64Range(0, 700), drawPos).Draw(t, "len")
	p := make([]byte, n)
	fill := rapid.Byte().Draw(t, "fill")
	for i := range p {
		p[i] = fill + byte(i/7)
	}
	w.bothFiles(t, "write", func(f File) (any, error) { return f.WriteAt(p, off) })
}

// seek compares only that both answers are true: file systems differ in what
// they call data, but may not call data a hole.
func (w *twins) seek(t *rapid.T) {
	if len(w.files) == 0 {
		return
	}
	pair := rapid.SampledFrom(w.files).Draw(t, "file")
	off := rapid.OneOf(drawPos, rapid.Just(int64(-1))).Draw(t, "off")
	content, size := wholeFile(t, pair.mem)
	for _, f := range []File{pair.disk, pair.mem} {
		data, err := f.Seek(off, unix.SEEK_DATA)
		hole, errHole := f.Seek(off, unix.SEEK_HOLE)
		if off < 0 || off >= size {
			if !errors.Is(err, unix.ENXIO) || !errors.Is(errHole, unix.ENXIO) {
				t.Fatalf("seek from %d of %d: %v, %v", off, size, err, errHole)
			}
			continue
		}
		if errors.Is(err, unix.ENXIO) {
			data, err = size, nil
		}
		if err != nil || errHole != nil || data < off || hole < off || data > size || hole > size {
			t.Fatalf("seek from %d of %d: data %d %v, hole %d %v", off, size, data, err, hole, errHole)
		}
		if !zeros(content, off, data) || !zeros(content, hole, min(hole/4096*4096+4096, size)) {
			t.Fatalf("seek from %d of %d: data at %d, hole at %d, but what is called a hole is none", off, size, data, hole)
		}
	}
}

// wholeFile reads at most the first pages; what is behind is never written.
func wholeFile(t *rapid.T, f File) ([]byte, int64) {
	a, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, min(a.Size, 20*4096))
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b, a.Size
}

func zeros(b []byte, from, to int64) bool {
	for i := from; i < min(to, int64(len(b))); i++ {
		if b[i] != 0 {
			return false
		}
	}
	return true
}

// tree tells all there is below a directory, contents included.
func (w *twins) tree(t *rapid.T, st FS, dir string, out *strings.Builder) {
	list, err := st.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	for _, e := range list {
		name := path.Join(dir, e.Name)
		a, err := st.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, "%s %s", name, w.describe(a))
		attrs, err := userXattrs(st, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, attr := range attrs {
			v, err := st.Getxattr(name, attr)
			fmt.Fprintf(out, " %s=%x %v", attr, v, err)
		}
		switch e.Type {
		case unix.S_IFLNK:
			target, _ := st.Readlink(name)
			fmt.Fprintf(out, " -> %s\n", target)
		case unix.S_IFREG:
			f, err := st.OpenFile(name, os.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := wholeFile(t, f)
			fmt.Fprintf(out, " %x\n", b)
			f.Close()
		case unix.S_IFDIR:
			fmt.Fprintln(out)
			w.tree(t, st, name, out)
		}
	}
}

// newTwins probes what the real file system can do.
func newTwins(t *testing.T, dir string) *twins {
	disk := openDisk(t, dir)
	w := &twins{disk: disk, mem: NewMem(Options{}), root: os.Geteuid() == 0}
	if err := errors.Join(w.disk.Chmod(".", 0o755), w.disk.Chown(".", os.Geteuid(), os.Getegid())); err != nil {
		t.Fatal(err)
	}
	if err := w.mem.Chown(".", os.Geteuid(), os.Getegid()); err != nil {
		t.Fatal(err)
	}
	st, err := disk.Statfs()
	if err != nil {
		t.Fatal(err)
	}
	w.linksOfDirs = st.Type == unix.EXT4_SUPER_MAGIC || st.Type == unix.XFS_SUPER_MAGIC || st.Type == unix.TMPFS_MAGIC
	if f, err := disk.OpenFile(".", os.O_RDWR|unix.O_TMPFILE, 0o600); err == nil {
		w.tempFiles = true
		w.zeroRange = f.Allocate(unix.FALLOC_FL_ZERO_RANGE, 0, 1) == nil
		f.Close()
	}
	return w
}

func TestMemBehavesLikeDisk(t *testing.T) {
	base := t.TempDir()
	names, files := keys(nameOps), keys(fileOps)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		w := newTwins(t, dir)
		defer w.disk.Close()
		defer func() {
			for _, p := range w.files {
				p.close(rt)
			}
		}()
		for range rapid.OneOf(rapid.IntRange(1, 60), rapid.Just(200)).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "on a file") {
				fileOps[rapid.SampledFrom(files).Draw(rt, "op")](w, rt)
			} else {
				nameOps[rapid.SampledFrom(names).Draw(rt, "op")](w, rt)
			}
		}
		var disk, mem strings.Builder
		w.tree(rt, w.disk, ".", &disk)
		w.tree(rt, w.mem, ".", &mem)
		if disk.String() != mem.String() {
			rt.Fatalf("the trees differ; on disk:\n%s\nin memory:\n%s", disk.String(), mem.String())
		}
	})
}

func keys[V any](m map[string]V) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	sort.Strings(list)
	return list
}

func openDisk(t testing.TB, dir string) *Disk {
	t.Helper()
	d, err := OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
