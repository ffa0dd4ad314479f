package fusefs

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// Tags of an ACL's entries, as the kernel has them.
const (
	aclUserObj  = 1
	aclUser     = 2
	aclGroupObj = 4
	aclGroup    = 8
	aclMask     = 16
	aclOther    = 32
)

// acl is an extended attribute's value from triples of tag, permissions, ID.
func acl(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

const noID = 0xffffffff

// acl is a list as setfacl(1) makes it, one that says no more than a mode, or,
// seldom, one that is none.
func (c call) acl() []byte {
	perm := func(shift int) uint32 { return c.Y >> shift & 7 }
	owner, group := [3]uint32{aclUserObj, perm(0), noID}, [3]uint32{aclGroupObj, perm(3), noID}
	other, mask := [3]uint32{aclOther, perm(6), noID}, [3]uint32{aclMask, perm(9), noID}
	user := [3]uint32{aclUser, perm(12), pick(c.X>>2, uint32(someone), someone+1)}
	named := [3]uint32{aclGroup, perm(13), somegroup}
	switch c.X >> 4 % 8 {
	case 0:
		return acl(owner, group, other)
	case 1:
		return acl(owner, user, group, other) // a mask is missing
	case 2, 3:
		return acl(owner, group, named, mask, other)
	}
	return acl(owner, user, group, named, mask, other)
}

func (c call) aclName() string { return pick(c.X, store.ACLAccess, store.ACLDefault) }

func (a *actor) setACL(c call) string {
	return result(unix.Setxattr(nameOf(c.N), c.aclName(), c.acl(), 0))
}

func (a *actor) getACL(c call) string {
	b := make([]byte, 200)
	n, err := unix.Getxattr(nameOf(c.N), c.aclName(), b)
	return result(err, fmt.Sprintf("%x", b[:max(n, 0)]))
}

func (a *actor) removeACL(c call) string { return result(unix.Removexattr(nameOf(c.N), c.aclName())) }
