package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestMemSeek(t *testing.T) {
	m := NewMem(Options{})
	f := createFile(t, m, "f")
	must(f.WriteAt([]byte("x"), 5*memPage))(t)
	must(f.WriteAt([]byte("x"), 9*memPage+7))(t)
	must0(t, f.Truncate(20*memPage+1))
	must0(t, f.Allocate(0, 12*memPage, memPage)) // allocated, not written: a hole
	for _, c := range []struct {
		off        int64
		data, hole int64
	}{
		{0, 5, 0}, {5 * memPage, 5, 6}, {6 * memPage, 9, 6}, {9 * memPage, 9, 10},
	} {
		same(t, fmt.Sprint("data from ", c.off), must(f.Seek(c.off, unix.SEEK_DATA))(t), max(c.off, c.data*memPage))
		same(t, fmt.Sprint("hole from ", c.off), must(f.Seek(c.off, unix.SEEK_HOLE))(t), max(c.off, c.hole*memPage))
	}
	fails(t, errOf(f.Seek(10*memPage, unix.SEEK_DATA)), syscall.ENXIO)
	same(t, "hole at the end", must(f.Seek(20*memPage, unix.SEEK_HOLE))(t), 20*memPage)
	same(t, "blocks", must(f.Stat())(t).Blocks, 3*memPage/512)
}

func TestMemCapacity(t *testing.T) {
	m := NewMem(Options{Capacity: 10 * memPage})
	f := createFile(t, m, "f")
	must(f.WriteAt(make([]byte, 8*memPage), 0))(t)
	n, err := f.WriteAt(bytes.Repeat([]byte("x"), 4*memPage), 7*memPage+10)
	fails(t, err, syscall.ENOSPC)
	same(t, "bytes that fitted", n, 3*memPage-10)
	same(t, "size", must(f.Stat())(t).Size, 10*memPage)
	n, err = f.WriteAt([]byte("x"), 10*memPage)
	fails(t, err, syscall.ENOSPC)
	same(t, "bytes that fitted", n, 0)
	must(f.WriteAt([]byte("overwriting needs nothing"), 100))(t)
	fails(t, f.Allocate(0, 0, 11*memPage), syscall.ENOSPC)
	must0(t, f.Truncate(1<<40)) // a hole needs nothing
	must0(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 5*memPage))
	must0(t, f.Allocate(unix.FALLOC_FL_KEEP_SIZE, 1<<30, 5*memPage))
	fails(t, errOf(f.WriteAt([]byte("x"), 1<<20)), syscall.ENOSPC)
	must(f.WriteAt([]byte("reserved"), 1<<30))(t)
	s := must(m.Statfs())(t)
	same(t, "free", fmt.Sprint(s.Blocks, s.Bfree, s.Bavail), "10 0 0")
	m.SetCapacity(11 * memPage)
	must(f.WriteAt([]byte("x"), 1<<20))(t)
	must0(t, m.Unlink("f"))
	same(t, "free while open", must(m.Statfs())(t).Bfree, 0)
	must0(t, f.Close())
	same(t, "free once closed", must(m.Statfs())(t).Bfree, 11)
	crashed := m.Crash(1)
	same(t, "the limit outlives a crash", must(crashed.Statfs())(t).Blocks, 11)
}

func TestMemLargest(t *testing.T) {
	m := NewMem(Options{})
	f := createFile(t, m, "f")
	fails(t, f.Truncate(memMaxSize+1), syscall.EFBIG)
	must0(t, f.Truncate(memMaxSize))
	n, err := f.WriteAt([]byte("abc"), memMaxSize-1)
	fails(t, err, syscall.EFBIG)
	same(t, "bytes that fitted", n, 1)
	n, err = f.WriteAt([]byte("abc"), memMaxSize)
	fails(t, err, syscall.EFBIG)
	same(t, "bytes that fitted", n, 0)
	fails(t, f.Allocate(0, memMaxSize, 1), syscall.EFBIG)
}

func TestMemInodes(t *testing.T) {
	m := NewMem(Options{Inodes: 3})
	mustWrite(t, m, "a", "")
	must0(t, m.Mkdir("d", 0o700))
	for _, err := range []error{
		m.Mkdir("e", 0o700), m.Symlink("x", "l"), m.Mknod("n", 0o600, 0), errOf(m.OpenFile("b", rwc, 0o600)),
		errOf(m.OpenFile(".", os.O_RDWR|unix.O_TMPFILE, 0o600)),
	} {
		fails(t, err, syscall.ENOSPC)
	}
	must0(t, m.Link("a", "b"))
	s := must(m.Statfs())(t)
	same(t, "inodes", fmt.Sprint(s.Files, s.Ffree), "3 0")
	must0(t, m.Rmdir("d"))
	must0(t, m.Mkdir("e", 0o700))
}

