package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// OpKind is a method of FS or File.
type OpKind uint8

// The kinds of operation. Those of a File that FS has too share its kind.
const (
	OpOpen OpKind = iota + 1
	OpStat
	OpReadDir
	OpReadlink
	OpMkdir
	OpMknod
	OpSymlink
	OpLink
	OpUnlink
	OpRmdir
	OpRename
	OpChmod
	OpChown
	OpChtimes
	OpGetxattr
	OpSetxattr
	OpListxattr
	OpRemovexattr
	OpSyncDir
	OpSyncAll
	OpStatfs
	OpLock
	OpRead
	OpWrite
	OpTruncate
	OpSync
	OpDatasync
	OpAllocate
	OpSeek
	OpClose
)

var opNames = [...]string{
	OpOpen: "open", OpStat: "stat", OpReadDir: "readdir", OpReadlink: "readlink",
	OpMkdir: "mkdir", OpMknod: "mknod", OpSymlink: "symlink", OpLink: "link",
	OpUnlink: "unlink", OpRmdir: "rmdir", OpRename: "rename",
	OpChmod: "chmod", OpChown: "chown", OpChtimes: "chtimes",
	OpGetxattr: "getxattr", OpSetxattr: "setxattr", OpListxattr: "listxattr", OpRemovexattr: "removexattr",
	OpSyncDir: "syncdir", OpSyncAll: "syncfs", OpStatfs: "statfs", OpLock: "lock",
	OpRead: "read", OpWrite: "write", OpTruncate: "truncate", OpSync: "sync", OpDatasync: "datasync",
	OpAllocate: "allocate", OpSeek: "seek", OpClose: "close",
}

// String is the kind's name as errors have it.
func (k OpKind) String() string {
	if int(k) < len(opNames) && opNames[k] != "" {
		return opNames[k]
	}
	return fmt.Sprintf("operation %d", uint8(k))
}

// Syncs tells whether the kind only makes durable what was done before.
func (k OpKind) Syncs() bool {
	return k == OpSync || k == OpDatasync || k == OpSyncDir || k == OpSyncAll
}

// Op is one call of a method, as a Hook sees it.
type Op struct {
	N    uint64 // the how-manieth of its store, from 1
	Kind OpKind
	Name string // of a File: as it was opened
	To   string // the second name of a link or rename
	// Off and Len are in bytes, where the operation has them; of a truncation,
	// Len is the new size.
	Off, Len int64
	Flags    int  // of an opening or renaming, and the mode of Allocate
	File     bool // a method of File, not of FS
}

// Mutates tells whether the operation may change what is stored. One that
// only makes durable does not.
func (o Op) Mutates() bool {
	switch o.Kind {
	case OpMkdir, OpMknod, OpSymlink, OpLink, OpUnlink, OpRmdir, OpRename, OpChmod, OpChown, OpChtimes,
		OpSetxattr, OpRemovexattr, OpWrite, OpTruncate, OpAllocate:
		return true
	case OpOpen:
		return o.Flags&(os.O_CREATE|os.O_TRUNC|(unix.O_TMPFILE&^unix.O_DIRECTORY)) != 0
	}
	return false
}

// String is for test output.
func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %v %q", o.N, o.Kind, o.Name)
	if o.To != "" {
		fmt.Fprintf(&b, " to %q", o.To)
	}
	if o.Off != 0 || o.Len != 0 {
		fmt.Fprintf(&b, " [%d,+%d)", o.Off, o.Len)
	}
	return b.String()
}

// wrap adds what the operation is to its error; nil stays nil.
func (o Op) wrap(err error) error {
	if o.To != "" {
		return linkError(o.Kind.String(), o.Name, o.To, err)
	}
	return pathError(o.Kind.String(), o.Name, err)
}

// A Hook is called before every operation, from the goroutine that calls it
// and with no lock held. Its error is what the operation answers:
//
//   - any error: the operation is not done;
//   - Late(err): the operation is done, but nothing of it is durable;
//   - ErrCut: the same, and every later call of the store fails with ErrCut.
//
// An operation that syncs and gets any error loses what it was to make
// durable, as on Linux: a later one does not make up for it, though some of
// it may turn out to have survived.
type Hook func(Op) error

// lateError asks for an operation that is done and fails.
type lateError struct{ err error }

func (e *lateError) Error() string { return e.err.Error() }

// Late is for a Hook to return: the operation is done, is not durable, and
// answers err.
func Late(err error) error { return &lateError{err} }

// gate numbers operations and asks the hook about them.
type gate struct {
	n    atomic.Uint64
	hook atomic.Pointer[Hook]
}

func (g *gate) set(h Hook) {
	if h == nil {
		g.hook.Store(nil)
		return
	}
	g.hook.Store(&h)
}

// ask tells with which error the operation is to answer, and whether it is
// to be done all the same.
func (g *gate) ask(op *Op) (answer error, done bool) {
	op.N = g.n.Add(1)
	h := g.hook.Load()
	if h == nil {
		return nil, true
	}
	err := (*h)(*op)
	if late := (*lateError)(nil); errors.As(err, &late) {
		return late.err, true
	}
	return err, err == nil || errors.Is(err, ErrCut)
}
