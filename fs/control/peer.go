package control

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a connection, as the kernel saw it
// when it connected.
type Peer struct {
	PID    int32
	UID    uint32
	GID    uint32
	Groups []uint32 // GID and all others
}

// peerOf asks the kernel who is at the other end (SO_PEERCRED).
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr error
	err = raw.Control(func(fd uintptr) {
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr == nil {
			groups, credErr = peerGroups(fd)
		}
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid, Groups: append(groups, cred.Gid)}, nil
}

// peerGroups asks the kernel for the supplementary groups that the process at
// the other end had when it connected (SO_PEERGROUPS).
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:size/4], nil
		case unix.ERANGE:
			groups = make([]uint32, size/4+1)
		case unix.ENOPROTOOPT: // before Linux 4.13
			return nil, nil
		default:
			return nil, errno
		}
	}
}

// IsOwner reports whether a process is root's or of the user that this one runs as.
func (p Peer) IsOwner() bool { return p.UID == 0 || p.UID == uint32(os.Geteuid()) }

// Owner authorises root and the user that this process runs as, for every
// method.
func Owner(p Peer, _ string) error {
	if p.IsOwner() {
		return nil
	}
	return &Error{CodeDenied, fmt.Sprintf("user %d may not control this volume: it is that of user %d", p.UID, os.Geteuid())}
}
