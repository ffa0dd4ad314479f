package fusefs

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

func (r *trace) setACL(name, attr string, value []byte) {
	r.note("set "+attr+" of "+name, unix.Setxattr(r.p(name), attr, value, 0))
}

func (r *trace) acls(name string) {
	for _, attr := range []string{store.ACLAccess, store.ACLDefault} {
		b := make([]byte, 200)
		n, err := unix.Getxattr(r.p(name), attr, b)
		r.note("get "+attr+" of "+name, err, fmt.Sprintf("%x", b[:max(n, 0)]))
	}
	r.stat(name)
}

// aclOf gives somebody and a group rights beside the mode's.
func aclOf(owner, user, group, named, mask, other uint32) []byte {
	return acl([3]uint32{aclUserObj, owner, noID}, [3]uint32{aclUser, user, someone}, [3]uint32{aclGroupObj, group, noID},
		[3]uint32{aclGroup, named, somegroup + 1}, [3]uint32{aclMask, mask, noID}, [3]uint32{aclOther, other, noID})
}

// linuxCases are what Linux has beside POSIX.
var linuxCases = []posixCase{
	{"access control lists", func(r *trace) {
		r.file("f", "secret", 0o600)
		r.setACL("f", store.ACLAccess, aclOf(6, 4, 0, 6, 7, 0))
		r.acls("f")
		as(r.t, someone, 1, func() { r.read("f"); r.open("f", unix.O_WRONLY, 0) })
		as(r.t, someone+1, somegroup+1, func() { r.read("f"); r.open("f", unix.O_WRONLY, 0) })
		as(r.t, someone+1, 1, func() { r.read("f"); r.setACL("f", store.ACLAccess, aclOf(7, 7, 7, 7, 7, 7)) })
		r.note("chmod", unix.Chmod(r.p("f"), 0o640)) // which is the mask
		r.acls("f")
		as(r.t, someone+1, somegroup+1, func() { r.read("f"); r.open("f", unix.O_WRONLY, 0) })
		r.note("chmod", unix.Chmod(r.p("f"), 0o600))
		as(r.t, someone, 1, func() { r.read("f") })
		r.note("remove", unix.Removexattr(r.p("f"), store.ACLAccess))
		r.acls("f")
		r.setACL("f", store.ACLDefault, aclOf(7, 7, 7, 7, 7, 7))
		r.setACL("f", store.ACLAccess, []byte("nonsense"))
	}},
	{"default access control lists", func(r *trace) {
		r.mkdir("d", 0o755)
		r.setACL("d", store.ACLDefault, aclOf(7, 6, 5, 4, 7, 1))
		defer unix.Umask(unix.Umask(0o077)) // counts for nothing there
		r.file("d/f", "x", 0o666)
		r.mkdir("d/sub", 0o777)
		r.file("d/sub/g", "x", 0o640)
		r.note("mkfifo", unix.Mkfifo(r.p("d/fifo"), 0o666))
		r.note("symlink", unix.Symlink("f", r.p("d/l")))
		fd := r.open("d", unix.O_TMPFILE|unix.O_RDWR, 0o666)
		r.fstat(fd)
		r.note("link", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, r.p("d/t"), unix.AT_SYMLINK_FOLLOW))
		for _, name := range []string{"d", "d/f", "d/sub", "d/sub/g", "d/fifo", "d/t"} {
			r.acls(name)
		}
		r.note("remove", unix.Removexattr(r.p("d"), store.ACLDefault))
		r.file("d/later", "x", 0o666)
		r.mkdir("d/sub2", 0o777)
		r.acls("d/later")
		r.acls("d/sub2")
	}},
	{"set-group-ID goes with an access control list", func(r *trace) {
		r.file("f", "x", 0o600)
		r.note("chown", unix.Chown(r.p("f"), someone, somegroup))
		for _, gid := range []int{somegroup, 1} {
			r.note("chmod", unix.Chmod(r.p("f"), 0o2640))
			as(r.t, someone, gid, func() { r.setACL("f", store.ACLAccess, aclOf(7, 4, 5, 4, 7, 1)) })
			r.stat("f")
		}
	}},
	{"without a last name", func(r *trace) {
		r.note("mkfifo", unix.Mkfifo(r.p("fifo"), 0o640))
		r.mkdir("dir", 0o750)
		r.note("symlink", unix.Symlink("target", r.p("link")))
		for _, name := range []string{"fifo", "dir", "link"} {
			fd := r.open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
			if name == "dir" {
				r.note("rmdir", unix.Rmdir(r.p(name)))
			} else {
				r.note("unlink", unix.Unlink(r.p(name)))
			}
			r.fstat(fd)
			r.note("chmod", unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o700))
			r.note("chown", unix.Fchownat(fd, "", 1, 2, unix.AT_EMPTY_PATH))
			r.fstat(fd)
		}
	}},
	{"O_TMPFILE with set-user-ID, in a setgid directory", func(r *trace) {
		r.mkdir("d", 0o777)
		r.note("chown", unix.Chown(r.p("d"), 0, 4321))
		r.note("chmod", unix.Chmod(r.p("d"), 0o2777))
		r.fstat(r.open("d", unix.O_TMPFILE|unix.O_RDWR, 0o6755))
		as(r.t, someone, somegroup, func() { r.fstat(r.open("d", unix.O_TMPFILE|unix.O_RDWR, 0o4711)) })
	}},
	{"leases", func(r *trace) {
		r.file("f", "x", 0o600)
		for _, kind := range []int{unix.F_RDLCK, unix.F_WRLCK} {
			fd := r.open("f", pick(uint32(kind), unix.O_RDONLY, unix.O_RDWR), 0)
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, kind)
			r.note("set", err)
			got, err := unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0)
			r.note("get", err, got)
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
			r.note("end", err)
		}
	}},
	{"inotify", func(r *trace) {
		fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
		must(r.t, err)
		defer unix.Close(fd)
		_, err = unix.InotifyAddWatch(fd, r.p("."), unix.IN_ALL_EVENTS)
		r.note("watch", err)
		r.file("f", "x", 0o600)
		r.rename("f", "g", 0)
		r.note("chmod", unix.Chmod(r.p("g"), 0o640))
		r.note("link", os.Link(r.p("g"), r.p("h")))
		r.note("unlink", unix.Unlink(r.p("g")))
		r.mkdir("d", 0o755)
		b := make([]byte, 8192)
		n, err := unix.Read(fd, b)
		r.note("read", err)
		for i := 0; i+unix.SizeofInotifyEvent <= n; {
			mask, size := binary.NativeEndian.Uint32(b[i+4:]), binary.NativeEndian.Uint32(b[i+12:])
			r.note("event", nil, fmt.Sprintf("%#x", mask))
			i += unix.SizeofInotifyEvent + int(size)
		}
	}},
}
