package crypto

import (
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestKeysAreInProtectedMemory(t *testing.T) {
	k := testKey(t, 1)
	smaps, err := os.ReadFile("/proc/self/smaps")
	check(t, err)
	k.View(func(b []byte) {
		at := uint64(uintptr(unsafe.Pointer(&b[0])))
		var before, own, after mapping
		all := mappings(t, string(smaps))
		for i, m := range all {
			if m.from <= at && at < m.to {
				before, own, after = all[i-1], m, all[i+1]
			}
		}
		// lo: locked, dd: not in core dumps, dc: not copied by fork.
		for _, flag := range []string{" lo ", " dd ", " dc "} {
			if !strings.Contains(own.flags, flag) {
				t.Errorf("the memory of a key lacks the flag%s: it has%s", flag, own.flags)
			}
		}
		if own.perm != "rw-p" {
			t.Errorf("the memory of a key is %s", own.perm)
		}
		if before.perm != "---p" || before.to != own.from || after.perm != "---p" || after.from != own.to {
			t.Errorf("no guard pages: %+v, %+v, %+v", before, own, after)
		}
	})
}

func TestGuardPagesFault(t *testing.T) {
	mem, err := lockedPages(1)
	check(t, err)
	if len(mem) != os.Getpagesize() {
		t.Fatalf("%d bytes were mapped for one", len(mem))
	}
	mem[0], mem[len(mem)-1] = 1, 1
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for name, at := range map[string]unsafe.Pointer{
		"before": unsafe.Add(unsafe.Pointer(&mem[0]), -1),
		"after":  unsafe.Add(unsafe.Pointer(&mem[0]), len(mem)),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("the byte %s the pages can be read", name)
				}
			}()
			sink = *(*byte)(at)
		}()
	}
}

var sink byte

func TestNoLockedMemory(t *testing.T) {
	p := startChild(t, "no locked pages", nobody)
	line := p.line()
	for _, part := range []string{"16384 bytes", "RLIMIT_MEMLOCK is 0 bytes", "LimitMEMLOCK="} {
		if !strings.Contains(line, part) {
			t.Errorf("the error %q does not say %q", line, part)
		}
	}
	p.expect("no slab is left")
	p.expect("b is zeroed")
}

func childNoLockedPages(c *child) {
	c.must(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}))
	b := []byte(strings.Repeat("k", KeySize))
	_, err := KeyFromBytes(b)
	var lock *LockError
	if !errors.As(err, &lock) || !errors.Is(err, lock.Err) {
		c.say("wrong error")
	}
	c.say(err.Error())
	if len(keys.slabs) == 0 && len(keys.free) == 0 {
		c.say("no slab is left")
	}
	if string(b) == strings.Repeat("\x00", KeySize) {
		c.say("b is zeroed")
	}
	c.wait()
}

// TestLimitIsRaised has a child with a soft limit in its way.
func TestLimitIsRaised(t *testing.T) {
	p := startChild(t, "raised limit", nobody)
	p.expect("1048576 bytes may be locked")
}

func childRaisedLimit(c *child) {
	c.must(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: 1 << 20}))
	k, err := NewKey()
	c.must(err)
	k.Destroy()
	var limit unix.Rlimit
	c.must(unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit))
	c.sayf("%d bytes may be locked", limit.Cur)
	c.wait()
}
