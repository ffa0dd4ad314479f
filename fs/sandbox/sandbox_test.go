package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// role makes this test program a process in the sandbox.
const role = "AKVFS_SANDBOX_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "inside":
		os.Exit(inside())
	case "child":
		os.Exit(probes())
	case "cost":
		os.Exit(cost())
	case "user":
		fmt.Println(Enter())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func self(t testing.TB, as string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"="+as)
	return cmd
}

func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// probed are calls that fail otherwise than with EPERM where nothing forbids
// them, even to root: on no such process, file or address.
var probed = map[string]func() error{
	"process_vm_readv":  func() error { _, err := unix.ProcessVMReadv(1<<22+1, here(), there(), 0); return err },
	"process_vm_writev": func() error { _, err := unix.ProcessVMWritev(1<<22+1, here(), there(), 0); return err },
	"ptrace":            func() error { return unix.PtraceSeize(1<<22 + 1) },
	"setns":             func() error { return unix.Setns(-1, unix.CLONE_NEWNET) },
	"unshare":           func() error { return unix.Unshare(1 << 40) },
	"chroot":            func() error { return unix.Chroot("/nowhere") },
	"pivot_root":        func() error { return unix.PivotRoot("/nowhere", "/nowhere") },
	"finit_module":      func() error { return unix.FinitModule(-1, "", 0) },
	"bpf":               func() error { _, _, e := unix.Syscall(unix.SYS_BPF, 1<<20, 0, 0); return e },
	"io_uring_setup":    func() error { _, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 0, 0, 0); return e },
	"swapon":            func() error { _, _, e := unix.Syscall(unix.SYS_SWAPON, 0, 0, 0); return e },
	"keyctl":            func() error { _, err := unix.KeyctlInt(1<<20, 0, 0, 0, 0); return err },
	"sethostname":       func() error { return unix.Sethostname(make([]byte, 4096)) },
}

func here() []unix.Iovec {
	b := make([]byte, 8)
	return []unix.Iovec{{Base: &b[0], Len: 8}}
}

func there() []unix.RemoteIovec { return []unix.RemoteIovec{{Base: 1 << 20, Len: 8}} }

// probes says what each call answers, on every thread that there is.
func probes() int {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			runtime.LockOSThread()
			for name, call := range probed {
				if err := call(); !errors.Is(err, unix.EPERM) {
					fmt.Printf("%s: %v\n", name, err)
				}
			}
		})
	}
	all.Wait()
	return 0
}

func inside() int {
	begin, done := make(chan struct{}), make(chan struct{})
	for range 8 { // threads from before
		go func() {
			runtime.LockOSThread()
			<-begin
			for name, call := range probed {
				if err := call(); !errors.Is(err, unix.EPERM) {
					fmt.Printf("%s, on a thread from before: %v\n", name, err)
				}
			}
			done <- struct{}{}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	if err := Enter(); err != nil {
		fmt.Println(err)
		return 1
	}
	for range 8 {
		begin <- struct{}{}
		<-done
	}
	probes()
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), role+"=child")
	out, err := child.CombinedOutput()
	fmt.Print(string(out))
	if err != nil {
		fmt.Println("a child:", err)
	}
	if out, err := exec.Command("/bin/sh", "-c", "id -u && touch /dev/null").CombinedOutput(); err != nil {
		fmt.Printf("a program: %v %s\n", err, out)
	}
	return 0
}

// TestEnter: what is denied answers EPERM, on threads from before and after, and
// in children; programs run.
func TestEnter(t *testing.T) {
	for name, call := range probed {
		if err := call(); err == nil || errors.Is(err, unix.EPERM) {
			t.Errorf("outside, %s answers %v, so that this test shows nothing", name, err)
		}
	}
	if out := run(t, self(t, "inside")); out != "" {
		t.Errorf("in the sandbox:\n%s", out)
	}
}

// TestUnprivileged: a user without rights keeps the right to gain them.
func TestUnprivileged(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"=user")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out := run(t, cmd); strings.TrimSpace(out) != ErrUnprivileged.Error() {
		t.Error(out)
	}
}

// cost prints nanoseconds of a system call before and after Enter.
func cost() int {
	const calls = 2_000_000
	measure := func() time.Duration {
		best := time.Hour
		for range 5 {
			began := time.Now()
			for range calls / 5 {
				unix.Getppid()
			}
			best = min(best, time.Since(began)/(calls/5))
		}
		return best
	}
	before := measure()
	if err := Enter(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Printf("%d %d", before.Nanoseconds(), measure().Nanoseconds())
	return 0
}

// BenchmarkEnter is what a system call costs, outside and inside.
func BenchmarkEnter(b *testing.B) {
	for b.Loop() {
		var before, after float64
		if _, err := fmt.Sscan(run(b, self(b, "cost")), &before, &after); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(before, "ns/call")
		b.ReportMetric(after, "ns/call-inside")
	}
}
