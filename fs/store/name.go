package store

import (
	"strings"
	"syscall"
)

// checkName answers EINVAL for what is no name in a store: an empty or
// absolute one, one with an empty, "." or ".." component, or with a NUL. What
// passes cannot climb, whatever the kernel makes of it.
func checkName(name string) error {
	if name == "." {
		return nil
	}
	for rest, more := name, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if part == "" || part == "." || part == ".." {
			return syscall.EINVAL
		}
	}
	if strings.IndexByte(name, 0) >= 0 {
		return syscall.EINVAL
	}
	return nil
}

// split parts a checked name into its directory and the last component. A
// name without a slash has "." for its directory, and so has "." itself.
func split(name string) (dir, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}
