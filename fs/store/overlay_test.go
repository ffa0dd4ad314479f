package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestOverlayModel runs random changes of one file on an overlay and on a
// plain store: both show the same, and what lies below stays as it was.
func TestOverlayModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.SliceOfN(rapid.Byte(), 0, 20_000).Draw(t, "start")
		below, plain := memWith(t, start), memWith(t, start)
		o := NewOverlay(below)
		a, err := o.OpenFile("f", os.O_RDWR, 0)
		must0(t, err)
		b, err := plain.OpenFile("f", os.O_RDWR, 0)
		must0(t, err)
		off := rapid.Int64Range(0, 24_000)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				p, at := rapid.SliceOfN(rapid.Byte(), 1, 9000).Draw(t, "data"), off.Draw(t, "off")
				_, errA := a.WriteAt(p, at)
				_, errB := b.WriteAt(p, at)
				must0(t, errors.Join(errA, errB))
			},
			"truncate": func(t *rapid.T) {
				size := off.Draw(t, "size")
				must0(t, errors.Join(a.Truncate(size), b.Truncate(size)))
			},
			"punch": func(t *rapid.T) {
				const mode = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE
				at, n := off.Draw(t, "off"), 1+off.Draw(t, "length")
				must0(t, errors.Join(a.Allocate(mode, at, n), b.Allocate(mode, at, n)))
			},
			"": func(t *rapid.T) {
				if x, y := contents(t, a), contents(t, b); !bytes.Equal(x, y) {
					t.Fatalf("overlay has %d bytes, the plain store %d, or others", len(x), len(y))
				}
				s, err := o.Stat("f")
				must0(t, err)
				if p, err := plain.Stat("f"); err != nil || s.Size != p.Size {
					t.Fatalf("sizes %d and %d, %v", s.Size, p.Size, err)
				}
			},
		})
		f, err := below.OpenFile("f", os.O_RDONLY, 0)
		must0(t, err)
		if !bytes.Equal(contents(t, f), start) {
			t.Fatal("the store below was changed")
		}
	})
}

func memWith(t rapid.TB, data []byte) *Mem {
	m := NewMem(Options{})
	f, err := m.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
	must0(t, err)
	_, err = f.WriteAt(data, 0)
	must0(t, err)
	must0(t, f.Close())
	return m
}

func contents(t rapid.TB, f File) []byte {
	a, err := f.Stat()
	must0(t, err)
	p := make([]byte, a.Size+10)
	n, err := f.ReadAt(p, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return p[:n]
}

// TestOverlayRefuses: nothing but contents can be changed, and a file opened
// for reading not even that.
func TestOverlayRefuses(t *testing.T) {
	o := NewOverlay(memWith(t, []byte("data")))
	now := time.Now()
	for name, err := range map[string]error{
		"mkdir": o.Mkdir("d", 0o700), "mknod": o.Mknod("n", unix.S_IFIFO, 0), "symlink": o.Symlink("f", "s"), "link": o.Link("f", "g"),
		"unlink": o.Unlink("f"), "rmdir": o.Rmdir("f"), "rename": o.Rename("f", "g", 0), "chmod": o.Chmod("f", 0), "chown": o.Chown("f", 1, 1),
		"chtimes": o.Chtimes("f", nil, &now), "setxattr": o.Setxattr("f", "user.a", nil, 0), "removexattr": o.Removexattr("f", "user.a"),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := o.OpenFile("g", os.O_RDWR|os.O_CREATE, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("create: %v", err)
	}
	f, err := o.OpenFile("f", os.O_RDONLY, 0)
	must0(t, err)
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EBADF) {
		t.Errorf("write to a file opened for reading: %v", err)
	}
}
