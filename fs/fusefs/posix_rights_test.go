package fusefs

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const someone, somegroup = 1234, 5678

var permissionCases = []posixCase{
	{"modes", func(r *trace) {
		r.file("f", "x", 0o600)
		r.mkdir("d", 0o755)
		for _, mode := range []uint32{0, 0o777, 0o4755, 0o2755, 0o1777, 0o6711, 0o2644, 0o7777, 0o444} {
			for _, name := range []string{"f", "d"} {
				r.note(fmt.Sprintf("chmod %s %#o", name, mode), unix.Chmod(r.p(name), mode))
				r.stat(name)
			}
		}
	}},
	{"owners of new objects", func(r *trace) {
		r.note("chmod", unix.Chmod(r.p("."), 0o777))
		as(r.t, someone, somegroup, func() {
			r.file("f", "x", 0o666)
			r.mkdir("d", 0o777)
			r.note("symlink", unix.Symlink("x", r.p("l")))
			r.note("mkfifo", unix.Mkfifo(r.p("fifo"), 0o666))
			r.note("mknod char", unix.Mknod(r.p("dev"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
			fd := r.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
			r.fstat(fd)
		})
		for _, name := range []string{"f", "d", "l", "fifo"} {
			r.stat(name)
		}
	}},
	{"setgid directory", func(r *trace) {
		r.mkdir("d", 0o777)
		r.note("chown", unix.Chown(r.p("d"), 0, 4321))
		r.note("chmod", unix.Chmod(r.p("d"), 0o2777))
		as(r.t, someone, somegroup, func() {
			r.file("d/f", "x", 0o666)
			r.mkdir("d/sub", 0o755)
			r.note("symlink", unix.Symlink("x", r.p("d/l")))
			fd := r.open("d/exec", unix.O_CREAT|unix.O_RDWR, 0o2775)
			r.fstat(fd)
		})
		for _, name := range []string{"d/f", "d/sub", "d/l"} {
			r.stat(name)
		}
	}},
	{"set-group-ID of a file that the group may not execute, given to one's own group", func(r *trace) {
		for _, gid := range []int{somegroup, 4321} {
			name := fmt.Sprint("of ", gid)
			r.file(name, "x", 0o600)
			r.note("chown", unix.Chown(r.p(name), someone, gid))
			r.note("chmod", unix.Chmod(r.p(name), 0o2664))
			as(r.t, someone, somegroup, func() { r.note("chgrp", unix.Chown(r.p(name), someone, somegroup)) })
			r.stat(name)
		}
	}},
	{"refusals", func(r *trace) {
		r.file("secret", "x", 0o600)
		r.file("public", "x", 0o644)
		r.mkdir("closed", 0o700)
		r.file("closed/f", "x", 0o666)
		r.mkdir("sticky", 0o777)
		r.note("chmod", unix.Chmod(r.p("sticky"), 0o1777))
		r.file("sticky/f", "x", 0o666)
		as(r.t, someone, somegroup, func() {
			r.read("secret")
			r.read("public")
			r.open("public", unix.O_RDWR, 0)
			r.stat("closed/f")
			r.list("closed")
			r.file("new", "x", 0o600)
			r.note("unlink", unix.Unlink(r.p("public")))
			r.note("unlink sticky", unix.Unlink(r.p("sticky/f")))
			r.rename("sticky/f", "sticky/g", 0)
			r.file("sticky/mine", "x", 0o600)
			r.note("unlink mine", unix.Unlink(r.p("sticky/mine")))
			r.note("chmod", unix.Chmod(r.p("public"), 0o777))
			r.note("chown", unix.Chown(r.p("public"), someone, -1))
			r.note("truncate", unix.Truncate(r.p("public"), 0))
			r.note("utimes", unix.UtimesNanoAt(unix.AT_FDCWD, r.p("public"), []unix.Timespec{{Sec: 1}, {Sec: 2}}, 0))
			for _, mode := range []uint32{unix.F_OK, unix.R_OK, unix.W_OK, unix.X_OK} {
				err := unix.Faccessat(unix.AT_FDCWD, r.p("public"), mode, unix.AT_EACCESS)
				r.note(fmt.Sprint("access ", mode), err)
			}
		})
	}},
	{"owner without root", func(r *trace) {
		r.note("chmod", unix.Chmod(r.p("."), 0o777))
		as(r.t, someone, somegroup, func() {
			r.file("f", "x", 0o600)
			r.note("chmod", unix.Chmod(r.p("f"), 0o4750))
			r.stat("f")
			r.note("chown group", unix.Chown(r.p("f"), -1, 99))
			r.note("chown user", unix.Chown(r.p("f"), 0, -1))
			r.note("chmod setgid", unix.Chmod(r.p("f"), 0o2755))
			r.stat("f")
			r.note("no rights", unix.Chmod(r.p("f"), 0))
			r.read("f")
			r.stat("f")
		})
	}},
	{"set-user-ID is lost", func(r *trace) {
		// Every way to change a file, by root and by somebody else, with and
		// without execution by the group.
		ways := map[string]func(name string){
			"1 write": func(name string) {
				fd := r.open(name, unix.O_WRONLY, 0)
				r.pwrite(fd, "changed", 0)
			},
			"2 append": func(name string) {
				fd := r.open(name, unix.O_WRONLY|unix.O_APPEND, 0)
				k, err := unix.Write(fd, []byte("more"))
				r.note("write", err, k)
			},
			"3 direct": func(name string) {
				fd := r.open(name, unix.O_WRONLY|unix.O_DIRECT, 0)
				k, err := unix.Pwrite(fd, aligned(4096), 0)
				r.note("pwrite", err, k)
			},
			"4 truncate":  func(name string) { r.note("truncate", unix.Truncate(r.p(name), 2)) },
			"5 open":      func(name string) { r.open(name, unix.O_WRONLY|unix.O_TRUNC, 0) },
			"6 fallocate": func(name string) { r.note("fallocate", unix.Fallocate(r.open(name, unix.O_WRONLY, 0), 0, 0, 9000)) },
			"7 chown":     func(name string) { r.note("chown", unix.Chown(r.p(name), -1, -1)) },
			"8 chown":     func(name string) { r.note("chown", unix.Chown(r.p(name), -1, somegroup)) },
			"9 read":      func(name string) { r.read(name) },
		}
		for _, way := range []string{"1 write", "2 append", "3 direct", "4 truncate", "5 open", "6 fallocate", "7 chown", "8 chown", "9 read"} {
			for _, mode := range []uint32{0o6777, 0o6767, 0o4777, 0o2777, 0o777} {
				for _, uid := range []int{0, someone} {
					if way == "7 chown" && uid != 0 && mode != 0o777 {
						continue // the kernel does not say who does nothing: no EPERM, and no effect
					}
					name := fmt.Sprintf("%s %o %d", way, mode, uid)
					r.file(name, "some data", 0o600)
					r.note("chmod", unix.Chmod(r.p(name), mode))
					r.stat(name)
					if uid == 0 {
						ways[way](name)
					} else {
						as(r.t, uid, somegroup, func() { ways[way](name) })
					}
					r.stat(name)
				}
			}
		}
	}},
	{"set-user-ID is lost on an open file", func(r *trace) {
		r.file("f", "x", 0o600)
		r.note("chmod", unix.Chmod(r.p("f"), 0o777))
		var fd int
		as(r.t, someone, somegroup, func() {
			fd = r.open("f", unix.O_RDWR, 0)
			r.pwrite(fd, "before", 0)
		})
		for range 3 {
			r.note("chmod", unix.Chmod(r.p("f"), 0o6777))
			r.fstat(fd)
			as(r.t, someone, somegroup, func() { r.pwrite(fd, "after", 1) })
			r.fstat(fd)
			r.stat("f")
		}
	}},
	{"chown", func(r *trace) {
		r.file("f", "x", 0o600)
		r.mkdir("d", 0o755)
		for _, name := range []string{"f", "d"} {
			r.note("chmod", unix.Chmod(r.p(name), 0o6775))
			r.note("chown", unix.Chown(r.p(name), someone, -1))
			r.stat(name)
			r.note("chmod", unix.Chmod(r.p(name), 0o6755))
			r.note("chown", unix.Chown(r.p(name), -1, somegroup))
			r.stat(name)
			r.note("chown", unix.Chown(r.p(name), 0, 0))
			r.stat(name)
		}
	}},
}

var attributeCases = []posixCase{
	{"times", func(r *trace) {
		r.file("f", "x", 0o600)
		r.mkdir("d", 0o755)
		r.note("symlink", unix.Symlink("f", r.p("l")))
		omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
		for _, name := range []string{"f", "d", "l"} {
			for _, ts := range [][]unix.Timespec{
				{{Sec: 1e9, Nsec: 123456789}, {Sec: 2e9, Nsec: 987654321}},
				{omit, {Sec: 5, Nsec: 1}},
				{{Sec: 6, Nsec: 999999999}, omit},
				{{Sec: -1000, Nsec: 5}, {Sec: -2, Nsec: 0}},
				{{Sec: 0}, {Sec: 1 << 33}},
			} {
				r.note("utimensat "+name, unix.UtimesNanoAt(unix.AT_FDCWD, r.p(name), ts, unix.AT_SYMLINK_NOFOLLOW))
				var st unix.Stat_t
				err := unix.Lstat(r.p(name), &st)
				r.note("times", err, st.Atim, st.Mtim)
			}
		}
		now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		r.note("now", unix.UtimesNanoAt(unix.AT_FDCWD, r.p("f"), now, 0))
		var st unix.Stat_t
		must(r.t, unix.Stat(r.p("f"), &st))
		r.note("recent", nil, st.Mtim.Sec > 1.7e9, st.Atim.Sec > 1.7e9)
	}},
	{"times follow changes", func(r *trace) {
		old := []unix.Timespec{{Sec: 1000}, {Sec: 1000}}
		mtime := func(name string) bool {
			var st unix.Stat_t
			must(r.t, unix.Lstat(r.p(name), &st))
			return st.Mtim.Sec != 1000
		}
		changes := func(what, name string, f func() error) {
			r.note("utimens", unix.UtimesNanoAt(unix.AT_FDCWD, r.p(name), old, 0))
			r.note(what, f(), mtime(name))
		}
		r.mkdir("d", 0o755)
		r.file("f", "xyz", 0o600)
		fd := r.open("f", unix.O_RDWR, 0)
		changes("write", "f", func() error { _, err := unix.Pwrite(fd, []byte("a"), 0); return err })
		changes("write and sync", "f", func() error {
			if _, err := unix.Pwrite(fd, []byte("a"), 0); err != nil {
				return err
			}
			return unix.Fsync(fd)
		})
		changes("read", "f", func() error { _, err := unix.Pread(fd, make([]byte, 1), 0); return err })
		changes("truncate", "f", func() error { return unix.Ftruncate(fd, 1) })
		changes("truncate to the same", "f", func() error { return unix.Ftruncate(fd, 1) })
		changes("chmod", "f", func() error { return unix.Fchmod(fd, 0o640) })
		changes("create", "d", func() error { return os.WriteFile(r.p("d/x"), nil, 0o600) })
		changes("write below", "d", func() error { return os.WriteFile(r.p("d/x"), []byte("y"), 0o600) })
		changes("rename", "d", func() error { return unix.Rename(r.p("d/x"), r.p("d/y")) })
		changes("link", "d", func() error { return unix.Link(r.p("f"), r.p("d/l")) })
		changes("unlink", "d", func() error { return unix.Unlink(r.p("d/y")) })
		changes("mkdir", "d", func() error { return unix.Mkdir(r.p("d/z"), 0o755) })
		changes("rmdir", "d", func() error { return unix.Rmdir(r.p("d/z")) })
	}},
	{"extended attributes", func(r *trace) {
		r.file("f", "x", 0o600)
		r.mkdir("d", 0o755)
		get := func(name, attr string, room int) {
			b := make([]byte, room)
			n, err := unix.Lgetxattr(r.p(name), attr, b)
			r.note(fmt.Sprintf("getxattr %s %s %d", name, attr, room), err, n, fmt.Sprintf("%q", b[:min(max(n, 0), room)]))
		}
		set := func(name, attr, value string, flags int) {
			r.note(fmt.Sprintf("setxattr %s %s %d %d", name, attr, len(value), flags), unix.Lsetxattr(r.p(name), attr, []byte(value), flags))
		}
		list := func(name string) {
			b := make([]byte, 4096)
			n, err := unix.Llistxattr(r.p(name), b)
			names := strings.FieldsFunc(string(b[:max(n, 0)]), func(c rune) bool { return c == 0 })
			r.note("listxattr "+name, err, len(names), strings.Contains(string(b), "user.a"))
		}
		for _, name := range []string{"f", "d"} {
			get(name, "user.a", 100)
			list(name)
			set(name, "user.a", "value", 0)
			set(name, "user.a", "other", unix.XATTR_CREATE)
			set(name, "user.b", "other", unix.XATTR_REPLACE)
			set(name, "user.b", "", unix.XATTR_CREATE)
			set(name, "user.a", "bytes \x00\xff", unix.XATTR_REPLACE)
			get(name, "user.a", 100)
			get(name, "user.a", 3)
			get(name, "user.a", 0)
			get(name, "user.b", 10)
			list(name)
			n, err := unix.Llistxattr(r.p(name), nil)
			r.note("size of the list", err, n > 0)
			_, err = unix.Llistxattr(r.p(name), make([]byte, 2))
			r.note("list with no room", err)
			set(name, "user.big", strings.Repeat("v", 2000), 0)
			get(name, "user.big", 3000)
			r.note("removexattr", unix.Lremovexattr(r.p(name), "user.a"))
			r.note("removexattr again", unix.Lremovexattr(r.p(name), "user.a"))
			get(name, "user.a", 100)
			set(name, "trusted.t", "t", 0)
			get(name, "trusted.t", 10)
			set(name, "nonsense", "t", 0)
		}
		as(r.t, someone, somegroup, func() {
			get("f", "user.b", 10)
			set("f", "user.c", "x", 0)
			get("d", "trusted.t", 10)
		})
		r.rename("f", "g", 0)
		get("g", "user.big", 3000)
		r.note("symlink", unix.Symlink("g", r.p("l")))
		set("l", "user.a", "on a link", 0)
	}},
	{"capabilities go with a write", func(r *trace) {
		// cap_net_bind_service+ep, revision 2.
		value := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		r.file("f", "x", 0o777)
		fd := r.open("f", unix.O_RDWR, 0)
		for i := range 3 {
			r.pwrite(fd, "a", int64(i))
			r.note("setxattr", unix.Setxattr(r.p("f"), capability, []byte(value), 0))
			n, err := unix.Getxattr(r.p("f"), capability, make([]byte, 100))
			r.note("getxattr", err, n)
			r.pwrite(fd, "b", int64(i))
			_, err = unix.Getxattr(r.p("f"), capability, make([]byte, 100))
			r.note("getxattr", err)
		}
		r.note("setxattr", unix.Setxattr(r.p("f"), capability, []byte(value), 0))
		r.note("chown", unix.Chown(r.p("f"), 3, 3))
		_, err := unix.Getxattr(r.p("f"), capability, make([]byte, 100))
		r.note("getxattr", err)
	}},
	{"statx", func(r *trace) {
		r.file("f", "12345", 0o600)
		var sx unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, r.p("f"), 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx)
		r.note("statx", err, sx.Mask&unix.STATX_BTIME != 0, sx.Btime.Sec > 1.7e9, sx.Size, sx.Nlink, sx.Mode)
		r.note("mknod", unix.Mknod(r.p("dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(300, 70000))))
		err = unix.Statx(unix.AT_FDCWD, r.p("dev"), 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx)
		r.note("statx", err, sx.Rdev_major, sx.Rdev_minor, sx.Mode)
	}},
	{"statfs", func(r *trace) {
		var s unix.Statfs_t
		err := unix.Statfs(r.p("."), &s)
		r.note("statfs", err, s.Bsize, s.Blocks, s.Files, s.Namelen, s.Bfree > 0, s.Ffree > 0)
	}},
	{"leases and locks on a directory", func(r *trace) {
		d := r.open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		r.note("flock", unix.Flock(d, unix.LOCK_EX|unix.LOCK_NB))
		r.note("unlock", unix.Flock(d, unix.LOCK_UN))
	}},
}
