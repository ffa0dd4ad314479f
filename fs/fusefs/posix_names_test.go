package fusefs

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// list records a directory's entries with their types.
func (r *trace) list(name string) {
	entries, err := os.ReadDir(r.p(name))
	var names []string
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%s/%v", e.Name(), e.Type()))
	}
	slices.Sort(names)
	r.note("list "+name, err, strings.Join(names, " "))
}

func (r *trace) rename(from, to string, flags uint) {
	err := unix.Renameat2(unix.AT_FDCWD, r.p(from), unix.AT_FDCWD, r.p(to), flags)
	r.note(fmt.Sprintf("rename %s %s %#x", from, to, flags), err)
}

var nameCases = []posixCase{
	{"directories", func(r *trace) {
		r.mkdir("d", 0o750)
		r.mkdir("d", 0o750)
		r.mkdir("missing/d", 0o755)
		r.mkdir("d/e", 0o755)
		r.stat("d")
		r.note("rmdir full", unix.Rmdir(r.p("d")))
		r.file("d/f", "x", 0o600)
		r.note("rmdir file", unix.Rmdir(r.p("d/f")))
		r.note("unlink dir", unix.Unlink(r.p("d/e")))
		r.list("d")
		r.note("unlink", unix.Unlink(r.p("d/f")))
		r.note("unlink again", unix.Unlink(r.p("d/f")))
		r.note("rmdir", unix.Rmdir(r.p("d/e")))
		r.stat("d")
		r.note("rmdir", unix.Rmdir(r.p("d")))
		r.note("rmdir again", unix.Rmdir(r.p("d")))
		r.list(".")
	}},
	{"rename", func(r *trace) {
		for _, d := range []string{"d", "d/sub", "empty", "other"} {
			r.mkdir(d, 0o755)
		}
		r.file("f", "f", 0o600)
		r.file("g", "g", 0o600)
		r.file("d/sub/deep", "deep", 0o600)
		r.rename("f", "h", 0)
		r.rename("f", "h", 0)
		r.rename("h", "g", 0)
		r.read("g")
		r.rename("g", "d", 0)
		r.rename("d", "g", 0)
		r.rename("other", "d", 0)
		r.rename("d", "empty", 0)
		r.list("empty")
		r.read("empty/sub/deep")
		r.rename("empty", "empty/sub/inside", 0)
		r.rename("empty/sub/deep", "up", 0)
		r.read("up")
		r.rename("up", "missing/x", 0)
		r.rename("g", "g", 0)
		r.list(".")
	}},
	{"rename with flags", func(r *trace) {
		r.file("a", "a", 0o600)
		r.file("b", "b", 0o600)
		r.mkdir("d", 0o755)
		r.file("d/in", "in", 0o600)
		r.rename("a", "b", unix.RENAME_NOREPLACE)
		r.rename("a", "c", unix.RENAME_NOREPLACE)
		r.rename("c", "b", unix.RENAME_EXCHANGE)
		r.read("b")
		r.read("c")
		r.rename("d", "b", unix.RENAME_EXCHANGE)
		r.read("b/in")
		r.read("d")
		r.rename("b", "missing", unix.RENAME_EXCHANGE)
		r.rename("b", "c", unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE)
		r.rename("c", "b/out", unix.RENAME_EXCHANGE)
		r.rename("c", "b/in", unix.RENAME_EXCHANGE)
		r.read("b/in")
		r.read("c")
		r.list(".")
	}},
	{"long and strange names", func(r *trace) {
		for _, name := range []string{
			strings.Repeat("n", 255), strings.Repeat("ü", 127), " ", "...", "a\nb", "-", "*?", "\\", "%41", "\xff\xfe", "@x.name", ".hidden", ".akvfs~",
		} {
			r.file(name, name, 0o600)
			r.read(name)
			r.stat(name)
		}
		r.file(strings.Repeat("n", 256), "", 0o600)
		r.mkdir(strings.Repeat("n", 256), 0o755)
		r.list(".")
		deep := "."
		for range 30 {
			deep += "/" + strings.Repeat("d", 100)
			r.mkdir(deep, 0o755)
		}
		r.file(deep+"/f", "deep", 0o600)
		r.read(deep + "/f")
		r.open(deep+"/"+strings.Repeat("x", 255)+"/"+strings.Repeat("y/", 500), unix.O_RDONLY, 0)
	}},
	{"names that come and go", func(r *trace) {
		for i := range 20 {
			r.stat("f")
			r.file("f", fmt.Sprint(i), 0o600)
			r.read("f")
			r.note("unlink", unix.Unlink(r.p("f")))
			r.open("f", unix.O_RDONLY, 0)
			r.mkdir("f", 0o700)
			r.list("f")
			r.note("rmdir", unix.Rmdir(r.p("f")))
		}
	}},
	{"directory of a removed name", func(r *trace) {
		r.mkdir("d", 0o755)
		fd := r.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		r.note("rmdir", unix.Rmdir(r.p("d")))
		_, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_RDWR, 0o600)
		r.note("create in it", err)
		_, err = unix.ReadDirent(fd, make([]byte, 4096))
		r.note("list it", err)
		r.note("fsync", unix.Fsync(fd))
		r.mkdir("d", 0o755)
		r.list("d")
	}},
	{"rewind and seek in a directory", func(r *trace) {
		for i := range 20 {
			r.file(fmt.Sprint("f", i), "", 0o600)
		}
		d, err := os.Open(r.p("."))
		must(r.t, err)
		defer d.Close()
		rest := func() []string {
			names, err := d.Readdirnames(-1)
			must(r.t, err)
			slices.Sort(names)
			return names
		}
		seek := func(off int64) {
			_, err := unix.Seek(int(d.Fd()), off, 0)
			r.note("seek", err)
		}
		r.note("all", nil, rest())
		r.file("later", "", 0o600)
		r.note("unlink", unix.Unlink(r.p("f7")))
		r.note("at the end", nil, rest())
		seek(0)
		r.note("again", nil, rest())
		seek(0)
		b := make([]byte, 200)
		n, err := unix.ReadDirent(int(d.Fd()), b)
		must(r.t, err)
		_, _, first := unix.ParseDirent(b[:n], -1, nil)
		here, err := unix.Seek(int(d.Fd()), 0, 1)
		r.note("tell", err)
		after := rest()
		seek(here)
		again := rest()
		r.note("from there", nil, len(first) > 0, slices.Equal(after, again), len(first)+len(after))
	}},
	{"sync of directories", func(r *trace) {
		r.mkdir("d", 0o755)
		fd := r.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		r.file("d/f", "x", 0o600)
		r.note("fsync", unix.Fsync(fd))
		r.rename("d", "e", 0)
		r.note("fdatasync", unix.Fdatasync(fd))
	}},
	{"many entries", func(r *trace) {
		const n = 1500
		for i := range n {
			r.note("create", os.WriteFile(r.p(fmt.Sprintf("file-%04d", i)), nil, 0o600))
		}
		r.list(".")
		for i := 0; i < n; i += 2 {
			r.note("unlink", unix.Unlink(r.p(fmt.Sprintf("file-%04d", i))))
		}
		r.list(".")
	}},
}

