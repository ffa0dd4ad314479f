package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
)

// calls is every operation that a volume and a handle have, but for closing.
func calls(v *Volume, h *Handle) map[string]func() error {
	now := time.Now()
	second := func(_ any, err error) error { return err }
	return map[string]func() error{
		"Stat":           func() error { _, err := v.Stat("."); return err },
		"ReadDir":        func() error { _, err := v.ReadDir("."); return err },
		"Statfs":         func() error { _, err := v.Statfs(); return err },
		"OpenFile":       func() error { _, err := v.OpenFile("f", os.O_RDWR, 0, Owner{}); return err },
		"create":         func() error { _, err := v.OpenFile("n", os.O_RDWR|os.O_CREATE, 0o600, Owner{}); return err },
		"OpenTemp":       func() error { _, err := v.OpenTemp(".", 0o600, Owner{}); return err },
		"Mkdir":          func() error { return v.Mkdir("d", 0o700, Owner{}) },
		"Mknod":          func() error { return v.Mknod("p", unix.S_IFIFO|0o600, 0, Owner{}) },
		"Symlink":        func() error { return v.Symlink("f", "l2", Owner{}) },
		"Readlink":       func() error { return second(v.Readlink("l")) },
		"Link":           func() error { return v.Link("f", "f2") },
		"Unlink":         func() error { return v.Unlink("f") },
		"Rmdir":          func() error { return v.Rmdir("d") },
		"Rename":         func() error { return v.Rename("f", "g", 0) },
		"SyncDir":        func() error { return v.SyncDir(".") },
		"Chmod":          func() error { return v.Chmod("f", 0o600) },
		"Chown":          func() error { return v.Chown("f", -1, -1) },
		"Chtimes":        func() error { return v.Chtimes("f", nil, &now) },
		"Truncate":       func() error { return v.Truncate("f", 1) },
		"Getxattr":       func() error { return second(v.Getxattr("f", "user.a")) },
		"Setxattr":       func() error { return v.Setxattr("f", "user.b", nil, 0) },
		"Listxattr":      func() error { return second(v.Listxattr("f")) },
		"Removexattr":    func() error { return v.Removexattr("f", "user.a") },
		"Sync":           v.Sync,
		"Checkpoint":     v.Checkpoint,
		"handle.ReadAt":  func() error { return second(h.ReadAt(make([]byte, 1), 0)) },
		"handle.WriteAt": func() error { return second(h.WriteAt([]byte{1}, 0)) },
		"handle.Sync":    func() error { return h.Sync(true) },
		"SyncThen":       func() error { return syncThen(h, true) },
		"handle.Stat":    func() error { return second(h.Stat()) },
		"handle.Seek":    func() error { return second(h.Seek(0, unix.SEEK_DATA)) },
		"handle.Chmod":   func() error { return h.Chmod(0o600) },
		"handle.Chown":   func() error { return h.Chown(-1, -1) },
		"handle.Chtimes": func() error { return h.Chtimes(nil, &now) },
		"handle.LinkTo":  func() error { return h.LinkTo("f3") },
		"handle.Resize":  func() error { return h.Truncate(2) },
		"handle.Room":    func() error { return h.Allocate(0, 0, 1) },
	}
}

// TestLock: a locked volume answers ENOKEY to everything, does not change, and
// takes only its own keys; then it goes on with the handles it had.
func TestLock(t *testing.T) {
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		put(t, v, "f", "content")
		must(t, v.Symlink("f", "l", Owner{}))
		must(t, v.Setxattr("f", "user.a", []byte("value"), 0))
		h, err := v.OpenFile("f", os.O_RDWR, 0, Owner{})
		must(t, err)
		gone, err := v.OpenFile("gone", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		must(t, err)
		_, err = gone.WriteAt([]byte("unlinked"), 0)
		must(t, errors.Join(err, v.Unlink("gone")))
		closing, err := v.OpenFile("f", os.O_RDWR, 0, Owner{})
		must(t, err)

		must(t, v.Lock("test"))
		must(t, v.Lock("again"))
		for name, call := range calls(v, h) {
			if err := call(); Errno(err) != syscall.ENOKEY {
				t.Errorf("%s answers %v", name, err)
			}
		}
		must(t, closing.Close())
		if n := v.Stats().PendingBytes; n != 0 {
			t.Errorf("%d bytes pending", n)
		}
		if _, err := v.Unlock(newTestKeys(t, 77)); err == nil {
			t.Error("it took another volume's keys")
		}
		if _, err := v.Stat("f"); Errno(err) != syscall.ENOKEY {
			t.Errorf("after that it answers %v", err)
		}

		keys := newTestKeys(t, 31)
		taken, err := v.Unlock(keys)
		if must(t, err); !taken {
			t.Error("the keys were not taken")
		}
		if taken, err := v.Unlock(nil); taken || err != nil {
			t.Errorf("unlocked twice: %v, %v", taken, err)
		}
		must(t, readBack(v, "f", []byte("content")))
		target, err := v.Readlink("l")
		value, err2 := v.Getxattr("f", "user.a")
		if must(t, errors.Join(err, err2)); target != "f" || string(value) != "value" {
			t.Errorf("%q, %q", target, value)
		}
		_, err = h.WriteAt([]byte("C"), 0)
		must(t, errors.Join(err, h.Sync(false), h.Close()))
		must(t, readBack(v, "f", []byte("Content")))
		got := make([]byte, 8)
		_, err = gone.ReadAt(got, 0)
		if must(t, errors.Join(ignore(err, io.EOF), gone.Close())); string(got) != "unlinked" {
			t.Errorf("read %q", got)
		}
	})
}

