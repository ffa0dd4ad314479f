package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Some tests need a process of their own: the test's binary is run again with
// this variable set, and TestMain turns to the child's part.
const childVariable = "AKVFS_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		os.Exit(m.Run())
	case "lock":
		childLocks()
	case "no openat2":
		childWithoutOpenat2()
	}
}

func child(t *testing.T, part, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+part)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	return cmd
}

// childLocks locks a file and waits to be killed.
func childLocks() {
	d, err := OpenDisk(".")
	if err == nil {
		_, err = d.TryLock("lock")
	}
	fmt.Println("locked:", err)
	os.Stdin.Read(make([]byte, 1))
}

func TestLockHoldsAcrossProcesses(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, "lock", dir)
	stdin := must(cmd.StdinPipe())(t)
	defer stdin.Close()
	out := must(cmd.StdoutPipe())(t)
	must0(t, cmd.Start())
	same(t, "child", must(bufio.NewReader(out).ReadString('\n'))(t), "locked: <nil>\n")
	d := openDisk(t, dir)
	defer d.Close()
	fails(t, errOf(d.TryLock("lock")), ErrLocked)
	must0(t, cmd.Process.Kill())
	cmd.Wait() // answers that it was killed
	must0(t, must(d.TryLock("lock"))(t).Close())
}

// childWithoutOpenat2 forbids itself openat2 the way an old kernel does.
func childWithoutOpenat2() {
	runtime.LockOSThread()
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_OPENAT2, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		fmt.Println(errno)
	}
	_, err := OpenDisk(".")
	fmt.Println(errors.Is(err, ErrNoOpenat2), err)
}

func TestKernelWithoutOpenat2(t *testing.T) {
	out := string(must(child(t, "no openat2", t.TempDir()).Output())(t))
	if !strings.HasPrefix(out, "true open .: openat2 is not available") {
		t.Fatal(out)
	}
	same(t, "a sandbox", withoutOpenat2(unix.EPERM), ErrNoOpenat2)
	same(t, "others", withoutOpenat2(unix.ENOTDIR), error(unix.ENOTDIR))
}

func TestOpenDisk(t *testing.T) {
	dir := t.TempDir()
	must0(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must0(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	must0(t, os.Symlink("real", filepath.Join(dir, "link")))
	fails(t, errOf(OpenDisk(filepath.Join(dir, "none"))), unix.ENOENT)
	fails(t, errOf(OpenDisk(filepath.Join(dir, "file"))), unix.ENOTDIR)
	fails(t, errOf(OpenDiskFD(-1)), unix.EBADF)
	d := openDisk(t, filepath.Join(dir, "link")) // the way to the root is the caller's
	defer d.Close()
	mustWrite(t, d, "a", "x")
	same(t, "content", string(must(os.ReadFile(filepath.Join(dir, "real", "a")))(t)), "x")
}

// TestOpenDiskFD keeps to the directory that was opened, wherever it goes and
// whatever covers it.
func TestOpenDiskFD(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backing")
	must0(t, os.Mkdir(dir, 0o700))
	f := must(os.Open(dir))(t)
	d := must(OpenDiskFD(int(f.Fd())))(t)
	defer d.Close()
	must0(t, f.Close()) // it was the caller's
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err == nil {
		defer unix.Unmount(dir, unix.MNT_DETACH)
	} else { // without the privilege to mount, the directory moves away
		must0(t, os.Rename(dir, dir+".moved"))
		must0(t, os.Mkdir(dir, 0o700))
	}
	mustWrite(t, d, "a", "beneath")
	must0(t, d.Mkdir("d", 0o700))
	mustWrite(t, d, "d/b", "deeper")
	same(t, "content", contentOf(t, d, "a")+contentOf(t, d, "d/b"), "beneathdeeper")
	same(t, "entries", len(must(d.ReadDir("."))(t)), 2)
	same(t, "entries of what covers it", len(must(os.ReadDir(dir))(t)), 0)
	must0(t, d.SyncDir("."))
	must(d.Statfs())(t)
}

func TestChmodByDescriptor(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	defer d.Close()
	mustWrite(t, d, "a", "")
	must0(t, d.Symlink("a", "link"))
	must0(t, chmodByDescriptor(d.root.fd, "a", 0o4711))
	same(t, "mode", must(d.Stat("a"))(t).Mode, unix.S_IFREG|0o4711)
	must0(t, chmodByDescriptor(d.root.fd, ".", 0o711))
	same(t, "mode", must(d.Stat("."))(t).Mode, unix.S_IFDIR|0o711)
	if err := chmodByDescriptor(d.root.fd, "link", 0o600); err == nil {
		t.Fatal("a link's mode was set")
	}
	same(t, "mode", must(d.Stat("a"))(t).Mode, unix.S_IFREG|0o4711)
}

func TestFindTypes(t *testing.T) {
	d := openDisk(t, t.TempDir())
	defer d.Close()
	mustWrite(t, d, "file", "")
	must0(t, d.Mkdir("dir", 0o700))
	entries := []DirEntry{{Name: "file"}, {Name: "gone"}, {Name: "dir"}, {Name: "told", Type: unix.S_IFIFO}}
	must0(t, findTypes(d.root.fd, &entries))
	same(t, "entries", listing(entries), fmt.Sprintf("dir:%o file:%o told:%o", unix.S_IFDIR, unix.S_IFREG, unix.S_IFIFO))
}

func TestDescriptorIsClosedByItsLastUser(t *testing.T) {
	fd := must(unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0))(t)
	d := descriptor{fd: fd}
	must0(t, d.use())
	must0(t, d.use())
	must0(t, d.close())
	fails(t, d.close(), unix.EBADF)
	fails(t, d.use(), unix.EBADF)
	d.release()
	must(unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0))(t) // still open
	d.release()
	fails(t, errOf(unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)), unix.EBADF)
}

// FuzzDirents: whatever the kernel should answer, the parser stays within it.
func FuzzDirents(f *testing.F) {
	dir := f.TempDir()
	must0(f, os.WriteFile(filepath.Join(dir, "name"), nil, 0o600))
	fd := must(unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0))(f)
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n := must(unix.Getdents(fd, buf))(f)
	f.Add(buf[:n])
	f.Add(buf[:n-1])
	f.Add(append([]byte(nil), make([]byte, 24)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range appendEntries(nil, b) {
			if e.Name == "." || e.Name == ".." || strings.ContainsRune(e.Name, 0) || len(e.Name) > len(b) {
				t.Fatalf("%q", e.Name)
			}
		}
	})
}

// FuzzName: what passes is clean and local, and only that.
func FuzzName(f *testing.F) {
	for _, s := range twinNames {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean := name != "" && path.Clean(name) == name && filepath.IsLocal(name) && !strings.ContainsRune(name, 0)
		if err := checkName(name); (err == nil) != clean {
			t.Fatalf("%q: %v, but clean is %v", name, err, clean)
		}
		if !clean {
			return
		}
		dir, base := split(name)
		if path.Join(dir, base) != name || strings.Contains(base, "/") {
			t.Fatalf("%q is split into %q and %q", name, dir, base)
		}
	})
}
