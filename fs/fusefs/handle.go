package fusefs

import (
	"context"
	"errors"
	"io"
	"math"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/fs/store"
)

// handle is one of the kernel's handles on a regular file. It holds a
// reference to the file's Handle.
type handle struct {
	file   *openFile
	h      Handle
	writes bool
	direct bool // the kernel caches nothing of what goes through it
}

var (
	_ fs.FileReader    = (*handle)(nil)
	_ fs.FileWriter    = (*handle)(nil)
	_ fs.FileFsyncer   = (*handle)(nil)
	_ fs.FileReleaser  = (*handle)(nil)
	_ fs.FileAllocater = (*handle)(nil)
	_ fs.FileLseeker   = (*handle)(nil)
)

func newHandle(f *openFile, h Handle, flags uint32, direct bool) *handle {
	open := &handle{file: f, h: h, writes: mayWrite(flags), direct: direct}
	if open.writes {
		f.writers.Add(1)
	}
	return open
}

func (h *handle) errno(err error) syscall.Errno { return h.file.node.t.errno(err) }

// Read fills dest, which is wiped when the kernel has it.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := h.h.ReadAt(dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, h.errno(err)
	}
	return fuse.ReadResultData(dest[:n]), fs.OK
}

// Write writes all of data or answers an error: the kernel's write-back does
// not look at how much was written.
func (h *handle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	write := h.h.WriteBack
	if h.direct {
		write = h.h.WriteAt
	}
	if _, err := write(data, off); err != nil {
		return 0, h.errno(err)
	}
	return uint32(len(data)), fs.OK
}

// fsyncData is the protocol's flag for fdatasync(2).
const fsyncData = 1

// Fsync makes durable what the kernel has written: it writes back first. The
// answer comes from whoever makes it durable, and is counted there.
func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	dataOnly, t := flags&fsyncData != 0, h.file.node.t
	began := meter.Clock()
	answer := t.loop.Postpone(ctx.Done())
	if answer == nil {
		return h.errno(h.h.Sync(dataOnly))
	}
	h.h.SyncThen(dataOnly, func(err error) {
		code := fuse.Status(h.errno(err))
		if t.ops != nil {
			t.ops.Done(meter.Fsync, began, faulty(code))
		}
		answer(code)
	})
	return fs.OK
}

// Release lets the file go; nobody waits for it.
func (h *handle) Release(context.Context) syscall.Errno {
	if h.writes {
		h.file.writers.Add(-1)
	}
	h.file.giveBack()
	return fs.OK
}

// Allocate is fallocate(2). Like a write, it takes set-user-ID and
// set-group-ID away, but the kernel does not tell from whom: root keeps them.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if off > math.MaxInt64 || size > math.MaxInt64-off {
		return syscall.EFBIG
	}
	if err := h.dropSetID(callerOf(ctx)); err != nil {
		return h.errno(err)
	}
	return h.errno(h.h.Allocate(mode, int64(off), int64(size)))
}

func (h *handle) dropSetID(caller Owner) error {
	n := h.file.node
	if caller.UID == 0 || !n.setID.Load() {
		return nil
	}
	err := dropSetID(h.h, caller, false, nil, func(*store.Attr) bool { return true })
	n.NotifyContent(-1, 0) // the kernel remembers the old mode
	return err
}

// Lseek finds data or a hole. The kernel does not write back before it asks,
// so while somebody may write we have it do so: what is invalidated is
// written first.
func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	if off > math.MaxInt64 {
		return 0, syscall.ENXIO
	}
	if h.file.writers.Load() > 0 {
		h.file.node.NotifyContent(0, 0)
	}
	pos, err := h.h.Seek(int64(off), int(whence))
	return uint64(pos), h.errno(err)
}
