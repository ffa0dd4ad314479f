package fusefs

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// openFile is a regular file's one Handle in the volume, shared by every
// handle that the kernel has on it and by requests that come without one. It
// is there from the first open to the last release. It is always open for
// reading, and for writing too unless the mount is read-only: the kernel has
// checked what each of its handles may do, and its cache reads and writes
// through any of them.
type openFile struct {
	node *node

	// readOnly: the volume gives it for reading only. It is so from an open to
	// the last release.
	readOnly atomic.Bool
	// entered: go-fuse knows the node. A file that is being made is open a
	// moment before that.
	entered atomic.Bool

	mu   sync.Mutex
	h    Handle // nil: not open
	refs int
	kept bool // one of the references is keep's

	// writers are the kernel's handles that may write. While there are any,
	// the kernel may hold data that we have not seen.
	writers atomic.Int32
}

// borrow takes a reference to the Handle, if there is one.
func (f *openFile) borrow() Handle {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.h != nil {
		f.refs++
	}
	return f.h
}

// acquire takes a reference to the Handle, which it opens if need be.
func (f *openFile) acquire() (Handle, error) {
	if h := f.borrow(); h != nil {
		return h, nil
	}
	var h Handle
	err := f.node.named(func(p string) (err error) {
		h, err = f.open(p)
		return err
	})
	if err == errNoName {
		if h := f.borrow(); h != nil { // opened and unlinked since
			return h, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return f.adopt(h)
}

func (f *openFile) open(path string) (Handle, error) {
	access := os.O_RDWR
	if f.node.t.readOnly {
		access = os.O_RDONLY
	}
	h, err := f.node.t.vol.OpenFile(path, access, 0, Owner{})
	if access == os.O_RDWR && errors.Is(err, syscall.EROFS) {
		if h, err = f.node.t.vol.OpenFile(path, os.O_RDONLY, 0, Owner{}); err == nil {
			return onlyRead{h}, nil
		}
	}
	return h, err
}

// onlyRead marks a Handle that could not be had for writing.
type onlyRead struct{ Handle }

// keep holds the file open, because it is about to lose a name: somebody who
// has just looked that name up may still open the file, and must not fail. The
// caller holds tree.names exclusively. A file that cannot be opened is lost to
// such a latecomer, who is told to look again.
func (f *openFile) keep(path string) {
	if f.borrow() == nil {
		h, err := f.open(path)
		if err != nil {
			return
		}
		if _, err := f.adopt(h); err != nil {
			return
		}
	}
	f.mu.Lock()
	again := f.kept
	f.kept = true
	f.mu.Unlock()
	if again {
		f.giveBack()
	}
}

// letGo undoes keep. It is called when the kernel forgets the file, too.
func (f *openFile) letGo() {
	f.mu.Lock()
	kept := f.kept
	f.kept = false
	f.mu.Unlock()
	if kept {
		f.giveBack()
	}
}

// adopt takes a reference and makes h the Handle, unless another open was
// quicker: then h is closed.
func (f *openFile) adopt(h Handle) (Handle, error) {
	f.mu.Lock()
	f.refs++
	first := f.h == nil
	if first {
		f.h = h
		_, readOnly := h.(onlyRead)
		f.readOnly.Store(readOnly)
	}
	shared := f.h
	f.mu.Unlock()
	if first {
		f.node.t.opened(f)
		return shared, nil
	}
	if err := h.Close(); err != nil {
		f.giveBack()
		return nil, err
	}
	return shared, nil
}

// giveBack lets a reference go, and closes the Handle with the last one. A
// failure to close is logged: whoever closed has had its answer.
func (f *openFile) giveBack() {
	f.mu.Lock()
	f.refs--
	var last Handle
	if f.refs == 0 {
		last, f.h = f.h, nil
	}
	f.mu.Unlock()
	if last == nil {
		return
	}
	f.node.t.closed(f)
	if err := last.Close(); err != nil {
		f.node.t.log.Warn("closing a file", "inode", f.node.StableAttr().Ino, "error", err)
	}
}

// closeNow closes the Handle whatever references there are. The mount has
// ended.
func (f *openFile) closeNow() error {
	f.mu.Lock()
	h := f.h
	f.h = nil
	f.mu.Unlock()
	if h == nil {
		return nil
	}
	f.node.t.closed(f)
	return h.Close()
}
