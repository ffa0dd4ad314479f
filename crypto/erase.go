package crypto

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Secretly runs f and, where [ErasesHeap] is true, erases what f leaves in
// registers and on its stack before it returns, and what f allocates when the
// garbage collector finds that nothing refers to it. Elsewhere it only runs f.
// Global variables and goroutines that f starts are not covered.
//
// It is for a run of blocks that one request seals or opens, so that no
// preemption stores round keys that AES left in registers. Each call costs
// about 0.1 µs, and 0.1 µs more per 8 KiB of unused stack. f must not call C,
// which crashes with Go 1.26 (https://go.dev/issue/78999); it should not
// allocate, which is slow in it; and it is not preempted, so it should be done
// in well under a millisecond.
func Secretly(f func()) { secretly(f) }

// ErasesHeap reports whether copies of keys in the Go heap are erased once
// they are out of use: whether this program was built with
// GOEXPERIMENT=runtimesecret and runs where that is implemented.
func ErasesHeap() bool { return erasesHeap() }

// scrubTimeout is how long Scrub waits for a thread to take a signal.
const scrubTimeout = 5 * time.Second

// Scrub makes what was destroyed before it leave memory now and not at the
// garbage collector's leisure: it collects, which takes milliseconds, or more
// with a large heap, and overwrites the signal stacks, where a signal may have
// saved the registers of AES. It is for the moment when a volume is locked or
// unmounted. An error means that a signal stack may not be overwritten.
//
// Every thread is sent SIGURG, which the Go runtime sends to preempt a
// goroutine and ignores without a cause; delivery saves the registers of today
// over those of the last signal.
func Scrub() error {
	runtime.GC()
	threads, err := threads()
	if err != nil {
		return err
	}
	for _, tid := range threads {
		// A thread that has ended has no signal stack any more.
		if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("tgkill", err)
		}
	}
	deadline := time.Now().Add(scrubTimeout)
	for _, tid := range threads {
		for urgent(tid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("thread %d took no signal in %v", tid, scrubTimeout)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return nil
}

// threads lists this process's threads.
func threads() (tids []int, err error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		tids = append(tids, tid)
	}
	return tids, nil
}

// urgent reports whether SIGURG waits for a thread.
func urgent(tid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", tid))
	if err != nil {
		return false // it ended
	}
	_, rest, _ := strings.Cut(string(status), "\nSigPnd:\t")
	line, _, _ := strings.Cut(rest, "\n")
	pending, err := strconv.ParseUint(line, 16, 64)
	return err != nil || pending>>(unix.SIGURG-1)&1 != 0
}
