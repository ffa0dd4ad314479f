package store

// Conformance of what has to do with names, links and attributes.

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testDirectories(t *testing.T, st FS) {
	must0(t, st.Mkdir("d", 0o755))
	fails(t, st.Mkdir("d", 0o755), syscall.EEXIST)
	fails(t, st.Mkdir("x/y", 0o755), syscall.ENOENT)
	var want []string
	for i := range 700 { // more than one buffer full
		name := fmt.Sprintf("%s-%d", strings.Repeat("long", 30), i)
		want = append(want, name)
		mustWrite(t, st, "d/"+name, "")
	}
	must0(t, st.Mkdir("d/sub", 0o700))
	must0(t, st.Symlink("x", "d/link"))
	want = append(want, "sub", "link")
	got := map[string]DirEntry{}
	for _, e := range must(st.ReadDir("d"))(t) {
		got[e.Name] = e
	}
	same(t, "entries", len(got), len(want))
	for _, name := range want {
		a := must(st.Stat("d/" + name))(t)
		same(t, name, got[name], DirEntry{name, a.Ino, a.Mode & unix.S_IFMT})
	}
	fails(t, st.Rmdir("d"), syscall.ENOTEMPTY)
	fails(t, st.Unlink("d"), syscall.EISDIR)
	fails(t, st.Rmdir("d/link"), syscall.ENOTDIR)
	fails(t, errOf(st.ReadDir("d/link")), syscall.ELOOP)
	fails(t, errOf(st.ReadDir("d/"+want[0])), syscall.ENOTDIR)
	fails(t, st.SyncDir("d/"+want[0]), syscall.ENOTDIR)
	fails(t, st.SyncDir("none"), syscall.ENOENT)
	must0(t, st.Rmdir("d/sub"))
	must0(t, st.SyncDir("d"))
}

// testDeep goes deeper than a path the kernel takes at once.
func testDeep(t *testing.T, st FS) {
	step := strings.Repeat("s", 250)
	dir := step
	for range 20 {
		must0(t, st.Mkdir(dir, 0o700))
		dir += "/" + step
	}
	mustWrite(t, st, dir, "deep")
	same(t, "content", contentOf(t, st, dir), "deep")
	same(t, "size", must(st.Stat(dir))(t).Size, 4)
	up := dir[:len(dir)-len(step)-1]
	same(t, "entries", len(must(st.ReadDir(up))(t)), 1)
	must0(t, st.SyncDir(up))
	must0(t, st.Rename(dir, "top", 0))
	must0(t, st.Rename("top", dir, 0))
	fails(t, errOf(st.Stat(strings.Repeat("x", 256))), syscall.ENAMETOOLONG)
	fails(t, errOf(st.Stat(strings.Repeat("x", 5000)+"/a")), syscall.ENAMETOOLONG)
	fails(t, errOf(st.Stat("top/"+dir)), syscall.ENOENT)
}

func testMalformed(t *testing.T, st FS) {
	must0(t, st.Mkdir("d", 0o700))
	mustWrite(t, st, "d/a", "x")
	now := time.Now()
	for _, name := range []string{"", "/", "/etc/passwd", "..", "../x", "d/..", "d/../a", "d/../../etc", "./d", "d/.", "d//a", "d/", "a\x00b"} {
		for op, err := range map[string]error{
			"open":    errOf(st.OpenFile(name, rwc, 0o600)),
			"stat":    errOf(st.Stat(name)),
			"readdir": errOf(st.ReadDir(name)), "readlink": errOf(st.Readlink(name)),
			"mkdir": st.Mkdir(name, 0o700), "mknod": st.Mknod(name, unix.S_IFIFO, 0), "symlink": st.Symlink("x", name),
			"link": st.Link("d/a", name), "link from": st.Link(name, "y"), "unlink": st.Unlink(name), "rmdir": st.Rmdir(name),
			"rename": st.Rename("d", name, 0), "rename from": st.Rename(name, "y", 0),
			"chmod": st.Chmod(name, 0), "chown": st.Chown(name, 1, 1), "chtimes": st.Chtimes(name, &now, &now),
			"getxattr": errOf(st.Getxattr(name, "user.x")), "setxattr": st.Setxattr(name, "user.x", nil, 0),
			"listxattr": errOf(st.Listxattr(name)), "removexattr": st.Removexattr(name, "user.x"),
			"syncdir": st.SyncDir(name), "lock": errOf(st.(Locker).TryLock(name)),
		} {
			if !errors.Is(err, syscall.EINVAL) {
				t.Fatalf("%s of %q: %v", op, name, err)
			}
		}
	}
}

