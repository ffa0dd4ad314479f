package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// OtherVolumeError says that a stream is of another volume's snapshot.
type OtherVolumeError struct{ Name, Volume string }

func (e *OtherVolumeError) Error() string {
	return fmt.Sprintf("the stream has snapshot %q of another volume, %s", e.Name, e.Volume)
}

// BaseError says that a stream tells the difference from a snapshot that is
// not there.
type BaseError struct{ Name string }

func (e *BaseError) Error() string {
	return fmt.Sprintf("the stream tells the difference from snapshot %q, which is not here, or another one of that name", e.Name)
}

// Import makes the snapshot that a stream carries, in a collection. No keys are
// needed. Before it gets its name it is verified as Verify does, and the whole
// stream against its sums. If anything fails, there is nothing. want is the
// volume that it must be a snapshot of; uuid.Nil: any. Errors are a
// *StreamError, *OtherVolumeError, *DamageError, *BaseError, *ExistsError,
// ctx's, or the stores'.
func Import(ctx context.Context, r io.Reader, c *Collection, want uuid.UUID, progress func(Progress)) (*Manifest, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, header, err := receiveStream(ctx, r)
	if err != nil {
		return nil, err
	}
	if want != uuid.Nil && header.Volume != want.String() {
		return nil, &OtherVolumeError{header.Name, header.Volume}
	}
	if err := c.Clear(); err != nil {
		return nil, err
	}
	if _, err := c.st.Stat(header.Name); err == nil {
		return nil, &ExistsError{header.Name}
	}
	i := &importer{c: c, in: in, header: *header, report: progress, noted: Progress{Phase: "import"}, staged: map[string]string{}}
	if err := i.openBase(); err != nil {
		return nil, err
	}
	defer i.closeBase()
	if i.partial, err = c.begin(header.Name); err != nil {
		return nil, err
	}
	defer i.partial.end()
	if err := i.receive(ctx); err != nil {
		return nil, err
	}
	return i.finish(ctx)
}

// importer makes one snapshot of a stream.
type importer struct {
	c       *Collection
	in      *received
	header  streamHeader
	base    disk // nil: none
	partial *partial
	staged  map[string]string // where a file waits for its name, by that
	report  func(Progress)
	noted   Progress
}

func (i *importer) openBase() error {
	if i.header.Base == nil {
		return nil
	}
	s, err := i.c.Get(i.header.Base.Name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(s.Manifest.MAC) != string(i.header.Base.MAC) {
		return &BaseError{i.header.Base.Name}
	}
	if err == nil {
		i.base, err = s.open()
	}
	return err
}

func (i *importer) closeBase() {
	if i.base != nil {
		i.base.Close()
	}
}

// receive takes in every file.
func (i *importer) receive(ctx context.Context) error {
	var f store.File
	var size int64
	done := func() error {
		if f == nil {
			return nil
		}
		err := errors.Join(f.Truncate(size), f.Close())
		f = nil
		return err
	}
	defer func() { _ = done() }()
	for {
		kind, payload, err := i.in.next(ctx)
		if err != nil {
			return err
		}
		switch {
		case kind == sectionEnd:
			return done()
		case kind == sectionFile:
			if err := done(); err != nil {
				return err
			}
			if f, size, err = i.begin(ctx, payload); err != nil {
				return err
			}
		case f == nil:
			return &StreamError{i.in.at, "it has data of no file"}
		default:
			if err := i.put(f, kind, payload, size); err != nil {
				return err
			}
		}
	}
}

// begin makes the file that a section tells of.
func (i *importer) begin(ctx context.Context, payload []byte) (f store.File, size int64, err error) {
	var s streamFile
	name := ""
	if err = json.Unmarshal(payload, &s); err == nil {
		name, err = decodePath(s.Path)
	}
	if err != nil || s.Size < 0 || !i.allowed(name) {
		return nil, 0, &StreamError{i.in.at, "it has a file that no snapshot has"}
	}
	to := name
	if !strings.HasPrefix(name, volume.MetaDir+"/") {
		to = path.Join(stagingName, fmt.Sprint(len(i.staged)))
		i.staged[name] = to
		i.noted.Files++
	} else if err := i.partial.st.Mkdir(path.Dir(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, 0, err
	}
	if f, err = i.partial.st.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, 0, err
	}
	if s.Base != "" {
		err = i.fromBase(ctx, f, s.Base)
	}
	if err == nil {
		err = f.Truncate(s.Size)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, s.Size, nil
}

// allowed says whether a stream may bring a file of that name: each once, and
// of a volume's own files those that a snapshot has.
func (i *importer) allowed(name string) bool {
	if _, twice := i.staged[name]; twice || name == "." {
		return false
	}
	rest, own := strings.CutPrefix(name, volume.MetaDir+"/")
	if !own {
		return name != volume.MetaDir
	}
	switch rest {
	case manifestName, contentsName, volume.InfoFile, keymgr.KeyringFile:
		return true
	}
	return path.Dir(name) == volume.JournalDir
}

// fromBase makes f what a file of the base snapshot is.
func (i *importer) fromBase(ctx context.Context, f store.File, encoded string) error {
	name, err := decodePath(encoded)
	if err != nil || i.base == nil {
		return &StreamError{i.in.at, "it tells the difference from nothing"}
	}
	old, err := i.base.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer old.Close()
	if store.Clone(f, old) == nil {
		return nil
	}
	attr, err := old.Stat()
	if err == nil {
		_, err = copyPart(ctx, f, old, 0, attr.Size)
	}
	return err
}

// put writes what a section brings.
func (i *importer) put(f store.File, kind byte, payload []byte, size int64) error {
	off, n, ok := place(kind, payload)
	if !ok || kind == sectionHeader {
		return &StreamError{i.in.at, "a section is too short"}
	}
	if off > size || n > size-off {
		return &StreamError{i.in.at, "a place beyond the file's end"}
	}
	if kind == sectionHole {
		return punch(f, off, n)
	}
	i.noted.Bytes += n
	if i.report != nil {
		i.report(i.noted)
	}
	_, err := f.WriteAt(payload[placeBytes:], off)
	return err
}

// finish gives the files their names and attributes, verifies, and publishes.
func (i *importer) finish(ctx context.Context) (*Manifest, error) {
	st := i.partial.st
	m, err := ReadManifest(st)
	if err != nil {
		return nil, err
	}
	if m.Name != i.header.Name {
		return nil, &StreamError{i.in.at, "the manifest is another snapshot's"}
	}
	if root := i.header.Root; root != nil {
		if err := volume.SetRoot(st, root.Mode&0o7777, root.UID, root.GID); err != nil {
			return nil, err
		}
	}
	r := &restorer{src: st, dst: st, manifest: m, place: i.name, noted: Progress{Phase: "import"}}
	if err := r.tree(ctx); err != nil {
		return nil, err
	}
	if err := store.RemoveAll(st, stagingName); err != nil {
		return nil, err
	}
	report, err := Verify(ctx, st, i.report)
	if err != nil {
		return nil, err
	}
	if len(report.Damages) > 0 {
		return nil, &DamageError{m.Name, "it is not what was exported: " + report.Damages[0]}
	}
	return m, i.partial.publish()
}

// name gives a file that has arrived its name.
func (i *importer) name(_ context.Context, l *listed) error {
	staged, ok := i.staged[l.name]
	if !ok {
		return &DamageError{l.name, "the stream lacks it"}
	}
	return i.partial.st.Rename(staged, l.name, unix.RENAME_NOREPLACE)
}
