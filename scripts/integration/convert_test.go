//go:build integration

package integration

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/keymgr/file"
	"github.com/akvfs/akvfs/scripts/rig"
)

// conversion is a data directory that is encrypted and decrypted in place.
type conversion struct {
	t     *testing.T
	dir   string
	key   string
	disk  *rig.Disk
	image string // of the disk
	env   []string
	bytes int64
}

// number is a size of the test from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestConvertInPlace encrypts and decrypts data made on a plain file system:
// first uninterrupted, for the rates, then killed at random moments and
// continued. All that tells one object from another must be the same through
// the mount and in the end, and WiredTiger must find its tables sound.
// AKVFS_CONVERT_FILES, _MIB and _KILLS make it larger (make convert-soak).
func TestConvertInPlace(t *testing.T) {
	for _, fsType := range strings.Split(cmp.Or(os.Getenv("AKVFS_TEST_DISKS"), "ext4,xfs"), ",") {
		t.Run(fsType, func(t *testing.T) {
			c := newConversion(t, fsType)
			c.fill(number(t, "AKVFS_CONVERT_FILES", 200), number(t, "AKVFS_CONVERT_MIB", 24))
			want := c.tree()
			copied := c.copyRate()
			took := c.convert("encrypt")
			c.throughMount(want)
			back := c.convert("decrypt")
			c.same("decrypted", want)
			rate := func(d time.Duration) float64 { return float64(c.bytes) / (1 << 20) / d.Seconds() }
			t.Logf("%s, %d MiB: cp and sync %.0f MiB/s, encrypt %.0f MiB/s, decrypt %.0f MiB/s",
				fsType, c.bytes>>20, rate(copied), rate(took), rate(back))
			c.killed(number(t, "AKVFS_CONVERT_KILLS", 5), min(took, back)/4, want)
			c.sound()
		})
	}
}

// TestConvertFullDisk has room for the largest file beside itself, and hardly
// more. When it is done and the free blocks are dropped, no plaintext is on
// an ext4 disk, be it in a file or not; at the latest when it was unmounted.
func TestConvertFullDisk(t *testing.T) {
	for _, fsType := range strings.Split(cmp.Or(os.Getenv("AKVFS_TEST_DISKS"), "ext4,xfs"), ",") {
		t.Run(fsType, func(t *testing.T) {
			c := newConversionOn(t, fsType, 320<<20)
			marker := []byte("what nobody is to see in plain")
			data := bytes.Repeat(marker, 16<<20/len(marker))
			c.must(os.WriteFile(filepath.Join(c.dir, "largest"), data, 0o600))
			const left = 16<<20 /* the journal */ + 16<<20 + 8<<20
			for i := 0; c.free() > left; i++ {
				c.must(os.WriteFile(filepath.Join(c.dir, strconv.Itoa(i)), data[:2<<20], 0o600))
			}
			want := c.tree()
			c.run(append(c.args("encrypt"), "--fstrim")...)
			plain := func() int {
				image, err := os.ReadFile(c.image)
				c.must(err)
				n := bytes.Count(image, marker)
				t.Logf("plaintext left on %s after fstrim: %d bytes of %d", fsType, n*len(marker), c.bytes)
				return n
			}
			// XFS does not tell the device of all that is free. Neither does
			// ext4 while it holds blocks for files to come, until it is unmounted.
			if plain() > 0 && fsType == "ext4" {
				c.must(c.disk.Again())
				c.must(convert.Trim(c.dir))
				if plain() > 0 {
					t.Error("plaintext is on the disk")
				}
			}
			c.run(c.args("decrypt")...)
			c.same("decrypted", want)
		})
	}
}

// free is how much the disk has left, once what was written is on it.
func (c *conversion) free() int64 {
	c.t.Helper()
	dir, err := os.Open(c.dir)
	c.must(err)
	defer dir.Close()
	c.must(unix.Syncfs(int(dir.Fd())))
	var st unix.Statfs_t
	c.must(unix.Fstatfs(int(dir.Fd()), &st))
	return int64(st.Bavail) * st.Bsize
}

