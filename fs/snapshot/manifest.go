package snapshot

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

const (
	manifestName   = "manifest.json"
	contentsName   = "contents.jsonl"
	manifestFormat = 1
	// keyPurpose is what the manifest's key is derived for from the volume's
	// secret.
	keyPurpose = "snapshot"
)

// ErrNotSnapshot says that a directory is no snapshot, or not whole.
var ErrNotSnapshot = errors.New("not a snapshot")

// ErrDamaged says that a manifest is damaged. It wraps ErrNotSnapshot.
var ErrDamaged = fmt.Errorf("%w: %s is damaged", ErrNotSnapshot, manifestName)

// Keys derive the key under which manifests are authentic.
type Keys interface {
	VolumeKey(purpose string) (*crypto.Key, error)
}

// Manifest describes a snapshot.
type Manifest struct {
	Format  int       `json:"format"`
	Name    string    `json:"name"`
	Volume  uuid.UUID `json:"volume"`
	Cluster string    `json:"cluster"`
	Created time.Time `json:"created"` // the moment that it shows
	// Held is for how long nobody could change anything, in microseconds, and
	// Took how long all of it took.
	Held int64 `json:"held_us"`
	Took int64 `json:"took_us"`
	// Objects counts all of them; Bytes is the sum of the backing files' sizes.
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Journal is the size of the original's journal, in bytes. The snapshot's
	// own is as small as can be.
	Journal int64 `json:"journal_bytes"`
	// MasterKeys are those that its files need, with the keys that open them.
	MasterKeys []MasterKey `json:"master_keys"`
	// Contents is the SHA-256 of contents.jsonl, in hexadecimal.
	Contents string `json:"contents"`
	// MAC is HMAC-SHA-256 under the volume's "snapshot" key, over this document
	// encoded with an empty mac.
	MAC []byte `json:"mac"`
}

// MasterKey is a master key as the snapshot's keyring had it when it was made.
type MasterKey struct {
	ID     string       `json:"id"`
	Active bool         `json:"active"`
	Keys   []KeyVersion `json:"keys"`
}

// KeyVersion names a version of a key in a vault.
type KeyVersion struct {
	KeyID   string `json:"key_id"`
	Version string `json:"version"`
}

// masterKeys describes a keyring.
func masterKeys(keyring *keymgr.Keyring) []MasterKey {
	var all []MasterKey
	for _, mk := range keyring.MasterKeys() {
		m := MasterKey{ID: mk.ID.String(), Active: mk.Active}
		for _, w := range mk.Wraps {
			m.Keys = append(m.Keys, KeyVersion{w.KeyID, w.Version})
		}
		all = append(all, m)
	}
	return all
}

func (m *Manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

func (m Manifest) mac(keys Keys) ([]byte, error) {
	key, err := keys.VolumeKey(keyPurpose)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	m.MAC = nil
	data, err := m.encode()
	if err != nil {
		return nil, err
	}
	return key.MAC(data)
}

// Prove checks that the manifest is authentic: that it was made with the
// volume's keys, and not changed since. Errors are a *DamageError or the keys'.
func (m *Manifest) Prove(keys Keys) error {
	want, err := m.mac(keys)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, m.MAC) {
		return &DamageError{path.Join(volume.MetaDir, manifestName), "it is not authentic"}
	}
	return nil
}

// ReadManifest reads what a snapshot tells without keys. Errors are
// ErrNotSnapshot, a *NewerError or the store's.
func ReadManifest(st store.FS) (*Manifest, error) {
	data, err := volume.Metadata(st).ReadFile(manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotSnapshot
	}
	if err != nil {
		return nil, err
	}
	return parseManifest(data)
}

// NewerError says that a snapshot was made by a newer akvfs.
type NewerError struct{ Format int }

func (e *NewerError) Error() string {
	return fmt.Sprintf("snapshot has format %d, newer than %d", e.Format, manifestFormat)
}

func parseManifest(data []byte) (*Manifest, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil || version.Format < 1 {
		return nil, ErrDamaged
	}
	if version.Format > manifestFormat {
		return nil, &NewerError{version.Format}
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil || CheckName(m.Name) != nil || m.Objects < 0 || m.Bytes < 0 {
		return nil, ErrDamaged
	}
	return m, nil
}

// Object is one object of a snapshot's tree, a line of contents.jsonl.
type Object struct {
	// Path is that in the snapshot's directory, percent-encoded like a URL's,
	// as it may hold any bytes.
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"` // type and permissions, as in struct stat
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"`
	Size  int64  `json:"size,omitempty"` // of the backing file
	Mtime int64  `json:"mtime"`          // nanoseconds since 1970
	Rdev  uint64 `json:"rdev,omitempty"`
	// Same is the path of an object before it of which this is another name.
	Same string `json:"same,omitempty"`
	// Target is a link's, as it is stored.
	Target string `json:"target,omitempty"`
	// Xattrs are extended attributes as they are stored.
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
	// Tags is the SHA-256 of a file's header and tag pages, in hexadecimal.
	Tags string `json:"tags,omitempty"`
}

func encodePath(name string) string { return (&url.URL{Path: name}).EscapedPath() }

func decodePath(encoded string) (string, error) {
	name, err := url.PathUnescape(encoded)
	if err != nil || !fs.ValidPath(validated(name)) {
		return "", fmt.Errorf("%w: %q is no path", ErrNotSnapshot, encoded)
	}
	return name, nil
}

// decodeTarget is a link's target, which need not be a path in the snapshot.
func decodeTarget(encoded string) (string, error) {
	target, err := url.PathUnescape(encoded)
	if err != nil {
		return "", fmt.Errorf("%w: %q is no target of a link", ErrNotSnapshot, encoded)
	}
	return target, nil
}

// validated makes a name of any bytes one that fs.ValidPath can judge.
func validated(name string) string { return string(bytes.ToValidUTF8([]byte(name), []byte("?"))) }

// writeContents writes contents.jsonl and tells its digest.
func writeContents(st store.FS, objects []Object) (digest string, err error) {
	f, err := st.OpenFile(path.Join(volume.MetaDir, contentsName), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(sum, io.NewOffsetWriter(f, 0)), 1<<18)
	line := json.NewEncoder(out)
	for i := range objects {
		if err := line.Encode(&objects[i]); err != nil {
			return "", err
		}
	}
	if err := out.Flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), f.Sync()
}

// maxLine bounds a line of contents.jsonl, in bytes: extended attributes take
// 64 KiB at most on Linux's local file systems, and grow by a third.
const maxLine = 1 << 20

// EachObject calls do for each object of the snapshot in st, in order of its
// contents.jsonl, which is held against the manifest: a *DamageError at the
// end, should it be another.
func (m *Manifest) EachObject(st store.FS, do func(o Object, name string) error) error {
	f, err := st.OpenFile(path.Join(volume.MetaDir, contentsName), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	lines := bufio.NewScanner(io.TeeReader(io.NewSectionReader(f, 0, 1<<62), sum))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var o Object
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return &DamageError{path.Join(volume.MetaDir, contentsName), "a line is damaged"}
		}
		name, err := decodePath(o.Path)
		if err == nil {
			err = do(o, name)
		}
		if err != nil {
			return err
		}
	}
	if lines.Err() != nil || hex.EncodeToString(sum.Sum(nil)) != m.Contents {
		return &DamageError{path.Join(volume.MetaDir, contentsName), "it is not what the manifest says"}
	}
	return nil
}

// DamageError says that something in a snapshot is not what it was made.
type DamageError struct {
	Path string // in the snapshot's directory
	What string
}

func (e *DamageError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.What) }
