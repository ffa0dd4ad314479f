package vigil

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	devicePath  = "/dev/cpu_dma_latency"
	cpuidlePath = "/sys/devices/system/cpu"
)

// UnavailableError says why processors cannot be kept awake.
type UnavailableError struct {
	Reason string
	Err    error // nil, or what the kernel said
}

func (e *UnavailableError) Error() string {
	if e.Err == nil {
		return e.Reason
	}
	return fmt.Sprintf("%s: %v", e.Reason, e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// device is a wish to the kernel. It is a signed 32-bit number of microseconds
// that is written to the device (Linux, Documentation/power/pm_qos_interface.rst);
// -1 is no wish.
type device struct {
	file    *os.File
	longest time.Duration // that a processor may take to wake
}

// openDevice makes no wish yet. The other path is that of the processors in sysfs.
func openDevice(path, processors string) (*device, error) {
	longest, err := longestWake(processors)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, &UnavailableError{"the kernel's bound for how deeply processors sleep cannot be set", err}
	}
	return &device{f, longest}, nil
}

func (d *device) Keep() error  { return d.write(int32(d.longest / time.Microsecond)) }
func (d *device) Drop() error  { return d.write(-1) }
func (d *device) Close() error { return d.file.Close() }

func (d *device) write(us int32) error {
	_, err := d.file.Write(binary.NativeEndian.AppendUint32(nil, uint32(us)))
	return err
}

// shallow is what to bound waking to where the machine does not say how long
// its first state of sleep takes.
const shallow = 3 * time.Microsecond

// longestWake is how long a processor may take to wake for it to be worth it.
// The driver of a virtual machine, haltpoll, has one state of sleep, of which it
// says that to wake from it takes a microsecond, since it does not know of the
// host: only 0 keeps it out of that. Of a real machine the first state, C1, is
// good enough, as it takes a microsecond or two and little power; 0 would rule
// that out, too.
func longestWake(processors string) (time.Duration, error) {
	driver, err := readWord(filepath.Join(processors, "cpuidle", "current_driver"))
	switch {
	case err != nil:
		return 0, &UnavailableError{"the kernel does not say how processors sleep", err}
	case driver == "none" || driver == "":
		return 0, &UnavailableError{"the kernel has no say in how deeply processors sleep here (no cpuidle driver)", nil}
	case driver == "haltpoll":
		return 0, nil
	}
	first, err := readWord(filepath.Join(processors, "cpu0", "cpuidle", "state1", "latency"))
	if err != nil {
		return shallow, nil
	}
	if us, err := strconv.Atoi(first); err == nil && us > 0 {
		return time.Duration(us) * time.Microsecond, nil
	}
	return shallow, nil
}

func readWord(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}
