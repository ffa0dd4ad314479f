package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/akvfs/akvfs/fs/store"
)

const (
	stateDir  = ".akvfs-convert"
	stateName = stateDir + "/state.json"
	doneName  = stateDir + "/done.json"
	lockName  = stateDir + "/lock"
	volumeDir = stateDir + "/volume"
	lostFound = "lost+found"
	metaDir   = ".akvfs" // of a volume

	stateVersion = 1
	maxState     = 1 << 30 // bytes
)

// Direction is which way a conversion goes.
type Direction string

// The directions.
const (
	Encrypting Direction = "encrypt"
	Decrypting Direction = "decrypt"
)

// phase is how far a conversion is. Encrypting goes create, files, out;
// decrypting goes in, files, remove.
type phase string

const (
	phaseCreate phase = "create" // the volume is being made; nothing is encrypted
	phaseFiles  phase = "files"  // files go from one side to the other
	phaseOut    phase = "out"    // the volume's entries go up into the directory
	phaseIn     phase = "in"     // the volume's entries go down out of the directory
	phaseRemove phase = "remove" // no file is left in the volume: it goes
)

// state is state.json.
type state struct {
	Version   int       `json:"version"`
	Direction Direction `json:"direction"`
	Phase     phase     `json:"phase"`
	// Root is the directory as it was, and Dirs are those below: the work
	// itself changes their times.
	Root dirAttr `json:"root"`
	Dirs dirMap  `json:"dirs"`
}

// exactName is a path in JSON. Names are bytes, and need not be UTF-8, which
// JSON is: they are escaped as in a URL.
type exactName string

// MarshalText is encoding.TextMarshaler's.
func (n exactName) MarshalText() ([]byte, error) { return []byte(url.PathEscape(string(n))), nil }

// UnmarshalText is encoding.TextUnmarshaler's.
func (n *exactName) UnmarshalText(text []byte) error {
	name, err := url.PathUnescape(string(text))
	*n = exactName(name)
	return err
}

// dirMap has what is kept of directories, by path.
type dirMap map[string]dirAttr

// MarshalJSON is json.Marshaler's; encoding/json takes keys as they are.
func (m dirMap) MarshalJSON() ([]byte, error) {
	escaped := make(map[string]dirAttr, len(m))
	for name, attr := range m {
		escaped[url.PathEscape(name)] = attr
	}
	return json.Marshal(escaped)
}

// UnmarshalJSON is json.Unmarshaler's.
func (m *dirMap) UnmarshalJSON(data []byte) error {
	var escaped map[string]dirAttr
	if err := json.Unmarshal(data, &escaped); err != nil {
		return err
	}
	*m = make(dirMap, len(escaped))
	for text, attr := range escaped {
		name, err := url.PathUnescape(text)
		if err != nil {
			return err
		}
		(*m)[name] = attr
	}
	return nil
}

// dirAttr is what is kept of a directory.
type dirAttr struct {
	Mode   uint32            `json:"mode"` // permission bits
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Atime  time.Time         `json:"atime"`
	Mtime  time.Time         `json:"mtime"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// done is a name whose file is complete on the new side.
type done struct {
	Name  exactName `json:"name"`
	Ino   uint64    `json:"ino"` // of what is to be removed
	Size  int64     `json:"size"`
	Mtime time.Time `json:"mtime"`
}

func parseState(data []byte) (*state, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%w: it has version %d, not %d", ErrState, s.Version, stateVersion)
	}
	switch {
	case s.Direction == Encrypting && (s.Phase == phaseCreate || s.Phase == phaseFiles || s.Phase == phaseOut):
	case s.Direction == Decrypting && (s.Phase == phaseIn || s.Phase == phaseFiles || s.Phase == phaseRemove):
	default:
		return nil, fmt.Errorf("%w: no phase %q of direction %q is known", ErrState, s.Phase, s.Direction)
	}
	for name := range s.Dirs {
		if !validName(name) {
			return nil, fmt.Errorf("%w: %q is no path", ErrState, name)
		}
	}
	if s.Dirs == nil {
		s.Dirs = dirMap{}
	}
	return &s, nil
}

func parseDone(data []byte) ([]done, error) {
	var list []done
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	for _, d := range list {
		if !validName(string(d.Name)) {
			return nil, fmt.Errorf("%w: %q is no path", ErrState, d.Name)
		}
	}
	return list, nil
}

// validName: a path of the database's, within the directory.
func validName(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return name != "" && name != "." && path.Clean(name) == name && name[0] != '/' &&
		first != ".." && first != stateDir && first != metaDir
}

// loadState gives nil where there is none.
func loadState(st store.FS) (*state, error) {
	data, err := readAll(st, stateName)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseState(data)
}

func saveState(st store.FS, s *state) error { return save(st, stateName, s) }

func loadDone(st store.FS) ([]done, error) {
	data, err := readAll(st, doneName)
	if errors.Is(err, syscall.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseDone(data)
}

// save replaces a file by a value's JSON, durably or not at all.
func save(st store.FS, name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	temp := name + ".new"
	f, err := st.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := st.Rename(temp, name, 0); err != nil {
		return err
	}
	return st.SyncDir(path.Dir(name))
}

func readAll(st store.FS, name string) ([]byte, error) {
	f, err := st.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	attr, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if attr.Size > maxState {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrState, name, attr.Size)
	}
	return io.ReadAll(io.NewSectionReader(f, 0, attr.Size))
}
