package volume

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
)

var rewrapFiles = flag.Int("rewrap.files", 1000, "how many files BenchmarkRewrap has")

// BenchmarkRewrap re-wraps the keys of many files on a disk, durably.
func BenchmarkRewrap(b *testing.B) {
	dir, err := os.MkdirTemp("/var/tmp", "akvfs-rewrap")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	st, err := store.OpenDisk(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	k := newKeyedWith(b, st, Config{Names: NamesPlain})
	if err := errors.Join(oneByte(k.v, "f"), k.close(), copies(dir, *rewrapFiles), st.SyncAll()); err != nil {
		b.Fatal(err)
	}
	if err := k.open(st); err != nil {
		b.Fatal(err)
	}
	defer k.close()
	var bytes uint64
	for b.Loop() {
		if _, err := k.rotate(); err != nil {
			b.Fatal(err)
		}
		p, err := k.rewrap()
		if err != nil || p.Rewrapped != uint64(*rewrapFiles) {
			b.Fatal(p, err)
		}
		bytes = p.Bytes
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)*1e6/float64(*rewrapFiles), "µs/file")
	b.ReportMetric(float64(bytes), "bytes-written")
}

// copies makes a thousand copies of the file f in each of many directories,
// as a restore would. Each has a header of its own, though of the same key.
func copies(dir string, n int) error {
	data, err := os.ReadFile(filepath.Join(dir, "f"))
	for i := range n - 1 {
		if i%1000 == 0 {
			err = errors.Join(err, os.Mkdir(filepath.Join(dir, fmt.Sprint("d", i/1000)), 0o700))
		}
		if err != nil {
			return err
		}
		err = os.WriteFile(filepath.Join(dir, fmt.Sprint("d", i/1000), fmt.Sprint("f", i)), data, 0o600)
	}
	return err
}

func oneByte(v *Volume, name string) error {
	h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		return err
	}
	if _, err := h.WriteAt([]byte("x"), 0); err != nil {
		return err
	}
	return h.Close()
}
