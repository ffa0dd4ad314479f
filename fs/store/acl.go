package store

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Extended attributes that hold POSIX ACLs. The file system below enforces the
// first, keeps it and the mode in accord, and lets new objects inherit the
// second.
const (
	ACLAccess  = "system.posix_acl_access"
	ACLDefault = "system.posix_acl_default"
)

// IsACL reports whether an extended attribute is an ACL.
func IsACL(attr string) bool { return attr == ACLAccess || attr == ACLDefault }

// Disinherit takes away the ACLs that an object has from the directory in which
// it was made, unless they are among the attributes that it is to have.
func Disinherit(st interface{ Removexattr(name, attr string) error }, name string, wanted map[string][]byte) error {
	for _, attr := range []string{ACLAccess, ACLDefault} {
		if _, ok := wanted[attr]; ok {
			continue
		}
		err := st.Removexattr(name, attr)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}
