package fusefs

import (
	"context"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// file is a regular file.
type file struct{ node }

var (
	_ fs.NodeOpener      = (*file)(nil)
	_ fs.NodeOnForgetter = (*file)(nil)
)

// OnForget runs when the kernel knows the file no longer. It does not wait.
func (f *file) OnForget() {
	if f.file.isKept() {
		f.t.forgotten.add(f.file)
	}
}

// Open opens the file. flags come without O_TRUNC: the kernel truncates in a
// request of its own.
func (f *file) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, err := f.file.acquire()
	if err != nil {
		return nil, 0, f.t.errno(err)
	}
	if mayWrite(flags) && f.file.readOnly.Load() {
		f.file.giveBack()
		return nil, 0, syscall.EROFS
	}
	direct := f.isDirect()
	return newHandle(f.file, h, flags, direct), openFlags(direct), fs.OK
}

// isDirect asks the mount's options about the file's path.
func (f *file) isDirect() (direct bool) {
	if f.t.directIO == nil {
		return false
	}
	err := f.named(func(p string) error { direct = f.t.directIO(p); return nil })
	return err == nil && direct
}

// openFlags tell the kernel how to cache a file: as it did before, since
// nobody else has changed it, or not at all.
func openFlags(direct bool) uint32 {
	if direct {
		return fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	}
	return fuse.FOPEN_KEEP_CACHE
}

func mayWrite(flags uint32) bool { return flags&syscall.O_ACCMODE != uint32(os.O_RDONLY) }
