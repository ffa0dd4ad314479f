package store

import (
	"bytes"
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// openDir opens a directory for reading, which changes no time of access where
// the process may ask for that.
func (d *Disk) openDir(name string) (int, error) {
	p, err := d.shorten(name)
	if err != nil {
		return -1, err
	}
	defer p.leave()
	const flag = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := openat2(p.dir, p.base, flag|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = openat2(p.dir, p.base, flag, 0)
	}
	return fd, err
}

// SyncDir makes the entries of one directory durable.
func (d *Disk) SyncDir(name string) error {
	fd, err := d.openDir(name)
	if err != nil {
		return pathError("syncdir", name, err)
	}
	defer closeFD(fd)
	return pathError("syncdir", name, retry(func() error { return unix.Fsync(fd) }))
}

// direntBuffers hold what getdents answers.
var direntBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadDir lists a directory in no set order, without "." and "..".
func (d *Disk) ReadDir(name string) ([]DirEntry, error) {
	fd, err := d.openDir(name)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	defer closeFD(fd)
	buf := direntBuffers.Get().(*[32 << 10]byte)
	defer direntBuffers.Put(buf)
	var entries []DirEntry
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, pathError("readdir", name, err)
		}
		if n == 0 {
			break
		}
		entries = appendEntries(entries, buf[:n])
	}
	return entries, pathError("readdir", name, findTypes(fd, &entries))
}

// appendEntries parses struct linux_dirent64, as getdents(2) has it: inode
// number, offset, length of the record, type, name that ends with a NUL.
func appendEntries(entries []DirEntry, b []byte) []DirEntry {
	const header = 19
	for len(b) >= header {
		length := int(binary.NativeEndian.Uint16(b[16:]))
		if length < header || length > len(b) {
			break
		}
		name := b[header:length]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if s := string(name); s != "." && s != ".." {
			ino := binary.NativeEndian.Uint64(b)
			entries = append(entries, DirEntry{Name: s, Ino: ino, Type: uint32(b[18]) << 12})
		}
		b = b[length:]
	}
	return entries
}

// findTypes asks for the types that a file system did not tell, and drops
// entries that have gone meanwhile.
func findTypes(fd int, entries *[]DirEntry) error {
	kept := (*entries)[:0]
	for _, e := range *entries {
		if e.Type == 0 {
			var stx unix.Statx_t
			err := statx(fd, e.Name, &stx)
			if err == unix.ENOENT {
				continue
			}
			if err != nil {
				return err
			}
			e.Type = uint32(stx.Mode) & unix.S_IFMT
		}
		kept = append(kept, e)
	}
	*entries = kept
	return nil
}
