package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// machine is what the figures were measured on.
type machine struct {
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryMiB  int               `json:"memory_mib"`
	Kernel     string            `json:"kernel"`
	OS         string            `json:"os"`
	FileSystem string            `json:"file_system"` // of the work directory
	Device     string            `json:"device"`
	Versions   map[string]string `json:"versions"`
}

// describe says what it can find out; what it cannot stays empty.
func describe(dir string) machine {
	m := machine{Cores: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name"), OS: strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`)}
	if kib, err := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB")); err == nil {
		m.MemoryMiB = kib / 1024
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir)); err == nil {
		longest := 0
		for _, at := range mounts { // the innermost, and of two at one place the later
			if len(at.Mountpoint) >= longest {
				longest, m.FileSystem, m.Device = len(at.Mountpoint), at.FSType, at.Source
			}
		}
	}
	m.Versions = map[string]string{
		"akvfs":     firstLine("bin/akvfs", "version"),
		"gocryptfs": firstLine("gocryptfs", "-version"),
		"fio":       firstLine("fio", "--version"),
		"go":        runtime.Version(),
	}
	return m
}

// keepAwake keeps processors from deep sleep until sleep is called.
func keepAwake() (sleep func() error, err error) {
	f, err := os.OpenFile("/dev/cpu_dma_latency", os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("-awake: %w", err)
	}
	if _, err := f.Write(make([]byte, 4)); err != nil { // no time at all to wake
		_ = f.Close()
		return nil, fmt.Errorf("-awake: %w", err)
	}
	return f.Close, nil
}

// field finds "name: value" or "name=value" in a file.
func field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if i := strings.IndexAny(line, ":="); i > 0 && strings.TrimSpace(line[:i]) == name {
			return strings.TrimSpace(line[i+1:])
		}
	}
	return ""
}

func firstLine(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// String is one sentence for the head of a table.
func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %d MiB, %s, Linux %s, %s on %s", m.CPU, m.Cores, m.MemoryMiB, m.OS, m.Kernel, m.FileSystem, m.Device)
}
