package store

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// history is what a file may be after a cut, told without knowing how Mem
// keeps account: its content after each operation since the last sync.
type history struct {
	states [][]byte
	since  map[int]int // by sector: the first state whose version counts
	sizes  []int       // that it may have
	floor  int         // and the least of them
}

func (h *history) now() []byte { return h.states[len(h.states)-1] }

func (h *history) synced() {
	*h = history{states: [][]byte{h.now()}, since: map[int]int{}, sizes: []int{len(h.now())}, floor: len(h.now())}
}

// next takes note of the content after an operation.
func (h *history) next(b []byte) {
	h.states = append(h.states, b)
	h.sizes = append(h.sizes, len(b))
	h.floor = min(h.floor, len(b))
}

// durable takes note that [off, end) of the last state is durable.
func (h *history) durable(off, end int) {
	for s := off / sector; s*sector < end; s++ {
		h.since[s] = len(h.states) - 1
	}
	h.sizes = append(h.sizes, end)
	h.floor = max(h.floor, end)
}

// allows tells what is wrong with b as the content after a cut.
func (h *history) allows(b []byte) string {
	if len(b) < h.floor || !slices.Contains(h.sizes, len(b)) {
		return fmt.Sprintf("size %d is none of %v from %d", len(b), h.sizes, h.floor)
	}
	for s := 0; s*sector < len(b); s++ {
		if !h.allowsSector(s, b[s*sector:min(len(b), (s+1)*sector)]) {
			return fmt.Sprintf("sector %d begins %x, which it never did", s, b[s*sector:min(len(b), s*sector+4)])
		}
	}
	return ""
}

func (h *history) allowsSector(s int, got []byte) bool {
	for _, state := range h.states[h.since[s]:] {
		want := make([]byte, sector)
		if s*sector < len(state) {
			copy(want, state[s*sector:])
		}
		if bytes.Equal(got, want[:len(got)]) {
			return true
		}
	}
	return false
}

// TestCrashAgainstHistory does random things to a file and cuts the power.
func TestCrashAgainstHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMem(Options{})
		f := must(m.OpenFile("f", rwc, 0o600))(t)
		d := must(m.OpenFile("f", os.O_RDWR|unix.O_DSYNC, 0))(t)
		must0(t, f.Sync())
		h := &history{states: [][]byte{nil}}
		h.synced()
		pos := rapid.OneOf(rapid.IntRange(0, 9000), rapid.SampledFrom([]int{0, 512, 4096, 8192}))
		for i := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			off, n := pos.Draw(rt, "off"), pos.Draw(rt, "len")+1
			fill := bytes.Repeat([]byte{byte(i + 1)}, n)
			state := bytes.Clone(h.now())
			switch rapid.IntRange(0, 6).Draw(rt, "op") {
			case 0, 1:
				must(f.WriteAt(fill, int64(off)))(t)
				h.next(written(state, fill, off))
			case 2:
				must(d.WriteAt(fill, int64(off)))(t)
				h.next(written(state, fill, off))
				h.durable(off, off+n)
			case 3:
				must0(t, f.Truncate(int64(off)))
				h.next(written(state[:min(off, len(state))], nil, off))
			case 4:
				must0(t, f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
				clear(state[min(off, len(state)):min(off+n, len(state))])
				h.next(state)
			case 5:
				must0(t, createFile(t, m, "other").Sync())
			case 6:
				must0(t, f.Sync())
				h.synced()
			}
			if got := fileContent(t, f); got != string(h.now()) {
				rt.Fatal("the live content is wrong")
			}
		}
		for range 8 {
			after := m.AfterCrash(rapid.Uint64().Draw(rt, "seed"))
			if wrong := h.allows([]byte(contentOf(t, after, "f"))); wrong != "" {
				rt.Fatal(wrong)
			}
			fsckMem(rt, after)
		}
	})
}

// written is b with p at off, grown with zeros where need be.
func written(b, p []byte, off int) []byte {
	if grow := off + len(p) - len(b); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[off:], p)
	return b
}

// fsckMem checks what holds in every live image.
func fsckMem(t *rapid.T, m *Mem) {
	links, used := map[uint64]uint32{}, int64(0)
	for ino, n := range m.s.live.inodes {
		if n.ino != ino || n.gone() {
			t.Fatalf("inode %d is lost or misplaced", ino)
		}
		used += n.content.blocks()
		for i, p := range n.content.pages {
			if n.content.reserved.has(i) || i*memPage >= n.content.size {
				t.Fatalf("page %d of inode %d is reserved too, or behind the end", i, ino)
			}
			if end := n.content.size - i*memPage; end < memPage && !zeros(p.b[:], end, memPage) {
				t.Fatalf("inode %d has bytes behind its end", ino)
			}
		}
		for name, child := range n.entries {
			c := m.s.live.inodes[child]
			if c == nil || c.isDir() && c.above != ino {
				t.Fatalf("entry %q of inode %d leads nowhere", name, ino)
			}
			links[child]++
			if c.isDir() {
				links[ino]++
			}
		}
	}
	for ino, n := range m.s.live.inodes {
		want := links[ino]
		if n.isDir() && ino != rootIno {
			want++
		} else if ino == rootIno {
			want += 2
		}
		if n.nlink != want {
			t.Fatalf("inode %d has %d links, not %d", ino, n.nlink, want)
		}
	}
	if used != m.s.used {
		t.Fatalf("%d pages are in use, not %d", used, m.s.used)
	}
}

// TestCrashGivesAnEarlierTree does random things to names and attributes, and
// demands that a cut leaves the tree as it was after one of the operations
// since the last sync.
func TestCrashGivesAnEarlierTree(t *testing.T) {
	kinds := []string{"mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "rename", "chmod", "xattr", "open"}
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMem(Options{})
		w := &twins{disk: m, mem: NewMem(Options{}), linksOfDirs: true, tempFiles: true, root: true}
		var trees []string
		note := func() {
			var s strings.Builder
			w.tree(rt, m, ".", &s)
			trees = append(trees, s.String())
		}
		note()
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch kind := rapid.SampledFrom(append(kinds, "syncall")).Draw(rt, "op"); kind {
			case "syncall":
				must0(t, m.SyncAll())
				trees = trees[len(trees)-1:]
			default:
				nameOps[kind](w, rt)
				note()
			}
		}
		for range 6 {
			after := m.Crash(rapid.Uint64().Draw(rt, "seed"))
			var s strings.Builder
			w.tree(rt, after, ".", &s)
			if !slices.Contains(trees, s.String()) {
				rt.Fatalf("after the cut:\n%s\nwhich is none of\n%s", s.String(), strings.Join(trees, "\n"))
			}
			fsckMem(rt, after)
		}
	})
}