func TestMemReadOnly(t *testing.T) {
	m, f := durableFile(t, "a")
	put(t, f, 0, "b")
	clean := createFile(t, m, "clean")
	must0(t, clean.Sync())
	m.SetReadOnly(true)
	now := time.Now()
	for i, err := range []error{
		m.Mkdir("d", 0o700), m.Unlink("f"), m.Rename("f", "g", 0), m.Chmod("f", 0), m.Chtimes("f", &now, nil),
		m.Setxattr("f", "user.x", nil, 0), errOf(m.OpenFile("f", os.O_RDWR, 0)), errOf(m.OpenFile("g", os.O_RDONLY|os.O_CREATE, 0)),
		errOf(f.WriteAt([]byte("x"), 0)), f.Truncate(0), f.Allocate(0, 0, 1), f.Chmod(0), f.LinkTo("g"), f.Sync(), m.SyncAll(),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Fatalf("change %d: %v", i, err)
		}
	}
	must0(t, clean.Sync()) // nothing is owed
	same(t, "content", sectorsOf("f")(m), "b")
	must0(t, must(m.TryLock("f"))(t).Close())
	same(t, "statfs", must(m.Statfs())(t).Flags, unix.ST_RDONLY)
	m.SetReadOnly(false)
	must0(t, f.Sync())
	outcomes(t, m, sectorsOf("f"), "b")
}

func TestMemDirect(t *testing.T) {
	fails(t, errOf(NewMem(Options{NoDirect: true}).OpenFile("f", rwc|unix.O_DIRECT, 0o600)), syscall.EINVAL)
	f := must(NewMem(Options{}).OpenFile("f", rwc|unix.O_DIRECT, 0o600))(t)
	b := AlignedBuffer(2 * Alignment)
	must(f.WriteAt(b, 0))(t)
	for _, c := range []struct {
		p   []byte
		off int64
	}{{b[:512], 0}, {b[:Alignment], 512}, {b[512 : 512+Alignment], 0}} {
		fails(t, errOf(f.WriteAt(c.p, c.off)), syscall.EINVAL)
		fails(t, errOf(f.ReadAt(c.p, c.off)), syscall.EINVAL)
	}
}

func TestAlignedBuffer(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 1 << 20} {
		b := AlignedBuffer(n)
		if len(b) != n || cap(b) != n || !aligned(b[:n/Alignment*Alignment], 0) {
			t.Fatalf("%d: length %d, capacity %d", n, len(b), cap(b))
		}
	}
}

func TestMemTimesAreUnique(t *testing.T) {
	stopped := time.Unix(1e9, 0)
	m := NewMem(Options{Clock: func() time.Time { return stopped }})
	seen := map[time.Time]bool{}
	for i := range 10 {
		name := fmt.Sprint(i)
		mustWrite(t, m, name, "")
		seen[must(m.Stat(name))(t).Btime] = true
	}
	same(t, "times of birth", len(seen), 10)
	after := m.Crash(0)
	mustWrite(t, after, "new", "")
	same(t, "born earlier", seen[must(after.Stat("new"))(t).Btime], false)
}

func TestHookSeesEveryOperation(t *testing.T) {
	m := NewMem(Options{})
	var ops []string
	var last uint64
	m.SetHook(func(op Op) error {
		if last++; op.N != last {
			t.Fatalf("operation %d is number %d", last, op.N)
		}
		ops = append(ops, fmt.Sprintf("%v mutates=%v file=%v", op, op.Mutates(), op.File))
		return nil
	})
	must0(t, m.Mkdir("d", 0o700))
	f := createFile(t, m, "d/f")
	must(f.WriteAt(make([]byte, 10), 5))(t)
	must0(t, f.Truncate(7))
	must0(t, f.Datasync())
	must0(t, m.Rename("d/f", "g", 0))
	must0(t, f.Close())
	want := []string{
		`#1 mkdir "d" mutates=true file=false`, `#2 open "d/f" mutates=true file=false`,
		`#3 write "d/f" [5,+10) mutates=true file=true`, `#4 truncate "d/f" [0,+7) mutates=true file=true`,
		`#5 datasync "d/f" mutates=false file=true`, `#6 rename "d/f" to "g" mutates=true file=false`,
		`#7 close "d/f" mutates=false file=true`,
	}
	same(t, "operations", fmt.Sprint(ops), fmt.Sprint(want))
	same(t, "count", m.Ops(), 7)
	same(t, "an unknown kind", OpKind(200).String(), "operation 200")
}

