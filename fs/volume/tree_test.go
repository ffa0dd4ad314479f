package volume

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// eachNames runs a test on a volume of each kind of names.
func eachNames(t *testing.T, f func(t *testing.T, st *store.Mem, v *Volume)) {
	for _, names := range []string{NamesEncrypted, NamesPlain} {
		t.Run(names, func(t *testing.T) {
			keys := newTestKeys(t, 31)
			st := store.NewMem(store.Options{})
			create(t, st, keys, names, 1<<20)
			v := open(t, st, keys)
			f(t, st, v)
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			if n := v.Stats().IntegrityErrors; n > 0 {
				t.Fatalf("%d integrity errors", n)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErrno(t *testing.T, err error, want syscall.Errno) {
	t.Helper()
	if Errno(err) != want {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func put(t *testing.T, v *Volume, name, content string) {
	t.Helper()
	h, err := v.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640, Owner{})
	must(t, err)
	_, err = h.WriteAt([]byte(content), 0)
	must(t, errors.Join(err, h.Close()))
}

func list(t *testing.T, v *Volume, dir string) []string {
	t.Helper()
	entries, err := v.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 255)
	odd := []string{"a", "ä ö\n", "with space", "-rf", "@x", "x.name", ".hidden", strings.Repeat("y", 175), strings.Repeat("z", 176), long}
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		for _, name := range odd {
			put(t, v, name, name)
			must(t, readBack(v, name, []byte(name)))
		}
		want := slices.Sorted(slices.Values(odd))
		if got := list(t, v, "."); !slices.Equal(got, want) {
			t.Fatalf("listed %q, want %q", got, want)
		}
		must(t, v.Rename(long, "short", 0))
		must(t, v.Rename("a", long, 0))
		must(t, v.Link(long, strings.Repeat("l", 200)))
		must(t, v.Unlink(long))
		must(t, readBack(v, strings.Repeat("l", 200), []byte("a")))
		for _, name := range list(t, v, ".") {
			must(t, v.Unlink(name))
		}
		entries, err := st.ReadDir(".")
		if err != nil || len(entries) != 1 {
			t.Fatalf("left behind: %v, %v", entries, err)
		}
		_, err = v.OpenFile(strings.Repeat("x", 256), os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		wantErrno(t, err, syscall.ENAMETOOLONG)
	})
}

// TestMetadataIsHidden: nothing of .akvfs can be named through the tree.
func TestMetadataIsHidden(t *testing.T) {
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		if got := list(t, v, "."); len(got) != 0 {
			t.Fatalf("a new volume has %q", got)
		}
		for _, name := range []string{".akvfs", ".akvfs/volume.json", ".akvfs/journal/000"} {
			_, err := v.Stat(name)
			wantErrno(t, err, syscall.ENOENT)
			_, err = v.OpenFile(name, os.O_RDWR, 0, Owner{})
			wantErrno(t, err, syscall.ENOENT)
		}
		before, err := Metadata(st).ReadFile(InfoFile)
		must(t, err)
		_ = v.Rename(".akvfs", "mine", 0)
		_ = v.Rmdir(".akvfs")
		after, err := Metadata(st).ReadFile(InfoFile)
		if err != nil || !bytes.Equal(before, after) {
			t.Fatal("the metadata was changed through the tree")
		}
	})
}

func TestLinksAndAttributes(t *testing.T) {
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		must(t, v.Symlink("../some/target", "link", Owner{}))
		target, err := v.Readlink("link")
		attr, err2 := v.Stat("link")
		if err != nil || err2 != nil || target != "../some/target" || attr.Size != int64(len(target)) {
			t.Fatalf("%q, size %d, %v, %v", target, attr.Size, err, err2)
		}
		put(t, v, "f", "content")
		must(t, v.Setxattr("f", "user.color", []byte("blue"), 0))
		must(t, v.Setxattr("f", "security.capability", []byte{1, 2, 3}, unix.XATTR_CREATE))
		value, err := v.Getxattr("f", "user.color")
		if err != nil || string(value) != "blue" {
			t.Fatalf("%q, %v", value, err)
		}
		attrs, err := v.Listxattr("f")
		slices.Sort(attrs)
		if err != nil || !slices.Equal(attrs, []string{"security.capability", "user.color"}) {
			t.Fatalf("%q, %v", attrs, err)
		}
		must(t, v.Removexattr("f", "user.color"))
		_, err = v.Getxattr("f", "user.color")
		wantErrno(t, err, syscall.ENODATA)
		wantErrno(t, v.Setxattr("f", "system.posix_acl_access", nil, 0), syscall.EOPNOTSUPP)
	})
}

