package volume

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// victim is a closed volume with two files, of three groups each, whose
// backing files a test may change.
type victim struct {
	t    *testing.T
	keys Keys
	st   *store.Mem
	a, b string // backing names of "a" and "b"
}

const victimBlocks = 250

func victimContent(name string) []byte {
	var content []byte
	for i := range victimBlocks {
		content = append(content, bytes.Repeat([]byte{name[0] + byte(i)}, format.BlockSize)...)
	}
	return content[:len(content)-1000]
}

func newVictim(t *testing.T) *victim {
	w := &victim{t: t, keys: newTestKeys(t, 21), st: store.NewMem(store.Options{})}
	create(t, w.st, w.keys, NamesEncrypted, 1<<20)
	v := open(t, w.st, w.keys)
	for _, name := range []string{"a", "b"} {
		h, err := v.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.WriteAt(victimContent(name), 0); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.a, w.b = v.names.element("a"), v.names.element("b")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *victim) file(name string) store.File {
	f, err := w.st.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.Close() })
	return f
}

// swap exchanges n bytes between two places.
func (w *victim) swap(f store.File, x int64, g store.File, y int64, n int) {
	p, q := w.read(f, x, n), w.read(g, y, n)
	w.write(f, x, q)
	w.write(g, y, p)
}

func (w *victim) read(f store.File, off int64, n int) []byte {
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
		w.t.Fatal(err)
	}
	return p
}

func (w *victim) write(f store.File, off int64, p []byte) {
	if _, err := f.WriteAt(p, off); err != nil {
		w.t.Fatal(err)
	}
}

func (w *victim) flip(f store.File, off int64) {
	p := w.read(f, off, 1)
	p[0] ^= 1
	w.write(f, off, p)
}

// TestTampering changes a backing file in every way that there is to change
// one, and wants an integrity error, EIO to the program, and no wrong byte.
func TestTampering(t *testing.T) {
	page := func(g int64) int64 { return format.TagPageOffset(g) }
	block := format.BlockOffset
	cases := map[string]func(w *victim, a, b store.File){
		"block changed":                     func(w *victim, a, _ store.File) { w.flip(a, block(7)+99) },
		"last block changed":                func(w *victim, a, _ store.File) { w.flip(a, block(victimBlocks-1)) },
		"padding of the last block changed": func(w *victim, a, _ store.File) { w.flip(a, block(victimBlocks-1)+4095) },
		"blocks swapped":                    func(w *victim, a, _ store.File) { w.swap(a, block(3), a, block(4), 4096) },
		"blocks and entries swapped": func(w *victim, a, _ store.File) {
			w.swap(a, block(3), a, block(4), 4096)
			w.swap(a, page(0)+3*40, a, page(0)+4*40, 40)
		},
		"block of another file": func(w *victim, a, b store.File) { w.swap(a, block(3), b, block(3), 4096) },
		"block and entry of another file": func(w *victim, a, b store.File) {
			w.swap(a, block(3), b, block(3), 4096)
			w.swap(a, page(0)+3*40, b, page(0)+3*40, 40)
		},
		"group of another file": func(w *victim, a, b store.File) { w.swap(a, page(1), b, page(1), 102*4096) },
		"groups swapped":        func(w *victim, a, _ store.File) { w.swap(a, page(0), a, page(1), 102*4096) },
		"block zeroed":          func(w *victim, a, _ store.File) { w.write(a, block(5), make([]byte, 4096)) },
		"entry zeroed":          func(w *victim, a, _ store.File) { w.write(a, page(0)+5*40, make([]byte, 40)) },
		"entry and block zeroed": func(w *victim, a, _ store.File) {
			w.write(a, page(0)+5*40, make([]byte, 40))
			w.write(a, block(5), make([]byte, 4096))
		},
		"tag page changed":                    func(w *victim, a, _ store.File) { w.flip(a, page(1)+17) },
		"size in the tag page changed":        func(w *victim, a, _ store.File) { w.flip(a, page(2)+4040) },
		"tag page zeroed":                     func(w *victim, a, _ store.File) { w.write(a, page(1), make([]byte, 4096)) },
		"last tag page zeroed":                func(w *victim, a, _ store.File) { w.write(a, page(2), make([]byte, 4096)) },
		"header changed":                      func(w *victim, a, _ store.File) { w.flip(a, 20) },
		"wrapped key changed":                 func(w *victim, a, _ store.File) { w.flip(a, 512+60) },
		"header of another file":              func(w *victim, a, b store.File) { w.swap(a, 0, b, 0, 4096) },
		"slot of another file":                func(w *victim, a, b store.File) { w.swap(a, 512, b, 512, 512) },
		"cut by one byte":                     func(w *victim, a, _ store.File) { w.resize(a, -1) },
		"cut by a page":                       func(w *victim, a, _ store.File) { w.resize(a, -4096) },
		"cut at the end of a group":           func(w *victim, a, _ store.File) { w.cutTo(a, 101*4096) },
		"cut at the end of two groups":        func(w *victim, a, _ store.File) { w.cutTo(a, 202*4096) },
		"cut in the middle of a group":        func(w *victim, a, _ store.File) { w.cutTo(a, 150*4096) },
		"longer by one byte":                  func(w *victim, a, _ store.File) { w.resize(a, 1) },
		"longer by a page":                    func(w *victim, a, _ store.File) { w.resize(a, 4096) },
		"cut to a size that no file can have": func(w *victim, a, _ store.File) { w.truncate(a, 103*4096+1) },
	}
	for name, tamper := range cases {
		t.Run(name, func(t *testing.T) {
			w := newVictim(t)
			w.t = t
			tamper(w, w.file(w.a), w.file(w.b))
			w.expectDamage()
		})
	}
}

