package fuseloop

import (
	"bytes"
	endian "encoding/binary"
	"errors"
	"io"
	stdlog "log"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// kernel is a socket in place of the device, and a loop at its other end that
// no thread serves: requests are given to it one by one.
type kernel struct {
	*testing.T
	*mounted
	end int
	r   *reader
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	was := stdlog.Writer() // where go-fuse tells of what it cannot read
	stdlog.SetOutput(io.Discard)
	t.Cleanup(func() { stdlog.SetOutput(was) })
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) })
	m := unmounted(t, func(o *fuse.MountOptions) { o.MaxWrite = 1 << 16 })
	m.Loop.fs, m.fd = m.fs, pair[0]
	m.protocol = fuse.NewProtocolServer(m.fs, &m.opts)
	m.set(func(a *answers) {
		a.read = fill('k')
		a.write = func([]byte) fuse.Status { return fuse.OK }
		a.fsync = func(<-chan struct{}) fuse.Status { return fuse.OK }
		a.getxattr = func(buf []byte) (uint32, fuse.Status) { return uint32(len(buf)), fuse.OK }
		a.setxattr = func(string, []byte) fuse.Status { return fuse.OK }
	})
	k := &kernel{t, m, pair[1], m.pool.Get().(*reader)}
	k.serving.Store(k.r.name(), k.r)
	return k
}

// asks has a request served, and returns the answers to it.
func (k *kernel) asks(request []byte) (answers [][]byte) {
	buf := k.buffers.get(k.opts.MaxWrite)
	k.r.take(buf, copy(buf, request), k.buffers)
	k.Loop.serve(k.r)
	for {
		answer := make([]byte, 1<<17)
		n, _, err := unix.Recvfrom(k.end, answer, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return answers
		}
		if err != nil {
			k.T.Fatal(err)
		}
		answers = append(answers, answer[:n])
	}
}

// request is one with these fields after the header, and the true length.
func request(opcode uint32, body ...any) []byte {
	var b bytes.Buffer
	for _, part := range append([]any{fuse.InHeader{Opcode: opcode, Unique: 77, NodeId: 2}}, body...) {
		if err := endian.Write(&b, endian.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	endian.LittleEndian.PutUint32(b.Bytes(), uint32(b.Len()))
	return b.Bytes()
}

// fields is what a type of go-fuse's has after the header.
func fields[T any](in T) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in)))[headerSize:]
}

// cut is a request that is shorter than it says.
func cut(b []byte) []byte { return b[:len(b)-1] }

// TestMalformed: what is not as the protocol has it is answered with EIO, and
// reaches no handler.
func TestMalformed(t *testing.T) {
	k := newKernel(t)

	for what, ask := range map[string][]byte{
		"READ, short":                     request(opRead, make([]byte, 39)),
		"READ, cut":                       cut(request(opRead, fields(fuse.ReadIn{Size: 10}))),
		"READ of too much":                request(opRead, fields(fuse.ReadIn{Size: 1<<16 + 1})),
		"READ of 4 GiB":                   request(opRead, fields(fuse.ReadIn{Size: 1<<32 - 1})),
		"WRITE, short":                    request(opWrite, make([]byte, 39)),
		"WRITE of more than it brings":    request(opWrite, fields(fuse.WriteIn{Size: 6}), []byte("bytes")),
		"WRITE of less":                   request(opWrite, fields(fuse.WriteIn{Size: 4}), []byte("bytes")),
		"WRITE, cut":                      cut(request(opWrite, fields(fuse.WriteIn{Size: 4}), []byte("bytes"))),
		"WRITE of 4 GiB":                  request(opWrite, fields(fuse.WriteIn{Size: 1<<32 - 1}), []byte("bytes")),
		"FSYNC, short":                    request(opFsync, make([]byte, 15)),
		"SETXATTR, short":                 request(opSetxattr, make([]byte, 7)),
		"SETXATTR without a name's end":   request(opSetxattr, []uint32{1, 0}, []byte("user.a")),
		"SETXATTR of more than it brings": request(opSetxattr, []uint32{2, 0}, []byte("user.a\x00v")),
		"SETXATTR of less":                request(opSetxattr, []uint32{0, 0}, []byte("user.a\x00v")),
		"GETXATTR of 4 GiB":               request(opGetxattr, []uint32{1<<32 - 1, 0}, []byte("user.a\x00")),
		"READDIR of 4 GiB":                request(opReaddir, fields(fuse.ReadIn{Size: 1<<32 - 1})),
		"GETXATTR, short":                 request(opGetxattr, make([]byte, 7)),
		"a LOOKUP, cut":                   cut(request(1, []byte("file\x00"))),
	} {
		k.set(func(a *answers) { a.during = func(<-chan struct{}) { t.Errorf("%s reached the file system", what) } })
		got := k.asks(ask)
		if len(got) != 1 || len(got[0]) != answerHeader {
			t.Errorf("%s: %d answers", what, len(got))
		} else if h := (*fuse.OutHeader)(unsafe.Pointer(&got[0][0])); h.Status != -int32(fuse.EIO) || h.Unique != 77 {
			t.Errorf("%s: %+v", what, h)
		}
	}
	k.logs.text.set("")
}