// TestHookMayUseTheStore: no lock is held while a hook runs.
func TestHookMayUseTheStore(t *testing.T) {
	m := NewMem(Options{})
	var cuts []string
	m.SetHook(func(op Op) error {
		cuts = append(cuts, names(m.AfterCrash(3)))
		return nil
	})
	mustWrite(t, m, "a", "")
	must0(t, m.SyncAll())
	must0(t, m.Mkdir("b", 0o700))
	same(t, "the cut before the last", cuts[len(cuts)-1], "a")
}

// store is used by the scenario whose every operation is made to fail.
func scenario(st FS) error {
	if err := st.Mkdir("d", 0o700); err != nil {
		return err
	}
	f, err := st.OpenFile("d/f", rwc, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("content"), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.ReadAt(make([]byte, 3), 0); err != nil && err != io.EOF {
		return err
	}
	if err := st.Rename("d/f", "g", 0); err != nil {
		return err
	}
	lock, err := st.(Locker).TryLock("lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := st.ReadDir("."); err != nil {
		return err
	}
	return errors.Join(st.SyncDir("."), st.(Syncer).SyncAll())
}

func TestEveryOperationCanFail(t *testing.T) {
	stores := map[string]func(t *testing.T) interface {
		FS
		SetHook(Hook)
		Ops() uint64
	}{
		"mem": func(t *testing.T) interface {
			FS
			SetHook(Hook)
			Ops() uint64
		} {
			return NewMem(Options{})
		},
		"faulty": func(t *testing.T) interface {
			FS
			SetHook(Hook)
			Ops() uint64
		} {
			return NewFaulty(openDisk(t, t.TempDir()), nil)
		},
	}
	for kind, open := range stores {
		for what, answer := range map[string]error{"EIO": syscall.EIO, "late ENOSPC": Late(syscall.ENOSPC), "cut": ErrCut} {
			t.Run(kind+"/"+what, func(t *testing.T) {
				before := openDescriptors(t)
				n, failed := uint64(1), true
				for ; failed; n++ {
					st := open(t)
					hit := false
					st.SetHook(func(op Op) error {
						if op.N != n {
							return nil
						}
						hit = op.Kind != OpClose // whose error a defer drops
						return answer
					})
					err := scenario(st)
					if hit && err == nil {
						t.Fatalf("operation %d failed, and nobody heard", n)
					}
					var errno syscall.Errno
					if hit && (!errors.As(err, &errno) || what == "cut" && !errors.Is(err, ErrCut)) {
						t.Fatalf("operation %d answers %v", n, err)
					}
					failed = st.Ops() >= n
					must0(t, st.Close())
				}
				if n < 10 {
					t.Fatalf("only %d operations", n)
				}
				same(t, "open descriptors", openDescriptors(t), before)
			})
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	return len(must(os.ReadDir("/proc/self/fd"))(t))
}

func TestFaultyPlain(t *testing.T) {
	inner := NewMem(Options{})
	f := NewFaulty(inner, func(op Op) error {
		if op.Kind == OpMkdir {
			return syscall.EDQUOT
		}
		return nil
	})
	fails(t, f.Mkdir("d", 0o700), syscall.EDQUOT)
	fails(t, errOf(inner.Stat("d")), syscall.ENOENT)
	f.SetHook(func(op Op) error {
		if op.Kind == OpMkdir {
			return Late(syscall.EIO)
		}
		return nil
	})
	fails(t, f.Mkdir("d", 0o700), syscall.EIO)
	must(inner.Stat("d"))(t)
	f.SetHook(nil)
	must0(t, f.Rmdir("d"))
	plain := NewFaulty(struct{ FS }{inner}, nil)
	fails(t, errOf(plain.TryLock("x")), syscall.EOPNOTSUPP)
	fails(t, plain.SyncAll(), syscall.EOPNOTSUPP)
}

// TestRanges compares ranges with a plain set.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var r ranges
		want := map[int64]bool{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			from := rapid.Int64Range(0, 30).Draw(rt, "from")
			to := from + rapid.Int64Range(-1, 10).Draw(rt, "len")
			add := rapid.Bool().Draw(rt, "add")
			if add {
				r.add(from, to)
			} else {
				r.remove(from, to)
			}
			for i := from; i < to; i++ {
				want[i] = add
			}
			checkRanges(rt, &r, want)
		}
	})
}

func checkRanges(t *rapid.T, r *ranges, want map[int64]bool) {
	var count int64
	for i := range int64(45) {
		if r.has(i) != want[i] {
			t.Fatalf("%d: %v in %v", i, r.has(i), r.spans)
		}
		if want[i] {
			count++
		}
	}
	if r.count != count || r.within(0, 45) != count {
		t.Fatalf("count %d, within %d, want %d", r.count, r.within(0, 45), count)
	}
	for i, s := range r.spans {
		if s.from >= s.to || i > 0 && r.spans[i-1].to >= s.from {
			t.Fatalf("spans %v", r.spans)
		}
	}
}
