package fusefs

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"

	"github.com/akvfs/akvfs/fs/store"
)

var (
	_ fs.NodeGetxattrer    = (*node)(nil)
	_ fs.NodeSetxattrer    = (*node)(nil)
	_ fs.NodeListxattrer   = (*node)(nil)
	_ fs.NodeRemovexattrer = (*node)(nil)
)

// capability is the attribute that the kernel asks for before writes, to take
// it away.
const capability = "security.capability"

// often are the attributes that the kernel, or we, ask for without being asked.
var often = [...]string{capability, store.ACLAccess, store.ACLDefault}

// absence remembers that an object lacks an attribute. The bit says so; the
// bits above count how often one was set.
type absence struct{ state atomic.Uint64 }

const absent = 1

// sure reports whether the attribute is not there.
func (a *absence) sure() bool { return a.state.Load()&absent != 0 }

// found notes that it was not there when the state was as before.
func (a *absence) found(before uint64) { a.state.CompareAndSwap(before, before|absent) }

// end notes that one was set. The kernel sets one at a time.
func (a *absence) end() { a.state.Store((a.state.Load() | absent) + 1) }

// lack is what is remembered of an attribute, nil if nothing ever is.
func (n *node) lack(attr string) *absence {
	for i, name := range often {
		if name == attr {
			return &n.lacks[i]
		}
	}
	return nil
}

// xattr reads an attribute of the object at a path that is the object's.
func (n *node) xattr(path, attr string) ([]byte, error) {
	lack := n.lack(attr)
	if lack == nil {
		return n.t.vol.Getxattr(path, attr)
	}
	if lack.sure() {
		return nil, syscall.ENODATA
	}
	before := lack.state.Load()
	value, err := n.t.vol.Getxattr(path, attr)
	if err == nil {
		return value, nil
	}
	errno := n.t.errno(err)
	if store.IsACL(attr) && errno == syscall.EOPNOTSUPP {
		errno, err = syscall.ENODATA, syscall.ENODATA // else the kernel would let nobody in
	}
	if errno == syscall.ENODATA {
		lack.found(before)
	}
	return nil, err
}

// Getxattr reads an attribute. An object that has no name left has none but the
// ACL that it had.
func (n *node) Getxattr(_ context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	if lack := n.lack(attr); lack != nil && lack.sure() {
		return 0, syscall.ENODATA
	}
	var value []byte
	err := n.named(func(p string) (err error) {
		value, err = n.xattr(p, attr)
		return err
	})
	if err == errNoName {
		if last := n.lastACL.Load(); last != nil && attr == store.ACLAccess {
			return answer(dest, *last)
		}
		return 0, syscall.ENODATA
	}
	if err != nil {
		return 0, n.t.errno(err)
	}
	return answer(dest, value)
}

// answer copies a value, or tells how much room it wants.
func answer(dest, value []byte) (uint32, syscall.Errno) {
	if len(value) > len(dest) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), fs.OK
}

// Setxattr sets an attribute; flags are setxattr(2)'s.
func (n *node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	err := n.named(func(p string) error { return n.t.vol.Setxattr(p, attr, data, int(flags)) })
	if lack := n.lack(attr); lack != nil {
		lack.end()
	}
	if err == nil && attr == store.ACLAccess {
		err = n.dropForeignGroup(ctx)
	}
	return n.t.errno(err)
}

// Removexattr removes an attribute.
func (n *node) Removexattr(_ context.Context, attr string) syscall.Errno {
	return n.t.errno(n.named(func(p string) error { return n.t.vol.Removexattr(p, attr) }))
}

// Listxattr lists the names of the attributes, each ended by a zero byte. Those
// of the trusted namespace are root's to see.
func (n *node) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	var attrs []string
	err := n.named(func(p string) (err error) {
		attrs, err = n.t.vol.Listxattr(p)
		return err
	})
	if err == errNoName {
		return 0, fs.OK
	}
	if err != nil {
		return 0, n.t.errno(err)
	}
	var list strings.Builder
	for _, a := range attrs {
		if strings.HasPrefix(a, "trusted.") && callerOf(ctx).UID != 0 {
			continue
		}
		list.WriteString(a)
		list.WriteByte(0)
	}
	return answer(dest, []byte(list.String()))
}
