package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/crypto"
)

// go-fuse keeps buffers for requests and answers, and readers of requests wait
// with one at hand that has held the data of earlier writes. None of it would
// go away when a volume is locked, so it is zeroed when it has been used. That
// happens in crypto.Secretly, which clears the registers that have copied it:
// a thread may wait for its next request for a long time.

// plaintext is the answer to a READ. That it has Slices makes go-fuse call
// Done after the kernel has the data, not before.
type plaintext struct{ data [1][]byte }

var _ interface {
	fuse.ReadResult
	Slices() ([][]byte, fuse.Status)
} = (*plaintext)(nil)

func newPlaintext(data []byte) *plaintext { return &plaintext{[1][]byte{data}} }

// Size is that of the data.
func (p *plaintext) Size() int { return len(p.data[0]) }

// Bytes is the data, whatever buffer there is.
func (p *plaintext) Bytes([]byte) ([]byte, fuse.Status) { return p.data[0], fuse.OK }

// Slices is the data.
func (p *plaintext) Slices() ([][]byte, fuse.Status) { return p.data[:], fuse.OK }

// Done is called when the kernel has the data.
func (p *plaintext) Done() {
	wipe(p.data[0])
}

// wipe zeroes the data of a READ or WRITE, or the value of a SETXATTR.
func wipe(data ...[]byte) {
	crypto.Secretly(func() {
		for _, d := range data {
			clear(d)
		}
	})
}
