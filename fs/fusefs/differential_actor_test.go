package fusefs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// slots is how many descriptors an actor has at most.
const slots = 6

// actor is a process of a history. It makes calls relative to its working
// directory.
type actor struct {
	fds  [slots]int // -1: none
	maps [2][]byte
	mapf [2]int // a descriptor of what is mapped
}

// actorArgs are those of the actor role.
type actorArgs struct{ Dir string }

// actorRole makes the calls that it reads from standard input, and answers
// each with a line.
func actorRole() int {
	var args actorArgs
	roleArgs(&args)
	a := &actor{}
	for i := range a.fds {
		a.fds[i] = -1
	}
	if err := os.Chdir(args.Dir); err != nil {
		fmt.Println(err)
		return 1
	}
	unix.Umask(0o022)
	in, out := json.NewDecoder(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var c call
		if err := in.Decode(&c); err == io.EOF {
			break
		} else if err != nil {
			return 1
		}
		line := a.do(c)
		fmt.Fprintln(out, strings.ReplaceAll(line, "\n", " "))
		if in.Buffered().(interface{ Len() int }).Len() <= 1 { // nothing more has come yet
			out.Flush()
		}
	}
	out.Flush()
	return 0
}

// player is an actor as the test sees it.
type player struct {
	cmd *exec.Cmd
	in  *json.Encoder
	end io.Closer
	out *bufio.Reader
}

func newPlayer(t *testing.T, u user, dir string) (*player, error) {
	cmd, in, out := child(t, "actor", actorArgs{dir})
	cmd.Stderr = os.Stderr
	cmd.Env = append(cmd.Env, "GOMAXPROCS=2", "GOTRACEBACK=single")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &player{cmd, json.NewEncoder(in), in, out}, nil
}

func (p *player) answer() (string, error) {
	line, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("actor has gone: %w", err)
	}
	return strings.TrimSuffix(line, "\n"), nil
}

func (p *player) finish() error {
	p.end.Close()
	return p.cmd.Wait()
}

// perform has a scene's actors play a history, and returns every result. One
// that is alone gets its calls as fast as it takes them.
func perform(t *testing.T, s scene, dir string, steps []step) (results []string, err error) {
	var players []*player
	defer func() {
		for _, p := range players {
			if e := p.finish(); err == nil {
				err = e
			}
		}
	}()
	for _, u := range s.users {
		p, err := newPlayer(t, u, dir)
		if err != nil {
			return nil, err
		}
		players = append(players, p)
	}
	if len(players) == 1 {
		go func() {
			for _, st := range steps {
				if players[0].in.Encode(st.Call) != nil {
					return // its answers end, too
				}
			}
		}()
	}
	for _, st := range steps {
		p := players[st.Actor]
		if len(players) > 1 {
			if err := p.in.Encode(st.Call); err != nil {
				return nil, err
			}
		}
		line, err := p.answer()
		if err != nil {
			return nil, err
		}
		results = append(results, line)
	}
	return results, nil
}

// fd is the descriptor in a slot.
func (a *actor) fd(slot int) int { return a.fds[slot%slots] }

// put has a slot take a descriptor, whose forerunner is closed.
func (a *actor) put(slot, fd int) {
	if old := a.fds[slot%slots]; old >= 0 {
		unix.Close(old)
	}
	a.fds[slot%slots] = fd
}

// regular reports whether a descriptor is a regular file's, and its size.
func regular(fd int) (int64, bool) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, false
	}
	return st.Size, true
}

// result is an errno, or what the call gave.
func result(err error, values ...any) string {
	if err != nil {
		return errnoOf(err)
	}
	return strings.TrimSpace("ok " + fmt.Sprintln(values...))
}

// bounded keeps files small enough to be compared often.
func bounded(n int64) int64 { return n & (1<<18 - 1) }

const far = math.MaxInt64 - 4096
