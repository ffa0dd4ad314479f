package control

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a connection, as the kernel saw it
// when it connected.
type Peer struct {
	PID int32
	UID uint32
	GID uint32
}

// peerOf asks the kernel who is at the other end (SO_PEERCRED).
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}, nil
}

// Owner authorises root and the user that this process runs as, for every
// method.
func Owner(p Peer, _ string) error {
	if p.UID == 0 || p.UID == uint32(os.Geteuid()) {
		return nil
	}
	return &Error{CodeDenied, fmt.Sprintf("user %d may not control this volume: it is that of user %d", p.UID, os.Geteuid())}
}