func testLinksNotFollowed(t *testing.T, st FS) {
	must0(t, st.Mkdir("real", 0o755))
	mustWrite(t, st, "real/a", "secret")
	must0(t, st.Symlink("real", "dir"))
	must0(t, st.Symlink("real/a", "file"))
	same(t, "target", must(st.Readlink("file"))(t), "real/a")
	same(t, "type", must(st.Stat("file"))(t).Mode&unix.S_IFMT, unix.S_IFLNK)
	for op, err := range map[string]error{
		"open": errOf(st.OpenFile("dir/a", os.O_RDONLY, 0)), "create": errOf(st.OpenFile("dir/new", rwc, 0o600)),
		"stat": errOf(st.Stat("dir/a")), "mkdir": st.Mkdir("dir/x", 0o700), "unlink": st.Unlink("dir/a"),
		"rename": st.Rename("dir/a", "b", 0), "rename to": st.Rename("real/a", "dir/b", 0), "link": st.Link("dir/a", "b"),
		"chmod": st.Chmod("dir/a", 0), "getxattr": errOf(st.Getxattr("dir/a", "user.x")),
		"readdir": errOf(st.ReadDir("dir")), "syncdir": st.SyncDir("dir"), "through": st.Symlink("x", "dir/y"),
	} {
		if !errors.Is(err, syscall.ELOOP) {
			t.Fatalf("%s through a link: %v", op, err)
		}
	}
	fails(t, errOf(st.OpenFile("file", rwc|os.O_EXCL, 0o600)), syscall.EEXIST)
	must0(t, st.Link("file", "second"))
	same(t, "a link of the link", must(st.Readlink("second"))(t), "real/a")
	must0(t, st.Unlink("file"))
	same(t, "content", contentOf(t, st, "real/a"), "secret")
}

func testRename(t *testing.T, st FS) {
	mustWrite(t, st, "a", "a")
	mustWrite(t, st, "b", "b")
	must0(t, st.Mkdir("d", 0o755))
	fails(t, st.Rename("a", "b", unix.RENAME_NOREPLACE), syscall.EEXIST)
	fails(t, st.Rename("a", "none", unix.RENAME_EXCHANGE), syscall.ENOENT)
	fails(t, st.Rename("a", "d", 0), syscall.EISDIR)
	fails(t, st.Rename("d", "a", 0), syscall.ENOTDIR)
	fails(t, st.Rename("d", "d/x", 0), syscall.EINVAL)
	fails(t, st.Rename("a", "b", unix.RENAME_WHITEOUT), syscall.EINVAL)
	fails(t, st.Rename("none", "x", 0), syscall.ENOENT)
	must0(t, st.Rename("a", "b", unix.RENAME_EXCHANGE))
	same(t, "exchanged", contentOf(t, st, "a")+contentOf(t, st, "b"), "ba")
	must0(t, st.Rename("a", "d", unix.RENAME_EXCHANGE))
	same(t, "a file where the directory was", contentOf(t, st, "d"), "b")
	must0(t, st.Rename("d", "a/f", unix.RENAME_NOREPLACE))
	must0(t, st.Rename("b", "a/f", 0))
	same(t, "replaced", contentOf(t, st, "a/f"), "a")
	fails(t, errOf(st.Stat("b")), syscall.ENOENT)
}

