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

// ListenService makes the socket of a service that is no volume's: it has no
// record, and everybody may connect. Whom it answers is the server's to decide.
// One that a dead service left is replaced; a live one's is a *TakenError.
// Closing the listener leaves the file; remove takes it away.
func (d *Dir) ListenService(name string) (l *net.UnixListener, remove func() error, err error) {
	if err := validName(name); err != nil {
		return nil, nil, err
	}
	unlock, err := d.lock()
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if d.live(name) {
		return nil, nil, &TakenError{name}
	}
	if err := os.Chmod(d.path, 0o755); err != nil {
		return nil, nil, err
	}
	d.Remove(name)
	err = d.withAddress(name, func(addr *net.UnixAddr) (err error) {
		l, err = net.ListenUnix("unix", addr)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%s socket in %s: %w", name, d.path, err)
	}
	l.SetUnlinkOnClose(false) // its address dies with the descriptor in it
	path := filepath.Join(d.path, name+socketSuffix)
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, func() error { return os.Remove(path) }, nil
}

// TakenError says that a service answers under a name already.
type TakenError struct{ Name string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("the service %q is running already", e.Name)
}
