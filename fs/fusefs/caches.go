package fusefs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
)

// DropCaches has the kernel write back what it holds of the volume and forget
// it: pages, attributes and names. What a process holds open or mapped stays
// known by name, without its pages. What the volume does not take any more is
// dropped without being written. No file may be used while it runs if nothing
// of it is to be left.
func (s *Server) DropCaches() error {
	return errors.Join(forget(s.root.EmbeddedInode()), s.root.t.dropNameless())
}

// forget goes from the leaves up, so that the kernel can drop a directory
// after what is in it.
func forget(in *fs.Inode) error {
	var errs []error
	for name, child := range in.Children() {
		errs = append(errs, forget(child))
		if err := notified(in.NotifyEntry(name)); err != nil {
			errs = append(errs, fmt.Errorf("dropping %q: %w", name, err))
		}
	}
	if link, ok := in.Operations().(*symlink); ok {
		link.target.Store(nil)
	}
	return errors.Join(append(errs, pagesOf(in))...)
}

// dropPages has the kernel write back and drop the pages of all regular files
// at and below an inode, and of nothing else.
func dropPages(in *fs.Inode) error {
	var errs []error
	for _, child := range in.Children() {
		errs = append(errs, dropPages(child))
	}
	if _, ok := in.Operations().(*file); ok {
		errs = append(errs, pagesOf(in))
	}
	return errors.Join(errs...)
}

// dropNameless is dropPages for files that have no name left, or never had one.
// Of a file that is just being made the kernel has no pages yet.
func (t *tree) dropNameless() error {
	t.openMu.Lock()
	open := slices.Collect(maps.Keys(t.open))
	t.openMu.Unlock()
	var errs []error
	for _, f := range open {
		if !f.entered.Load() {
			continue
		}
		if _, named := f.node.path(); !named {
			errs = append(errs, pagesOf(f.node.EmbeddedInode()))
		}
	}
	return errors.Join(errs...)
}

// pagesOf drops the pages and attributes of one inode.
func pagesOf(in *fs.Inode) error {
	if err := notified(in.NotifyContent(0, 0)); err != nil {
		return fmt.Errorf("dropping the pages of inode %d: %w", in.StableAttr().Ino, err)
	}
	return nil
}

// notified: what the kernel has forgotten by itself is forgotten.
func notified(errno syscall.Errno) error {
	if errno == fs.OK || errno == syscall.ENOENT {
		return nil
	}
	return errno
}
