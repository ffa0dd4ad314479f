package fuseloop

import (
	"bytes"
	"runtime"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Numbers of requests, of which go-fuse exports none.
const (
	opForget      = 2
	opRead        = 15
	opWrite       = 16
	opRelease     = 18
	opFsync       = 20
	opSetxattr    = 21
	opGetxattr    = 22
	opListxattr   = 23
	opInit        = 26
	opReaddir     = 28
	opReleasedir  = 29
	opInterrupt   = 36
	opIoctl       = 39
	opBatchForget = 42
	opReaddirplus = 44
)

// forgets tells requests that the kernel wants no answer to.
func forgets(opcode uint32) bool { return opcode == opForget || opcode == opBatchForget }

// direct tells requests that go to the file system without go-fuse's help.
func direct(opcode uint32) bool {
	switch opcode {
	case opRead, opWrite, opFsync, opSetxattr, opInterrupt:
		return true
	}
	return false
}

// serve answers one request.
func (l *Loop) serve(r *reader) {
	defer r.letGo(l.buffers)
	h := r.header()
	switch {
	case int(h.Length) != len(r.request):
		l.refuse(r)
		return
	case h.NodeId == unreadyNode:
		l.serveOther(r)
		return
	}
	switch h.Opcode {
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

// refuse answers a request that is not as the protocol has it.
func (l *Loop) refuse(r *reader) {
	l.log.Printf("a malformed request of kind %d, %d bytes", r.header().Opcode, len(r.request))
	wipe(r.request[headerSize:])
	if !forgets(r.header().Opcode) {
		l.answer(r, fuse.EIO, 0)
	}
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
	if !ok || int64(in.Size) > int64(l.opts.MaxWrite) {
		l.refuse(r)
		return
	}
	out, back := l.roomFor(r, answerHeader, int(in.Size))
	defer back()
	n := 0
	code := l.guarded(func() fuse.Status {
		data := out[answerHeader:]
		result, code := l.fs.Read(r.cancel, in, data)
		if !code.Ok() || result == nil {
			return code
		}
		defer result.Done()
		read, code := result.Bytes(data)
		n = copy(data, read) // which is where it came from
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
	if !ok || int64(in.Size) != int64(len(data)) {
		l.refuse(r)
		return
	}
	out := (*fuse.WriteOut)(unsafe.Pointer(&r.out[answerHeader]))
	*out = fuse.WriteOut{}
	code := l.guarded(func() (code fuse.Status) {
		r.vector[0] = data
		out.Size, code = l.fs.Writev(r.cancel, in, r.vector[:])
		return code
	})
	wipe(r.request[headerSize:])
	l.answer(r, code, int(unsafe.Sizeof(*out)))
}

func (l *Loop) serveFsync(r *reader) {
	in, _, ok := as[fuse.FsyncIn](r)
	if !ok {
		l.refuse(r)
		return
	}
	code := l.guarded(func() fuse.Status { return l.fs.Fsync(r.cancel, in) })
	if p := r.postponed; p == nil {
		l.answer(r, code, 0)
	} else if r.postponed = nil; !code.Ok() {
		p.answer(code)
	}
}

// setxattrIn is what the kernel sends without SETXATTR_EXT, which go-fuse does
// not ask for.
type setxattrIn struct {
	fuse.InHeader
	size, flags uint32
}

func (l *Loop) serveSetxattr(r *reader) {
	in, rest, ok := as[setxattrIn](r)
	attr, value, named := bytes.Cut(rest, []byte{0})
	if !ok || !named || int64(in.size) != int64(len(value)) {
		l.refuse(r)
		return
	}
	full := fuse.SetXAttrIn{InHeader: in.InHeader, Size: in.size, Flags: in.flags}
	code := l.guarded(func() fuse.Status { return l.fs.SetXAttr(r.cancel, &full, string(attr), value) })
	wipe(r.request[headerSize:])
	l.answer(r, code, 0)
}

// serveOther leaves a request to go-fuse, which knows the kernel's formats.
func (l *Loop) serveOther(r *reader) {
	data := r.dataSize()
	if data > int64(l.opts.MaxWrite) {
		l.refuse(r)
		return
	}
	out, back := l.roomFor(r, small, int(data))
	defer back()
	n := 0
	code := l.guarded(func() (code fuse.Status) {
		n, code = l.protocol.HandleRequest([][]byte{r.request}, [][]byte{out})
		return code
	})
	switch {
	case forgets(r.header().Opcode):
	case !code.Ok():
		l.answer(r, code, 0)
	case n > 0:
		l.send(r.header(), out[:n])
	}
	wipe(r.request[headerSize:], out)
}

// dataSize is how much data the kernel takes for an answer, beside what all
// answers of the kind have.
func (r *reader) dataSize() int64 {
	switch r.header().Opcode {
	case opRead, opReaddir, opReaddirplus:
		if in, _, ok := as[fuse.ReadIn](r); ok {
			return int64(in.Size)
		}
	case opGetxattr, opListxattr:
		if in, _, ok := as[fuse.GetXAttrIn](r); ok {
			return int64(in.Size)
		}
	case opIoctl:
		if in, _, ok := as[fuse.IoctlIn](r); ok {
			return int64(in.OutSize)
		}
	}
	return 0
}

// roomFor is room for an answer of so much data beside the rest, to be given
// back.
func (l *Loop) roomFor(r *reader, rest, data int) (out []byte, back func()) {
	if rest+data <= len(r.out) {
		return r.out[:rest+data], func() {}
	}
	buf := l.buffers.get(data)
	return buf[:rest+data], func() { l.buffers.put(buf) }
}
