package fuseloop

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
)

// Numbers of requests, of which go-fuse exports none.
const (
	opForget      = 2
	opRead        = 15
	opWrite       = 16
	opFsync       = 20
	opSetxattr    = 21
	opGetxattr    = 22
	opListxattr   = 23
	opInit        = 26
	opReaddir     = 28
	opInterrupt   = 36
	opIoctl       = 39
	opBatchForget = 42
	opReaddirplus = 44
)

const (
	headerSize   = int(unsafe.Sizeof(fuse.InHeader{}))
	answerHeader = int(unsafe.Sizeof(fuse.OutHeader{}))
	// overhead is what a request or an answer may have beside the data whose
	// size is named: header, fixed part, and names or the target of a link.
	overhead = 12 << 10
	// small is how long an answer may be that fits into a reader's own buffer.
	small = 80 << 10
)

// reader is one goroutine's buffers. Between requests they hold zeros where
// they may have held anything but headers.
type reader struct {
	cancel chan struct{} // never closed: it tells whose a request is
	in     []byte
	n      int    // bytes of in that are the request
	out    []byte // the answer, if it is small
	vector [1][]byte

	postponed *postponed // by the request being served
}

func (l *Loop) newReader() *reader {
	return &reader{
		cancel: make(chan struct{}),
		in:     make([]byte, l.opts.MaxWrite+overhead),
		out:    make([]byte, small),
	}
}

func (r *reader) header() *fuse.InHeader { return (*fuse.InHeader)(unsafe.Pointer(&r.in[0])) }

// as is the request as one of go-fuse's types, if it is long enough.
func as[T any](r *reader) (*T, []byte, bool) {
	var in T
	size := int(unsafe.Sizeof(in))
	if r.n < size {
		return nil, nil, false
	}
	return (*T)(unsafe.Pointer(&r.in[0])), r.in[size:r.n], true
}

// serve answers one request.
func (l *Loop) serve(r *reader) {
	switch r.header().Opcode {
	case opRead:
		l.serveRead(r)
	case opWrite:
		l.serveWrite(r)
	case opFsync:
		l.serveFsync(r)
	case opSetxattr:
		l.serveSetxattr(r)
	case opInterrupt:
		l.answer(r, fuse.ENOSYS, 0) // nothing here can be interrupted: the kernel asks no more
	default:
		l.serveOther(r)
	}
}

// direct tells requests that go to the file system without go-fuse's help.
func direct(opcode uint32) bool {
	switch opcode {
	case opRead, opWrite, opFsync, opSetxattr, opInterrupt:
		return true
	}
	return false
}

// guarded calls a handler, and has EIO for a panic in it.
func (l *Loop) guarded(handle func() fuse.Status) (code fuse.Status) {
	defer func() {
		if cause := recover(); cause != nil {
			stack := make([]byte, 64<<10)
			l.log.Printf("panic in a request: %v\n%s", cause, stack[:runtime.Stack(stack, false)])
			code = fuse.EIO
		}
	}()
	return handle()
}

// serveRead has the data put behind the answer's header, so that it goes to
// the kernel in one piece.
func (l *Loop) serveRead(r *reader) {
	in, _, ok := as[fuse.ReadIn](r)
	if !ok || int(in.Size) > l.opts.MaxWrite {
		l.answer(r, fuse.EIO, 0)
		return
	}
	out, back := l.buffer(r, answerHeader+int(in.Size))
	defer back()
	n := 0
	code := l.guarded(func() fuse.Status {
		room := out[answerHeader:]
		result, code := l.fs.Read(r.cancel, in, room)
		if !code.Ok() || result == nil {
			return code
		}
		defer result.Done()
		data, code := result.Bytes(room)
		n = copy(room, data) // which is where it came from
		return code
	})
	if code.Ok() {
		put(out, r.header(), code, answerHeader+n)
		l.send(r.header(), out[:answerHeader+n])
	} else {
		l.answer(r, code, 0)
	}
	wipe(out[answerHeader:])
}

func (l *Loop) serveWrite(r *reader) {
	in, data, ok := as[fuse.WriteIn](r)
	if !ok {
		l.answer(r, fuse.EIO, 0)
		return
	}
	out := (*fuse.WriteOut)(unsafe.Pointer(&r.out[answerHeader]))
	*out = fuse.WriteOut{}
	code := l.guarded(func() (code fuse.Status) {
		r.vector[0] = data
		out.Size, code = l.fs.Writev(r.cancel, in, r.vector[:])
		return code
	})
	wipe(data)
	l.answer(r, code, int(unsafe.Sizeof(*out)))
}

func (l *Loop) serveFsync(r *reader) {
	in, _, ok := as[fuse.FsyncIn](r)
	if !ok {
		l.answer(r, fuse.EIO, 0)
		return
	}
	code := l.guarded(func() fuse.Status { return l.fs.Fsync(r.cancel, in) })
	if p := r.postponed; p != nil {
		r.postponed = nil
		if !code.Ok() {
			p.answer(code)
		}
		return
	}
	l.answer(r, code, 0)
}

func (l *Loop) serveSetxattr(r *reader) {
	in, rest, ok := as[setxattrIn](r)
	attr, value, named := bytes.Cut(rest, []byte{0})
	if !ok || !named {
		l.answer(r, fuse.EINVAL, 0)
		return
	}
	full := fuse.SetXAttrIn{InHeader: in.InHeader, Size: in.size, Flags: in.flags}
	code := l.guarded(func() fuse.Status { return l.fs.SetXAttr(r.cancel, &full, string(attr), value) })
	wipe(rest)
	l.answer(r, code, 0)
}

