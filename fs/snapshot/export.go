package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// Export writes a snapshot as a stream, which Import makes a snapshot of again,
// here or elsewhere. No keys are needed. With base, an older snapshot of the
// volume, the stream holds only what has changed since: blocks whose entries in
// the tag pages are others. It tells how many bytes it wrote. The same snapshots
// make the same stream.
func Export(ctx context.Context, w io.Writer, s, base *Snapshot, progress func(Progress)) (written int64, err error) {
	st, err := store.OpenDisk(s.Dir)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	e := &exporter{st: st, report: progress, noted: Progress{Phase: "export"}}
	header := streamHeader{Name: s.Manifest.Name, Volume: s.Manifest.Volume.String()}
	if mode, uid, gid, ok, err := volume.Root(st); err != nil {
		return 0, err
	} else if ok {
		header.Root = &streamRoot{mode, uid, gid}
	}
	if base != nil {
		header.Base = &streamBase{base.Manifest.Name, base.Manifest.MAC}
		if e.base, err = store.OpenDisk(base.Dir); err != nil {
			return 0, err
		}
		defer e.base.Close()
		if err := e.index(base.Manifest); err != nil {
			return 0, err
		}
	}
	if e.out, err = newStreamWriter(w); err != nil {
		return 0, err
	}
	err = e.out.json(sectionHeader, header)
	if err == nil {
		err = e.everything(ctx, s.Manifest)
	}
	return e.out.written, err
}

// exporter writes one stream.
type exporter struct {
	st     *store.Disk
	out    *streamWriter
	report func(Progress)
	noted  Progress

	base  *store.Disk              // nil: none
	known map[format.FileID]string // in base, by the ID in the header
}

// index finds the files of the base.
func (e *exporter) index(m *Manifest) error {
	e.known = map[format.FileID]string{}
	return m.EachObject(e.base, func(o Object, name string) error {
		if o.Mode&unix.S_IFMT != unix.S_IFREG || o.Same != "" || o.Size < format.PageSize {
			return nil
		}
		f, err := e.base.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		id, err := fileID(f)
		if err == nil {
			e.known[id] = name
		}
		return err
	})
}

// fileID reads the ID in a file's header.
func fileID(f store.File) (id format.FileID, err error) {
	page := make([]byte, format.PageSize)
	if _, err := f.ReadAt(page, 0); err != nil && !errors.Is(err, io.EOF) {
		return id, err
	}
	copy(id[:], page[format.FileIDOffset:])
	return id, nil
}

// everything writes the volume's own files, the tree's, and the end.
func (e *exporter) everything(ctx context.Context, m *Manifest) error {
	names := []string{manifestName, contentsName, volume.InfoFile, keymgr.KeyringFile}
	for _, name := range names {
		if err := e.file(ctx, path.Join(volume.MetaDir, name), false); err != nil {
			return err
		}
	}
	segments, err := e.st.ReadDir(volume.JournalDir)
	if err != nil {
		return err
	}
	for _, s := range segments {
		if err := e.file(ctx, path.Join(volume.JournalDir, s.Name), false); err != nil {
			return err
		}
	}
	err = m.EachObject(e.st, func(o Object, name string) error {
		if o.Mode&unix.S_IFMT != unix.S_IFREG || o.Same != "" {
			return nil
		}
		e.noted.Files++
		return e.file(ctx, name, e.base != nil)
	})
	if err != nil {
		return err
	}
	return e.out.end()
}

// file writes one file: the difference from the base's if asked for and there
// is one, else all of it but the holes.
func (e *exporter) file(ctx context.Context, name string, different bool) (err error) {
	f, err := e.st.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	attr, err := f.Stat()
	if err != nil {
		return err
	}
	begin := streamFile{Path: encodePath(name), Size: attr.Size}
	var old store.File
	if different && attr.Size >= format.PageSize {
		id, err := fileID(f)
		if err != nil {
			return err
		}
		if base, ok := e.known[id]; ok {
			begin.Base = encodePath(base)
			if old, err = e.base.OpenFile(base, os.O_RDONLY, 0); err != nil {
				return err
			}
			defer old.Close()
		}
	}
	if err := e.out.json(sectionFile, begin); err != nil {
		return err
	}
	if old != nil {
		return e.difference(ctx, f, old, attr.Size)
	}
	return e.part(ctx, f, 0, attr.Size)
}

// part writes what of a part of a file is no hole.
func (e *exporter) part(ctx context.Context, f store.File, off, end int64) error {
	buf := make([]byte, chunk)
	for off < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := f.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		n := min(end, hole, data+chunk) - data
		if n <= 0 {
			return nil
		}
		if m, err := f.ReadAt(buf[:n], data); err != nil && !(errors.Is(err, io.EOF) && int64(m) == n) {
			return err
		}
		if err := e.data(data, buf[:n]); err != nil {
			return err
		}
		off = data + n
	}
	return nil
}

func (e *exporter) data(off int64, p []byte) error {
	e.noted.Bytes += int64(len(p))
	if e.report != nil {
		e.report(e.noted)
	}
	return e.out.data(off, p)
}

// difference writes the header, and the tag pages that are others, with the
// blocks whose entries are.
func (e *exporter) difference(ctx context.Context, f, old store.File, size int64) error {
	if err := e.part(ctx, f, 0, format.PageSize); err != nil {
		return err
	}
	for group := int64(0); format.TagPageOffset(group) < size; group++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var is, was format.TagPage
		if err := errors.Join(readPage(f, &is, group), readPage(old, &was, group)); err != nil {
			return err
		}
		if is == was {
			continue
		}
		if err := e.data(format.TagPageOffset(group), is[:min(format.PageSize, size-format.TagPageOffset(group))]); err != nil {
			return err
		}
		if err := e.blocks(ctx, f, &is, &was, group, size); err != nil {
			return err
		}
	}
	return nil
}

func readPage(f store.File, p *format.TagPage, group int64) error {
	n, err := f.ReadAt(p[:], format.TagPageOffset(group))
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return nil
	}
	return err
}

// blocks writes those of a group whose entries differ, side by side ones at once.
func (e *exporter) blocks(ctx context.Context, f store.File, is, was *format.TagPage, group, size int64) error {
	first := group * format.GroupBlocks
	for i := 0; i < format.GroupBlocks; {
		if bytes.Equal(is.Entry(i)[:], was.Entry(i)[:]) {
			i++
			continue
		}
		run, hole := 1, is.Entry(i).Hole()
		for i+run < format.GroupBlocks && is.Entry(i+run).Hole() == hole && !bytes.Equal(is.Entry(i + run)[:], was.Entry(i + run)[:]) {
			run++
		}
		off := format.BlockOffset(first + int64(i))
		end := min(size, off+int64(run)*format.PageSize)
		i += run
		if off >= end {
			continue
		}
		var err error
		if hole {
			err = e.out.hole(off, end-off)
		} else {
			err = e.part(ctx, f, off, end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
