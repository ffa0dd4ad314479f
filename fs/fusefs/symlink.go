package fusefs

import (
	"context"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
)

// symlink is a symbolic link. Its target is for the kernel to follow, in the
// mount; it means nothing to us.
type symlink struct {
	node
	target atomic.Pointer[string] // nil: not read yet, or forgotten; it never changes
}

var _ fs.NodeReadlinker = (*symlink)(nil)

// Readlink returns the target.
func (s *symlink) Readlink(context.Context) ([]byte, syscall.Errno) {
	if target := s.target.Load(); target != nil {
		return []byte(*target), fs.OK
	}
	var target string
	err := s.named(func(p string) (err error) {
		target, err = s.read(p)
		return err
	})
	if err != nil {
		return nil, s.t.errno(err)
	}
	return []byte(target), fs.OK
}

func (s *symlink) read(path string) (string, error) {
	target, err := s.t.vol.Readlink(path)
	if err == nil {
		s.target.Store(&target)
	}
	return target, err
}
