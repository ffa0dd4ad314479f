package fuseloop

import (
	"bytes"
	endian "encoding/binary"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// links is a file system with one link, which is made and read.
type links struct {
	*files
	name, target string
	code         fuse.Status
	panics       bool
}

func (l *links) Symlink(_ <-chan struct{}, _ *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if l.panics {
		panic("in symlink")
	}
	l.name, l.target = name, target
	out.NodeId = 7
	return l.code
}

func (l *links) Readlink(<-chan struct{}, *fuse.InHeader) ([]byte, fuse.Status) {
	if l.panics {
		panic("in readlink")
	}
	return []byte(l.target), l.code
}

// about is a request, whose fixed part is the header alone.
func about(opcode uint32, rest string) []byte {
	b := make([]byte, headerSize, headerSize+len(rest))
	endian.LittleEndian.PutUint32(b, uint32(headerSize+len(rest)))
	endian.LittleEndian.PutUint32(b[4:], opcode)
	endian.LittleEndian.PutUint64(b[16:], fuse.FUSE_ROOT_ID)
	return append(b, rest...)
}

// TestLinks: targets arrive and come back as they are, errors and panics as
// errors, and nothing of a target stays in a reader.
func TestLinks(t *testing.T) {
	k := newKernel(t)
	l := &links{files: k.Loop.fs.(*files)}
	k.Loop.fs = l
	ask := func(opcode uint32, rest string) (code int32, data []byte) {
		t.Helper()
		answers := k.asks(about(opcode, rest))
		if len(answers) != 1 {
			t.Fatalf("%d answers", len(answers))
		}
		if bytes.Contains(k.r.copy[headerSize:], []byte("TT")) || bytes.Contains(k.r.out[answerHeader:], []byte("TT")) {
			t.Error("the reader holds a target")
		}
		return int32(endian.LittleEndian.Uint32(answers[0][4:])), answers[0][answerHeader:]
	}
	for _, size := range []int{2, 16, 100, 1000, 4095} {
		target := string(bytes.Repeat([]byte{'T'}, size))
		code, entry := ask(opSymlink, "name\x00"+target+"\x00")
		if code != 0 || len(entry) != 128 || entry[0] != 7 || l.name != "name" || l.target != target {
			t.Errorf("%d bytes: %d, entry of %d bytes, %q", size, code, len(entry), l.name)
		}
		if code, got := ask(opReadlink, ""); code != 0 || string(got) != target {
			t.Errorf("%d bytes: %d, got %d", size, code, len(got))
		}
	}
	l.target = string(bytes.Repeat([]byte{'T'}, small))
	if code, _ := ask(opReadlink, ""); code != -int32(syscall.ENAMETOOLONG) {
		t.Errorf("a target that no link has: %d", code)
	}
	l.code = fuse.Status(syscall.ENOKEY)
	// The read comes first: the answer without a key has no target, whose length matters.
	requests := []struct {
		opcode uint32
		rest   string
	}{{opReadlink, ""}, {opSymlink, "name\x00TTTT\x00"}, {opReadlink, ""}}
	for i, request := range requests {
		if code, data := ask(request.opcode, request.rest); code != -int32(syscall.ENOKEY) || len(data) > 0 {
			t.Errorf("request %d without a key: %d, %d bytes", i, code, len(data))
		}
	}
	l.panics = true
	for i, request := range requests {
		if code, _ := ask(request.opcode, request.rest); code != -int32(syscall.EIO) {
			t.Errorf("request %d that panics: %d", i, code)
		}
	}
	for _, rest := range []string{"", "name", "name\x00", "name\x00TTTT"} {
		if code, _ := ask(opSymlink, rest); code != -int32(syscall.EIO) {
			t.Errorf("a malformed %q: %d", rest, code)
		}
	}
	k.logs.text.set("")
}
