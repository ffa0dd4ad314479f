package crypto

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHardenProcess looks at a child before and after HardenProcess, through
// other processes: of the same user, and as root also of another one. Before,
// the same user can read its environment, so that the probe is known to work.
func TestHardenProcess(t *testing.T) {
	p := startChild(t, "hardened", nobody)
	p.expect("not hardened")
	if got := probe(t, p.pid(), nobody, "environ"); got != "environ: read" {
		t.Errorf("before, the same user: %s", got)
	}
	p.send([]byte{1})
	p.expect("core limit 0 of 0")
	p.expect("dumpable 0")
	p.expect("a key works")

	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.pid()))
	check(t, err)
	if !strings.Contains(string(limits), fmt.Sprintf("%-26s%-21s%-21s", "Max core file size", "0", "0")) {
		t.Errorf("the kernel's limits are\n%s", limits)
	}
	for _, user := range []uint32{nobody, someone} {
		for _, file := range []string{"mem", "environ", "maps", "fd/0", "ptrace"} {
			if got := probe(t, p.pid(), user, file); got != file+": refused" {
				t.Errorf("user %d: %s", user, got)
			}
		}
	}
}

// probe has a process of a user try to read a file of /proc/PID, or trace.
func probe(t *testing.T, pid int, user uint32, file string) string {
	t.Helper()
	return startChild(t, "probe", user, strconv.Itoa(pid), file).line()
}

func childProbe(c *child) {
	pid, err := strconv.Atoi(os.Args[1])
	c.must(err)
	file := os.Args[2]
	if file == "ptrace" {
		err = unix.PtraceSeize(pid)
	} else {
		var f *os.File
		if f, err = os.Open(fmt.Sprintf("/proc/%d/%s", pid, file)); err == nil {
			_, err = f.Read(make([]byte, 1))
		}
	}
	switch {
	case err == nil:
		c.say(file + ": read")
	case os.IsPermission(err):
		c.say(file + ": refused")
	default:
		c.sayf("%s: %v", file, err)
	}
	c.wait()
}

func childHardened(c *child) {
	c.say("not hardened")
	c.wait()
	c.must(HardenProcess())
	c.must(HardenProcess())
	var core unix.Rlimit
	c.must(unix.Getrlimit(unix.RLIMIT_CORE, &core))
	c.sayf("core limit %d of %d", core.Cur, core.Max)
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	c.must(err)
	c.sayf("dumpable %d", dumpable)
	k, err := NewKey()
	c.must(err)
	k.Destroy()
	c.must(Scrub())
	c.say("a key works")
	c.wait()
}

func TestErrorsTellTheirFacts(t *testing.T) {
	for want, err := range map[string]error{
		"cannot protect this process's keys: RLIMIT_CORE: operation not permitted": &HardenError{"RLIMIT_CORE", unix.EPERM},
		"wrapped key has 3 bytes instead of 104":                                   &SizeError{"wrapped key", 3, 104},
		`encrypted name "abc": authentication failed`:                              &NameError{"abc", ErrAuth},
	} {
		if err.Error() != want {
			t.Errorf("%q instead of %q", err, want)
		}
	}
	wantError(t, &HardenError{"x", unix.EPERM}, unix.EPERM)
	wantError(t, &NameError{"x", ErrAuth}, ErrAuth)
	wantError(t, &LockError{Err: unix.ENOMEM}, unix.ENOMEM)
}