func newConversion(t *testing.T, fsType string) *conversion {
	t.Helper()
	return newConversionOn(t, fsType, diskSize)
}

func newConversionOn(t *testing.T, fsType string, size int64) *conversion {
	t.Helper()
	scratch := newScratch(t)
	disk, err := rig.NewDisk(t.Context(), scratch, fsType, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &conversion{t: t, disk: disk, dir: filepath.Join(disk.Dir, "db"), key: filepath.Join(scratch, "key.json"), image: filepath.Join(scratch, fsType+".img")}
	c.env = append(os.Environ(), "AKVFS_RUN_DIR="+filepath.Join(scratch, "run"), "AKVFS_STATE_DIR="+filepath.Join(scratch, "state"))
	if _, err := file.Create(c.key, file.Options{Bits: 2048}); err != nil {
		t.Fatal(err)
	}
	c.must(os.Mkdir(c.dir, 0o750))
	return c
}

func (c *conversion) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// wiredTiger runs a load, or a verification, in the directory's database.
func (c *conversion) wiredTiger(args ...string) {
	c.t.Helper()
	args = append([]string{args[0], "--home", filepath.Join(c.dir, "wt"), "--ledger", c.key + ".ledger"}, args[1:]...)
	out, err := command(filepath.Join(repo, "bin/wtload"), args...).Run(c.t.Context())
	if err != nil {
		c.t.Fatalf("wtload: %v\n%s", err, out)
	}
}

// fill makes a database, files of random sizes, and one of everything else.
func (c *conversion) fill(files, mib int) {
	c.t.Helper()
	c.wiredTiger("load", "--records", "5000")
	spare, err := filepath.Glob(filepath.Join(c.dir, "wt", "journal", "WiredTigerPreplog.*")) // 100 MiB of nothing each
	c.must(err)
	for _, log := range spare {
		c.must(os.Remove(log))
	}
	r := mathrand.New(mathrand.NewPCG(1, 2))
	data := make([]byte, 2*mib<<20/files)
	_, err = rand.Read(data)
	c.must(err)
	for i := range files {
		dir := filepath.Join(c.dir, fmt.Sprintf("d%d", i%17))
		c.must(os.MkdirAll(dir, 0o700))
		c.must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), data[r.IntN(len(data)):], 0o640))
	}
	in := func(name string) string { return filepath.Join(c.dir, name) }
	c.must(os.Mkdir(in("empty"), 0o711))
	c.must(os.Link(in("d1/file-1"), in("d2/also-file-1")))
	c.must(os.Link(in("d1/file-1"), in("again-file-1")))
	c.must(os.Symlink("d1/file-1", in("link")))
	c.must(unix.Mkfifo(in("fifo"), 0o600))
	c.must(os.WriteFile(in("sparse"), []byte("begin"), 0o600))
	c.must(os.Truncate(in("sparse"), 64<<20))
	c.must(unix.Setxattr(in("d1/file-1"), "user.note", []byte("a note"), 0))
	c.must(os.Chown(in("sparse"), 1234, 2345))
	c.must(os.Chmod(in("sparse"), 0o4711|fs.ModeSetuid))
	c.must(os.Chtimes(in("d3"), time.Unix(1e9, 1), time.Unix(1e9, 123456789)))
}

