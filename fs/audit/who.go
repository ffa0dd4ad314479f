package audit

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// maxCommand bounds a command's name in the log, in bytes.
const maxCommand = 64

// Process describes the process that has a PID now. Its command is "" if it
// has ended.
func Process(pid int32, uid uint32) *Who {
	proc := filepath.Join("/proc", strconv.Itoa(int(pid)))
	name, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil || len(name) == 0 {
		exe, err := os.Readlink(filepath.Join(proc, "exe"))
		if err != nil {
			exe = ""
		}
		name = []byte(filepath.Base(exe))
		if exe == "" {
			name = nil
		}
	}
	return &Who{UID: uid, PID: pid, Command: Printable(strings.TrimSuffix(string(name), "\n"), maxCommand)}
}

// Printable is a text of at most so many bytes in which everything that a
// terminal would not print as one visible character is a question mark.
func Printable(text string, most int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "?") {
		if !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len()+len(string(r)) > most {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
