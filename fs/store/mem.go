package store

import (
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options are those of a Mem. The zero value is a store without limits that
// takes O_DIRECT.
type Options struct {
	// Capacity is the space for data in bytes; 0 is no limit. Names,
	// attributes and links take none.
	Capacity int64
	// Inodes is how many objects there can be; 0 is no limit.
	Inodes int
	// NoDirect makes O_DIRECT answer EINVAL, as tmpfs did. Otherwise direct
	// reads and writes must be aligned to Alignment, or answer EINVAL.
	NoDirect bool
	// Clock is the time of day; nil is time.Now.
	Clock func() time.Time
}

// Mem is a strict store in memory: it behaves like a Linux file system used
// by root, and keeps account of what is durable, so that a test can cut the
// power (Crash) or kill the process (Kill) at any operation and go on with
// what is left. Space behind holes costs nothing.
//
// A Mem's one lock guards everything and is never held while a Hook runs.
type Mem struct {
	gate gate

	mu     sync.Mutex
	s      *state
	dead   error // what every call answers; nil while alive
	closed bool
}

var (
	_ FS     = (*Mem)(nil)
	_ Locker = (*Mem)(nil)
)

// NewMem makes an empty store. Its root directory is durable.
func NewMem(opts Options) *Mem {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	img := &image{inodes: map[uint64]*inode{}}
	s := newState(img, nil, opts)
	s.nextIno = rootIno + 1
	now := s.now()
	img.inodes[rootIno] = &inode{
		ino: rootIno, mode: unix.S_IFDIR | 0o755, nlink: 2,
		atime: now, mtime: now, ctime: now, btime: now, entries: map[string]uint64{},
	}
	s.durable = img.clone()
	return &Mem{s: s}
}

// SetHook sets what is called before every operation; nil is nothing.
func (m *Mem) SetHook(h Hook) { m.gate.set(h) }

// Ops counts the operations begun so far.
func (m *Mem) Ops() uint64 { return m.gate.n.Load() }

// SetCapacity changes Options.Capacity. What is stored already stays.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.s.Capacity = bytes
}

// SetReadOnly makes changes answer EROFS, those through open files too, and
// syncs of what is not durable yet, as after a file system met an error.
func (m *Mem) SetReadOnly(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.s.readOnly = on
}

// SyncAll makes everything durable, like syncfs(2).
func (m *Mem) SyncAll() error {
	return m.run(Op{Kind: OpSyncAll, Name: "."}, func(s *state, torn bool) error {
		switch {
		case torn:
			for ino := range s.pending {
				s.lose(ino)
			}
		case s.readOnly && (len(s.log) > 0 || len(s.pending) > 0):
			return syscall.EROFS
		default:
			s.syncAll()
		}
		return nil
	})
}

// run does one operation. f is told whether the operation is torn: done, but
// with nothing of it durable.
func (m *Mem) run(op Op, f func(s *state, torn bool) error) error {
	answer, done := m.gate.ask(&op)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead != nil {
		return op.wrap(m.dead)
	}
	if m.closed && !op.File {
		return op.wrap(syscall.EBADF)
	}
	var err error
	switch {
	case !done && !op.Kind.Syncs() && op.Kind != OpClose:
	case m.s.readOnly && op.Mutates() && op.Kind != OpOpen:
		err = syscall.EROFS
	default:
		err = f(m.s, answer != nil)
	}
	if errors.Is(answer, ErrCut) {
		m.dead = ErrCut
	}
	if answer != nil {
		return op.wrap(answer)
	}
	if err == nil {
		m.s.writeBack()
	}
	if err == io.EOF {
		return err
	}
	return op.wrap(err)
}

// Close ends the use of the store but not that of its open files.
func (m *Mem) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return pathError("close", ".", syscall.EBADF)
	}
	m.closed = true
	return nil
}

// Statfs describes the space. Without a limit it tells of 16 TiB.
func (m *Mem) Statfs() (Statfs, error) {
	var st Statfs
	err := m.run(Op{Kind: OpStatfs, Name: "."}, func(s *state, _ bool) error {
		st = Statfs{Type: memDev, Bsize: memPage, Frsize: memPage, NameMax: 255, Fsid: [2]int32{memDev}}
		st.Blocks, st.Files = 1<<32, 1<<32
		if s.Capacity > 0 {
			st.Blocks = uint64(s.Capacity / memPage)
		}
		if s.Inodes > 0 {
			st.Files = uint64(s.Inodes)
		}
		st.Bfree = st.Blocks - min(st.Blocks, uint64(s.used))
		st.Bavail = st.Bfree
		st.Ffree = st.Files - min(st.Files, uint64(len(s.live.inodes)))
		if s.readOnly {
			st.Flags = unix.ST_RDONLY
		}
		return nil
	})
	return st, err
}

// SyncDir makes the entries of one directory durable.
func (m *Mem) SyncDir(name string) error {
	return m.run(Op{Kind: OpSyncDir, Name: name}, func(s *state, torn bool) error {
		at, err := s.live.existing(name)
		switch {
		case err != nil:
			return err
		case at.node.kind() == unix.S_IFLNK:
			return syscall.ELOOP
		case !at.node.isDir():
			return syscall.ENOTDIR
		case torn:
			return nil
		}
		return s.syncOrRefuse(at.node.ino, false)
	})
}

// syncOrRefuse is sync, but a read-only store cannot make anything durable.
func (s *state) syncOrRefuse(ino uint64, dataOnly bool) error {
	if s.readOnly {
		if s.dirty(ino) {
			return syscall.EROFS
		}
		return nil
	}
	s.sync(ino, dataOnly)
	return nil
}
