package fusefs

import (
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/akvfs/akvfs/fs/meter"
)

func total(ops *meter.Operations) (n, failed uint64) {
	for _, k := range meter.Kinds() {
		n += ops.Latency(k).Count
		failed += ops.Failed(k)
	}
	return n, failed
}

// Every request that programs wait for is counted once.
func TestCountedIsComplete(t *testing.T) {
	not := []string{
		"String", "SetDebug", "Init", "OnUnmount", "Forget", "ReleaseDir",
		"Access", "GetLk", "SetLk", "SetLkw", "Ioctl", // the kernel does these itself
		"Flush",                   // does nothing
		"CopyFileRange", "Writev", // refused once, for good
	}
	var ops meter.Operations
	fs := reflect.ValueOf(metered(fuse.NewDefaultRawFileSystem(), &ops, never))
	for i := range fs.NumMethod() {
		name, method := fs.Type().Method(i).Name, fs.Method(i)
		args := make([]reflect.Value, method.Type().NumIn())
		for j := range args {
			in := method.Type().In(j)
			if args[j] = reflect.Zero(in); in.Kind() == reflect.Pointer {
				args[j] = reflect.New(in.Elem())
			}
		}
		before, _ := total(&ops)
		method.Call(args)
		want := uint64(1)
		if slices.Contains(not, name) {
			want = 0
		}
		if after, _ := total(&ops); after != before+want {
			t.Errorf("%s was counted %d times, want %d", name, after-before, want)
		}
	}
}

func never(<-chan struct{}) bool { return false }

// answers is a file system with set answers.
type answers struct {
	fuse.RawFileSystem
	code fuse.Status
}

func (a answers) Read(<-chan struct{}, *fuse.ReadIn, []byte) (fuse.ReadResult, fuse.Status) {
	if a.code != fuse.OK {
		return nil, a.code
	}
	return fuse.ReadResultData(make([]byte, 3)), a.code
}

func (a answers) Writev(_ <-chan struct{}, _ *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if a.code != fuse.OK {
		return 0, a.code
	}
	return uint32(len(data[0])), a.code
}

func TestCountedBytesAndFailures(t *testing.T) {
	for code, failed := range map[syscall.Errno]uint64{
		0: 0, syscall.ENOENT: 0, syscall.EACCES: 0, syscall.EIO: 2, syscall.ENOKEY: 2, syscall.ENOSPC: 2, syscall.EDQUOT: 2,
	} {
		var ops meter.Operations
		fs := metered(answers{code: fuse.Status(code)}, &ops, never)
		fs.Read(nil, &fuse.ReadIn{}, nil)
		fs.Writev(nil, &fuse.WriteIn{}, [][]byte{make([]byte, 5)})
		n, got := total(&ops)
		r, w := ops.Bytes()
		if n != 2 || got != failed || code == 0 && (r != 3 || w != 5) || code != 0 && r+w != 0 {
			t.Errorf("%v: %d requests, %d failed, %d read, %d written", code, n, got, r, w)
		}
	}
	if plain := (answers{}); metered(plain, nil, never) != fuse.RawFileSystem(plain) {
		t.Error("something is counted for nobody")
	}
}
