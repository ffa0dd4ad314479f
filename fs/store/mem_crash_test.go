package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// seeds is how many power cuts a test of outcomes looks at.
const seeds = 400

// outcomes cuts the power of m, which goes on, with many seeds, and demands that what look sees is one
// of want each time, and that each of want is seen.
func outcomes(t *testing.T, m *Mem, look func(*Mem) string, want ...string) {
	t.Helper()
	seen := map[string]int{}
	for seed := range uint64(seeds) {
		got := look(m.AfterCrash(seed))
		if !slices.Contains(want, got) {
			t.Fatalf("seed %d: %q, which is none of %q", seed, got, want)
		}
		seen[got]++
	}
	for _, w := range want {
		if seen[w] == 0 {
			t.Fatalf("%q was never seen: %v", w, seen)
		}
	}
}

// sectorsOf shows a file by the first byte of each sector, "-" for a zero,
// and its size where that is no whole number of sectors; or why it cannot.
func sectorsOf(name string) func(*Mem) string {
	return func(m *Mem) string {
		f, err := m.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			return errnoOf(err)
		}
		a, err := f.Stat()
		if err != nil {
			return errnoOf(err)
		}
		b := make([]byte, a.Size)
		if _, err := f.ReadAt(b, 0); err != nil {
			return errnoOf(err)
		}
		var s strings.Builder
		for i := 0; i < len(b); i += sector {
			if b[i] == 0 {
				b[i] = '-'
			}
			s.WriteByte(b[i])
		}
		if len(b)%sector != 0 {
			fmt.Fprintf(&s, "%d", len(b))
		}
		return s.String()
	}
}

// put writes whole sectors, one for each byte of s.
func put(t *testing.T, f File, at int, s string) {
	t.Helper()
	var b []byte
	for _, c := range []byte(s) {
		b = append(b, bytes.Repeat([]byte{c}, sector)...)
	}
	must(f.WriteAt(b, int64(at)*sector))(t)
}

// durableFile makes a store with one file that is durable.
func durableFile(t *testing.T, s string) (*Mem, File) {
	t.Helper()
	m := NewMem(Options{})
	f := createFile(t, m, "f")
	put(t, f, 0, s)
	must0(t, f.Sync())
	return m, f
}

func TestSyncedDataSurvives(t *testing.T) {
	for name, sync := range map[string]func(File) error{"sync": File.Sync, "datasync": File.Datasync} {
		t.Run(name, func(t *testing.T) {
			m, f := durableFile(t, "ab")
			put(t, f, 1, "xy")
			must0(t, f.Truncate(5*sector))
			put(t, f, 4, "z")
			must0(t, sync(f))
			outcomes(t, m, sectorsOf("f"), "axy-z")
		})
	}
}

func TestUnsyncedSectorsSurviveEachOnItsOwn(t *testing.T) {
	m, f := durableFile(t, "ab")
	put(t, f, 0, "xy")
	outcomes(t, m, sectorsOf("f"), "ab", "xb", "ay", "xy")
}

func TestAnyVersionSinceTheSyncMaySurvive(t *testing.T) {
	m, f := durableFile(t, "a")
	put(t, f, 0, "x")
	put(t, f, 0, "y")
	outcomes(t, m, sectorsOf("f"), "a", "x", "y")
	m, f = durableFile(t, "ab")
	put(t, f, 0, "x")
	put(t, f, 1, "y") // the later may survive without the earlier
	outcomes(t, m, sectorsOf("f"), "ab", "xb", "ay", "xy")
}

func TestGrowthSurvivesWithOrWithoutData(t *testing.T) {
	m, f := durableFile(t, "a")
	put(t, f, 1, "b")
	outcomes(t, m, sectorsOf("f"), "a", "a-", "ab")
	m, f = durableFile(t, "a")
	must(f.WriteAt([]byte("b"), sector))(t)
	outcomes(t, m, sectorsOf("f"), "a", "a-513", "ab513")
}

func TestDsyncWriteIsDurableAlone(t *testing.T) {
	m, f := durableFile(t, "ab")
	d := must(m.OpenFile("f", os.O_RDWR|unix.O_DSYNC, 0))(t)
	put(t, f, 0, "x")
	put(t, d, 1, "y")
	outcomes(t, m, sectorsOf("f"), "ay", "xy")
	m, f = durableFile(t, "a")
	d = must(m.OpenFile("f", os.O_RDWR|unix.O_DSYNC|unix.O_DIRECT, 0))(t)
	b := AlignedBuffer(Alignment)
	copy(b, "d")
	must(d.WriteAt(b, Alignment))(t) // grows
	put(t, f, 0, "x")
	outcomes(t, m, sectorsOf("f"), "a-------d-------", "x-------d-------")
}

