package sandbox

import (
	"errors"
	"fmt"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
)

// denied are the system calls that are taken away.
var denied = []string{
	// other processes
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "move_pages", "migrate_pages",
	// the kernel's own code, and its debugging
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "bpf", "perf_event_open", "syslog",
	// namespaces
	"setns", "unshare", "pivot_root", "chroot",
	// the host
	"reboot", "swapon", "swapoff", "acct", "quotactl", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "vhangup",
	// what is known for its holes
	"userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "fanotify_init", "add_key", "request_key", "keyctl",
}

// ErrUnprivileged says that the process may not enter without giving up more.
var ErrUnprivileged = errors.New("it takes CAP_SYS_ADMIN")

// Enter takes the system calls away. Errors are ErrUnprivileged, or that the
// kernel has no seccomp; the process is then as it was.
func Enter() error {
	err := seccomp.LoadFilter(seccomp.Filter{
		Flag: seccomp.FilterFlagTSync, // all threads
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionErrno, Names: denied}},
		},
	})
	if errors.Is(err, syscall.EACCES) {
		return ErrUnprivileged
	}
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}