// FuzzRequest: any bytes get one answer, or none if they say so, of the length
// that it has; nothing of them is left, and the next request is served.
func FuzzRequest(f *testing.F) {
	f.Add(request(opRead, fields(fuse.ReadIn{Size: 5000})))
	f.Add(request(opWrite, fields(fuse.WriteIn{Size: 5}), []byte("bytes")))
	f.Add(request(opFsync, fields(fuse.FsyncIn{})))
	f.Add(request(opSetxattr, []uint32{1, 0}, []byte("user.a\x00v")))
	f.Add(request(opGetxattr, []uint32{100, 0}, []byte("user.a\x00")))
	f.Add(request(opForget, []uint64{1}))
	f.Add(request(opBatchForget, []uint32{1, 0}, []uint64{2, 1}))
	f.Add(request(opInterrupt, []uint64{1}))
	f.Add(request(opReaddirplus, fields(fuse.ReadIn{Size: 4096})))
	f.Add(request(opInit, fields(fuse.InitIn{Major: 7, Minor: 45})))
	f.Add(request(12, []uint64{1}, []byte("from\x00to\x00"))) // RENAME
	f.Add(request(6, []byte("name\x00target\x00")))           // SYMLINK
	f.Fuzz(func(t *testing.T, ask []byte) {
		if len(ask) < headerSize || len(ask) > 1<<16+overhead {
			return // the kernel sends a header, and no more than it is let
		}
		k := newKernel(t)
		h := *(*fuse.InHeader)(unsafe.Pointer(&bytes.Clone(ask)[0]))
		got := k.asks(ask)
		if n := len(got); n > 1 || n == 0 && !forgets(h.Opcode) && h.Opcode != opNotifyReply || n == 1 && forgets(h.Opcode) {
			t.Fatalf("%d answers to a request of kind %d", n, h.Opcode)
		}
		for _, answer := range got {
			if o := (*fuse.OutHeader)(unsafe.Pointer(&answer[0])); int(o.Length) != len(answer) || o.Unique != h.Unique || o.Status > 0 {
				t.Fatalf("an answer of %d bytes to request %d: %+v", len(answer), h.Unique, o)
			}
		}
		left := [][]byte{k.r.copy[headerSize:], k.r.out[answerHeader+int(unsafe.Sizeof(fuse.WriteOut{})):]}
		for _, b := range k.made.get().buffers {
			left = append(left, b[headerSize:])
		}
		for _, b := range left {
			if len(bytes.Trim(b, "\x00")) > 0 {
				t.Fatalf("a request of kind %d leaves something behind", h.Opcode)
			}
		}
		if k.r.large != nil || k.r.postponed != nil {
			t.Fatal("the request is not over")
		}
		if got := k.asks(request(opRead, fields(fuse.ReadIn{Size: 4}))); len(got) != 1 || string(got[0][answerHeader:]) != "kkkk" {
			t.Fatalf("afterwards: %q", got)
		}
	})
}

// opNotifyReply is an answer of the kernel's to what is never asked here.
const opNotifyReply = 41
