package store

import (
	"os"
	"testing"
)

func benchDisk(b *testing.B) *Disk {
	d := openDisk(b, b.TempDir())
	must0(b, d.Mkdir("d", 0o700))
	mustWrite(b, d, "file", string(make([]byte, 1<<20)))
	mustWrite(b, d, "d/file", "x")
	b.ReportAllocs()
	b.ResetTimer()
	return d
}

func BenchmarkStat(b *testing.B) {
	for _, name := range []string{"file", "d/file"} {
		b.Run(name, func(b *testing.B) {
			d := benchDisk(b)
			for b.Loop() {
				must(d.Stat(name))(b)
			}
		})
	}
}

func BenchmarkOpenClose(b *testing.B) {
	for _, name := range []string{"file", "d/file"} {
		b.Run(name, func(b *testing.B) {
			d := benchDisk(b)
			for b.Loop() {
				must0(b, must(d.OpenFile(name, os.O_RDWR, 0))(b).Close())
			}
		})
	}
}

func BenchmarkReadWrite4K(b *testing.B) {
	p := make([]byte, 4096)
	for kind, st := range map[string]FS{"disk": benchDisk(b), "mem": NewMem(Options{})} {
		f := createFile(b, st, "f")
		must(f.WriteAt(p, 0))(b)
		b.Run(kind+"/read", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(4096)
			for b.Loop() {
				must(f.ReadAt(p, 0))(b)
			}
		})
		b.Run(kind+"/write", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(4096)
			for b.Loop() {
				must(f.WriteAt(p, 0))(b)
			}
		})
	}
}

// BenchmarkAfterCrash is the price of looking at one cut of a store with a
// journal of 1 MiB and some files.
func BenchmarkAfterCrash(b *testing.B) {
	m := NewMem(Options{})
	mustWrite(b, m, "journal", string(make([]byte, 1<<20)))
	must0(b, m.SyncAll())
	for _, name := range []string{"a", "b", "c"} {
		mustWrite(b, m, name, string(make([]byte, 64<<10)))
	}
	b.ReportAllocs()
	for seed := uint64(0); b.Loop(); seed++ {
		m.AfterCrash(seed)
	}
}