var linkCases = []posixCase{
	{"hard links", func(r *trace) {
		link := func(from, to string) {
			r.note("link "+from+" "+to, unix.Link(r.p(from), r.p(to)))
		}
		r.file("a", "shared", 0o640)
		r.mkdir("d", 0o755)
		link("a", "b")
		link("a", "d/c")
		link("a", "b")
		link("d", "e")
		link("missing", "x")
		for _, name := range []string{"a", "b", "d/c"} {
			r.stat(name)
		}
		fd := r.open("b", unix.O_RDWR, 0)
		r.pwrite(fd, "SHARED by all", 0)
		r.read("a")
		r.note("unlink a", unix.Unlink(r.p("a")))
		r.fstat(fd)
		r.read("d/c")
		r.note("chmod d/c", unix.Chmod(r.p("d/c"), 0o600))
		r.stat("b")
		r.rename("b", "d/c", 0) // the same object: nothing happens
		r.stat("b")
		r.note("unlink b", unix.Unlink(r.p("b")))
		r.note("unlink d/c", unix.Unlink(r.p("d/c")))
		r.fstat(fd)
		r.pread(fd, 20, 0)
		var a, b unix.Stat_t
		r.file("x", "", 0o600)
		link("x", "y")
		must(r.t, unix.Stat(r.p("x"), &a))
		must(r.t, unix.Stat(r.p("y"), &b))
		r.note("one inode", nil, a.Ino == b.Ino)
		r.note("mkfifo", unix.Mkfifo(r.p("fifo"), 0o600))
		link("fifo", "fifo2")
		r.stat("fifo2")
	}},
	{"symbolic links", func(r *trace) {
		symlink := func(target, name string) {
			r.note("symlink "+target[:min(len(target), 20)]+" "+name, unix.Symlink(target, r.p(name)))
		}
		readlink := func(name string) {
			b := make([]byte, 5000)
			n, err := unix.Readlink(r.p(name), b)
			r.note("readlink "+name, err, string(b[:max(n, 0)]))
		}
		r.file("f", "target", 0o600)
		symlink("f", "l")
		symlink("f", "l")
		symlink("nowhere", "dangling")
		symlink("loop", "loop")
		symlink("/", "absolute")
		symlink("..", "up")
		symlink(strings.Repeat("x", 1000), "long")
		symlink("", "empty")
		symlink(strings.Repeat("x", 5000), "too long")
		for _, name := range []string{"l", "dangling", "loop", "absolute", "up", "long", "f"} {
			readlink(name)
			r.stat(name)
		}
		r.read("l")
		r.read("dangling")
		r.read("loop")
		fd := r.open("dangling", unix.O_CREAT|unix.O_RDWR, 0o600)
		r.pwrite(fd, "made through the link", 0)
		r.read("nowhere")
		r.note("link to the link", unix.Link(r.p("l"), r.p("l2")))
		readlink("l2")
		r.note("lchown", unix.Lchown(r.p("l"), 7, 8))
		r.stat("l")
		r.stat("f")
		r.note("unlink", unix.Unlink(r.p("l")))
		r.read("f")
		r.rename("l2", "f", 0)
		readlink("f")
	}},
}
