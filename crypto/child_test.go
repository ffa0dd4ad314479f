package crypto

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Some promises are about a whole process: its memory, limits and dumpability.
// Their tests run this test binary again, as one of these children. A child
// writes a line when it has come to a point and goes on when it reads a byte.
var children = map[string]func(c *child){
	"destroyed keys":  childDestroyedKeys,
	"hardened":        childHardened,
	"probe":           childProbe,
	"no locked pages": childNoLockedPages,
	"overwrite free":  childOverwriteFree,
	"raised limit":    childRaisedLimit,
}

const (
	childEnv = "AKVFS_CRYPTO_TEST_CHILD"
	nobody   = 65534
	someone  = 65533 // another user without rights
)

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		children[name](&child{})
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is the child's side.
type child struct{}

func (*child) say(line string) { os.Stdout.WriteString(line + "\n") }

func (c *child) sayf(format string, args ...any) { c.say(fmt.Sprintf(format, args...)) }

// wait returns when the parent has sent a byte, or dies with the parent.
func (*child) wait() {
	var b [1]byte
	if _, err := io.ReadFull(os.Stdin, b[:]); err != nil {
		os.Exit(3)
	}
}

func (c *child) must(err error) {
	if err != nil {
		c.say("error: " + err.Error())
		os.Exit(4)
	}
}

// parent is the parent's side of one running child.
type parent struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startChild runs a child; as the user uid where this process may do that,
// which is when it is root's. uid 0 leaves the user alone.
func startChild(t *testing.T, name string, uid uint32, args ...string) *parent {
	t.Helper()
	// The link leads to the binary even if a directory on its path is closed
	// to the other user.
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name, "GOCOVERDIR=")
	if uid != 0 && os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Dir = "/"
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait() // the child's own words tell what went wrong
	})
	return &parent{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
}

func (p *parent) pid() int { return p.cmd.Process.Pid }

func (p *parent) send(b []byte) {
	p.t.Helper()
	_, err := p.in.Write(b)
	check(p.t, err)
}

func (p *parent) line() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the child ended: %v", p.out.Err())
	}
	return p.out.Text()
}

func (p *parent) expect(line string) {
	p.t.Helper()
	if got := p.line(); got != line {
		p.t.Fatalf("the child says %q instead of %q", got, line)
	}
}
