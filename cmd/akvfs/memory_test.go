//go:build !race

// What the program leaves in its memory is a question to the program that is
// shipped: the race detector keeps memory of its own.

package main

import (
	"bytes"
	"crypto/aes"
	"encoding/base64"
	endian "encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
	"github.com/akvfs/akvfs/keymgr/file"
)

// needles are pieces of eight bytes of what must not be in memory, with the
// name of what each is of.
type needles struct {
	pieces map[uint64]string
	ends   [1 << 16]bool // the last two bytes of each piece, to look up few
}

func newNeedles() *needles { return &needles{pieces: map[uint64]string{}} }

func (n *needles) add(name string, b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		piece := endian.LittleEndian.Uint64(b)
		n.pieces[piece] = name
		n.ends[piece>>48] = true
	}
}

// count finds the pieces in b, at any offset. last is what it returned for
// the bytes before b.
func (n *needles) count(b []byte, found map[string]int, last uint64) uint64 {
	for _, c := range b {
		last = last>>8 | uint64(c)<<56
		if n.ends[last>>48] {
			if name, ok := n.pieces[last]; ok {
				found[name]++
			}
		}
	}
	return last
}

// in counts the needles in all memory that a process can write to.
func (n *needles) in(w *world, pid int) map[string]int {
	w.t.Helper()
	found := map[string]int{}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	w.must(err)
	defer mem.Close()
	buf := make([]byte, 1<<20)
	total := 0
	for line := range strings.Lines(w.read(fmt.Sprintf("/proc/%d/maps", pid))) {
		var from, to uint64
		var perm string
		_, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perm)
		w.must(err)
		last := uint64(0)
		for at := from; perm[:2] == "rw" && at < to; at += uint64(len(buf)) {
			part := buf[:min(to-at, uint64(len(buf)))]
			k, err := mem.ReadAt(part, int64(at))
			if err != nil {
				break // a mapping that has gone since
			}
			total += k
			last = n.count(part, found, last)
		}
	}
	if total < 4<<20 {
		w.t.Fatalf("read %d bytes of memory only", total)
	}
	return found
}

// hidden opens a mounted volume's keys, from what is on the disk, with its
// provider, and adds all of them to the needles.
func (n *needles) hidden(w *world, provider keymgr.Provider) {
	w.t.Helper()
	st, err := store.OpenDisk(w.backing)
	w.must(err)
	defer st.Close()
	info, err := volume.ReadInfo(st)
	w.must(err)
	keys, err := keymgr.OpenKeyring(w.t.Context(), volume.Metadata(st), info.ID, func(string) (keymgr.Provider, error) { return provider, nil })
	w.must(err)
	defer keys.Destroy()
	for _, wrap := range keys.Keyring().Wraps() {
		master, err := provider.Unwrap(w.t.Context(), wrap.Wrapped())
		w.must(err)
		n.add("master key", master)
		// As a vault sends it.
		n.add("master key in base64", []byte(base64.RawURLEncoding.EncodeToString(master)))
	}
	for _, purpose := range []string{"names", "journal", "xattr", "volume-info"} {
		key, err := keys.VolumeKey(purpose)
		w.must(err)
		key.View(func(b []byte) { n.add(purpose+" key", b) })
		key.Destroy()
	}
	w.must(filepath.WalkDir(w.backing, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.Contains(path, "/.akvfs/") {
			return err
		}
		return n.fileKeys(path, keys)
	}))
}

// fileKeys adds a file's key, and the one that is derived from it for the
// prefix of the nonces that its first tag page has.
func (n *needles) fileKeys(path string, keys *keymgr.MasterKeys) error {
	data, err := os.ReadFile(path)
	if err != nil || len(data) < 2*format.PageSize {
		return err
	}
	h, err := format.ParseHeader(data[:format.PageSize])
	if err != nil {
		return err
	}
	slot, _ := h.Current()
	key, err := keys.UnwrapFileKey(h.ID, slot.MasterKey, slot.Wrapped[:])
	if err != nil {
		return err
	}
	defer key.Destroy()
	key.View(func(b []byte) {
		n.add("file key", b)
		n.add("derived file key", derived(b, data[format.PageSize:][:12]))
	})
	return nil
}

