package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// fakeTree is a tree in memory.
type fakeTree struct {
	fstest.MapFS
	broken string // a directory that cannot be read
}

func (f fakeTree) Xattrs(string) (map[string][]byte, error) { return nil, nil }
func (f fakeTree) Close() error                             { return nil }

func (f fakeTree) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == f.broken {
		return nil, errors.New("broken")
	}
	return f.MapFS.ReadDir(name)
}

// TestLsOrder: directories are listed in order, each behind the one before,
// however many are read ahead; and one that cannot be read ends it in its turn.
func TestLsOrder(t *testing.T) {
	tree := fakeTree{MapFS: fstest.MapFS{}}
	var want strings.Builder
	want.WriteString(".:\n")
	for i := range 30 {
		fmt.Fprintf(&want, "d%02d\n", i)
	}
	for i := range 30 {
		fmt.Fprintf(&want, "\nd%02d:\na\nb\nfile\n", i)
		for _, sub := range []string{"a", "b"} {
			dir := fmt.Sprintf("d%02d/%s", i, sub)
			tree.MapFS[dir+"/x"] = &fstest.MapFile{}
			fmt.Fprintf(&want, "\n%s:\nx\n", dir)
		}
		tree.MapFS[fmt.Sprintf("d%02d/file", i)] = &fstest.MapFile{}
	}
	run := func() (string, error) {
		var out bytes.Buffer
		l := lister{ctx: t.Context(), tree: tree, out: bufio.NewWriter(&out), recursive: true}
		err := errors.Join(l.list(nil), l.out.Flush())
		return out.String(), err
	}
	if got, err := run(); err != nil || got != want.String() {
		t.Errorf("error %v, and\n%s\nand not\n%s", err, got, want.String())
	}
	tree.broken = "d20/b"
	before, _, _ := strings.Cut(want.String(), "\n\nd20/b:")
	before += "\n"
	if got, err := run(); err == nil || got != before {
		t.Errorf("error %v, and\n%s\nand not\n%s", err, got, before)
	}
}
