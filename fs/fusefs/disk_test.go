package fusefs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is a file system of its own on a loop device.
type disk struct{ dir, device string }

func newDisk(t *testing.T, fsType, options string) disk {
	t.Helper()
	base := t.TempDir()
	d := disk{dir: filepath.Join(base, "disk")}
	image := filepath.Join(base, "image")
	must(t, os.Mkdir(d.dir, 0o755))
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 1<<30))
	runs(t, "mkfs."+fsType, "-q", image)
	d.device = runs(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() { runs(t, "losetup", "--detach", d.device) })
	must(t, unix.Mount(d.device, d.dir, fsType, 0, options))
	t.Cleanup(func() { must(t, unix.Unmount(d.dir, unix.MNT_DETACH)) })
	must(t, os.Chmod(d.dir, 0o755))
	return d
}

// runs runs a program that must succeed, and gives its output.
func runs(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestBackingTurnsReadOnly: when the file system below has become read-only on
// an error, what was closed can still be opened and read; nothing can be
// written, and no sync claims it.
func TestBackingTurnsReadOnly(t *testing.T) {
	d := newDisk(t, "ext4", "errors=remount-ro")
	backing := filepath.Join(d.dir, "backing")
	must(t, os.Mkdir(backing, 0o755))
	m := mount(t, serveArgs{Backend: "engine", Backing: backing})
	want := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for _, name := range []string{"closed", "held"} {
		must(t, os.WriteFile(m.path(name), want, 0o600))
	}
	unix.Sync()
	m.remount() // nothing is open, or cached
	held, err := os.OpenFile(m.path("held"), os.O_RDWR, 0)
	must(t, err)
	must(t, os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(d.device), "trigger_fs_error"), []byte("1"), 0))

	for range 2 {
		if got, err := os.ReadFile(m.path("closed")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("read: %d bytes, %v", len(got), err)
		}
		for what, flags := range map[string]int{"write": os.O_WRONLY, "both": os.O_RDWR, "truncate": os.O_WRONLY | os.O_TRUNC, "append": os.O_WRONLY | os.O_APPEND} {
			if f, err := os.OpenFile(m.path("closed"), flags, 0); !errors.Is(err, unix.EROFS) {
				t.Errorf("open to %s: %v", what, err)
				f.Close()
			}
		}
		must(t, errors.Join(wantEROFS("create", func() error { return os.WriteFile(m.path("new"), nil, 0o600) }),
			wantEROFS("truncate", func() error { return os.Truncate(m.path("closed"), 1) }),
			wantEROFS("chmod", func() error { return os.Chmod(m.path("closed"), 0o640) }),
			wantEROFS("unlink", func() error { return os.Remove(m.path("closed")) })))
	}
	_, err = held.WriteAt([]byte("never"), 0)
	if err == nil {
		err = held.Sync()
	}
	if again := held.Sync(); err == nil || again == nil {
		t.Errorf("a sync succeeds on what cannot be written: %v, %v", err, again)
	}
	held.Close() // whatever it answers
	m.do("unmount")
	m.in.Close()
	_ = m.cmd.Wait() // not everything is at home, which it says
	m.cmd = nil
}

func wantEROFS(what string, do func() error) error {
	if err := do(); !errors.Is(err, unix.EROFS) {
		return errors.New(what + ": " + errnoOf(err) + ", not EROFS")
	}
	return nil
}

// TestQuota: a quota of the file system below reaches the program, as EDQUOT
// but at a close;
// what was acknowledged stays; and writing goes on when the quota is raised. It
// is one of btrfs, which holds for root, too: from quotas of users, Linux
// exempts a daemon of root's.
func TestQuota(t *testing.T) {
	d := newDisk(t, "btrfs", "")
	backing := filepath.Join(d.dir, "backing")
	runs(t, "btrfs", "quota", "enable", d.dir)
	runs(t, "btrfs", "subvolume", "create", backing)
	runs(t, "chattr", "+C", backing) // else not even the journal keeps its room
	m := mount(t, serveArgs{Backend: "engine", Backing: backing, Direct: ".direct"})
	limit := func(size string) { runs(t, "btrfs", "qgroup", "limit", size, backing) }
	limit("24M") // the journal has 16
	kept, much := bytes.Repeat([]byte("kept"), 64<<10), bytes.Repeat([]byte("much"), 4<<20)

	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.Write(kept)
	must(t, errors.Join(err, f.Sync()))
	_, err = f.Write(much)
	if err = errors.Join(err, f.Sync()); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("write and fsync: %v", err)
	}
	must(t, f.Truncate(int64(len(kept))))
	g, err := os.Create(m.path("g.direct"))
	must(t, err)
	if _, err = g.Write(much); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("a write past the cache: %v", err)
	}
	must(t, errors.Join(g.Truncate(0), g.Close()))
	h, err := os.Create(m.path("h"))
	must(t, err)
	_, err = h.Write(much)
	// At a close, the kernel tells ENOSPC from all other failures, and no more.
	if err = errors.Join(err, h.Close()); !errors.Is(err, unix.EIO) {
		t.Errorf("write and close: %v", err)
	}
	must(t, os.Truncate(h.Name(), 0))

	limit("256M")
	_ = f.Sync() // which may tell of the failure once more
	_, err = f.WriteAt(much, int64(len(kept)))
	must(t, errors.Join(err, f.Sync(), f.Close()))
	m.remount()
	if got, err := os.ReadFile(m.path("f")); err != nil || !bytes.Equal(got, append(kept, much...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