func testHardLinks(t *testing.T, st FS) {
	mustWrite(t, st, "a", "x")
	must0(t, st.Mkdir("d", 0o755))
	must0(t, st.Link("a", "d/b"))
	fails(t, st.Link("a", "d/b"), syscall.EEXIST)
	fails(t, st.Link("d", "e"), syscall.EPERM)
	mustWrite(t, st, "d/b", "both")
	same(t, "content", contentOf(t, st, "a"), "both")
	same(t, "links", must(st.Stat("a"))(t).Nlink, 2)
	same(t, "inode", must(st.Stat("a"))(t).Ino, must(st.Stat("d/b"))(t).Ino)
	must0(t, st.Unlink("a"))
	same(t, "content", contentOf(t, st, "d/b"), "both")
	same(t, "links", must(st.Stat("d/b"))(t).Nlink, 1)
}

func testUnlinkedOpen(t *testing.T, st FS) {
	mustWrite(t, st, "a", "old")
	mustWrite(t, st, "b", "new")
	f := must(st.OpenFile("a", os.O_RDWR, 0))(t)
	must0(t, st.Rename("b", "a", 0))
	same(t, "links", must(f.Stat())(t).Nlink, 0)
	must(f.WriteAt([]byte("der"), 3))(t)
	same(t, "the unlinked one", fileContent(t, f), "oldder")
	same(t, "the named one", contentOf(t, st, "a"), "new")
	must0(t, f.Truncate(1))
	must0(t, f.Sync())
	fails(t, f.LinkTo("again"), syscall.ENOENT)
	must0(t, f.Close())
}

func testNameless(t *testing.T, st FS) {
	must0(t, st.Mkdir("d", 0o755))
	f, err := st.OpenFile("d", os.O_RDWR|unix.O_TMPFILE, 0o640)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return // this file system has none, as FS allows
	}
	must0(t, err)
	defer f.Close()
	must(f.WriteAt([]byte("x"), 0))(t)
	same(t, "links", must(f.Stat())(t).Nlink, 0)
	same(t, "mode", must(f.Stat())(t).Mode, unix.S_IFREG|0o640)
	same(t, "entries", len(must(st.ReadDir("d"))(t)), 0)
	mustWrite(t, st, "taken", "")
	fails(t, f.LinkTo("taken"), syscall.EEXIST)
	fails(t, f.LinkTo("../out"), syscall.EINVAL)
	must0(t, f.LinkTo("d/named"))
	must0(t, f.LinkTo("again"))
	same(t, "content", contentOf(t, st, "d/named"), "x")
	same(t, "links", must(f.Stat())(t).Nlink, 2)
	never := must(st.OpenFile(".", os.O_RDWR|unix.O_TMPFILE|os.O_EXCL, 0o600))(t)
	defer never.Close()
	fails(t, never.LinkTo("name"), syscall.ENOENT)
	fails(t, errOf(st.OpenFile("taken", os.O_RDWR|unix.O_TMPFILE, 0o600)), syscall.ENOTDIR)
}

func testTimes(t *testing.T, st FS) {
	old, older := time.Unix(1e9, 123456789), time.Unix(1e8, 1)
	f := createFile(t, st, "a")
	defer f.Close()
	must0(t, st.Chtimes("a", &older, &old))
	a := must(st.Stat("a"))(t)
	same(t, "atime", a.Atime, older)
	same(t, "mtime", a.Mtime, old)
	must0(t, f.Chtimes(nil, &older))
	a = must(f.Stat())(t)
	same(t, "atime", a.Atime, older)
	same(t, "mtime", a.Mtime, older)
	must0(t, f.Chtimes(&old, nil))
	same(t, "atime", must(f.Stat())(t).Atime, old)
	must(f.WriteAt([]byte("x"), 0))(t)
	same(t, "a write moves mtime", must(f.Stat())(t).Mtime.After(old), true)
	must0(t, st.Chtimes("a", nil, nil))
	must0(t, st.Mkdir("d", 0o700))
	must0(t, st.Chtimes("d", &old, &old))
	mustWrite(t, st, "d/x", "")
	same(t, "an entry moves mtime", must(st.Stat("d"))(t).Mtime.After(old), true)
}

func testBirth(t *testing.T, st FS) {
	mustWrite(t, st, "a", "")
	a := must(st.Stat("a"))(t)
	must0(t, st.Rename("a", "b", 0))
	b := must(st.Stat("b"))(t)
	same(t, "identity", [2]any{a.Ino, a.Btime}, [2]any{b.Ino, b.Btime})
	mustWrite(t, st, "a", "")
	if c := must(st.Stat("a"))(t); c.Ino == b.Ino {
		t.Fatalf("two files of inode %d", c.Ino)
	}
}