func TestFilesWithoutNames(t *testing.T) {
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		put(t, v, "f", "before")
		h, err := v.OpenFile("f", os.O_RDWR, 0, Owner{})
		must(t, err)
		must(t, v.Unlink("f"))
		put(t, v, "f", "another file")
		_, err = h.WriteAt([]byte("AFTER!"), 0)
		must(t, errors.Join(err, h.Sync(true), v.Checkpoint()))
		got := make([]byte, 6)
		if _, err := h.ReadAt(got, 0); err != nil || string(got) != "AFTER!" {
			t.Fatalf("%q, %v", got, err)
		}
		must(t, readBack(v, "f", []byte("another file")))
		must(t, h.Close())

		h, err = v.OpenTemp(".", 0o600, Owner{})
		must(t, err)
		_, err = h.WriteAt([]byte("from nowhere"), 0)
		must(t, errors.Join(err, h.LinkTo("named"), h.Sync(true), h.Close()))
		must(t, readBack(v, "named", []byte("from nowhere")))
	})
}

func TestRenames(t *testing.T) {
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		must(t, v.Mkdir("d", 0o755, Owner{}))
		put(t, v, "d/a", "A")
		put(t, v, "b", "B")
		a, err := v.OpenFile("d/a", os.O_RDWR, 0, Owner{})
		must(t, err)
		wantErrno(t, v.Rename("b", "d/a", unix.RENAME_NOREPLACE), syscall.EEXIST)
		must(t, v.Rename("b", "d/a", unix.RENAME_EXCHANGE))
		must(t, readBack(v, "b", []byte("A")))
		must(t, v.Rename("d", "e", 0))
		must(t, v.Rename("e/a", "b", 0)) // over a, which is open
		must(t, readBack(v, "b", []byte("B")))
		got := make([]byte, 1)
		if _, err := a.ReadAt(got, 0); (err != nil && !errors.Is(err, io.EOF)) || string(got) != "A" {
			t.Fatalf("the replaced file reads %q, %v", got, err)
		}
		must(t, a.Close())
		wantErrno(t, v.Rmdir("."), syscall.EBUSY)
		must(t, v.Rmdir("e"))
	})
}

func TestReadOnly(t *testing.T) {
	keys := newTestKeys(t, 32)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	put(t, v, "f", "content")
	must(t, v.Close())
	st.SetReadOnly(true)
	v, err := Open(st, keys, Options{ReadOnly: true})
	must(t, err)
	must(t, readBack(v, "f", []byte("content")))
	_, err = v.OpenFile("f", os.O_RDWR, 0, Owner{})
	wantErrno(t, err, syscall.EROFS)
	for _, err := range []error{v.Unlink("f"), v.Mkdir("d", 0o700, Owner{}), v.Rename("f", "g", 0), v.Chmod("f", 0o600), v.Truncate("f", 0)} {
		wantErrno(t, err, syscall.EROFS)
	}
	must(t, v.Close())
}

func TestOneAtATime(t *testing.T) {
	keys := newTestKeys(t, 33)
	st := onDisk(t)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	if _, err := Open(st, keys, Options{}); !errors.Is(err, ErrInUse) {
		t.Fatalf("a second opening: %v", err)
	}
	must(t, v.Close())
	must(t, open(t, st, keys).Close())
}