// derived is XAES-256-GCM's key for a nonce's first twelve bytes: AES-CMAC of
// two blocks, as the C2SP specification has it.
func derived(key, prefix []byte) (out []byte) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	var k1 [16]byte
	block.Encrypt(k1[:], k1[:])
	carry := k1[0] >> 7
	for i := range k1 {
		k1[i] <<= 1
		if i < 15 {
			k1[i] |= k1[i+1] >> 7 // not shifted yet
		}
	}
	k1[15] ^= carry * 0x87
	for counter := byte(1); counter <= 2; counter++ {
		m := append([]byte{0, counter, 'X', 0}, prefix...)
		for i := range m {
			m[i] ^= k1[i]
		}
		block.Encrypt(m, m)
		out = append(out, m...)
	}
	return out
}

// marked makes content in which each stretch of 16 bytes is one of the
// needles, or of those beginning with it.
func (n *needles) marked(name string, r *rand.ChaCha8, size int) []byte {
	stretch := make([]byte, 8)
	r.Read(stretch)
	n.add(name, stretch)
	return bytes.Repeat(stretch, size/8+1)[:size]
}

// TestLockedMemory reads all memory of a real daemon after a lock: there are
// no keys in it, master key, keys of the volume or of files, and nothing of
// what was written and read through the mount: contents, values of attributes
// and targets of links, in requests of any size.
func TestLockedMemory(t *testing.T) {
	if !crypto.ErasesHeap() {
		t.Log("this build does not erase keys from the heap: only plaintext is looked for")
	}
	t.Run("file", func(t *testing.T) {
		w := newVolume(t)
		provider, err := file.OpenProvider(w.keyID(), keymgr.ProviderOptions{})
		w.must(err)
		testLockedMemory(t, w, provider, 3)
	})
	t.Run("akv", func(t *testing.T) {
		c := newCloud(t)
		c.init()
		testLockedMemory(t, c.world, c.provider(), 1)
	})
	t.Run("late answers", testLateAnswers)
}

