package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// secretVariables are those of azidentity's environment that hold secrets.
var secretVariables = []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD"}

// hideSecrets zeroes the secrets in the environment as the kernel keeps it,
// so that /proc/PID/environ, which `ps e` prints, does not show them. The
// program still sees them: Go's runtime has made copies. It is called before
// the process is hardened, after which its own memory file may be closed to
// it. A process without secrets there touches nothing.
func hideSecrets() error {
	environ, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return err
	}
	spans := secretSpans(environ)
	if len(spans) == 0 {
		return nil
	}
	start, err := environStart()
	if err != nil {
		return err
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	for _, s := range spans {
		_, err := mem.WriteAt(make([]byte, s.length), start+s.offset)
		if err != nil {
			return err
		}
	}
	return nil
}

type span struct{ offset, length int64 }

// secretSpans finds the values of the secret variables in an environment
// block of NAME=VALUE strings that end in zeros.
func secretSpans(environ []byte) []span {
	var spans []span
	at := int64(0)
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		name, value, _ := bytes.Cut(entry, []byte{'='})
		if len(value) > 0 && slices.Contains(secretVariables, string(name)) {
			spans = append(spans, span{at + int64(len(name)) + 1, int64(len(value))})
		}
		at += int64(len(entry)) + 1
	}
	return spans
}

// environStart is the address of the environment block: field 50 of
// proc_pid_stat(5).
func environStart() (int64, error) {
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	// The second field, in parentheses, may hold anything.
	i := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[i+1:]))
	const envStart = 50 - 3
	if i < 0 || len(fields) <= envStart {
		return 0, errors.New("/proc/self/stat is malformed")
	}
	start, err := strconv.ParseInt(fields[envStart], 10, 64)
	if err == nil && start == 0 {
		err = fmt.Errorf("/proc/self/stat does not tell where the environment lies")
	}
	return start, err
}

// dropSecrets takes the secrets out of the program's own copy of the
// environment, once the credentials have been made of them: children do not
// inherit them.
func dropSecrets() {
	for _, name := range secretVariables {
		_ = os.Unsetenv(name) // fails for nothing that is a name
	}
}

// harden makes the process fit to hold keys. That its environment cannot be
// scrubbed, as where /proc is not mounted or guarded, is no reason to refuse:
// hardening keeps other users from reading it all the same.
func harden(process func() error) error {
	_ = hideSecrets()
	return process()
}
