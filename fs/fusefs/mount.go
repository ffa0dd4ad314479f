package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/fs/fuseloop"
	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/fs/vigil"
)

// TypeName is the subtype of a mount: the mount table shows fuse.akvfs.
const TypeName = "akvfs"

// Options say how a volume is mounted.
type Options struct {
	ReadOnly bool
	// AllowOther lets users other than the mounting one in, subject to the
	// permission bits. Where root mounts, everybody is let in as on any other
	// file system.
	AllowOther bool
	// FSName is the source that the mount table shows; "" stands for TypeName.
	FSName string
	// Extra are options of mount(8): suid, dev, noexec and their like. Without
	// suid and dev, set-user-ID bits and device nodes take no effect.
	Extra []string
	// DirectIO says of a file, by its path, that the kernel is not to cache
	// it: each write is then a request at once, and a sync after it is one
	// request more, not two. The kernel keeps no time of modification of such
	// a file. It is asked at each open. nil: every file is cached.
	DirectIO func(path string) bool
	// BusyPoll is how long the next request is looked for before a thread goes
	// to sleep over it, where it is likely to come at once. 0: not at all.
	BusyPoll time.Duration
	// Vigil keeps processors awake while requests follow each other closely.
	// nil: they sleep whenever they may.
	Vigil *vigil.Vigil
	// Operations counts requests. nil: nothing is counted.
	Operations *meter.Operations
	// Debug logs every request, file names and all.
	Debug  bool
	Logger *slog.Logger // nil: nothing is logged
}

// Server serves one mount. Its methods are safe for concurrent use.
type Server struct {
	loop       *fuseloop.Loop
	root       *dir
	mountpoint string
	done       chan struct{} // closed after the last request
}

// MountError says that a mount could not be made.
type MountError struct {
	Mountpoint string
	Err        error
}

func (e *MountError) Error() string { return fmt.Sprintf("mounting on %s: %v", e.Mountpoint, e.Err) }
func (e *MountError) Unwrap() error { return e.Err }

// UnmountError says that a mount is still there. It is syscall.EBUSY while
// somebody uses the mount.
type UnmountError struct {
	Mountpoint string
	Err        error
}

func (e *UnmountError) Error() string {
	return fmt.Sprintf("unmounting %s: %v", e.Mountpoint, e.Err)
}
func (e *UnmountError) Unwrap() error { return e.Err }

const (
	maxTransfer = 1 << 20 // bytes of one READ or WRITE: the most that the kernel does
	// maxBackground is how many write-backs and read-aheads the kernel has
	// under way at a time. Each takes a buffer of maxTransfer bytes here.
	maxBackground = 24
)

// capabilities are asked for beside go-fuse's own. An older kernel that lacks
// one goes on without. HANDLE_KILLPRIV_V2 spares a GETXATTR at each write.
// NO_EXPORT_SUPPORT has NFS refused at once: a handle would outlive what it
// means here.
const capabilities = fuse.CAP_WRITEBACK_CACHE | fuse.CAP_HANDLE_KILLPRIV_V2 |
	fuse.CAP_ASYNC_DIO | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_DIRECT_IO_ALLOW_MMAP | fuse.CAP_DONT_MASK |
	fuse.CAP_NO_EXPORT_SUPPORT

// MountFS mounts any Volume: Mount is this for the engine's.
func MountFS(v Volume, mountpoint string, opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	mountpoint, err := filepath.Abs(mountpoint)
	if err != nil {
		return nil, &MountError{mountpoint, err}
	}
	flags, err := mountFlags(opts)
	if err != nil {
		return nil, err
	}
	root, err := v.Stat(".")
	if err != nil {
		return nil, &MountError{mountpoint, err}
	}
	t := newTree(v, opts.Logger)
	t.readOnly, t.directIO, t.ops = opts.ReadOnly, opts.DirectIO, opts.Operations
	t.loop = fuseloop.New(fuseOptions(opts), opts.BusyPoll, opts.Vigil)
	s := &Server{loop: t.loop, root: t.newNode(&root).(*dir), mountpoint: mountpoint, done: make(chan struct{})}
	id := identity(&root)
	negative := entryTimeout
	nodes := metered(newRaw(s.root, t, &fs.Options{
		NegativeTimeout: &negative, NullPermissions: true, RootStableAttr: &id, ServerCallbacks: t.loop,
	}), opts.Operations, t.loop.Postponed)
	if err := s.loop.Mount(nodes, mountpoint, flags, append(restrictions(opts), opts.Extra...)); err != nil {
		return nil, &MountError{mountpoint, err}
	}
	return s, s.start(opts.Logger)
}

// start serves, and returns when the mount is usable.
func (s *Server) start(log *slog.Logger) error {
	go func() {
		defer close(s.done)
		s.loop.Serve()
	}()
	if err := s.loop.Ready(); err != nil {
		return &MountError{s.mountpoint, errors.Join(err, s.Unmount())}
	}
	if err := tune(s.mountpoint); err != nil {
		log.Debug("the kernel's defaults for the mount stay", "error", err)
	}
	return nil
}

func restrictions(opts Options) []string {
	if opts.ReadOnly {
		return []string{"ro"}
	}
	return nil
}

func fuseOptions(opts Options) fuse.MountOptions {
	level := slog.LevelWarn
	if opts.Debug {
		level = slog.LevelDebug
	}
	logger := slog.NewLogLogger(opts.Logger.Handler(), level)
	name := opts.FSName
	if name == "" {
		name = TypeName
	}
	return fuse.MountOptions{
		FsName:        name,
		Name:          TypeName,
		AllowOther:    opts.AllowOther || os.Geteuid() == 0,
		Options:       []string{"default_permissions"},
		MaxWrite:      maxTransfer,
		MaxReadAhead:  maxTransfer,
		MaxBackground: maxBackground,

		ExtraCapabilities:        capabilities,
		ExplicitDataCacheControl: true, // nobody else changes a file
		EnableSymlinkCaching:     true,
		EnableAcl:                true, // the kernel enforces them; see acl.go

		Debug:  opts.Debug,
		Logger: logger,
	}
}

// Mountpoint is where the volume is mounted: an absolute path.
func (s *Server) Mountpoint() string { return s.mountpoint }

// Wait returns when the mount has ended, whoever ended it, every request has
// been answered and every file given back to the volume.
func (s *Server) Wait() { <-s.done }

// Done is closed when Wait returns.
func (s *Server) Done() <-chan struct{} { return s.done }

// Unmount ends the mount and waits for that. While somebody uses the mount it
// fails with an *UnmountError that is EBUSY, and the mount goes on. It
// succeeds if the mount has ended already.
func (s *Server) Unmount() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.loop.Unmount(); err != nil {
		select {
		case <-s.done: // somebody else was faster
			return nil
		case <-time.After(endGrace):
		}
		return &UnmountError{s.mountpoint, err}
	}
	s.Wait()
	return nil
}

// endGrace is how long the end of a mount may take to show after another
// process has unmounted it.
const endGrace = 100 * time.Millisecond
