package fsck

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// structure walks the backing tree without keys: names without files, files
// without names and, if contents is set, what files show of themselves.
func (c *check) structure(ctx context.Context, contents bool) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := c.opts.Jobs
	if jobs <= 0 {
		jobs = runtime.NumCPU()
	}
	g.SetLimit(jobs)
	err := c.directory(ctx, g, ".", contents)
	return errors.Join(err, g.Wait())
}

func (c *check) directory(ctx context.Context, g *errgroup.Group, dir string, contents bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := c.st.ReadDir(dir)
	if err != nil {
		return err
	}
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		names[e.Name] = true
	}
	for _, e := range entries {
		if dir == "." && (e.Name == volume.MetaDir || c.encrypted() && e.Name == "lost+found") {
			continue
		}
		name := path.Join(dir, e.Name)
		if c.encrypted() && !c.named(dir, e, names) {
			continue
		}
		switch e.Type & unix.S_IFMT {
		case unix.S_IFDIR:
			err = c.directory(ctx, g, name, contents)
		case unix.S_IFREG:
			if contents {
				g.Go(func() error { return errors.Join(ctx.Err(), c.content(name)) })
			}
		}
		if err != nil {
			return err
		}
		if contents {
			c.count(1, 0)
		}
	}
	return nil
}

func (c *check) encrypted() bool { return c.info.Names == volume.NamesEncrypted }

// named checks the form of an encrypted name, and that a long one has its file.
// It reports whether the entry is an object of the tree.
func (c *check) named(dir string, e store.DirEntry, names map[string]bool) bool {
	name := volume.Path(path.Join(dir, e.Name))
	if entry, holds := strings.CutSuffix(e.Name, volume.LongSuffix); holds {
		if !names[entry] && isLongEntry(entry) {
			c.report.add(Finding{Kind: Leftover, Path: name, Detail: "it holds the long name of nothing that is there"})
		} else if !isLongEntry(entry) {
			c.report.add(Finding{Kind: Name, Path: name, Detail: "it is no name of this volume's"})
		}
		return false
	}
	switch {
	case isLongEntry(e.Name):
		if !names[e.Name+volume.LongSuffix] {
			c.report.add(Finding{Kind: LongName, Path: name, Detail: "the file with its long name is missing: it is not seen in the mount"})
		} else if !c.opts.proves() && !c.matches(string(name)) {
			c.report.add(Finding{Kind: LongName, Path: name, Detail: "the file with its long name has another one"})
		}
	case !isEncrypted(e.Name):
		c.report.add(Finding{Kind: Name, Path: name, Detail: "it is no name of this volume's: it is not seen in the mount"})
		return false
	}
	return true
}

// isLongEntry: "@" and a SHA-256.
func isLongEntry(name string) bool {
	hash, ok := strings.CutPrefix(name, volume.LongMark)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(hash)
	return ok && err == nil && len(raw) == sha256.Size
}

func isEncrypted(name string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(name)
	return err == nil && len(raw) > 16 && !strings.ContainsAny(name, "\r\n")
}

// matches holds a long name's file against its entry.
func (c *check) matches(entry string) bool {
	f, err := c.st.OpenFile(entry+volume.LongSuffix, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	buf := make([]byte, 512)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	hash := sha256.Sum256(buf[:n])
	return path.Base(entry) == volume.LongMark+base64.RawURLEncoding.EncodeToString(hash[:])
}

// content checks what a file shows without its key: its size, its header, and
// the shape of its tag pages.
func (c *check) content(name string) error {
	f, err := c.st.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	attr, err := f.Stat()
	if err != nil || attr.Size == 0 {
		return err
	}
	found := func(what string, off, n int64) {
		c.report.damage(volume.Damage{Path: volume.Path(name), What: what, Offset: off, Length: n})
	}
	page := make([]byte, format.PageSize)
	if _, err := f.ReadAt(page, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	c.count(0, len(page))
	size, ok := format.PlainSize(attr.Size)
	switch h, err := blockfile.ReadHeader(f, name); {
	case err != nil:
		found("header", 0, size)
		return nil
	case h == nil:
		found("unfinished header", 0, 0)
		return nil
	}
	for i := range format.Slots {
		if format.SlotDamaged(page, i) {
			found("header slot", 0, 0)
		}
	}
	if !ok {
		found("size", 0, 0)
		return nil
	}
	return c.tagPages(f, size, found)
}

// tagPages checks the shape of each tag page of a file.
func (c *check) tagPages(f store.File, size int64, found func(what string, off, n int64)) error {
	last := format.LastGroup(size)
	var page format.TagPage
	for group := int64(0); group <= last; group++ {
		at := format.TagPageOffset(group)
		next, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			next, err = format.TagPageOffset(last), nil
		}
		if err != nil {
			return err
		}
		group = min(max((next/format.PageSize-1)/(format.GroupBlocks+1), group), last)
		if _, err := f.ReadAt(page[:], format.TagPageOffset(group)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		c.count(0, len(page))
		if shaped(&page, group, last, size) {
			continue
		}
		first := group * format.GroupBlocks * format.BlockSize
		found("tag page", first, min(format.GroupBlocks*format.BlockSize, size-first))
	}
	return nil
}

// shaped reports whether a tag page is one that a group of such a file can have.
func shaped(p *format.TagPage, group, last, size int64) bool {
	if group < last {
		return p.Empty() || p.Flags() == 0 && p.Size() == format.More
	}
	if p.Flags() != 0 || p.Size() != uint64(size) {
		return false
	}
	for i := int(format.Blocks(size) - group*format.GroupBlocks); i < format.GroupBlocks; i++ {
		if !p.Entry(i).Hole() {
			return false
		}
	}
	return true
}
