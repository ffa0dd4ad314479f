package snapshot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"golang.org/x/sys/unix"
)

// FileExistsError says that a file to export to is there already.
type FileExistsError struct{ Path string }

func (e *FileExistsError) Error() string { return fmt.Sprintf("%s is there already", e.Path) }

// FileInUseError says that another export writes to the file.
type FileInUseError struct{ Path string }

func (e *FileInUseError) Error() string {
	return fmt.Sprintf("another export writes to %s", e.Path)
}

// Exported is what ExportFile has done.
type Exported struct {
	Path  string `json:"path"`
	Name  string `json:"name"`
	Base  string `json:"base,omitempty"`
	Bytes int64  `json:"bytes"`
	// Kept of them were there from an export that was interrupted.
	Kept int64 `json:"kept"`
}

// exportSuffix is that of a file until all of the stream is in it.
const exportSuffix = ".partial"

// ExportFile is Export to a file, durable when it returns nil. Until then what
// there is has the name with .partial behind it; should the export end early,
// the next one of the same snapshots holds that against its sums and goes on
// where it ends. Errors are a *FileExistsError, *FileInUseError, or Export's.
func ExportFile(ctx context.Context, name string, s, base *Snapshot, progress func(Progress)) (*Exported, error) {
	e, err := newExporter(s, base, progress)
	if err != nil {
		return nil, err
	}
	defer e.close()
	f, err := claimExport(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	kept, err := e.toFile(ctx, f)
	if err == nil {
		err = publishExport(name) // while it is locked
	}
	if err != nil {
		return nil, err
	}
	done := &Exported{Path: name, Name: s.Manifest.Name, Bytes: e.out.written, Kept: kept}
	if base != nil {
		done.Base = base.Manifest.Name
	}
	return done, nil
}

// claimExport opens the file that is not whole yet, for nobody else.
func claimExport(name string) (_ *os.File, err error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, &FileExistsError{name}
	}
	f, err := os.OpenFile(name+exportSuffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || err == nil && !still(f) {
		err = &FileInUseError{name + exportSuffix}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// still says that an open file has the name that it was opened by.
func still(f *os.File) bool {
	is, err := f.Stat()
	has, also := os.Lstat(f.Name())
	return err == nil && also == nil && os.SameFile(is, has)
}

func publishExport(name string) error {
	err := unix.Renameat2(unix.AT_FDCWD, name+exportSuffix, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // not on this file system
		err = os.Rename(name+exportSuffix, name)
	}
	if errors.Is(err, fs.ErrExist) {
		return &FileExistsError{name}
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// toFile writes the stream, or what is missing of it.
func (e *exporter) toFile(ctx context.Context, f *os.File) (kept int64, err error) {
	if err := e.resume(ctx, f); err != nil {
		return 0, err
	}
	kept = e.out.written
	if err := f.Truncate(kept); err != nil {
		return kept, err
	}
	if _, err := f.Seek(kept, io.SeekStart); err != nil {
		return kept, err
	}
	if kept == 0 {
		if e.out, err = newStreamWriter(f); err == nil {
			err = e.out.json(sectionHeader, e.header)
		}
		if err != nil {
			return kept, err
		}
	}
	if err := e.everything(ctx); err != nil {
		return kept, err
	}
	return kept, f.Sync()
}

// resume finds out how much of this very stream is in a file. Anything in it
// that is none of an export is somebody else's.
func (e *exporter) resume(ctx context.Context, f *os.File) error {
	e.out = &streamWriter{w: f}
	in, err := newStreamReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		if errors.As(err, new(*StreamError)) {
			return e.notOurs(f)
		}
		return err
	}
	buf := new(sectionBuffer)
	if h, err := in.header(buf); err != nil || !reflect.DeepEqual(*h, e.header) {
		return nil // of other snapshots, or next to nothing
	}
	for {
		e.out.written, e.out.sums = in.read, in.sums
		kind, payload, err := in.next(buf)
		if err == nil {
			err = ctx.Err()
		}
		if errors.As(err, new(*StreamError)) || err == nil && kind == sectionEnd {
			return nil
		}
		if err != nil {
			return err
		}
		e.took(kind, payload)
	}
}

// notOurs says that what is in the file is the beginning of no stream, unless
// it is next to nothing.
func (e *exporter) notOurs(f *os.File) error {
	head := make([]byte, len(streamMagic))
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(head[:n]) != streamMagic[:n] {
		return &FileExistsError{f.Name()}
	}
	return nil
}

// took counts a section that is there already.
func (e *exporter) took(kind byte, payload []byte) {
	switch kind {
	case sectionFile:
		var begun streamFile
		_ = json.Unmarshal(payload, &begun) // it was made from one
		e.after = position{e.after.files + 1, 0}
		e.note(placed{bytes: []byte{kind}})
	case sectionData, sectionHole:
		off, n, _ := place(kind, payload)
		e.after.end = off + n
		if kind == sectionData {
			e.note(placed{bytes: []byte{kind}, data: int(n)})
		}
	}
}
