package fuseloop

import (
	"errors"
	"log"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Loop is one mount. It is made by New, and lives from Mount to the end of Serve.
type Loop struct {
	fs         fuse.RawFileSystem
	protocol   *fuse.ProtocolServer
	opts       fuse.MountOptions
	log        *log.Logger
	mountpoint string
	helper     bool // mounted by fusermount3, which then unmounts too

	fd      int
	closing sync.RWMutex // shared by notifications, exclusively to close fd
	closed  bool

	lookout *lookout
	spare   int32        // how many readers may be idle
	idle    atomic.Int32 // readers that wait for a request, or are about to
	work    sync.WaitGroup
	pool    sync.Pool // of *reader
	large   sync.Pool // of *[]byte
	readers sync.Map  // by the channel that their requests come with
}

// New is a loop that is not mounted yet. A reader looks for requests for up to
// busyPoll before it sleeps; see lookout. Of opts it needs FsName, Name, Logger
// and MaxWrite; Options and AllowOther say how to mount, the rest, up to
// Debug, what to agree on with the kernel. The file system is given to Mount,
// because it needs the loop itself: for notifications, and for Postpone.
func New(opts fuse.MountOptions, busyPoll time.Duration) *Loop {
	l := &Loop{opts: opts, log: opts.Logger, fd: -1, spare: spareReaders()}
	l.opts.DisableSplice = true
	l.lookout = newLookout(busyPoll, func() bool { return readable(l.fd) })
	l.pool.New = func() any { return l.newReader() }
	l.large.New = func() any { b := make([]byte, l.opts.MaxWrite+overhead); return &b }
	return l
}

// Serve answers requests until the mount ends, whoever ends it. It returns
// when all have been answered, after OnUnmount.
func (l *Loop) Serve() {
	l.another()
	l.work.Wait()
	l.close()
	l.fs.OnUnmount()
}

// spareReaders is how many readers should wait for a request at a time. The
// kernel wakes the one that has waited longest: with more of them than there are
// processors, that is one that has lost its place in Go's scheduler meanwhile.
func spareReaders() int32 { return int32(min(max(2, runtime.NumCPU()), 16)) }

// another starts a reader.
func (l *Loop) another() {
	l.idle.Add(1)
	l.work.Add(1)
	go l.read()
}

// read is a reader: it takes requests and answers them, itself.
func (l *Loop) read() {
	defer l.work.Done()
	r := l.pool.Get().(*reader)
	l.readers.Store((<-chan struct{})(r.cancel), r)
	defer func() {
		l.readers.Delete((<-chan struct{})(r.cancel))
		l.pool.Put(r)
	}()
	for l.next(r) {
		if l.idle.Add(-1) == 0 && !forgets(r.header().Opcode) {
			l.another()
		}
		l.lookout.open.Add(1)
		l.serve(r)
		l.lookout.open.Add(-1)
		if !l.stay() {
			return
		}
	}
	l.idle.Add(-1)
}

// stay counts a reader that is done among those that wait, unless there are
// enough of them.
func (l *Loop) stay() bool {
	for {
		n := l.idle.Load()
		if n >= l.spare {
			return false
		}
		if l.idle.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// forgets tells requests that the kernel sends without end and without waiting
// for an answer. While they are served no reader is added on their account.
func forgets(opcode uint32) bool { return opcode == opForget || opcode == opBatchForget }

// next reads a request, or reports that there will be none.
func (l *Loop) next(r *reader) bool {
	l.lookout.look()
	for {
		n, err := unix.Read(l.fd, r.in)
		switch {
		case err == nil && n >= headerSize:
			r.n = n
			return true
		case err == nil:
			l.log.Printf("a request of %d bytes", n)
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOENT):
			// interrupted, or the request was while it was read
		case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ECONNABORTED):
			return false // unmounted, or aborted
		default:
			l.log.Printf("reading requests: %v", err)
			return false
		}
	}
}

func (l *Loop) close() {
	l.closing.Lock()
	defer l.closing.Unlock()
	l.closed = true
	_ = unix.Close(l.fd)
}
