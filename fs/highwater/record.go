package highwater

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/internal/replace"
)

const (
	recordFormat = 1
	// dirName is the directory of the records in the state directory.
	dirName = "seen"
	// maxRecord bounds what is read of a record, in bytes.
	maxRecord = 64 << 10
)

// document is what a Record's file holds.
type document struct {
	Format  int       `json:"format"`
	Volume  uuid.UUID `json:"volume"`
	Backing string    `json:"backing"`
	Mark
}

// Record is where the Mark of a volume in one backing directory is kept.
type Record struct {
	path    string
	volume  uuid.UUID
	backing string
	written *Mark // by this Record, durably; nil: nothing was
}

// ErrRecord says that a record is not one, or is of another volume.
var ErrRecord = errors.New("it is no record of this volume")

// At is the record in a state directory of a volume at a canonical path.
func At(stateDir string, volume uuid.UUID, backing string) *Record {
	place := sha256.Sum256([]byte(backing))
	name := fmt.Sprintf("%s-%s.json", volume, hex.EncodeToString(place[:6]))
	return &Record{path: filepath.Join(stateDir, dirName, name), volume: volume, backing: backing}
}

// Path is the record's file.
func (r *Record) Path() string { return r.path }

// Read returns the Mark, the zero Mark where there is no record. Errors are
// ErrRecord and the file system's, with the path.
func (r *Record) Read() (Mark, error) {
	data, err := readFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Mark{}, nil
	}
	if err != nil {
		return Mark{}, err
	}
	d, err := parse(data)
	if err != nil || d.Volume != r.volume || d.Backing != r.backing {
		return Mark{}, fmt.Errorf("%s: %w", r.path, ErrRecord)
	}
	return d.Mark, nil
}

// readFile reads a regular file; a pipe is refused, not waited for.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s: %w", path, ErrRecord))
	}
	return io.ReadAll(io.LimitReader(f, maxRecord))
}

func parse(data []byte) (d document, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return d, err
	}
	if d.Format != recordFormat {
		return d, ErrRecord
	}
	return d, nil
}

// Raise records a Mark of what is durable in the volume, as far as it is higher
// than what is recorded; a record that cannot be read is replaced. What is
// merely found to be recorded is written again, since it may not be durable.
func (r *Record) Raise(to Mark) error {
	if r.written != nil {
		if to = r.written.raised(to); to == *r.written {
			return nil
		}
		return r.write(to)
	}
	old, err := r.Read()
	if err != nil && !errors.Is(err, ErrRecord) {
		return err
	}
	if to = old.raised(to); to == (Mark{}) {
		return nil
	}
	return r.write(to)
}

// Reset records a Mark that may be lower than what is recorded: somebody says
// that the volume was put back on purpose.
func (r *Record) Reset(to Mark) error { return r.write(to) }

// Forget removes the record, for a volume that is made anew in its place.
func (r *Record) Forget() error {
	r.written = nil
	return replace.Remove(r.path)
}

func (r *Record) write(m Mark) error {
	data, err := json.MarshalIndent(document{recordFormat, r.volume, r.backing, m}, "", "  ")
	if err != nil {
		return err
	}
	if err := replace.Dir(filepath.Dir(r.path)); err != nil {
		return err
	}
	if err := replace.File(r.path, append(data, '\n'), 0o600); err != nil {
		return err
	}
	r.written = &m
	return nil
}
