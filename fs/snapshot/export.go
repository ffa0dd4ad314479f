package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
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
	e, err := newExporter(s, base, progress)
	if err != nil {
		return 0, err
	}
	defer e.close()
	if e.out, err = newStreamWriter(w); err != nil {
		return 0, err
	}
	err = e.out.json(sectionHeader, e.header)
	if err == nil {
		err = e.everything(ctx)
	}
	return e.out.written, err
}

// exporter writes one stream.
type exporter struct {
	st       disk
	manifest *Manifest
	header   streamHeader
	out      *streamWriter
	after    position // what was written before it goes on
	report   func(Progress)
	noted    Progress

	base  disk                     // nil: none
	known map[format.FileID]string // in base, by the ID in the header

	queue chan *piece   // in the stream's order
	turns chan struct{} // taken by those that are being filled
	bufs  sync.Pool     // of *pieceBuffer
}

// position is a place in a stream: so many files have begun, and of the last
// of them all is there up to end.
type position struct {
	files int
	end   int64
}

func newExporter(s, base *Snapshot, progress func(Progress)) (_ *exporter, err error) {
	e := &exporter{
		manifest: s.Manifest, report: progress, noted: Progress{Phase: "export", Total: s.Manifest.Bytes},
		header: streamHeader{Name: s.Manifest.Name, Volume: s.Manifest.Volume.String(), Manifest: s.Manifest.MAC},
		bufs:   sync.Pool{New: newPieceBuffer},
	}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if e.st, err = s.open(); err != nil {
		return nil, err
	}
	keyring, err := volume.Metadata(e.st).ReadFile(keymgr.KeyringFile)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(keyring)
	e.header.Keyring = hex.EncodeToString(sum[:])
	if mode, uid, gid, ok, err := volume.Root(e.st); err != nil {
		return nil, err
	} else if ok {
		e.header.Root = &streamRoot{mode, uid, gid}
	}
	if base == nil {
		return e, nil
	}
	e.noted.Total = 0 // only what has changed
	e.header.Base = &streamBase{base.Manifest.Name, base.Manifest.MAC}
	if e.base, err = base.open(); err != nil {
		return nil, err
	}
	return e, e.index(base.Manifest)
}

func (e *exporter) close() {
	for _, st := range []disk{e.st, e.base} {
		if st != nil {
			st.Close()
		}
	}
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

// everything writes all files and the end. One goroutine goes through the
// files, some read pieces and make their sections beside each other, and one
// writes them in their order.
func (e *exporter) everything(ctx context.Context) error {
	n := readers()
	g, ctx := errgroup.WithContext(ctx)
	e.queue, e.turns = make(chan *piece, 2*n), make(chan struct{}, n)
	g.Go(func() error {
		defer close(e.queue)
		return e.files(ctx)
	})
	g.Go(func() error {
		err := e.write(ctx)
		for p := range e.queue { // which nobody writes any more
			<-p.done
			p.letGo()
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return e.out.end()
}

// files goes through the volume's own files and those of the tree.
func (e *exporter) files(ctx context.Context) error {
	n := 0
	each := func(name string, different bool) error {
		n++
		switch {
		case n < e.after.files:
			return ctx.Err()
		case n == e.after.files:
			return e.file(ctx, name, different, e.after.end)
		}
		return e.file(ctx, name, different, notBegun)
	}
	names := []string{manifestName, contentsName, volume.InfoFile, keymgr.KeyringFile}
	for _, name := range names {
		if err := each(path.Join(volume.MetaDir, name), false); err != nil {
			return err
		}
	}
	segments, err := e.st.ReadDir(volume.JournalDir)
	if err != nil {
		return err
	}
	slices.SortFunc(segments, func(a, b store.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range segments {
		if err := each(path.Join(volume.JournalDir, s.Name), false); err != nil {
			return err
		}
	}
	return e.manifest.EachObject(e.st, func(o Object, name string) error {
		if o.Mode&unix.S_IFMT != unix.S_IFREG || o.Same != "" {
			return nil
		}
		return each(name, e.base != nil)
	})
}

// notBegun is where a file stands that is not in the stream.
const notBegun = -1

// file puts one file's pieces into the queue, but for what was written of it
// before: the difference from the base's if asked for and there is one, else
// all of it but pages of zeros.
func (e *exporter) file(ctx context.Context, name string, different bool, after int64) error {
	s := &source{}
	s.users.Add(1)
	var err error
	if s.file, err = e.st.OpenFile(name, os.O_RDONLY, 0); err != nil {
		return err
	}
	defer s.letGo()
	attr, err := s.file.Stat()
	if err != nil {
		return err
	}
	s.size = attr.Size
	begin := streamFile{Path: encodePath(name), Size: s.size}
	if different && s.size >= format.PageSize {
		if begin.Base, s.old, err = e.older(s.file); err != nil {
			return err
		}
	}
	var first []byte
	if after == notBegun {
		if first, err = jsonSection(sectionFile, begin); err != nil {
			return err
		}
		if err := e.enqueue(ctx, &piece{source: s, first: first}); err != nil {
			return err
		}
	}
	return s.each(func(off, end int64) error {
		if end <= after {
			return nil
		}
		return e.enqueue(ctx, &piece{source: s, off: off, end: end, after: after})
	})
}

// enqueue queues a piece and has it filled, as soon as there is a turn.
func (e *exporter) enqueue(ctx context.Context, p *piece) error {
	p.done = make(chan struct{})
	p.users.Add(1)
	select {
	case e.queue <- p:
	case <-ctx.Done():
		p.letGo()
		return ctx.Err()
	}
	e.turns <- struct{}{}
	go func() {
		if p.first == nil {
			p.buf = e.bufs.Get().(*pieceBuffer)
		}
		p.err = p.fill()
		<-e.turns
		close(p.done)
	}()
	return nil
}

// older finds the file of the base that a file is another version of.
func (e *exporter) older(f store.File) (encoded string, old store.File, err error) {
	id, err := fileID(f)
	name, ok := e.known[id]
	if err != nil || !ok {
		return "", nil, err
	}
	old, err = e.base.OpenFile(name, os.O_RDONLY, 0)
	return encodePath(name), old, err
}

// write writes the queued pieces.
func (e *exporter) write(ctx context.Context) error {
	for p := range e.queue {
		<-p.done
		err := errors.Join(p.err, ctx.Err())
		for _, s := range p.sections {
			if err == nil && (p.first != nil || s.end > p.after) {
				err = e.out.put(s.bytes)
				e.note(s)
			}
		}
		p.letGo()
		if err != nil {
			return err
		}
		if p.buf != nil {
			e.bufs.Put(p.buf)
		}
	}
	return nil
}

// note tells of a section that was written.
func (e *exporter) note(s placed) {
	if s.bytes[0] == sectionFile {
		e.noted.Files++
	}
	e.noted.Bytes += int64(s.data)
	if e.report != nil {
		e.report(e.noted)
	}
}
