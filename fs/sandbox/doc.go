// Package sandbox takes system calls away from the process that serves a
// mount, which it never needs and an attacker in it would: those that read or
// change other processes, load code into the kernel, change the namespaces, the
// clock or the host, and parts of the kernel that are known for their holes.
//
// Enter is for good, for all threads and for all children, the on-alert command
// among them: who asks for such a call is told EPERM. What is left is what the
// daemon needs or may need (files, mounts, sockets, programs, timers); it is a
// list of what is denied and not of what is allowed, so that a new version of
// Go, of a library or of the kernel breaks nothing.
//
// It takes the right to administer the system (root, or CAP_SYS_ADMIN): without,
// the kernel would want that no program may gain rights ever after, and
// fusermount3, which unmounts for other users, has to.
package sandbox