// tree describes all objects below the directory, one in a line.
func (c *conversion) tree() string {
	c.t.Helper()
	var b strings.Builder
	c.bytes = 0
	c.must(filepath.WalkDir(c.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, err := filepath.Rel(c.dir, path)
		if err != nil || name == "." {
			return err
		}
		fmt.Fprintf(&b, "%q %o %d:%d %d.%09d", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		note := make([]byte, 64)
		if n, err := unix.Lgetxattr(path, "user.note", note); err == nil {
			fmt.Fprintf(&b, " note %q", note[:n])
		}
		if !e.IsDir() {
			fmt.Fprintf(&b, " %d links", st.Nlink)
		}
		if e.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			c.bytes += min(st.Size, st.Blocks*512)
			fmt.Fprintf(&b, " %d %x", st.Size, sha256.Sum256(data))
			if st.Size > 1<<20 && st.Blocks*512 < st.Size/2 {
				b.WriteString(" sparse")
			}
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

func (c *conversion) same(what, want string) {
	c.t.Helper()
	if got := c.tree(); got != want {
		wants := strings.Split(want, "\n")
		for i, line := range strings.Split(got, "\n") {
			if i >= len(wants) || line != wants[i] {
				c.t.Fatalf("%s: line %d is\n%s, not\n%s", what, i, line, wants[min(i, len(wants)-1)])
			}
		}
		c.t.Fatalf("%s: %d bytes of description, not %d", what, len(got), len(want))
	}
}

func (c *conversion) akvfs(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(repo, "bin/akvfs"), args...)
	cmd.Env = c.env
	return cmd
}

func (c *conversion) run(args ...string) {
	c.t.Helper()
	if out, err := c.akvfs(args...).CombinedOutput(); err != nil {
		c.t.Fatalf("akvfs %v: %v\n%s", args, err, out)
	}
}

func (c *conversion) args(direction string) []string {
	args := []string{"convert", direction, c.dir}
	if direction == "encrypt" {
		args = append(args, "--key-id", file.KeyID(c.key), "--journal-size", "16M")
	}
	return args
}

func (c *conversion) convert(direction string) time.Duration {
	c.t.Helper()
	began := time.Now()
	c.run(c.args(direction)...)
	return time.Since(began)
}

// copyRate is how long cp and sync take for the same files on the same disk.
func (c *conversion) copyRate() time.Duration {
	c.t.Helper()
	to := c.dir + ".copy"
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	began := time.Now()
	for _, cmd := range [][]string{{"cp", "-a", "--reflink=never", c.dir, to}, {"sync", "-f", to}} {
		if out, err := exec.CommandContext(ctx, cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			c.t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	took := time.Since(began)
	c.must(os.RemoveAll(to))
	return took
}

// throughMount looks at an encrypted directory through a mount over itself.
func (c *conversion) throughMount(want string) {
	c.t.Helper()
	c.run("mount", c.dir, c.dir)
	c.same("through the mount", want)
	c.run("unmount", c.dir)
}

// killed kills conversions within a time of their start. One that came to its
// end is looked at, and the other way is next.
func (c *conversion) killed(kills int, within time.Duration, want string) {
	c.t.Helper()
	direction, turned, ends := "encrypt", 0, 0
	for done := 0; done < kills; {
		cmd := c.akvfs(c.args(direction)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		c.must(cmd.Start())
		time.Sleep(mathrand.N(within))
		c.must(cmd.Process.Signal(syscall.SIGKILL))
		err := cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			if done++; done%5 == 0 {
				direction, turned = other(direction), turned+1
			}
			continue
		}
		if ends++; err != nil && !strings.Contains(out.String(), "is a volume already") && !strings.Contains(out.String(), "there is no volume") {
			c.t.Fatalf("%s after %d kills: %v\n%s", direction, done, err, out.String())
		}
		if direction == "decrypt" {
			c.same("decrypted after kills", want)
		}
		direction = other(direction)
	}
	if out, err := c.akvfs(c.args("encrypt")...).CombinedOutput(); err != nil && !strings.Contains(string(out), "is a volume already") {
		c.t.Fatalf("encrypt in the end: %v\n%s", err, out)
	}
	c.throughMount(want)
	c.run(c.args("decrypt")...)
	c.same("in the end", want)
	c.t.Logf("%d kills, %d of them followed by the other way, %d conversions came to their end", kills, turned, ends)
}

// sound has WiredTiger look at its tables through the mount.
func (c *conversion) sound() {
	c.t.Helper()
	c.run(c.args("encrypt")...)
	c.run("mount", c.dir, c.dir)
	c.wiredTiger("verify")
	out, err := command("wt", "-h", filepath.Join(c.dir, "wt"), "verify", "table:records").Run(c.t.Context())
	if err != nil {
		c.t.Errorf("wt verify: %v\n%s", err, out)
	}
	c.run("unmount", c.dir)
}

func other(direction string) string {
	if direction == "encrypt" {
		return "decrypt"
	}
	return "encrypt"
}