// TestLockDestroysKeys: no cipher that the volume had works afterwards, nor do
// those that a failed unlock has made.
func TestLockDestroysKeys(t *testing.T) {
	keys := newTestKeys(t, 51)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	must(t, err)
	_, err = h.WriteAt(bytes.Repeat([]byte("secret"), 5000), 0)
	must(t, err)
	old := []*crypto.BlockCipher{v.values, v.jcipher}
	must(t, v.Lock("test"))
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpRead {
			return syscall.EIO
		}
		return nil
	})
	if _, err := v.Unlock(newTestKeys(t, 51)); Errno(err) != syscall.EIO {
		t.Errorf("unlocked without headers: %v", err)
	}
	st.SetHook(nil)
	old = append(old, v.values, v.jcipher)
	for i, c := range old {
		if _, err := c.Open(nil, make([]byte, crypto.NonceSize), make([]byte, 16), nil); !errors.Is(err, crypto.ErrDestroyed) {
			t.Errorf("cipher %d: %v", i, err)
		}
	}
	if _, err := v.names.cipher.Decrypt("AAAAAAAAAAAAAAAAAAAAAAAAAAAA"); !errors.Is(err, crypto.ErrDestroyed) {
		t.Errorf("names: %v", err)
	}
	if n := v.names.cache.Len(); n != 0 {
		t.Errorf("%d names are remembered", n)
	}
	if n := v.env.CachedPages(); n != 0 {
		t.Errorf("%d tag pages are remembered", n)
	}
	_, err = v.Unlock(newTestKeys(t, 51))
	must(t, errors.Join(err, readBack(v, "f", bytes.Repeat([]byte("secret"), 5000)), h.Close(), v.Close()))
}

// TestLockWithoutCommit: where nothing can be committed any more the volume
// locks all the same, says what is lost, and so does the next sync. What was
// synced before is there.
func TestLockWithoutCommit(t *testing.T) {
	keys := newTestKeys(t, 52)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	must(t, err)
	_, err = h.WriteAt([]byte("synced"), 0)
	must(t, errors.Join(err, h.Sync(true)))
	_, err = h.WriteAt([]byte("SYNC"), 0)
	must(t, err)
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpWrite {
			return syscall.EIO
		}
		return nil
	})
	err = v.Lock("test")
	var loss *LossError
	if !errors.As(err, &loss) || loss.Files != 1 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("%v", err)
	}
	if _, err := v.Stat("f"); Errno(err) != syscall.ENOKEY {
		t.Errorf("not locked: %v", err)
	}
	st.SetHook(nil)
	_, err = v.Unlock(newTestKeys(t, 52))
	must(t, err)
	for range 2 {
		if err := h.Sync(true); Errno(err) != syscall.EIO {
			t.Errorf("the next sync answers %v", err)
		}
	}
	v.stopBackground()
	v = open(t, st.Crash(1), keys)
	must(t, readBack(v, "f", []byte("synced")))
	must(t, v.Close())
}

// TestLockWithoutRoom is TestLockWithoutCommit where the journal is full and
// nothing can be brought home: plaintext that is not encrypted yet is dropped.
func TestLockWithoutRoom(t *testing.T) {
	keys := newTestKeys(t, 56)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	must(t, errors.Join(err, h.Sync(false)))
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpDatasync || op.Kind == store.OpSync || op.Kind == store.OpSyncAll {
			return syscall.EIO
		}
		return nil
	})
	var synced fileModel
	chunk := bytes.Repeat([]byte{7}, 40_000)
	for {
		if _, err = h.WriteAt(chunk, int64(len(synced.data))); err == nil {
			err = h.Sync(true)
		}
		if err != nil {
			break
		}
		synced.write(chunk, len(synced.data))
	}
	for i := range 40 { // more than what is left of the journal
		_, _ = h.WriteAt(chunk, int64(len(synced.data)+i*len(chunk)))
	}
	var loss *LossError
	if err := v.Lock("test"); !errors.As(err, &loss) || loss.Files != 1 {
		t.Fatalf("%v", err)
	}
	st.SetHook(nil)
	_, err = v.Unlock(newTestKeys(t, 56))
	must(t, err)
	if err := h.Sync(true); Errno(err) != syscall.EIO {
		t.Errorf("the next sync answers %v", err)
	}
	v.stopBackground()
	v = open(t, st.Crash(1), keys)
	got := make([]byte, len(synced.data))
	h, err = v.OpenFile("f", os.O_RDONLY, 0, Owner{})
	must(t, err)
	_, err = h.ReadAt(got, 0)
	if must(t, err); !bytes.Equal(got, synced.data) {
		t.Error("what was synced is not there")
	}
	must(t, errors.Join(h.Close(), v.Close()))
}

