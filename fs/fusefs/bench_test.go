package fusefs

import (
	"context"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// BenchmarkHandle is the layer's own cost of a READ and a WRITE, without the
// kernel: the allocations are what matters.
func BenchmarkHandle(b *testing.B) {
	st, err := store.OpenDisk(b.TempDir())
	must(b, err)
	defer st.Close()
	h, err := passthrough{st}.OpenFile("f", os.O_CREATE|os.O_RDWR, 0o600, Owner{})
	must(b, err)
	defer h.Close()
	open := newHandle(&openFile{node: &node{t: newTree(passthrough{st}, nil)}}, h, unix.O_RDWR, false)
	buf := make([]byte, 4096)
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, errno := open.Write(context.Background(), buf, 0); errno != 0 {
				b.Fatal(errno)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, errno := open.Read(context.Background(), buf, 0); errno != 0 {
				b.Fatal(errno)
			}
		}
	})
}

// BenchmarkMounted is what a program sees, on every backend and on the file
// system below.
func BenchmarkMounted(b *testing.B) {
	dirs := map[string]string{"below": b.TempDir()}
	for name := range backends {
		dirs[name] = mount(b, serveArgs{Backend: name, Direct: ".log"}).dir
	}
	buf := make([]byte, 4096)
	for name, dir := range dirs {
		for _, file := range []string{"append.dat", "append.log"} {
			b.Run(fmt.Sprintf("%s and sync/%s", file, name), func(b *testing.B) {
				f, err := os.Create(dir + "/" + file)
				must(b, err)
				defer f.Close()
				for b.Loop() {
					_, err := f.Write(buf)
					must(b, err)
					must(b, unix.Fdatasync(int(f.Fd())))
				}
			})
		}
		b.Run("create and unlink/"+name, func(b *testing.B) {
			for b.Loop() {
				must(b, os.WriteFile(dir+"/f", nil, 0o600))
				must(b, os.Remove(dir+"/f"))
			}
		})
		b.Run("stat/"+name, func(b *testing.B) {
			must(b, os.WriteFile(dir+"/f", nil, 0o600))
			for b.Loop() {
				_, err := os.Stat(dir + "/f")
				must(b, err)
			}
		})
	}
}
