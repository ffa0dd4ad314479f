package fuseloop

import (
	"errors"
	"io"
	"log"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/vigil"
)

// Loop is one mount. It is made by New, and lives from Mount to the end of Serve.
type Loop struct {
	fs         fuse.RawFileSystem
	protocol   *fuse.ProtocolServer
	opts       fuse.MountOptions
	log        *log.Logger
	mountpoint string
	helper     bool // mounted by fusermount3, which then unmounts too

	fd      int          // of /dev/fuse
	closing sync.RWMutex // shared by notifications, exclusively to close fd
	closed  bool
	ended   chan struct{} // closed when Serve is done

	vigil   *vigil.Vigil // may be nil
	lookout *lookout
	buffers *buffers
	pool    sync.Pool    // of *reader
	spare   int32        // how many readers may be idle
	idle    atomic.Int32 // readers that wait for a request, or are about to
	forgets atomic.Int32 // FORGETs that are being served
	serving sync.Map     // readers, by the channel that a handler gets of each
	// work is readers, and postponed requests: what fd is open for.
	work sync.WaitGroup
}

// New is a loop that is not mounted yet. A reader looks for requests for up to
// busyPoll before it sleeps, unless the vigil, which is told of each request,
// keeps processors awake; see lookout. Of opts it needs FsName, Name and
// MaxWrite; Options and AllowOther say how to mount, the rest, up to Debug,
// what to agree on with the kernel. Without a Logger nothing is logged. The
// file system is given to Mount, because it needs the loop itself: for
// notifications, and for Postpone.
func New(opts fuse.MountOptions, busyPoll time.Duration, vigil *vigil.Vigil) *Loop {
	if opts.Logger == nil {
		opts.Logger = log.New(io.Discard, "", 0)
	}
	l := &Loop{opts: opts, log: opts.Logger, vigil: vigil, fd: -1, ended: make(chan struct{}), buffers: newBuffers(), spare: spareReaders()}
	l.opts.DisableSplice = true // what we answer with is never a descriptor's data
	l.lookout = newLookout(busyPoll, func() bool { return readable(l.fd) }, vigil.Awake)
	l.pool.New = func() any { return newReader() }
	return l
}

// Serve answers requests until the mount ends, whoever ends it. It returns
// when all have been answered, after OnUnmount.
func (l *Loop) Serve() {
	defer close(l.ended)
	l.another()
	l.work.Wait()
	l.close()
	l.fs.OnUnmount()
}

func (l *Loop) close() {
	l.closing.Lock()
	defer l.closing.Unlock()
	l.closed = true
	_ = unix.Close(l.fd)
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
	l.serving.Store(r.name(), r)
	defer func() {
		l.serving.Delete(r.name())
		l.pool.Put(r)
	}()
	for l.next(r) {
		l.takeTurn(r)
		if !l.stay() {
			return
		}
	}
	l.idle.Add(-1)
}

// takeTurn serves the request that a reader has read, and sees to it that
// another reader waits meanwhile.
func (l *Loop) takeTurn(r *reader) {
	enough := false
	if forgets(r.header().Opcode) {
		enough = l.forgets.Add(1) > mostForgets
		defer l.forgets.Add(-1)
	}
	if l.idle.Add(-1) == 0 && !enough {
		l.another()
	}
	l.vigil.Came()
	l.lookout.open.Add(1)
	defer l.lookout.open.Add(-1)
	r.turns.Add(1)
	defer r.turns.Add(1)
	l.serve(r)
}

// Settle returns when all requests that are being served now have been, and
// their buffers wiped: whoever has an answer may ask for a lock before the
// reader that gave it has come to that. It must not be called from a handler.
func (l *Loop) Settle() {
	l.serving.Range(func(_, value any) bool {
		r := value.(*reader)
		for turn := r.turns.Load(); turn%2 == 1 && r.turns.Load() == turn; {
			time.Sleep(time.Millisecond)
		}
		return true
	})
}

// mostForgets is how many FORGETs may be served at a time before no reader is
// added on their account: the kernel sends them without end and waits for no
// answer. One may wait for as long as a volume is frozen.
const mostForgets = 256

// stay counts a reader that is done among those that wait, unless there are
// enough of them. It looks and counts in one step: if each counted itself and
// then looked, all could leave at once.
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

// readPause is how long a reader waits after a failure that is not the mount's end.
const readPause = 10 * time.Millisecond

// next reads a request, or reports that there will be none.
func (l *Loop) next(r *reader) bool {
	l.lookout.look()
	buf := l.buffers.get(l.opts.MaxWrite)
	for {
		n, err := unix.Read(l.fd, buf)
		switch {
		case err == nil && n >= headerSize:
			r.take(buf, n, l.buffers)
			return true
		case err == nil:
			l.log.Printf("a request of %d bytes", n)
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOENT):
			// we were interrupted, or the request was while we read it
		case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EBADF):
			l.buffers.put(buf)
			return false // unmounted, aborted
		default: // no memory, perhaps: the kernel has failed that request, and goes on
			l.log.Printf("reading requests: %v", err)
			time.Sleep(readPause)
		}
	}
}
