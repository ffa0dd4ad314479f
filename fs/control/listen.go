package control

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// ListenBeside makes a socket that belongs to a live Socket of the same
// directory and is no control socket: NAME.KIND.sock, its owner's alone. One
// that a dead daemon left is replaced. Closing the listener leaves the file;
// remove takes it away.
func (s *Socket) ListenBeside(kind string) (l *net.UnixListener, remove func() error, err error) {
	name := s.name + "." + kind
	path := filepath.Join(s.dir.path, name+socketSuffix)
	_ = os.Remove(path) // what cannot be removed shows below
	err = s.dir.withAddress(name, func(addr *net.UnixAddr) (err error) {
		l, err = net.ListenUnix("unix", addr)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%s socket in %s: %w", kind, s.dir.path, err)
	}
	l.SetUnlinkOnClose(false) // its address dies with the descriptor in it
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, func() error { return os.Remove(path) }, nil
}
