package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

const (
	blockSize = 4096
	chunkSize = 256 * blockSize
)

// digest is SHA-256 over size, numbers and contents of a file's blocks of
// 4 KiB that are not all zeros: a hole and zeros that are written are the same.
type digest [sha256.Size]byte

var zeroBlock [blockSize]byte

// addBlocks hashes what lies at off, a multiple of the block's size.
func addBlocks(h hash.Hash, p []byte, off int64) {
	for len(p) > 0 {
		block := p[:min(len(p), blockSize)]
		if !bytes.Equal(block, zeroBlock[:len(block)]) {
			addNumber(h, off)
			h.Write(block)
		}
		p, off = p[len(block):], off+int64(len(block))
	}
}

func addNumber(h hash.Hash, n int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

// eachData calls do with the data of a file of a size, in order, widened to
// whole blocks, and leaves out holes.
func eachData(ctx context.Context, f file, size int64, buf []byte, do func(p []byte, off int64) error) error {
	for off := int64(0); off < size; {
		start, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		off = max(off, start/blockSize*blockSize)
		end = min((end+blockSize-1)/blockSize*blockSize, size)
		for off < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := buf[:min(int64(len(buf)), end-off)]
			if _, err := f.ReadAt(p, off); errors.Is(err, io.EOF) {
				return ErrChanged // it is shorter than it was
			} else if err != nil {
				return err
			}
			if err := do(p, off); err != nil {
				return err
			}
			off += int64(len(p))
		}
	}
	return nil
}

// copyContent copies a file's data and holes, and gives the digest.
func (c *conversion) copyContent(from, to file, size int64) (d digest, err error) {
	h := sha256.New()
	addNumber(h, size)
	err = eachData(c.ctx, from, size, c.buf, func(p []byte, off int64) error {
		addBlocks(h, p, off)
		_, err := to.WriteAt(p, off)
		c.progress.Bytes += int64(len(p))
		c.tell()
		return err
	})
	if err == nil {
		err = to.Truncate(size)
	}
	return digest(h.Sum(nil)), err
}

// readBack is the digest of what a file holds.
func (c *conversion) readBack(t tree, name string, size int64) (d digest, err error) {
	f, err := t.open(name)
	if err != nil {
		return d, err
	}
	defer f.Close()
	forget(f)
	h := sha256.New()
	addNumber(h, size)
	err = eachData(c.ctx, f, size, c.buf, func(p []byte, off int64) error {
		addBlocks(h, p, off)
		return nil
	})
	return digest(h.Sum(nil)), err
}

// copyUnit makes a file on the other side, under all its names.
func (c *conversion) copyUnit(u *unit) error {
	for _, name := range u.names {
		if err := c.to.Unlink(name); err != nil && !errors.Is(err, syscall.ENOENT) {
			return err // ENOENT: no run before this one came so far
		}
	}
	if err := c.makeObject(u, u.names[0]); err != nil {
		return err
	}
	for _, name := range u.names[1:] {
		if err := c.to.Link(u.names[0], name); err != nil {
			return err
		}
	}
	return nil
}

func (c *conversion) makeObject(u *unit, name string) error {
	switch u.attr.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.makeFile(u, name)
	case unix.S_IFLNK:
		return c.to.symlink(u.link, name)
	}
	return c.to.mknod(name, u.attr.Mode, u.attr.Rdev)
}

func (c *conversion) makeFile(u *unit, name string) (err error) {
	from, err := c.from.open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := c.to.create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	u.digest, err = c.copyContent(from, to, u.attr.Size)
	return err
}

// dress gives a file owner, mode, attributes and times. Times come last, and
// after it was read back.
func (c *conversion) dress(u *unit) error {
	name := u.names[0]
	a := dirAttr{u.attr.Mode & 0o7777, u.attr.UID, u.attr.GID, u.attr.Atime, u.attr.Mtime, u.xattrs}
	return dress(c.to, name, a, u.attr.Mode&unix.S_IFMT == unix.S_IFLNK)
}

func dress(t tree, name string, a dirAttr, link bool) error {
	if err := t.Chown(name, int(a.UID), int(a.GID)); err != nil {
		return err
	}
	if !link {
		if err := store.Disinherit(t, name, a.Xattrs); err != nil {
			return err
		}
		if err := t.Chmod(name, a.Mode); err != nil {
			return err
		}
	}
	for attr, value := range a.Xattrs {
		if err := t.Setxattr(name, attr, value, 0); err != nil {
			return fmt.Errorf("extended attribute %q: %w", attr, err)
		}
	}
	return t.Chtimes(name, &a.Atime, &a.Mtime)
}

// compare reads a file's copy back and holds it against what was copied.
func (c *conversion) compare(u *unit) error {
	name := u.names[0]
	if u.regular() {
		d, err := c.readBack(c.to, name, u.attr.Size)
		if err != nil {
			return err
		}
		if d != u.digest {
			return fmt.Errorf("%w: content", ErrReadBack)
		}
	}
	if u.attr.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := c.to.Readlink(name)
		if err != nil {
			return err
		}
		if target != u.link {
			return fmt.Errorf("%w: target", ErrReadBack)
		}
	}
	return nil
}

// compareAttr holds the attributes of every name against the file's, and makes
// sure that the file is still what was copied.
func (c *conversion) compareAttr(u *unit) error {
	for _, name := range u.names {
		got, err := c.to.Stat(name)
		if err != nil {
			return err
		}
		w := u.attr
		if got.Mode != w.Mode || got.UID != w.UID || got.GID != w.GID || got.Nlink != w.Nlink || got.Rdev != w.Rdev ||
			!got.Mtime.Equal(w.Mtime) || !got.Atime.Equal(w.Atime) || u.regular() && got.Size != w.Size {
			return fmt.Errorf("%w: attributes of %q", ErrReadBack, name)
		}
		now, err := c.from.Stat(name)
		if err != nil {
			return err
		}
		if now.Ino != w.Ino || now.Size != w.Size || now.Nlink != w.Nlink || !now.Mtime.Equal(w.Mtime) || !now.Ctime.Equal(w.Ctime) {
			return ErrChanged
		}
	}
	return c.compareXattrs(u)
}

func (c *conversion) compareXattrs(u *unit) error {
	name := u.names[0]
	for attr, value := range u.xattrs {
		got, err := c.to.Getxattr(name, attr)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, value) {
			return fmt.Errorf("%w: extended attribute %q", ErrReadBack, attr)
		}
	}
	now, err := (&scan{tree: c.from}).xattrs(name)
	if err == nil && !maps.EqualFunc(now, u.xattrs, bytes.Equal) {
		err = ErrChanged
	}
	return err
}