// TestUseAfterClose: a handle that outlives its volume answers errors.
func TestUseAfterClose(t *testing.T) {
	keys := newTestKeys(t, 34)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	put(t, v, "f", "content")
	h, err := v.OpenFile("f", os.O_RDWR, 0, Owner{})
	must(t, err)
	must(t, v.Close())
	_, err = h.ReadAt(make([]byte, 4), 0)
	wantErrno(t, err, syscall.EBADF)
	_, err = h.WriteAt(make([]byte, 1<<20), 0)
	wantErrno(t, err, syscall.EBADF)
	wantErrno(t, h.Truncate(100), syscall.EBADF)
	must(t, h.Truncate(0))
}

func TestOwnersAndModes(t *testing.T) {
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		must(t, v.Mkdir("d", 0o755, Owner{UID: 10, GID: 20}))
		must(t, v.Chmod("d", 0o2755))
		must(t, v.Chown("d", 10, 77))
		must(t, v.Chmod("d", 0o2755))
		h, err := v.OpenFile("d/f", os.O_RDWR|os.O_CREATE, 0o640, Owner{UID: 11, GID: 21})
		must(t, err)
		attr, err := h.Stat()
		if err != nil || attr.UID != 11 || attr.GID != 77 || attr.Mode&0o7777 != 0o640 {
			t.Fatalf("%+v, %v", attr, err)
		}
		must(t, h.Close())
	})
}

func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"00000000-0000-0000-0000-000000000001","cluster":"c","names":"plain","created":"2026-01-02T03:04:05Z","features":[],"mac":""}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := parseInfo(data)
		if err == nil && (info.Format != FormatVersion || (info.Names != NamesPlain && info.Names != NamesEncrypted)) {
			t.Fatalf("accepted %+v", info)
		}
	})
}

// TestRmdirAfterOrphan: a directory that looks empty can be removed, although
// a crash left a file for a long name in it.
func TestRmdirAfterOrphan(t *testing.T) {
	st := store.NewMem(store.Options{})
	keys := newTestKeys(t, 9)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	defer v.Close()
	must(t, v.Mkdir("d", 0o700, Owner{}))
	long := "d/" + strings.Repeat("n", 200)
	put(t, v, long, "x")
	backing, err := v.names.backing(long)
	must(t, err)
	wantErrno(t, v.Rmdir("d"), syscall.ENOTEMPTY)
	must(t, st.Unlink(backing)) // and not the file for its name
	must(t, v.Rmdir("d"))
}

// TestSetRoot: the tree's root has an owner and a mode that the backing
// directory, closed to others, does not show.
func TestSetRoot(t *testing.T) {
	st := store.NewMem(store.Options{})
	keys := newTestKeys(t, 10)
	create(t, st, keys, NamesEncrypted, 1<<20)
	must(t, st.Chmod(".", 0o700))
	must(t, SetRoot(st, 0o755, 7, 8))
	must(t, SetRoot(st, 0o2750, 1001, 1002))
	v := open(t, st, keys)
	shows := func(mode, uid, gid uint32) {
		t.Helper()
		a, err := v.Stat(".")
		must(t, err)
		if a.Mode != unix.S_IFDIR|mode || a.UID != uid || a.GID != gid {
			t.Errorf("the root is %o of %d:%d", a.Mode, a.UID, a.GID)
		}
		if a, err := st.Stat("."); err != nil || a.Mode&0o7777 != 0o700 || a.UID != 0 {
			t.Errorf("the backing directory is %o of %d, %v", a.Mode, a.UID, err)
		}
	}
	shows(0o2750, 1001, 1002)
	must(t, v.Mkdir("d", 0o700, Owner{5, 6}))
	if a, err := v.Stat("d"); err != nil || a.Mode&0o7777 != 0o2700 || a.UID != 5 || a.GID != 1002 {
		t.Errorf("below a setgid root: %o of %d:%d, %v", a.Mode, a.UID, a.GID, err)
	}
	must(t, v.Chmod(".", 0o711))
	must(t, v.Chown(".", 3, -1))
	must(t, v.SyncDir("."))
	shows(0o711, 3, 1002)
	must(t, v.Close())
	v = open(t, st, keys)
	shows(0o711, 3, 1002)
	if got := list(t, v, "."); len(got) != 1 {
		t.Errorf("the tree shows %q", got)
	}
	must(t, v.Close())
}