func testLinkMeta(t *testing.T, st FS) {
	mustWrite(t, st, "a", "")
	must0(t, st.Chmod("a", 0o600))
	must0(t, st.Symlink("a", "link"))
	before := must(st.Stat("a"))(t)
	old := time.Unix(1e9, 5)
	must0(t, st.Chtimes("link", &old, &old))
	must0(t, st.Chown("link", os.Geteuid(), -1))
	fails(t, st.Chmod("link", 0o777), syscall.EOPNOTSUPP)
	fails(t, st.Setxattr("link", "user.x", nil, 0), syscall.EPERM)
	fails(t, errOf(st.Getxattr("link", "user.x")), syscall.ENODATA)
	same(t, "link's mtime", must(st.Stat("link"))(t).Mtime, old)
	same(t, "the file", must(st.Stat("a"))(t), before)
}

func testXattr(t *testing.T, st FS) {
	mustWrite(t, st, "a", "")
	must0(t, st.Mkdir("d", 0o700))
	must0(t, st.Setxattr("d", "user.dir", []byte("d"), 0))
	must0(t, st.Setxattr(".", "user.root", []byte("r"), 0))
	same(t, "of a directory", string(must(st.Getxattr("d", "user.dir"))(t)), "d")
	same(t, "of the root", string(must(st.Getxattr(".", "user.root"))(t)), "r")
	must0(t, st.Removexattr(".", "user.root"))
	fails(t, errOf(st.Getxattr("a", "user.x")), syscall.ENODATA)
	fails(t, st.Setxattr("a", "user.x", nil, unix.XATTR_REPLACE), syscall.ENODATA)
	long := bytes.Repeat([]byte("v"), 1000)
	must0(t, st.Setxattr("a", "user.x", long, unix.XATTR_CREATE))
	fails(t, st.Setxattr("a", "user.x", nil, unix.XATTR_CREATE), syscall.EEXIST)
	same(t, "value", string(must(st.Getxattr("a", "user.x"))(t)), string(long))
	must0(t, st.Setxattr("a", "user.empty", nil, 0))
	same(t, "empty value", len(must(st.Getxattr("a", "user.empty"))(t)), 0)
	for i := range 4 { // the list outgrows the first buffer
		must0(t, st.Setxattr("a", fmt.Sprintf("user.%0100d", i), nil, 0))
	}
	list, err := userXattrs(st, "a")
	same(t, "attributes", fmt.Sprint(len(list), err), "6 <nil>")
	same(t, "one of them", slices.Contains(list, "user.empty"), true)
	must0(t, st.Removexattr("a", "user.x"))
	fails(t, st.Removexattr("a", "user.x"), syscall.ENODATA)
	fails(t, st.Setxattr("a", "nospace.x", nil, 0), syscall.EOPNOTSUPP)
	fails(t, errOf(st.Listxattr("none")), syscall.ENOENT)
}

func testMknod(t *testing.T, st FS) {
	must0(t, st.Mknod("plain", 0o640, 0))
	same(t, "type", must(st.Stat("plain"))(t).Mode, unix.S_IFREG|0o640)
	fails(t, st.Mknod("plain", unix.S_IFIFO|0o600, 0), syscall.EEXIST)
	fails(t, st.Mknod("d", unix.S_IFDIR|0o600, 0), syscall.EPERM)
	fails(t, st.Mknod("l", unix.S_IFLNK|0o600, 0), syscall.EINVAL)
	if os.Geteuid() != 0 {
		return // devices are for root
	}
	must0(t, st.Mknod("dev", unix.S_IFCHR|0o600, unix.Mkdev(1, 3)))
	a := must(st.Stat("dev"))(t)
	same(t, "device", a.Rdev, unix.Mkdev(1, 3))
	same(t, "mode", a.Mode, unix.S_IFCHR|0o600)
	fails(t, errOf(st.OpenFile("dev", os.O_RDWR, 0)), syscall.ENXIO)
}
