package fusefs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// SlowError says that the kernel did not do in time what a lock asks of it.
type SlowError struct {
	What  string
	Limit time.Duration
}

func (e *SlowError) Error() string {
	return fmt.Sprintf("%s took the kernel more than %v; it goes on with that", e.What, e.Limit)
}

// Lock takes the mount's plaintext away from the kernel around lock, which
// locks the volume, so that each operation is answered with an error. First
// the kernel writes back what it holds. After lock it forgets all pages, mapped
// ones too, attributes and names, and while the volume is locked it gets
// nothing new to remember. Each of the two may take up to limit: lock is
// called in any case, and what a kernel that is late still has to forget, it
// forgets later.
//
// What is written after the kernel has written back and before lock, and is
// not synced, is lost; the next fsync of the file says so.
//
// It must not be called from an operation of the mount. Errors are lock's
// own, first, and those of the kernel's part.
func (s *Server) Lock(limit time.Duration, lock func() error) error {
	before := within(limit, "writing back", s.drawIn)
	s.root.t.door.close()
	locked := lock()
	after := within(limit, "dropping its caches", func() error {
		err := s.DropCaches()
		s.loop.Settle()
		return err
	})
	return errors.Join(locked, before, after)
}

// Unlock lets the kernel have answers again if unlock unlocks the volume.
func (s *Server) Unlock(unlock func() error) error {
	err := unlock()
	if err == nil {
		s.root.t.door.open()
	}
	return err
}

// WriteBack has the kernel write to the volume what programs have written to
// its cache. It does not wait for the last of it, nor longer than limit. It
// must not be called from an operation of the mount.
func (s *Server) WriteBack(limit time.Duration) error {
	return within(limit, "writing back", s.syncKernel)
}

// drawIn has the kernel write back what it holds. Syncing does not wait for
// the end of a FUSE file system's writes, but has all files written at once;
// dropping their pages waits. What syncing answers is of no use: it tells of
// writes that failed at any time before, such as in an earlier lock.
func (s *Server) drawIn() error {
	return errors.Join(s.syncKernel(), dropPages(s.root.EmbeddedInode()), s.root.t.dropNameless())
}

// syncKernel has the kernel write what it holds of the volume.
func (s *Server) syncKernel() error {
	root, err := os.Open(s.mountpoint)
	if err == nil {
		_ = unix.Syncfs(int(root.Fd())) // see drawIn
		err = root.Close()
	}
	return err
}

// within waits for do, which goes on by itself if it takes longer.
func within(limit time.Duration, what string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return &SlowError{what, limit}
	}
}

// door is what requests pass through that may be answered from memory, without
// the volume, or that add to what the kernel and go-fuse's tree know.
type door struct {
	mu   sync.RWMutex // shared by each request until it is done
	shut bool
}

// close returns when all requests that were let in are done.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
}

func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = false
}

// enter reports whether the door is open. If it is, d.mu.RUnlock follows.
func (d *door) enter() bool {
	d.mu.RLock()
	if d.shut {
		d.mu.RUnlock()
		return false
	}
	return true
}

const noKey = fuse.Status(syscall.ENOKEY)

// through runs an operation if the door is open.
func (r *raw) through(op func() fuse.Status) fuse.Status {
	if !r.t.door.enter() {
		return noKey
	}
	defer r.t.door.mu.RUnlock()
	return op()
}

// The requests that pass through the door, with those in raw.go that make an object:

func (r *raw) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return r.through(func() fuse.Status { return r.RawFileSystem.Lookup(cancel, in, name, out) })
}

func (r *raw) Symlink(cancel <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return r.through(func() fuse.Status { return r.RawFileSystem.Symlink(cancel, in, target, name, out) })
}

func (r *raw) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return r.through(func() fuse.Status { return r.RawFileSystem.Link(cancel, in, name, out) })
}

func (r *raw) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return r.through(func() fuse.Status { return r.RawFileSystem.Open(cancel, in, out) })
}

func (r *raw) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return r.through(func() fuse.Status { return r.RawFileSystem.OpenDir(cancel, in, out) })
}

func (r *raw) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.through(func() fuse.Status { return r.RawFileSystem.ReadDir(cancel, in, out) })
}

func (r *raw) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.through(func() fuse.Status { return r.RawFileSystem.ReadDirPlus(cancel, in, out) })
}

func (r *raw) Readlink(cancel <-chan struct{}, in *fuse.InHeader) (target []byte, code fuse.Status) {
	code = r.through(func() (code fuse.Status) {
		target, code = r.RawFileSystem.Readlink(cancel, in)
		return code
	})
	return target, code
}

func (r *raw) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, attr string, dest []byte) (n uint32, code fuse.Status) {
	code = r.through(func() (code fuse.Status) {
		n, code = r.RawFileSystem.GetXAttr(cancel, in, attr, dest)
		return code
	})
	return n, code
}
