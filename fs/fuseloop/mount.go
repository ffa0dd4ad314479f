package fuseloop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Mount mounts fs on a directory, an absolute path, and agrees with the kernel
// on how they talk; Serve must follow, and then Ready. As root it mounts by
// itself, with flags of mount(2); otherwise, and where root may not, by way of
// fusermount3, with helperOptions.
func (l *Loop) Mount(fs fuse.RawFileSystem, mountpoint string, flags uintptr, helperOptions []string) error {
	l.fs, l.mountpoint = fs, mountpoint
	l.protocol = fuse.NewProtocolServer(fs, &l.opts)
	if err := l.attach(flags, helperOptions); err != nil {
		return err
	}
	if err := l.greet(); err != nil {
		return errors.Join(err, l.unmount(), unix.Close(l.fd))
	}
	return nil
}

func (l *Loop) attach(flags uintptr, helperOptions []string) (err error) {
	if os.Geteuid() == 0 {
		l.fd, err = l.attachDirectly(flags)
		if err == nil || !errors.Is(err, syscall.EPERM) {
			return err
		}
	}
	fd, second := l.attachByHelper(helperOptions)
	if second != nil {
		return errors.Join(err, second)
	}
	l.fd, l.helper = fd, true
	return nil
}

// options are those of the connection, without descriptor and owner.
func (l *Loop) options() []string {
	all := append([]string{fmt.Sprintf("max_read=%d", l.opts.MaxWrite)}, l.opts.Options...)
	if l.opts.AllowOther {
		all = append(all, "allow_other")
	}
	return all
}

func (l *Loop) attachDirectly(flags uintptr) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(l.mountpoint, &st); err != nil {
		return -1, err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	options := append([]string{
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
	}, l.options()...)
	if err := unix.Mount(l.opts.FsName, l.mountpoint, "fuse."+l.opts.Name, flags, strings.Join(options, ",")); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// greet answers the kernel's first request, which settles what both can do.
func (l *Loop) greet() error {
	r := l.pool.Get().(*reader)
	defer l.pool.Put(r)
	if !l.next(r) {
		return syscall.ENODEV
	}
	if kind := r.header().Opcode; kind != opInit {
		r.letGo(l.buffers)
		return fmt.Errorf("the kernel began with a request of kind %d", kind)
	}
	l.serve(r)
	return nil
}

// unready is the name of a file that go-fuse has on every mount, and answers for
// by itself; unreadyNode is its node.
const (
	unready     = ".go-fuse-epoll-hack"
	unreadyNode = ^uint64(0)
)

// Ready returns when the mount answers. It has the kernel ask whether files
// can be polled, and hear that they cannot: Go's runtime would ask when this
// process opens a file of the mount, and not answer requests meanwhile.
func (l *Loop) Ready() error {
	fd, err := unix.Open(filepath.Join(l.mountpoint, unready), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return unix.Close(fd)
}

// Unmount ends the mount, and returns when Serve has. It fails while somebody
// uses the mount. Where another mount namespace still has it, it is served, and
// Unmount waits, until that one lets go.
func (l *Loop) Unmount() error {
	const tries = 5
	pause := 5 * time.Millisecond
	for try := 1; ; try++ {
		err := l.unmount()
		if err == nil {
			<-l.ended
			return nil
		}
		if try == tries {
			return err
		}
		time.Sleep(pause) // somebody may just have closed the last file
		pause = 2*pause + 5*time.Millisecond
	}
}

func (l *Loop) unmount() error {
	if l.helper {
		return fusermount(nil, "-u", l.mountpoint)
	}
	return unix.Unmount(l.mountpoint, 0)
}