// setxattrIn is what the kernel sends without SETXATTR_EXT, which go-fuse does
// not ask for.
type setxattrIn struct {
	fuse.InHeader
	size, flags uint32
}

// serveOther leaves a request to go-fuse, which knows the kernel's formats.
func (l *Loop) serveOther(r *reader) {
	out, back := l.buffer(r, r.dataSize()+overhead)
	defer back()
	n, code := l.handle(r.header().Opcode, r.in[:r.n], out)
	if !code.Ok() {
		l.answer(r, code, 0)
	} else if n > 0 {
		l.send(r.header(), out[:n])
	}
	wipe(r.in[headerSize:r.n], out)
}

// dataSize is how much data the kernel takes for an answer, beside what all
// answers of the kind have.
func (r *reader) dataSize() int {
	switch r.header().Opcode {
	case opReaddir, opReaddirplus:
		if in, _, ok := as[fuse.ReadIn](r); ok {
			return int(in.Size)
		}
	case opGetxattr, opListxattr:
		if in, _, ok := as[fuse.GetXAttrIn](r); ok {
			return int(in.Size)
		}
	case opIoctl:
		if in, _, ok := as[fuse.IoctlIn](r); ok {
			return int(in.OutSize)
		}
	}
	return 0
}

// buffer is room for an answer of n bytes, to be given back.
func (l *Loop) buffer(r *reader, n int) (buf []byte, back func()) {
	if n <= len(r.out) {
		return r.out[:n], func() {}
	}
	large := l.large.Get().(*[]byte)
	back = func() { l.large.Put(large) }
	if n > len(*large) {
		return make([]byte, n), back
	}
	return (*large)[:n], back
}

// wipe zeroes what a request brought or its answer took along. It is done in
// crypto.Secretly, which clears the registers that have copied it, too: a
// thread may wait for its next request for a long time.
func wipe(data ...[]byte) {
	crypto.Secretly(func() {
		for _, d := range data {
			clear(d)
		}
	})
}

// Postpone has the FSYNC that a handler was called for, with this channel, be
// answered by calling done, once, now or later: what the handler returns is
// then of no importance unless it is an error. It is nil for a request that
// cannot be postponed.
func (l *Loop) Postpone(cancel <-chan struct{}) (done func(fuse.Status)) {
	found, ok := l.readers.Load(cancel)
	if !ok {
		return nil
	}
	r := found.(*reader)
	if r.header().Opcode != opFsync || r.postponed != nil {
		return nil
	}
	l.work.Add(1)
	l.lookout.open.Add(1)
	r.postponed = &postponed{loop: l, header: *r.header()}
	return r.postponed.answer
}

// Postponed reports whether the request that a handler has just been called
// for, with this channel, is postponed.
func (l *Loop) Postponed(cancel <-chan struct{}) bool {
	found, ok := l.readers.Load(cancel)
	return ok && found.(*reader).postponed != nil
}

// postponed is a request that is answered after its handler.
type postponed struct {
	loop   *Loop
	header fuse.InHeader
	done   atomic.Bool
}

func (p *postponed) answer(code fuse.Status) {
	if p.done.Swap(true) {
		return
	}
	defer p.loop.work.Done()
	defer p.loop.lookout.open.Add(-1)
	var out [answerHeader]byte
	put(out[:], &p.header, code, answerHeader)
	p.loop.send(&p.header, out[:])
}

// answer sends an answer with n bytes of r.out after the header, or an error.
func (l *Loop) answer(r *reader, code fuse.Status, n int) {
	if !code.Ok() {
		n = 0
	}
	put(r.out, r.header(), code, answerHeader+n)
	l.send(r.header(), r.out[:answerHeader+n])
}

// put makes an answer's header.
func put(b []byte, to *fuse.InHeader, code fuse.Status, length int) {
	*(*fuse.OutHeader)(unsafe.Pointer(&b[0])) = fuse.OutHeader{Length: uint32(length), Status: -int32(code), Unique: to.Unique}
}

// send gives an answer to the kernel. Once the mount is aborted, or when the
// request was one that outlives its caller, nobody waits for it.
func (l *Loop) send(to *fuse.InHeader, answer []byte) {
	if l.opts.Debug && direct(to.Opcode) {
		l.log.Printf("request %d of kind %d, node %d: %d bytes, %v", to.Unique, to.Opcode, to.NodeId, len(answer),
			fuse.Status(-(*fuse.OutHeader)(unsafe.Pointer(&answer[0])).Status))
	}
	err := l.write(answer)
	if err != nil && err != syscall.ENODEV && err != syscall.ENOENT {
		l.log.Printf("answering a request of kind %d: %v", to.Opcode, err)
	}
}

// quick is how long an answer may be that is written without telling Go's
// scheduler: the kernel takes it in some microseconds, without waiting, and a
// thread that tells has to get back its processor afterwards.
const quick = 16 << 10

func (l *Loop) write(b []byte) (err error) {
	for {
		if len(b) > quick || raceDetector {
			_, err = unix.Write(l.fd, b)
		} else if _, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(l.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))); errno != 0 {
			err = errno
		} else {
			err = nil
		}
		if err != syscall.EINTR {
			return err
		}
	}
}
