package fuseloop

import (
	"bytes"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/crypto"
)

// Targets of links must not be found after a lock, as contents must not. They
// are strings, which nobody can zero: whoever handles them does so within
// crypto.Secretly, and what that leaves is erased once it is collected. They
// cannot go by way of go-fuse, which copies the first 128 bytes of a request,
// and keeps the last requests of those that were served at a time within reach.

func (l *Loop) serveSymlink(r *reader) {
	name, rest, named := bytes.Cut(r.request[headerSize:], []byte{0})
	target, _, ended := bytes.Cut(rest, []byte{0})
	if !named || !ended {
		l.refuse(r)
		return
	}
	out := (*fuse.EntryOut)(unsafe.Pointer(&r.out[answerHeader]))
	*out = fuse.EntryOut{}
	code := l.guarded(func() (code fuse.Status) {
		crypto.Secretly(func() { code = l.fs.Symlink(r.cancel, r.header(), string(target), string(name), out) })
		return code
	})
	wipe(r.request[headerSize:])
	l.answer(r, code, int(unsafe.Sizeof(*out)))
}

func (l *Loop) serveReadlink(r *reader) {
	room, n := r.out[answerHeader:], 0
	code := l.guarded(func() (code fuse.Status) {
		crypto.Secretly(func() {
			var target []byte
			target, code = l.fs.Readlink(r.cancel, r.header())
			if n = copy(room, target); n < len(target) && code.Ok() {
				code = fuse.Status(syscall.ENAMETOOLONG)
			}
		})
		return code
	})
	l.answer(r, code, n)
	wipe(room)
}
