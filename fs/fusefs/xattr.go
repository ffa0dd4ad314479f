package fusefs

import (
	"context"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
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

// noCaps is the bit of node.caps which says that the object has no
// security.capability. The bits above count how often one was set.
const noCaps = 1

// Getxattr reads an attribute. An object that has no name left has none.
func (n *node) Getxattr(_ context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	known := n.caps.Load()
	if attr == capability && known&noCaps != 0 {
		return 0, syscall.ENODATA
	}
	var value []byte
	err := n.named(func(p string) (err error) {
		value, err = n.t.vol.Getxattr(p, attr)
		return err
	})
	switch errno := n.t.errno(err); {
	case err == errNoName:
		return 0, syscall.ENODATA
	case errno != fs.OK:
		if attr == capability && errno == syscall.ENODATA {
			n.caps.CompareAndSwap(known, known|noCaps) // fails if one was set meanwhile
		}
		return 0, errno
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
func (n *node) Setxattr(_ context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	err := n.named(func(p string) error { return n.t.vol.Setxattr(p, attr, data, int(flags)) })
	if attr == capability {
		n.caps.Store((n.caps.Load() | noCaps) + 1) // the kernel sends one at a time
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