func (w *victim) truncate(f store.File, size int64) {
	if err := f.Truncate(size); err != nil {
		w.t.Fatal(err)
	}
}

func (w *victim) resize(f store.File, by int64) {
	attr, err := f.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	w.truncate(f, attr.Size+by)
}

// cutTo makes a backing file look as if its plaintext had that size.
func (w *victim) cutTo(f store.File, size int64) {
	w.truncate(f, format.PagesEnd(size))
	w.truncate(f, format.BackingSize(size))
}

// expectDamage reads file a block by block: no block may read as anything
// but what was written or EIO, and one at least is EIO.
func (w *victim) expectDamage() {
	v := open(w.t, w.st, w.keys)
	defer v.Close()
	h, err := v.OpenFile("a", os.O_RDONLY, 0, Owner{})
	if err != nil {
		w.isDamage(v, err)
		return
	}
	defer h.Close()
	want := victimContent("a")
	var damage error
	for off := 0; off < len(want); off += format.BlockSize {
		got := make([]byte, min(format.BlockSize, len(want)-off))
		_, err := h.ReadAt(got, int64(off))
		if err != nil {
			damage = err
		} else if !bytes.Equal(got, want[off:off+len(got)]) {
			w.t.Fatalf("block %d reads as something else", off/format.BlockSize)
		}
	}
	w.isDamage(v, damage)
}

func (w *victim) isDamage(v *Volume, err error) {
	var integrity *IntegrityError
	if !errors.As(err, &integrity) || Errno(err) != syscall.EIO {
		w.t.Fatalf("no integrity error but %v", err)
	}
	if v.Stats().IntegrityErrors == 0 {
		w.t.Fatal("the error was not counted")
	}
}

// TestJournalTampering damages the journal of a volume that was not closed:
// the open is refused, unless it was the last frame, which looks torn.
func TestJournalTampering(t *testing.T) {
	keys := newTestKeys(t, 22)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := h.WriteAt([]byte("something"), int64(i)*5000); err != nil {
			t.Fatal(err)
		}
		if err := h.Sync(true); err != nil {
			t.Fatal(err)
		}
	}
	v.stopBackground()
	crashed := st.Kill()
	for _, damage := range []func(f store.File){
		func(f store.File) { wipe(t, f, 8192, 4096) },
		func(f store.File) { wipe(t, f, 0, 64<<10) },
		func(f store.File) { wipe(t, f, 12288+200, 1) },
	} {
		copied := crashed.Crash(0)
		f, err := copied.OpenFile(JournalDir+"/000", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		damage(f)
		f.Close()
		if _, err := Open(copied, keys, Options{}); err == nil || !strings.Contains(err.Error(), "journal is damaged") {
			t.Fatalf("a damaged journal: %v", err)
		}
	}
}

func wipe(t *testing.T, f store.File, off int64, n int) {
	p := make([]byte, n)
	if n == 1 {
		if _, err := f.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
		p[0] ^= 1
	}
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// TestDescriptionTampering edits volume.json and swaps volumes' parts.
func TestDescriptionTampering(t *testing.T) {
	for name, edit := range map[string]func(string) string{
		"names":   func(s string) string { return strings.Replace(s, NamesEncrypted, NamesPlain, 1) },
		"cluster": func(s string) string { return strings.Replace(s, `"test"`, `"prod"`, 1) },
		"id":      flipID,
	} {
		t.Run(name, func(t *testing.T) {
			keys := newTestKeys(t, 23)
			st := store.NewMem(store.Options{})
			create(t, st, keys, NamesEncrypted, 1<<20)
			data, err := Metadata(st).ReadFile(InfoFile)
			if err != nil {
				t.Fatal(err)
			}
			edited := edit(string(data))
			if edited == string(data) {
				t.Fatal("the edit changed nothing")
			}
			if err := Metadata(st).ReplaceFile(InfoFile, []byte(edited)); err != nil {
				t.Fatal(err)
			}
			var integrity *IntegrityError
			if _, err := Open(st, keys, Options{}); !errors.As(err, &integrity) {
				t.Fatalf("an edited description: %v", err)
			}
		})
	}
}

// flipID changes the last digit of the volume's ID.
func flipID(s string) string {
	at := strings.Index(s, `"id": "`) + len(`"id": "`) + 35
	digit := byte('0')
	if s[at] == '0' {
		digit = '1'
	}
	return s[:at] + string(digit) + s[at+1:]
}

// TestHolesStayHoles: a sparse file takes no room and reads as zeros, up to 8 TiB.
func TestHolesStayHoles(t *testing.T) {
	keys := newTestKeys(t, 24)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	defer v.Close()
	h, err := v.OpenFile("sparse", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const size = int64(8) << 40
	if _, err := h.WriteAt([]byte("end"), size-3); err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt([]byte("begin"), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Sync(true), v.Checkpoint()); err != nil {
		t.Fatal(err)
	}
	attr, err := h.Stat()
	if err != nil || attr.Size != size || attr.Blocks > 8192 {
		t.Fatalf("%+v, %v", attr, err)
	}
	got := make([]byte, 10)
	if _, err := h.ReadAt(got, size/2); err != nil || !bytes.Equal(got, make([]byte, 10)) {
		t.Fatalf("the middle reads as %q, %v", got, err)
	}
	if at, err := h.Seek(10000, unix.SEEK_DATA); err != nil || at < size-4096 || at > size-3 {
		t.Fatalf("next data at %d, %v", at, err)
	}
	if at, err := h.Seek(0, unix.SEEK_HOLE); err != nil || at != 4096 {
		t.Fatalf("first hole at %d, %v", at, err)
	}
}
