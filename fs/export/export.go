// Package export copies a tree of plaintext, that of package fs for instance,
// out as a tar stream or into a directory, with everything that tells one
// object from another: types, owners, modes, times, extended attributes, hard
// links and holes.
package export

import (
	"context"
	"io/fs"
	"path"
	"syscall"
)

// Tree is what is exported. A FileInfo's Sys is a *syscall.Stat_t.
type Tree interface {
	fs.ReadDirFS
	fs.ReadLinkFS
	// Xattrs are an object's own extended attributes.
	Xattrs(name string) (map[string][]byte, error)
}

// Progress tells how far an export is.
type Progress struct {
	Objects int64
	Bytes   int64 // of contents
}

// Observer hears of progress, often; nil hears nothing.
type Observer func(Progress)

// object is one object on its way out.
type object struct {
	name string // in the tree
	info fs.FileInfo
	stat *syscall.Stat_t
	// same is the name under which the object has been exported already, "" if
	// it has not.
	same string
}

// walker goes through what is to be exported.
type walker struct {
	tree     Tree
	observe  Observer
	progress Progress
	links    map[linkID]string // objects with several names, by the first that was met
}

type linkID struct{ dev, ino uint64 }

func newWalker(t Tree, o Observer) *walker {
	if o == nil {
		o = func(Progress) {}
	}
	return &walker{tree: t, observe: o, links: map[linkID]string{}}
}

// walk calls visit with everything at and below the paths, a directory before
// what is in it.
func (w *walker) walk(ctx context.Context, paths []string, visit func(*object) error) error {
	for _, p := range paths {
		err := fs.WalkDir(w.tree, path.Clean(p), func(name string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			return w.visit(name, visit)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) visit(name string, visit func(*object) error) error {
	info, err := w.tree.Lstat(name)
	if err != nil {
		return err
	}
	o := &object{name: name, info: info}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		o.stat = st
		if !info.IsDir() && st.Nlink > 1 {
			id := linkID{uint64(st.Dev), st.Ino}
			if o.same = w.links[id]; o.same == "" {
				w.links[id] = name
			}
		}
	}
	if err := visit(o); err != nil {
		return err
	}
	w.progress.Objects++
	w.observe(w.progress)
	return nil
}

// counting adds what is copied through it to the progress.
func (w *walker) counting(n int) {
	w.progress.Bytes += int64(n)
	w.observe(w.progress)
}
