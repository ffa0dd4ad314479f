package convert

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// unit is a file and all its names: what is converted at once.
type unit struct {
	names  []string
	attr   store.Attr
	xattrs map[string][]byte
	link   string // target of a symbolic link
	digest digest
}

func (u *unit) regular() bool { return u.attr.Mode&unix.S_IFMT == unix.S_IFREG }

// bytes is the space that the content takes, holes left out.
func (u *unit) bytes() int64 {
	if !u.regular() {
		return 0
	}
	return min(u.attr.Size, u.attr.Blocks*512)
}

func (u *unit) done() []done {
	var list []done
	for _, name := range u.names {
		list = append(list, done{exactName(name), u.attr.Ino, u.attr.Size, u.attr.Mtime})
	}
	return list
}

// Plan says what a conversion would do.
type Plan struct {
	Files    int64     `json:"files"` // everything but directories
	Dirs     int64     `json:"dirs"`
	Bytes    int64     `json:"bytes"` // of content, holes left out
	Largest  string    `json:"largest"`
	Need     int64     `json:"need"` // bytes of free space, for the largest file
	Free     int64     `json:"free"`
	Rate     float64   `json:"rate"` // of the sample, bytes a second; 0 if there was none
	Seconds  float64   `json:"seconds"`
	Problems []Problem `json:"problems"` // why it would be refused
}

// scan is a tree that was looked through.
type scan struct {
	units    []*unit
	dirs     []string // a directory before what is in it; without the root
	root     dirAttr
	attrs    dirMap
	problems []Problem
	largest  *unit
	bytes    int64

	ctx   context.Context
	tree  tree
	dev   uint64
	links map[uint64]*unit
}

// look goes through a tree. Problems are collected; an error is one that
// keeps it from looking.
func look(ctx context.Context, t tree) (*scan, error) {
	root, err := t.Stat(".")
	if err != nil {
		return nil, err
	}
	s := &scan{ctx: ctx, tree: t, dev: root.Dev, attrs: dirMap{}, links: map[uint64]*unit{}}
	if s.root, err = s.dirAttr(".", root); err != nil {
		return nil, err
	}
	if err := s.dir("."); err != nil {
		return nil, err
	}
	for _, u := range s.units {
		if n := len(u.names); int(u.attr.Nlink) != n {
			s.problem(u.names[0], fmt.Sprintf("has %d hard links, of which %d are in the directory", u.attr.Nlink, n))
		}
		s.bytes += u.bytes()
		if s.largest == nil || u.bytes() > s.largest.bytes() {
			s.largest = u
		}
	}
	return s, nil
}

func (s *scan) problem(name, what string) { s.problems = append(s.problems, Problem{name, what}) }

func (s *scan) dir(dir string) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	entries, err := s.tree.ReadDir(dir)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b store.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		if err := s.object(path.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) object(name string) error {
	attr, err := s.tree.Stat(name)
	if err != nil {
		return err
	}
	if attr.Dev != s.dev {
		s.problem(name, "is on another file system")
		return nil
	}
	for _, t := range []time.Time{attr.Atime, attr.Mtime} {
		if y := t.UTC().Year(); y < 1 || y > 9999 { // JSON has no others
			s.problem(name, fmt.Sprintf("has a time in the year %d", y))
		}
	}
	if attr.Mode&unix.S_IFMT == unix.S_IFDIR {
		if s.attrs[name], err = s.dirAttr(name, attr); err != nil {
			return err
		}
		s.dirs = append(s.dirs, name)
		return s.dir(name)
	}
	if u := s.links[attr.Ino]; u != nil {
		u.names = append(u.names, name)
		return nil
	}
	u := &unit{names: []string{name}, attr: attr}
	if attr.Mode&unix.S_IFMT == unix.S_IFLNK {
		if u.link, err = s.tree.Readlink(name); err != nil {
			return err
		}
	}
	if u.xattrs, err = s.xattrs(name); err != nil {
		return err
	}
	s.units = append(s.units, u)
	s.links[attr.Ino] = u
	return nil
}

func (s *scan) dirAttr(name string, attr store.Attr) (dirAttr, error) {
	xattrs, err := s.xattrs(name)
	return dirAttr{attr.Mode & 0o7777, attr.UID, attr.GID, attr.Atime, attr.Mtime, xattrs}, err
}

// xattrs reads the attributes that a volume keeps too, and complains of others.
func (s *scan) xattrs(name string) (map[string][]byte, error) {
	attrs, err := s.tree.Listxattr(name)
	if err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	for _, attr := range attrs {
		space, _, _ := strings.Cut(attr, ".")
		switch {
		case !utf8.ValidString(attr):
			s.problem(name, fmt.Sprintf("has the extended attribute %q, whose name is no UTF-8", attr))
		case !store.IsACL(attr) && space != "user" && space != "trusted" && space != "security":
			s.problem(name, fmt.Sprintf("has the extended attribute %q, which a volume cannot keep", attr))
		default:
			if values[attr], err = s.tree.Getxattr(name, attr); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// lookOutside goes through plain files that are to be encrypted. What stays
// where it is, lost+found, must be empty.
func lookOutside(ctx context.Context, st store.FS) (*scan, error) {
	s, err := look(ctx, plain{st})
	if err != nil {
		return nil, err
	}
	left, err := st.ReadDir(lostFound)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		s.problem(lostFound, "is no directory, and would stay plain: rename it")
	case err != nil && !errors.Is(err, syscall.ENOENT):
		return nil, err
	case len(left) > 0:
		s.problem(lostFound, "holds files that fsck has found, and would stay plain: move them, or delete them")
	}
	return s, nil
}
