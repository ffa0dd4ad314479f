package fuseloop

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lookout has a reader look for the next request for some microseconds before
// it goes to sleep: whoever has just been answered often asks again at once, as
// a commit does with WRITE and FSYNC, and to wake a thread takes longer than
// that, in a virtual machine above all. It looks only while no request is being
// served, so that it takes no processor away from one, one reader at a time, and
// more and more seldom where nothing comes. Nor does it look while processors are
// kept awake: they wake in no time then, and looking only takes one from others.
type lookout struct {
	patience time.Duration // how long it looks; 0: not at all
	ready    func() bool   // whether there is a request
	needless func() bool   // whether to wake takes no time
	now      func() time.Time

	open  atomic.Int32 // requests that have been read and not answered
	taken atomic.Bool  // a reader looks out; guards the rest
	vain  int          // looks in a row after which nothing had come
	rest  int          // looks to leave out
}

// mostVain bounds how seldom it looks: at 1 of 63 requests.
const mostVain = 6

func newLookout(patience time.Duration, ready, needless func() bool) *lookout {
	return &lookout{patience: patience, ready: ready, needless: needless, now: time.Now}
}

// look returns when there is a request, or when it is time to sleep.
func (l *lookout) look() {
	if l.patience == 0 || l.open.Load() > 0 || l.needless() || !l.taken.CompareAndSwap(false, true) {
		return
	}
	defer l.taken.Store(false)
	if l.rest > 0 {
		l.rest--
		return
	}
	for end := l.now().Add(l.patience); ; {
		if l.ready() {
			l.vain = 0
			return
		}
		if !l.now().Before(end) || l.open.Load() > 0 {
			break
		}
	}
	l.vain = min(l.vain+1, mostVain)
	l.rest = 1<<l.vain - 2
}

// readable reports whether a read would find something, or an error. It does
// not tell Go's scheduler of its system call, which takes less than a
// microsecond.
func readable(fd int) bool {
	p, now := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, unix.Timespec{}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno != 0 || n > 0
}
