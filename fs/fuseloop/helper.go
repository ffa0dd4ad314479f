package fuseloop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attachByHelper has fusermount3 mount, which hands over its descriptor.
func (l *Loop) attachByHelper(more []string) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount"), os.NewFile(uintptr(pair[1]), "fusermount")
	defer ours.Close()
	defer theirs.Close()
	options := append(append(l.options(), "fsname="+l.opts.FsName, "subtype="+l.opts.Name), more...)
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	for i, o := range options {
		options[i] = escape.Replace(o)
	}
	if err := fusermount([]*os.File{theirs}, "-o", strings.Join(options, ","), l.mountpoint); err != nil {
		return -1, err
	}
	return received(pair[0])
}

// received takes the descriptor that fusermount3 has sent. No program that is
// started meanwhile inherits it.
func received(socket int) (int, error) {
	data, control := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return -1, fmt.Errorf("fusermount3's answer: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, fmt.Errorf("fusermount3 sent no descriptor: %w", errors.Join(err, syscall.EPROTO))
}

// fusermount runs the helper; files are its descriptors from 3 on.
func fusermount(files []*os.File, args ...string) error {
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		if bin, err = exec.LookPath("fusermount"); err != nil {
			return fmt.Errorf("fusermount3: %w", err)
		}
	}
	var says bytes.Buffer
	cmd := exec.Command(bin, args...)
	cmd.Stderr, cmd.ExtraFiles = &says, files
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	err = cmd.Run()
	text := strings.TrimSpace(says.String())
	switch {
	case err == nil:
		return nil
	case strings.Contains(text, "busy"): // its words are all that it has for an errno
		return fmt.Errorf("%s: %w", text, syscall.EBUSY)
	}
	return fmt.Errorf("%s (%w)", text, err)
}