// TestDsyncWriteCommitsItsOwnSizeAlone: what an unsynced write grew stays open.
func TestDsyncWriteCommitsItsOwnSizeAlone(t *testing.T) {
	m, f := durableFile(t, "a")
	d := must(m.OpenFile("f", os.O_RDWR|unix.O_DSYNC, 0))(t)
	put(t, f, 3, "z")
	put(t, d, 0, "xy")
	outcomes(t, m, sectorsOf("f"), "xy", "xy--", "xy-z")
}

// TestDsyncWriteCommitsNoName is what ext4 does with an overwrite: the
// metadata log is left alone where the file itself does not need it.
func TestDsyncWriteCommitsNoName(t *testing.T) {
	m, _ := durableFile(t, "a")
	d := must(m.OpenFile("f", os.O_RDWR|unix.O_DSYNC, 0))(t)
	mustWrite(t, m, "other", "")
	put(t, d, 0, "x")
	exists := func(m *Mem) string { return errnoOf(errOf(m.Stat("other"))) + sectorsOf("f")(m) }
	outcomes(t, m, exists, "okx", "ENOENTx")
}

func TestTruncationIsLogged(t *testing.T) {
	m, f := durableFile(t, "abc")
	must0(t, f.Truncate(sector))
	outcomes(t, m, sectorsOf("f"), "abc", "a")
	must0(t, f.Datasync())
	outcomes(t, m, sectorsOf("f"), "a")
}

// TestTruncationWritesTheSectorThatItCuts: the cut sector is as it was after
// the truncation, never an older one with the rest zeroed.
func TestTruncationWritesTheSectorThatItCuts(t *testing.T) {
	m, f := durableFile(t, "a")
	put(t, f, 0, "x")
	must0(t, f.Truncate(100))
	outcomes(t, m, sectorsOf("f"), "a", "x", "x100")
	must0(t, createFile(t, m, "other").Sync())
	outcomes(t, m, sectorsOf("f"), "x100")
}

