package daemon

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxHolders bounds a list of holders.
const maxHolders = 8

// holders finds who keeps the mount at a canonical path in use: processes
// with an open or mapped file, a working or a root directory in it, and mounts
// below it. What may not be looked at is left out. It asks nothing of the
// mount itself, which may be hanging.
func holders(path string) []Holder {
	var found []Holder
	below, err := submounts(path)
	if err == nil {
		for _, m := range below {
			found = append(found, Holder{Path: m})
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return found
	}
	for _, proc := range processes {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if file := heldBy(proc, path); file != "" {
			found = append(found, Holder{PID: pid, Command: commandOf(proc), Path: file})
		}
	}
	slices.SortStableFunc(found, func(a, b Holder) int { return cmp.Compare(a.PID, b.PID) })
	return found[:min(len(found), maxHolders)]
}

func commandOf(proc string) string {
	name, err := os.ReadFile(proc + "/comm")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}

// heldBy returns a file below path that a process holds, or "".
func heldBy(proc, path string) string {
	links := []string{proc + "/cwd", proc + "/root", proc + "/exe"}
	fds, err := os.ReadDir(proc + "/fd")
	if err == nil { // else it has gone, or is not ours to see
		for _, fd := range fds {
			links = append(links, proc+"/fd/"+fd.Name())
		}
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		target = strings.TrimSuffix(target, " (deleted)")
		if err == nil && (target == path || inside(target, path)) {
			return target
		}
	}
	return mappedBy(proc, path)
}

// mappedBy returns a file below path that a process has mapped, or "".
func mappedBy(proc, path string) string {
	maps, err := os.ReadFile(proc + "/maps")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(maps) {
		_, file, ok := strings.Cut(string(line), " /")
		file = "/" + strings.TrimSuffix(strings.TrimSpace(file), " (deleted)")
		if ok && inside(file, path) {
			return file
		}
	}
	return ""
}

// flockHolder tells which process has an exclusive flock on the file at a
// path, from /proc/locks: unlike trying to lock, this disturbs nobody.
func flockHolder(path string) (pid int, ok bool) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, false
	}
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0, false
	}
	defer locks.Close()
	for s := bufio.NewScanner(locks); s.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
		f := strings.Fields(s.Text())
		if len(f) >= 6 && f[1] == "FLOCK" && f[3] == "WRITE" && f[5] == want {
			pid, err := strconv.Atoi(f[4])
			return pid, err == nil
		}
	}
	return 0, false
}
