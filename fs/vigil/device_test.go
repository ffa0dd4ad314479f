package vigil

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// processors is a part of sysfs with these files.
func processors(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLongestWake(t *testing.T) {
	const driver, first = "cpuidle/current_driver", "cpu0/cpuidle/state1/latency"
	for name, c := range map[string]struct {
		files map[string]string
		want  time.Duration
	}{
		"a virtual machine":             {map[string]string{driver: "haltpoll\n", first: "1\n"}, 0},
		"a machine":                     {map[string]string{driver: "intel_idle\n", first: "2\n"}, 2 * time.Microsecond},
		"a machine that does not say":   {map[string]string{driver: "acpi_idle\n", first: "0\n"}, shallow},
		"a machine that says nonsense":  {map[string]string{driver: "acpi_idle\n", first: "soon\n"}, shallow},
		"a machine with one idle state": {map[string]string{driver: "acpi_idle\n"}, shallow},
	} {
		if got, err := longestWake(processors(t, c.files)); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
	var unavailable *UnavailableError
	if _, err := longestWake(processors(t, map[string]string{driver: "none\n"})); !errors.As(err, &unavailable) || unavailable.Err != nil {
		t.Errorf("without a driver: %v", err)
	}
	if _, err := longestWake(t.TempDir()); !errors.As(err, &unavailable) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without cpuidle: %v", err)
	}
}

// TestWishes: what the kernel would read of a wish for a time, and of none.
func TestWishes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openDevice(path, processors(t, map[string]string{"cpuidle/current_driver": "intel_idle", "cpu0/cpuidle/state1/latency": "2"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Keep(), d.Drop(), d.Close()); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(written) != 8 || binary.NativeEndian.Uint32(written) != 2 || int32(binary.NativeEndian.Uint32(written[4:])) != -1 {
		t.Errorf("wrote % x", written)
	}
	var unavailable *UnavailableError
	if _, err := openDevice(filepath.Join(t.TempDir(), "none"), cpuidleOf(t)); !errors.As(err, &unavailable) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a device: %v", err)
	}
}

func cpuidleOf(t *testing.T) string {
	return processors(t, map[string]string{"cpuidle/current_driver": "haltpoll"})
}

// TestKernel makes a wish to the kernel and reads what it has made of it, which
// others' wishes can only tighten. A machine where there is none to be made says
// so.
func TestKernel(t *testing.T) {
	v, err := Open()
	var unavailable *UnavailableError
	if errors.As(err, &unavailable) {
		if _, err := os.Stat(devicePath); err == nil && unavailable.Err != nil && os.Geteuid() == 0 && !errors.Is(unavailable, fs.ErrNotExist) {
			t.Errorf("there is a device, and root was told %v", unavailable)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := v.bound.Keep(); err != nil {
		t.Fatal(err)
	}
	if kept, want := readBound(t), v.bound.(*device).longest; kept > want {
		t.Errorf("the kernel has a bound of %v, and was told %v", kept, want)
	}
	if err := errors.Join(v.bound.Drop(), v.Close()); err != nil {
		t.Fatal(err)
	}
}

// readBound is the kernel's bound of all wishes.
func readBound(t *testing.T) time.Duration {
	t.Helper()
	f, err := os.Open(devicePath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return time.Duration(int32(binary.NativeEndian.Uint32(b[:]))) * time.Microsecond
}
