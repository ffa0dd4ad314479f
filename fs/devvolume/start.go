package devvolume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxNoise bounds what is kept of a keeper's standard error, in bytes.
const maxNoise = 16 << 10

// noiseWait is how long a program that a keeper has started may keep its
// standard error open after it.
const noiseWait = 5 * time.Second

// Keeper is a running keeper, seen from the process that started it.
type Keeper struct {
	Place
	cmd   *exec.Cmd
	conn  *net.UnixConn
	words *json.Decoder
	noise *noise
}

// KeeperError says that a keeper ended without a word.
type KeeperError struct {
	Err   error
	Noise string // what it wrote to standard error
}

func (e *KeeperError) Error() string {
	text := fmt.Sprintf("the process that keeps the volume ended: %v", e.Err)
	if e.Noise != "" {
		text += "\n" + e.Noise
	}
	return text
}

func (e *KeeperError) Unwrap() error { return e.Err }

// Start starts this program again as a keeper, with these arguments and these
// variables beside those of the environment, and returns once the volume is
// mounted. If ctx ends before, so does the keeper. What the keeper refuses is
// a *Refusal.
func Start(ctx context.Context, args []string, env ...string) (*Keeper, error) {
	ours, theirs, err := tether()
	if err != nil {
		return nil, err
	}
	k := &Keeper{conn: ours, words: json.NewDecoder(ours), noise: &noise{left: maxNoise}}
	k.cmd = exec.Command("/proc/self/exe", args...)
	k.cmd.Args[0] = os.Args[0]
	k.cmd.Env = append(append(os.Environ(), env...), tetherVariable+"=3")
	k.cmd.ExtraFiles = []*os.File{theirs}
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	k.cmd.Stderr, k.cmd.WaitDelay = k.noise, noiseWait
	err = k.cmd.Start()
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	defer context.AfterFunc(ctx, func() { _ = ours.CloseWrite() })() // the keeper then gives up
	return k, k.awaitPlace(ctx)
}

// tether makes the two ends of a connection.
func tether() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fds[1]), "tether")
	f := os.NewFile(uintptr(fds[0]), "tether")
	conn, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn.(*net.UnixConn), theirs, nil
}

// awaitPlace hears the keeper's first word.
func (k *Keeper) awaitPlace(ctx context.Context) error {
	var m message
	err := k.words.Decode(&m)
	switch {
	case err == nil && m.Place != nil && ctx.Err() == nil:
		k.Place = *m.Place
		return nil
	case err == nil && m.Place != nil: // too late
		k.Place = *m.Place
		_, err := k.Close(context.WithoutCancel(ctx))
		return errors.Join(ctx.Err(), err)
	}
	ended := errors.Join(k.cmd.Wait(), k.conn.Close())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.Refusal != nil {
		return m.Refusal
	}
	return &KeeperError{errors.Join(err, ended), k.noise.String()}
}

// Close ends the keeper and with it the volume. It returns who still used the
// mount, in words, "" for nobody. If the keeper was killed, Close removes what
// it left. It may be called once.
func (k *Keeper) Close(ctx context.Context) (busy string, err error) {
	_ = k.conn.CloseWrite() // a keeper that is gone hears nothing
	var m message
	told := k.words.Decode(&m) == nil
	ended := errors.Join(k.cmd.Wait(), k.conn.Close())
	switch {
	case told && m.Error != "":
		return m.Busy, errors.New(m.Error)
	case told:
		return m.Busy, nil
	case k.exists():
		err = k.remove(ctx)
	}
	return "", errors.Join(&KeeperError{ended, k.noise.String()}, err)
}

// noise keeps the beginning of what is written to it.
type noise struct {
	buf  bytes.Buffer
	left int
}

func (n *noise) Write(p []byte) (int, error) {
	part := p[:min(len(p), n.left)]
	n.left -= len(part)
	if _, err := n.buf.Write(part); err != nil {
		return 0, err
	}
	return len(p), nil
}

// String is to be called once nothing is written any more.
func (n *noise) String() string { return strings.TrimSpace(n.buf.String()) }

var _ io.Writer = (*noise)(nil)
