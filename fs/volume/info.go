package volume

import (
	"bytes"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/store"
)

// FormatVersion is the format that Create makes and the newest that Open reads.
const FormatVersion = 1

// How names lie in the backing directory.
const (
	NamesEncrypted = "encrypted"
	NamesPlain     = "plain"
)

var (
	// ErrNotVolume says that a directory is no akvfs volume.
	ErrNotVolume = errors.New("not an akvfs volume")
	// ErrIncomplete says that a volume's creation was interrupted. It wraps ErrNotVolume.
	ErrIncomplete = fmt.Errorf("%w: its creation was interrupted", ErrNotVolume)
	// ErrRestoring says that the directory is being restored from a snapshot
	// (package snapshot). It wraps ErrNotVolume.
	ErrRestoring = fmt.Errorf("%w: its restoration from a snapshot was not finished", ErrNotVolume)
	// ErrConverting says that the directory is being encrypted or decrypted in
	// place (package convert). It wraps ErrNotVolume.
	ErrConverting = fmt.Errorf("%w: its encryption or decryption in place was not finished", ErrNotVolume)
	// ErrInUse says that another process has the volume open.
	ErrInUse = errors.New("volume is in use")
	// ErrNotEmpty says that a directory for a new volume holds something.
	ErrNotEmpty = errors.New("directory is not empty")
)

// NewerFormatError says that a volume was made by a newer akvfs.
type NewerFormatError struct {
	Version  int
	Features []string // those that this version does not know
}

func (e *NewerFormatError) Error() string {
	if len(e.Features) > 0 {
		return fmt.Sprintf("volume uses features that this version does not know: %q", e.Features)
	}
	return fmt.Sprintf("volume has format version %d, newer than %d", e.Version, FormatVersion)
}

// Info is what volume.json says. It never changes after Create.
type Info struct {
	Format   int       `json:"format"`
	ID       uuid.UUID `json:"id"`
	Cluster  string    `json:"cluster"`
	Names    string    `json:"names"`
	Created  time.Time `json:"created"`
	Features []string  `json:"features"`
	// MAC is HMAC-SHA-256 under the volume's "volume-info" key, over this
	// document encoded with an empty mac.
	MAC []byte `json:"mac"`
}

// MetaDir is the directory of a volume's own files, in its backing directory.
const MetaDir = ".akvfs"

const (
	// InfoFile describes a volume, in MetaDir.
	InfoFile = "volume.json"
	// JournalDir holds the segments of the journal.
	JournalDir   = MetaDir + "/journal"
	lockName     = MetaDir + "/lock"
	convertDir   = ".akvfs-convert"            // package convert's
	restoreName  = MetaDir + "/restoring.json" // package snapshot's
	maxInfoBytes = 64 << 10
)

// ReadInfo reads what a volume tells without keys. Errors are ErrNotVolume,
// ErrIncomplete, ErrRestoring, ErrConverting, a *NewerFormatError, an
// *IntegrityError or the store's. Only Open proves that the answer is genuine.
func ReadInfo(st store.FS) (Info, error) {
	if _, err := st.Stat(convertDir); err == nil {
		return Info{}, ErrConverting
	}
	data, err := Metadata(st).ReadFile(InfoFile)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return Info{}, withoutInfo(st)
	}
	if err != nil {
		return Info{}, err
	}
	return parseInfo(data)
}

// withoutInfo tells what a directory without a description is. A creation
// writes that last, and before it nothing into the tree: where something is
// there, the description of a volume has been lost.
func withoutInfo(st store.FS) error {
	if _, err := st.Stat(MetaDir); err != nil {
		return ErrNotVolume
	}
	if _, err := st.Stat(restoreName); err == nil {
		return ErrRestoring
	}
	entries, err := st.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name != MetaDir && e.Name != "lost+found" {
			return damagedInfo("it is missing")
		}
	}
	return ErrIncomplete
}

func damagedInfo(how string) error {
	return &IntegrityError{Path: MetaDir + "/" + InfoFile, What: "volume description", Number: -1, Err: errors.New(how)}
}

func parseInfo(data []byte) (Info, error) {
	var version struct {
		Format   int      `json:"format"`
		Features []string `json:"features"`
	}
	if err := json.Unmarshal(data, &version); err != nil || version.Format < 1 {
		return Info{}, damagedInfo("it cannot be read")
	}
	if version.Format > FormatVersion || len(version.Features) > 0 {
		return Info{}, &NewerFormatError{version.Format, version.Features}
	}
	var info Info
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&info); err != nil || (info.Names != NamesEncrypted && info.Names != NamesPlain) {
		return Info{}, damagedInfo("it cannot be read")
	}
	return info, nil
}

func (i Info) encode() ([]byte, error) {
	data, err := json.MarshalIndent(i, "", "  ")
	return append(data, '\n'), err
}

// mac computes the document's MAC.
func (i Info) mac(keys Keys) ([]byte, error) {
	key, err := keys.VolumeKey("volume-info")
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	i.MAC = nil
	data, err := i.encode()
	if err != nil {
		return nil, err
	}
	return key.MAC(data)
}

// verify checks the document's MAC.
func (i Info) verify(keys Keys) error {
	want, err := i.mac(keys)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, i.MAC) {
		return &IntegrityError{Path: MetaDir + "/" + InfoFile, What: "volume description", Number: -1}
	}
	return nil
}

// CheckInfo is stricter than ReadInfo: it wants volume.json byte for byte as
// akvfs writes it and, with keys, its MAC. keys may be nil. Errors are
// ReadInfo's, an *IntegrityError or the store's.
func CheckInfo(st store.FS, keys Keys) (Info, error) {
	info, err := ReadInfo(st)
	if err != nil {
		return info, err
	}
	data, err := Metadata(st).ReadFile(InfoFile)
	if err != nil {
		return info, err
	}
	if again, err := info.encode(); err != nil || !bytes.Equal(again, data) {
		return info, &IntegrityError{Path: MetaDir + "/" + InfoFile, What: "volume description", Number: -1, Err: errEdited}
	}
	if keys == nil {
		return info, nil
	}
	return info, info.verify(keys)
}

var errEdited = errors.New("it is not in the form that akvfs writes")