func TestWhatWasFreedDoesNotComeBack(t *testing.T) {
	page := strings.Repeat("x", 8)
	t.Run("write, truncate, sync, grow", func(t *testing.T) {
		m, f := durableFile(t, "a")
		put(t, f, 0, page+page)
		must0(t, f.Truncate(sector/2))
		must0(t, f.Sync())
		must0(t, f.Truncate(2*sector))
		outcomes(t, m, sectorsOf("f"), "x256", "x-")
	})
	t.Run("write, truncate, committed by another", func(t *testing.T) {
		m, f := durableFile(t, "a")
		put(t, f, 0, "yyy")
		must0(t, f.Truncate(sector))
		must0(t, f.Truncate(2*sector))
		must0(t, createFile(t, m, "other").Sync())
		outcomes(t, m, sectorsOf("f"), "a-", "y-")
	})
	t.Run("write, punch, committed by another", func(t *testing.T) {
		m, f := durableFile(t, page+page)
		put(t, f, 0, strings.Repeat("y", 9))
		must0(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
		must0(t, createFile(t, m, "other").Sync())
		hole := strings.Repeat("-", 8)
		outcomes(t, m, sectorsOf("f"), hole+page, hole+"y"+page[1:])
	})
}

// TestWriteAfterLostPunch: the write went to space that was allocated after
// the punch, so it is not there unless the punch is.
func TestWriteAfterLostPunch(t *testing.T) {
	m, f := durableFile(t, strings.Repeat("a", 16))
	must0(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	put(t, f, 0, "b")
	old, hole := strings.Repeat("a", 8), strings.Repeat("-", 7)
	outcomes(t, m, sectorsOf("f"), old+old, "-"+hole+old, "b"+hole+old)
}

// TestGrowthAfterLostTruncation: the same with the size that a write gave.
func TestGrowthAfterLostTruncation(t *testing.T) {
	m, f := durableFile(t, "ab")
	must0(t, f.Truncate(0))
	put(t, f, 0, "xyz")
	outcomes(t, m, sectorsOf("f"), "ab", "", "---", "x--", "-y-", "--z", "xy-", "x-z", "-yz", "xyz")
}

func TestPartlyPunchedPagesAreData(t *testing.T) {
	m, f := durableFile(t, "ab")
	must0(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 2*sector))
	outcomes(t, m, sectorsOf("f"), "ab", "-b", "a-", "--")
}

func TestZeroRangeAndAllocateAreLogged(t *testing.T) {
	page := strings.Repeat("a", 8)
	m, f := durableFile(t, page)
	must0(t, f.Allocate(unix.FALLOC_FL_ZERO_RANGE, 0, 8192))
	hole := strings.Repeat("-", 8)
	outcomes(t, m, sectorsOf("f"), page, hole, hole+hole)
	m, f = durableFile(t, page)
	must0(t, f.Allocate(0, 0, 4097))
	must0(t, f.Datasync())
	outcomes(t, m, sectorsOf("f"), page+"-4097")
}

func names(m *Mem) string {
	list, err := m.ReadDir(".")
	if err != nil {
		return errnoOf(err)
	}
	var s string
	for _, e := range list {
		s += e.Name
	}
	return s
}

func TestMetadataSurvivesInOrder(t *testing.T) {
	m := NewMem(Options{})
	for _, name := range []string{"a", "b", "c"} {
		must0(t, m.Mkdir(name, 0o700))
	}
	must0(t, m.Rmdir("a"))
	outcomes(t, m, names, "", "a", "ab", "abc", "bc")
}

func TestSyncOfANewFileCommitsItsName(t *testing.T) {
	for name, sync := range map[string]func(File) error{"sync": File.Sync, "datasync": File.Datasync} {
		t.Run(name, func(t *testing.T) {
			m := NewMem(Options{})
			must0(t, m.Mkdir("a", 0o700))
			f := createFile(t, m, "b")
			must0(t, m.Mkdir("c", 0o700))
			must0(t, sync(f))
			outcomes(t, m, names, "ab", "abc")
		})
	}
}

func TestSyncDir(t *testing.T) {
	m := NewMem(Options{})
	must0(t, m.Mkdir("d", 0o700))
	mustWrite(t, m, "d/f", "")
	mustWrite(t, m, "top", "")
	must0(t, m.SyncDir("d"))
	outcomes(t, m, names, "d", "dtop")
	must0(t, m.SyncDir("."))
	outcomes(t, m, names, "dtop")
}

func TestSyncOfEitherDirectoryCommitsARename(t *testing.T) {
	for _, dir := range []string{"from", "to"} {
		m := NewMem(Options{})
		must0(t, errors.Join(m.Mkdir("from", 0o700), m.Mkdir("to", 0o700)))
		mustWrite(t, m, "from/f", "")
		must0(t, m.SyncAll())
		must0(t, m.Rename("from/f", "to/f", 0))
		must0(t, m.SyncDir(dir))
		outcomes(t, m, func(m *Mem) string { return errnoOf(errOf(m.Stat("to/f"))) }, "ok")
	}
}

func TestRenameIsAtomicAndNeedsSync(t *testing.T) {
	setUp := func(t *testing.T) (*Mem, File) {
		m := NewMem(Options{})
		mustWrite(t, m, "new", "n")
		mustWrite(t, m, "old", "o")
		must0(t, m.SyncAll())
		must0(t, m.Rename("new", "old", 0))
		return m, must(m.OpenFile("old", os.O_RDWR, 0))(t)
	}
	m, _ := setUp(t)
	outcomes(t, m, names, "newold", "old")
	m, f := setUp(t)
	must0(t, f.Datasync()) // the name is none of the data's business
	outcomes(t, m, names, "newold", "old")
	m, f = setUp(t)
	must0(t, f.Sync())
	outcomes(t, m, names, "old")
	m, _ = setUp(t)
	must0(t, m.SyncDir("."))
	outcomes(t, m, names, "old")
	m, _ = setUp(t)
	mustWrite(t, m, "other", "")
	must0(t, m.Rename("old", "other", unix.RENAME_EXCHANGE))
	outcomes(t, m, names, "newold", "old", "oldother")
}

func TestAttributesAreLogged(t *testing.T) {
	m, f := durableFile(t, "a")
	must0(t, m.Setxattr("f", "user.x", []byte("v"), 0))
	must0(t, f.Chmod(0o640))
	look := func(m *Mem) string {
		v, _ := m.Getxattr("f", "user.x")
		a, err := m.Stat("f")
		return fmt.Sprintf("%s %o %s", v, a.Mode&0o777, errnoOf(err))
	}
	outcomes(t, m, look, " 600 ok", "v 600 ok", "v 640 ok")
	must0(t, f.Datasync())
	outcomes(t, m, look, " 600 ok", "v 600 ok", "v 640 ok")
	must0(t, f.Sync())
	outcomes(t, m, look, "v 640 ok")
}

func TestUnlinkedFilesEndAtTheCut(t *testing.T) {
	m, f := durableFile(t, "a")
	must0(t, m.Unlink("f"))
	put(t, f, 0, "x")
	outcomes(t, m, sectorsOf("f"), "a", "x", "ENOENT")
	must0(t, f.Sync())
	outcomes(t, m, sectorsOf("f"), "ENOENT")
	after := m.Crash(0)
	same(t, "objects left", len(after.s.live.inodes), 1)
	same(t, "pages left", after.s.used, 0)
}

func TestNamelessFilesEndAtTheCut(t *testing.T) {
	m := NewMem(Options{})
	f := must(m.OpenFile(".", os.O_RDWR|unix.O_TMPFILE, 0o600))(t)
	put(t, f, 0, "a")
	must0(t, f.Sync())
	must0(t, f.LinkTo("f"))
	outcomes(t, m, sectorsOf("f"), "ENOENT", "a")
	must0(t, m.SyncDir("."))
	outcomes(t, m, sectorsOf("f"), "a")
}

func cutAt(kind OpKind) Hook {
	return func(op Op) error {
		if op.Kind == kind {
			return ErrCut
		}
		return nil
	}
}

func TestCutInTheMiddle(t *testing.T) {
	t.Run("of a durable write", func(t *testing.T) {
		m, _ := durableFile(t, "ab")
		d := must(m.OpenFile("f", os.O_RDWR|unix.O_DSYNC, 0))(t)
		m.SetHook(cutAt(OpWrite))
		fails(t, errOf(d.WriteAt(make([]byte, 2*sector), 0)), ErrCut)
		outcomes(t, m, sectorsOf("f"), "ab", "-b", "a-", "--")
	})
	t.Run("of a sync", func(t *testing.T) {
		m, f := durableFile(t, "ab")
		put(t, f, 0, "xy")
		must0(t, f.Truncate(4*sector))
		m.SetHook(cutAt(OpSync))
		fails(t, f.Sync(), ErrCut)
		outcomes(t, m, sectorsOf("f"), "ab", "xb", "ay", "xy", "ab--", "xb--", "ay--", "xy--")
	})
	t.Run("of a rename", func(t *testing.T) {
		m, _ := durableFile(t, "a")
		m.SetHook(cutAt(OpRename))
		fails(t, m.Rename("f", "g", 0), ErrCut)
		outcomes(t, m, names, "f", "g")
	})
	t.Run("of an opening that creates", func(t *testing.T) {
		m := NewMem(Options{})
		m.SetHook(cutAt(OpOpen))
		fails(t, errOf(m.OpenFile("f", rwc, 0o600)), ErrCut)
		outcomes(t, m, names, "", "f")
	})
}

func TestAfterTheCutAllFails(t *testing.T) {
	for name, end := range map[string]struct {
		cut func(*Mem)
		err error
	}{
		"by the hook": {func(m *Mem) { m.SetHook(cutAt(OpStat)); m.Stat(".") }, ErrCut},
		"by Crash":    {func(m *Mem) { m.Crash(0) }, ErrCut},
		"by Kill":     {func(m *Mem) { m.Kill() }, ErrKilled},
	} {
		t.Run(name, func(t *testing.T) {
			m, f := durableFile(t, "a")
			lock := must(m.TryLock("lock"))(t)
			end.cut(m)
			for _, err := range []error{
				errOf(m.Stat("f")), m.Unlink("f"), m.SyncAll(), f.Sync(), f.Close(), errOf(f.ReadAt(make([]byte, 1), 0)),
				errOf(f.WriteAt(make([]byte, 1), 0)), errOf(m.OpenFile("f", os.O_RDONLY, 0)),
			} {
				fails(t, err, end.err)
				fails(t, err, syscall.EIO)
			}
			must0(t, lock.Close())
		})
	}
}

// TestFailedSyncLosesData is fsyncgate: after a failed sync the data counts as
// clean, and a later success says nothing of it.
func TestFailedSyncLosesData(t *testing.T) {
	failSync := func(m *Mem, do func() error) {
		t.Helper()
		m.SetHook(func(op Op) error {
			if op.Kind.Syncs() {
				return syscall.EIO
			}
			return nil
		})
		fails(t, do(), syscall.EIO)
		m.SetHook(nil)
	}
	m, f := durableFile(t, "ab")
	put(t, f, 0, "xy")
	failSync(m, f.Sync)
	must0(t, f.Sync())
	outcomes(t, m, sectorsOf("f"), "ab", "xb", "ay", "xy")
	m, f = durableFile(t, "ab")
	put(t, f, 0, "xy")
	failSync(m, m.SyncAll)
	put(t, f, 0, "z") // written again, and with it synced
	must0(t, f.Datasync())
	outcomes(t, m, sectorsOf("f"), "zb", "zy")
}

func TestLateErrorOfADurableWrite(t *testing.T) {
	m, f := durableFile(t, "ab")
	d := must(m.OpenFile("f", os.O_RDWR|unix.O_DSYNC, 0))(t)
	m.SetHook(func(op Op) error {
		if op.Kind == OpWrite {
			return Late(syscall.EIO)
		}
		return nil
	})
	n, err := d.WriteAt(bytes.Repeat([]byte("x"), 2*sector), 0)
	fails(t, err, syscall.EIO)
	same(t, "bytes said to be written", n, 0)
	m.SetHook(nil)
	must0(t, f.Sync())
	outcomes(t, m, sectorsOf("f"), "ab", "xb", "ax", "xx")
}

func TestKill(t *testing.T) {
	m, f := durableFile(t, "a")
	put(t, f, 0, "xyz")
	mustWrite(t, m, "g", "written")
	gone := createFile(t, m, "gone")
	put(t, gone, 0, "aa")
	must0(t, m.Unlink("gone"))
	must(m.OpenFile(".", os.O_RDWR|unix.O_TMPFILE, 0o600))(t)
	must(m.TryLock("lock"))(t)
	next := m.Kill()
	same(t, "content", sectorsOf("f")(next), "xyz")
	same(t, "content", contentOf(t, next, "g"), "written")
	same(t, "objects", len(next.s.live.inodes), 4)
	must0(t, must(next.TryLock("lock"))(t).Close())
	// What was not durable before the kill still is not.
	outcomes(t, next, sectorsOf("f"), "a", "a--", "a-z", "ay-", "ayz", "x", "x--", "x-z", "xy-", "xyz")
}

func TestCrashIsRepeatable(t *testing.T) {
	m, f := durableFile(t, strings.Repeat("a", 20))
	put(t, f, 3, strings.Repeat("b", 12))
	mustWrite(t, m, "g", "g")
	var wg sync.WaitGroup
	for seed := range uint64(20) {
		wg.Go(func() {
			one, two := m.Crash(seed), m.Crash(seed)
			if a, b := sectorsOf("f")(one)+names(one), sectorsOf("f")(two)+names(two); a != b {
				t.Errorf("seed %d gives %s and %s", seed, a, b)
			}
			// Each is a store of its own.
			g := must(one.OpenFile("f", os.O_RDWR, 0))(t)
			put(t, g, 0, strings.Repeat("z", 20))
			if err := g.Sync(); err != nil {
				t.Error(err)
			}
			if got := sectorsOf("f")(one.Crash(1)); got != strings.Repeat("z", 20) {
				t.Errorf("after another crash: %s", got)
			}
			if strings.Contains(sectorsOf("f")(two), "z") {
				t.Error("two stores share a page")
			}
		})
	}
	wg.Wait()
}

func TestWriteBackBoundsWhatIsHeld(t *testing.T) {
	m := NewMem(Options{})
	f := createFile(t, m, "f")
	b := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 300 {
		must(f.WriteAt(b, int64(i%4)<<20))(t)
	}
	if m.s.held > heldLimit {
		t.Fatalf("%d bytes are held", m.s.held)
	}
	for range logLimit + 10 {
		must0(t, m.Chmod("f", 0o600))
	}
	if len(m.s.log) > logLimit {
		t.Fatalf("%d changes are held", len(m.s.log))
	}
	var held int64
	for _, ws := range m.s.pending {
		for _, w := range ws {
			held += int64(len(w.data))
		}
	}
	same(t, "the count of what is held", m.s.held, held)
}

func TestPageUp(t *testing.T) {
	for off, want := range map[int64]int64{0: 0, 1: 1, 4096: 1, 4097: 2, math.MaxInt64: math.MaxInt64 / memPage} {
		same(t, fmt.Sprint(off), pageUp(off), want)
	}
}
