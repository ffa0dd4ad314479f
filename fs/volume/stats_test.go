package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// A store that refuses direct I/O is told of once a mount, and written all the
// same.
func TestWithoutDirectIO(t *testing.T) {
	keys := newTestKeys(t, 44)
	st := store.NewMem(store.Options{NoDirect: true})
	create(t, st, keys, NamesEncrypted, 1<<20)
	var log bytes.Buffer
	v, err := Open(st, keys, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	put(t, v, "f", "content")
	must(t, v.Sync())
	must(t, v.Checkpoint())
	if v.Stats().Journal.Direct {
		t.Error("it says that it writes directly")
	}
	must(t, v.Close())
	if n := strings.Count(log.String(), "refuses direct I/O"); n != 1 {
		t.Errorf("told of %d times:\n%s", n, log.String())
	}
	v = open(t, st.Crash(3), keys)
	must(t, readBack(v, "f", []byte("content")))
	must(t, v.Close())
}

// Stats tell what an operator must hear of: a journal that fails, write-backs
// that fail, and how the tag-page cache does.
func TestStats(t *testing.T) {
	keys := newTestKeys(t, 43)
	st := newCrashBase(t, keys).Crash(0)
	var failing atomic.Bool
	st.SetHook(func(op store.Op) error {
		if failing.Load() && op.Kind == store.OpWrite {
			return syscall.EIO
		}
		return nil
	})
	v, err := Open(st, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	block := make([]byte, 4096)
	if _, err := h.WriteAt(block, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.Sync(false); err != nil {
		t.Fatal(err)
	}
	if err := v.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := h.ReadAt(block, 0); err != nil {
			t.Fatal(err)
		}
	}
	s := v.Stats()
	if s.CacheHits == 0 || s.Journal.Failed || s.Journal.Writes.Count != s.Journal.Frames || s.Journal.Frames == 0 || s.WriteFailures != 0 {
		t.Errorf("%+v", s)
	}
	failing.Store(true)
	if _, err := h.WriteAt(block, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.Sync(false); err == nil {
		t.Fatal("synced to a store that fails")
	}
	if s := v.Stats(); !s.Journal.Failed {
		t.Errorf("%+v", s)
	}
	v.wake()
	for v.Stats().WriteFailures == 0 {
		v.wake()
	}
}

// TestTagPagesOfClosedFiles: memory grows only with what is open. What a file
// has been cut off leaves the cache, too.
func TestTagPagesOfClosedFiles(t *testing.T) {
	const groups = 5
	keys := newTestKeys(t, 44)
	v := open(t, newCrashBase(t, keys).Crash(0), keys)
	write := func(name string, offsets ...int64) *Handle {
		t.Helper()
		h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		must(t, err)
		for _, off := range offsets {
			_, err := h.WriteAt([]byte("content"), off)
			must(t, err)
		}
		return h
	}
	want := func(when string, n int) {
		t.Helper()
		if got := v.env.CachedPages(); got != n {
			t.Errorf("%s: %d tag pages are remembered, not %d", when, got, n)
		}
	}
	const group = format.GroupBlocks * format.BlockSize
	large := write("large", 0, group, 2*group, 3*group, (groups-1)*group)
	must(t, errors.Join(large.Sync(true), large.Close(), v.Checkpoint()))
	want("closed", 0)
	large = write("large")
	all := make([]byte, groups*group)
	if _, err := large.ReadAt(all, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	want("read", groups)
	must(t, errors.Join(large.Truncate(4096), large.Sync(true), v.Checkpoint()))
	want("cut", 1)
	for i := range 20 {
		h := write(fmt.Sprint("small", i), 0)
		must(t, errors.Join(h.Sync(true), h.Close(), readBack(v, fmt.Sprint("small", i), []byte("content")), v.Checkpoint()))
	}
	want("beside 20 files, closed", 1)
	must(t, errors.Join(large.Close(), v.Checkpoint()))
	want("all closed", 0)
	must(t, v.Close())
}
