package fuseloop

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/crypto"
)

// Requests whose names are no names only: links' targets.
const (
	opReadlink = 5
	opSymlink  = 6
)

// handle has go-fuse call the file system. It copies the first 128 bytes of a
// request into memory of its own, and makes strings of what it finds; so does
// the file system. Of targets of links, which nobody may find after a lock,
// nothing of that is left once it is collected. Names are not worth it.
func (l *Loop) handle(opcode uint32, in, out []byte) (n int, code fuse.Status) {
	call := func() { n, code = l.protocol.HandleRequest([][]byte{in}, [][]byte{out}) }
	if opcode == opReadlink || opcode == opSymlink {
		crypto.Secretly(call)
	} else {
		call()
	}
	return n, code
}
