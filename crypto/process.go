package crypto

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A HardenError names the step that the system refused.
type HardenError struct {
	Step string
	Err  error
}

func (e *HardenError) Error() string {
	return fmt.Sprintf("cannot protect this process's keys: %s: %v", e.Step, e.Err)
}

func (e *HardenError) Unwrap() error { return e.Err }

// HardenProcess keeps the memory of this process from others, for good: it
// leaves no core dump, and no other process of the same or another user can
// trace it or read its memory or environment; only CAP_SYS_PTRACE can. It
// also lifts the limit of locked memory as far as it may, and goes on if it
// may not. A program that this one executes has to do it again. The error is
// a [*HardenError], and then the process should not load keys.
//
// A core limit of zero alone is not enough: with a pipe in core_pattern the
// kernel ignores it, but never dumps a process that is not dumpable.
func HardenProcess() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return &HardenError{Step: "PR_SET_DUMPABLE", Err: err}
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return &HardenError{Step: "RLIMIT_CORE", Err: err}
	}
	raiseLockLimit()
	return nil
}
