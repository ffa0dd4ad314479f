package fuseloop

import (
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// answer sends an answer with n bytes of r.out after the header, or an error.
func (l *Loop) answer(r *reader, code fuse.Status, n int) {
	if !code.Ok() {
		n = 0
	}
	put(r.out[:], r.header(), code, answerHeader+n)
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
	err := l.write(answer, len(answer) <= quick && !mayWait(to.Opcode))
	if err != nil && err != syscall.ENODEV && err != syscall.ENOENT {
		l.log.Printf("answering a request of kind %d: %v", to.Opcode, err)
	}
}

// quick is how long an answer may be that is written without telling Go's
// scheduler: the kernel takes it in some microseconds, and a thread that tells
// has to get back its processor afterwards.
const quick = 16 << 10

// mayWait tells requests whose answer may take the kernel longer: with that to
// a RELEASE it may let go of the file, and wait for its own write-back of it,
// which may wait for us. A garbage collection that waited for the thread would
// keep us from that.
func mayWait(opcode uint32) bool { return opcode == opRelease || opcode == opReleasedir }

// write writes to the device, quickly or with the scheduler's knowledge.
func (l *Loop) write(b []byte, quickly bool) error {
	for {
		var err error
		if !quickly || raceDetector {
			_, err = unix.Write(l.fd, b)
		} else if _, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(l.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))); errno != 0 {
			err = errno
		}
		if err != syscall.EINTR {
			return err
		}
	}
}
