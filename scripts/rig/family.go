package rig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// procStat is what is needed of /proc/PID/stat.
type procStat struct {
	state  string // one letter; Z: it has ended, but not been waited for
	parent int
	start  string // tells a process from a later one with the same PID
}

// stat is zero for a process that has gone.
func stat(pid int) procStat {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	after := bytes.LastIndex(line, []byte(") ")) // the name in parentheses may hold anything
	if after < 0 {
		return procStat{}
	}
	f := bytes.Fields(line[after+2:]) // from field 3, the state, on
	if len(f) < 20 {
		return procStat{}
	}
	parent, _ := strconv.Atoi(string(f[1]))
	return procStat{state: string(f[0]), parent: parent, start: string(f[19])}
}

// runs says whether a process is there and has not ended. A process that was
// killed may stay for as long as one of its threads is stuck in the kernel.
func runs(pid int) bool {
	state := stat(pid).state
	return state != "" && state != "Z" && state != "X"
}

// descendants lists a process's children, and theirs. A server's workers may
// have left its process group, but not its family.
func descendants(pid int) (all []int) {
	children := map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if child, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			parent := stat(child).parent
			children[parent] = append(children[parent], child)
		}
	}
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, children[next[0]]...)
	}
	return all
}

// killTree kills a process, its group and its descendants; those that have
// gone are no error.
func killTree(pid int) {
	family := descendants(pid)
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	for _, p := range family {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
}

// remember records a child for the sweep; the result forgets it. Without a
// work directory there is no record.
func remember(pid int) (forget func(), err error) {
	if childDir == "" {
		return func() {}, nil
	}
	name := filepath.Join(childDir, strconv.Itoa(pid))
	return func() { os.Remove(name) }, os.WriteFile(name, []byte(stat(pid).start), 0o600)
}
