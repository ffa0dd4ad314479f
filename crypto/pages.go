package crypto

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A LockError says that the system did not give locked memory for keys.
type LockError struct {
	Bytes int    // how many were asked for
	Limit uint64 // RLIMIT_MEMLOCK, the soft limit, in bytes
	Err   error  // the system's error
}

func (e *LockError) Error() string {
	return fmt.Sprintf("cannot lock %d bytes of memory for keys: %v (RLIMIT_MEMLOCK is %d bytes; raise it with "+
		"LimitMEMLOCK= in the service's unit or with ulimit -l)", e.Bytes, e.Err, e.Limit)
}

func (e *LockError) Unwrap() error { return e.Err }

// lockedPages maps at least size bytes of zeroed memory that is never swapped,
// dumped or inherited by a fork, between two pages that fault when touched, so
// that a read or write beyond a neighbouring mapping does not reach keys. The
// mapping is for the life of the process.
func lockedPages(size int) ([]byte, error) {
	page := os.Getpagesize()
	size = (size + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("cannot map %d bytes of memory for keys: %w", size, err)
	}
	mem := all[page : page+size : page+size]
	if err := protect(mem); err != nil {
		unix.Munmap(all) // the error at hand is the one to tell
		return nil, err
	}
	return mem, nil
}

func protect(mem []byte) error {
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("cannot open memory for keys: %w", err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_DONTFORK} {
		if err := unix.Madvise(mem, advice); err != nil {
			return fmt.Errorf("cannot keep memory for keys out of dumps and forks: %w", err)
		}
	}
	return lock(mem)
}

// lock locks mem, and raises the limit as far as this process may if that is
// in the way.
func lock(mem []byte) error {
	err := unix.Mlock(mem)
	if err == nil {
		return nil
	}
	raiseLockLimit()
	if err = unix.Mlock(mem); err == nil {
		return nil
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil {
		limit.Cur = 0
	}
	return &LockError{Bytes: len(mem), Limit: limit.Cur, Err: err}
}

// raiseLockLimit lifts RLIMIT_MEMLOCK: altogether with CAP_SYS_RESOURCE, else
// to the hard limit. Whether that was enough, the next mlock tells.
func raiseLockLimit() {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
		return
	}
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit) // see above
	}
}