// TestCloseLocked: a locked volume can be closed, and loses nothing by it,
// also where its lock brought nothing home.
func TestCloseLocked(t *testing.T) {
	keys := newTestKeys(t, 53)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	put(t, v, "f", "content")
	must(t, v.Sync())
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpDatasync || op.Kind == store.OpSyncAll {
			return syscall.EIO
		}
		return nil
	})
	if err := v.Lock("test"); Errno(err) != syscall.EIO {
		t.Errorf("%v", err)
	}
	must(t, v.Close())
	st.SetHook(nil)
	v = open(t, st.Crash(2), keys)
	must(t, errors.Join(readBack(v, "f", []byte("content")), v.Close()))
}

// TestLockReadOnly: a volume that is only read locks and unlocks too.
func TestLockReadOnly(t *testing.T) {
	keys := newTestKeys(t, 57)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	put(t, v, "f", "content")
	must(t, v.Close())
	v, err := Open(st, keys, Options{ReadOnly: true})
	must(t, err)
	h, err := v.OpenFile("f", os.O_RDONLY, 0, Owner{})
	must(t, errors.Join(err, v.Lock("test")))
	_, err = h.ReadAt(make([]byte, 1), 0)
	wantErrno(t, err, syscall.ENOKEY)
	_, err = v.Unlock(newTestKeys(t, 57))
	must(t, errors.Join(err, readBack(v, "f", []byte("content")), h.Close(), v.Close()))
}

// TestLockUnderLoad locks and unlocks while writers append and sync. Each
// writer keeps a ledger of what was acknowledged; all of it must be there.
func TestLockUnderLoad(t *testing.T) {
	keys := newTestKeys(t, 54)
	st := onDisk(t)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	const writers = 4
	var acked [writers][]byte
	var stop atomic.Bool
	var running sync.WaitGroup
	for w := range writers {
		h, err := v.OpenFile(fmt.Sprint("w", w), os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		must(t, err)
		running.Go(func() {
			acked[w] = appendAndSync(t, h, w, &stop)
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for range 15 {
		must(t, v.Lock("test"))
		_, err := v.Unlock(newTestKeys(t, 54))
		must(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	stop.Store(true)
	running.Wait()
	must(t, v.Close())
	v = open(t, st, keys)
	for w, want := range acked {
		if len(want) == 0 {
			t.Errorf("writer %d got nothing done", w)
		}
		must(t, readBack(v, fmt.Sprint("w", w), want))
	}
	must(t, v.Close())
}

// appendAndSync appends until it is told to stop and returns what was synced.
// A locked volume is tried again.
func appendAndSync(t *testing.T, h *Handle, w int, stop *atomic.Bool) (acked []byte) {
	r := rand.New(rand.NewPCG(uint64(w), 6))
	for !stop.Load() {
		p := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, 1+r.IntN(20000))
		for _, do := range []func() error{
			func() error { _, err := h.WriteAt(p, int64(len(acked))); return err },
			func() error { return eitherSync(r, h) },
		} {
			err := do()
			for Errno(err) == syscall.ENOKEY {
				err = do()
			}
			if err != nil {
				t.Error(err)
				return acked
			}
		}
		acked = append(acked, p...)
	}
	return acked
}

// TestPowerCutWhileLocked is TestPowerCut with a lock, and mostly an unlock,
// after every few operations: the power goes at each of the store's operations
// in them, too.
func TestPowerCutWhileLocked(t *testing.T) {
	keys := newTestKeys(t, 55)
	base := newCrashBase(t, keys)
	points := 0
	for seed := *crashFirst; seed < *crashFirst+uint64(max(1, *crashSeeds/4)); seed++ {
		for cut := uint64(1); ; cut++ {
			h := &history{t: t, keys: keys, seed: seed, cut: cut, files: map[string]*versions{}, locks: true}
			if finished := h.run(base); finished {
				break
			}
			points++
		}
	}
	t.Logf("%d crash points", points)
}

// lock locks and unlocks. Both make everything durable that there is.
func (h *history) lock() error {
	if err := h.v.Lock("test"); err != nil {
		return err
	}
	for _, f := range h.files {
		f.synced()
	}
	_, err := h.v.Unlock(h.keys)
	return err
}
