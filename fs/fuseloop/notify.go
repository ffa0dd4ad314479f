package fuseloop

import (
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Kinds of notifications.
const (
	notifyInode = 2
	notifyEntry = 3
)

var _ fs.ServerCallbacks = (*Loop)(nil)

// InodeNotify has the kernel forget attributes of an inode, and pages of a
// part of it after it has written them back; it waits for that.
func (l *Loop) InodeNotify(node uint64, off, length int64) fuse.Status {
	in := fuse.NotifyInvalInodeOut{Ino: node, Off: off, Length: length}
	return l.notify(notifyInode, bytesOf(&in), nil)
}

// EntryNotify has the kernel forget a name.
func (l *Loop) EntryNotify(parent uint64, name string) fuse.Status {
	in := fuse.NotifyInvalEntryOut{Parent: parent, NameLen: uint32(len(name))}
	return l.notify(notifyEntry, bytesOf(&in), append([]byte(name), 0))
}

// DeleteNotify is not needed here.
func (l *Loop) DeleteNotify(uint64, uint64, string) fuse.Status { return fuse.ENOSYS }

// InodeNotifyStoreCache is not needed here.
func (l *Loop) InodeNotifyStoreCache(uint64, int64, []byte) fuse.Status { return fuse.ENOSYS }

// InodeRetrieveCache is not needed here.
func (l *Loop) InodeRetrieveCache(uint64, int64, []byte) (int, fuse.Status) { return 0, fuse.ENOSYS }

func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// notify sends what the kernel has not asked for. It may wait for requests
// that the kernel makes of it.
func (l *Loop) notify(kind int32, body, name []byte) fuse.Status {
	l.closing.RLock()
	defer l.closing.RUnlock()
	if l.closed {
		return fuse.Status(syscall.EBADF)
	}
	head := fuse.OutHeader{Length: uint32(answerHeader + len(body) + len(name)), Status: kind}
	for {
		_, err := unix.Writev(l.fd, [][]byte{bytesOf(&head), body, name})
		if err != syscall.EINTR {
			return fuse.ToStatus(err)
		}
	}
}
