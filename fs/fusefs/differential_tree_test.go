package fusefs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// treeOf describes a tree: a line for each object, in the order of their
// names, with all that two file systems must agree on.
func treeOf(dir string) ([]string, error) {
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		line, err := objectLine(p, name, first)
		lines = append(lines, line)
		return err
	})
	return lines, err
}

func objectLine(path, name string, first map[uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	line := fmt.Sprintf("%q %s mtime=%s", name, describe(&st), shownTime(st.Mtim))
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if other, ok := first[st.Ino]; ok {
			return line + " same as " + other, nil
		}
		first[st.Ino] = fmt.Sprintf("%q", name)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := contentLine(path)
		if err != nil {
			return "", err
		}
		line += content
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" -> %q", target)
	}
	attrs, err := attrLine(path)
	return line + attrs, err
}

// shownTime is a time if it was set on purpose, which those of the test are
// long before now.
func shownTime(t unix.Timespec) string {
	if t.Sec < longAgo {
		return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
	}
	return "now"
}

const longAgo = 1e9

// contentLine is the hash of what a file holds beside zeros. It skips holes:
// some files are 8 TiB of them.
func contentLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h, block := sha256.New(), make([]byte, 4096)
	for at := int64(0); ; {
		at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return fmt.Sprintf(" sha256=%x", h.Sum(nil)[:8]), nil
		}
		if err != nil {
			return "", err
		}
		at &^= 4095
		n, err := f.ReadAt(block, at)
		if err != nil && err != io.EOF {
			return "", err
		}
		if len(bytes.Trim(block[:n], "\x00")) > 0 {
			fmt.Fprintf(h, "%d %q", at, bytes.TrimRight(block[:n], "\x00"))
		}
		at += 4096
	}
}

// attrLine lists extended attributes, ACLs among them.
func attrLine(path string) (string, error) {
	names, err := attrNames(path)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, name := range names {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", name, path, err)
		}
		fmt.Fprintf(&b, " %s=%q", name, value[:n])
	}
	return b.String(), nil
}

func attrNames(path string) ([]string, error) {
	list := make([]byte, 8192)
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := strings.FieldsFunc(string(list[:n]), func(c rune) bool { return c == 0 })
	slices.Sort(names)
	return names, nil
}