// provider is the vault's key, for this process.
func (c *cloud) provider() keymgr.Provider {
	c.t.Helper()
	env := map[string]string{}
	for _, variable := range c.server.Env() {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	p, err := akv.New(c.keyID(), akv.Config{Dial: c.server.Dial, Getenv: func(name string) string { return env[name] }})
	c.must(err)
	return p
}

func testLockedMemory(t *testing.T, w *world, provider keymgr.Provider, times int) {
	secret, plain := newNeedles(), newNeedles()
	w.mount("-o", "check-interval=1h")
	sizes := map[string]int{"tiny": 40, "small": 3000, "page": 4096, "middle": 100_000, "large": 5 << 20}
	contents := w.fillMarked(plain, sizes)
	w.unmount()
	w.mount("-o", "check-interval=1h") // so that reads reach the daemon
	pid := w.status(w.backing).PID
	w.readMarked(contents)
	w.fillMarked(plain, map[string]int{"tiny2": 40, "small2": 3000, "large2": 3 << 20})
	held, err := os.OpenFile(join(w.mountpoint, "large"), os.O_RDWR, 0)
	w.must(err)
	defer held.Close()
	_, err = held.WriteAt(plain.marked("unsynced", rand.NewChaCha8([32]byte{9}), 50_000), 1000)
	w.must(err)
	w.valuesMarked(plain)
	targets := w.linksMarked(plain)
	secret.hidden(w, provider)
	if found := secret.in(w, pid); found["master key"] == 0 || found["file key"] == 0 {
		t.Errorf("keys in use are nowhere in memory, so the search finds nothing: %v", found)
	}
	t.Logf("plaintext before the lock: %v", plain.in(w, pid))
	for range times {
		w.ok("lock", w.mountpoint)
		secret.gone(w, pid)
		if found := plain.in(w, pid); len(found) > 0 {
			t.Errorf("plaintext is left in memory: %v", found)
		}
		w.ok("unlock", w.mountpoint)
		w.readMarked(contents)
		w.followMarked(targets)
	}
	w.must(held.Close())
	w.unmount()
}

// gone wants no keys in memory, at once: nothing is left to time.
func (n *needles) gone(w *world, pid int) {
	w.t.Helper()
	if found := n.in(w, pid); len(found) > 0 && crypto.ErasesHeap() {
		w.t.Errorf("keys are left in memory: %v", found)
	}
}

// testLateAnswers: a master key that has been sent to the vault, and those that
// come from it while the volume is being locked or is locked, leave no more
// behind than others.
func testLateAnswers(t *testing.T) {
	c := newCloud(t)
	c.init()
	c.mount("-o", "check-interval=1h")
	pid := c.status(c.backing).PID
	_, err := c.vault.Rotate(vaultKey)
	c.must(err)
	c.ok("key", "rotate", c.mountpoint)
	secret := newNeedles()
	secret.hidden(c.world, c.provider())
	c.server.ForgetRequests()
	c.server.Inject(akvtest.Fault{Request: "unwrapKey", Delay: 2 * time.Second, Times: 1})
	end := c.start(c.command("key", "check", c.mountpoint))
	eventually(t, "the check is on its way", func() bool { return len(c.server.Requests()) > 0 })
	c.ok("lock", c.mountpoint)
	end()
	secret.gone(c.world, pid)
	c.ok("key", "check", c.mountpoint)
	secret.gone(c.world, pid)
	c.unmount()
}

// fillMarked writes marked files, and syncs every other one.
func (w *world) fillMarked(n *needles, sizes map[string]int) map[string][]byte {
	w.t.Helper()
	contents := map[string][]byte{}
	for i, name := range slices.Sorted(maps.Keys(sizes)) {
		seed := [32]byte{byte(i), byte(sizes[name]), byte(len(name))}
		contents[name] = n.marked(name, rand.NewChaCha8(seed), sizes[name])
		f, err := os.Create(join(w.mountpoint, name))
		w.must(err)
		_, err = f.Write(contents[name])
		if i%2 == 0 {
			err = errors.Join(err, f.Sync())
		}
		w.must(errors.Join(err, f.Close()))
	}
	return contents
}

func (w *world) readMarked(contents map[string][]byte) {
	w.t.Helper()
	for name, want := range contents {
		if name == "large" {
			continue // which another writes to
		}
		if got := w.read(join(w.mountpoint, name)); got != string(want) {
			w.t.Errorf("%s has changed: %d bytes", name, len(got))
		}
	}
}

// valuesMarked sets and reads marked attributes.
func (w *world) valuesMarked(n *needles) {
	w.t.Helper()
	for i, size := range []int{16, 40, 400, 3000} {
		value := n.marked(fmt.Sprintf("value of %d bytes", size), rand.NewChaCha8([32]byte{3, byte(i)}), size)
		attr := fmt.Sprint("user.a", size)
		w.must(unix.Setxattr(join(w.mountpoint, "small"), attr, value, 0))
		got := make([]byte, size)
		if n, err := unix.Getxattr(join(w.mountpoint, "small"), attr, got); err != nil || !bytes.Equal(got[:n], value) {
			w.t.Errorf("%s: %d bytes, %v", attr, n, err)
		}
	}
}

// linksMarked makes and reads links with marked targets.
func (w *world) linksMarked(n *needles) map[string]string {
	w.t.Helper()
	targets := map[string]string{}
	for i, size := range []int{16, 40, 96, 400, 2000} {
		var mark [4]byte
		rand.NewChaCha8([32]byte{4, byte(i)}).Read(mark[:])
		text := fmt.Sprintf("%x", mark)
		n.add(fmt.Sprintf("target of %d bytes", size), []byte(text))
		link := join(w.mountpoint, fmt.Sprint("link", size))
		targets[link] = strings.Repeat(text, size/len(text))
		w.must(os.Symlink(targets[link], link))
	}
	w.followMarked(targets)
	return targets
}

func (w *world) followMarked(targets map[string]string) {
	w.t.Helper()
	for link, want := range targets {
		if got, err := os.Readlink(link); err != nil || got != want {
			w.t.Errorf("%s has changed: %d bytes, %v", link, len(got), err)
		}
	}
}
